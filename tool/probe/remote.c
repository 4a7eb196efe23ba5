/* SPDX-License-Identifier: MIT */

/* Closing connections to a real server. */

#include "common/deadline.h"
#include "common/jobs.h"
#include "common/progress.h"
#include "common/say.h"
#include "common/target.h"
#include "peers/dial.h"
#include "probe/connection.h"
#include "probe/output.h"
#include "probe/runs.h"
#include "probe/trust.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct remote {
    const struct probe_options *options;
    struct addrinfo *addresses;
    SSL_CTX *ctx; /* NULL: TCP */
    struct request request;
    struct probe_result *results;
    pthread_mutex_t lock; /* for: */
    char failure[512];    /* of the first connection that failed */
};

static int probe_remote_fail(struct remote *remote, const char *what, const char *why)
{
    pthread_mutex_lock(&remote->lock);
    if (!*remote->failure)
        snprintf(remote->failure, sizeof remote->failure, "%s%s", what, why);
    pthread_mutex_unlock(&remote->lock);
    return -1;
}

static int connect_line(struct remote *remote, struct connection *l, uint64_t deadline)
{
    const struct addrinfo *a;
    int r = -EADDRNOTAVAIL;

    for (a = remote->addresses; a; a = a->ai_next) {
        r = dial(a->ai_addr, a->ai_addrlen, deadline, &l->fd);
        if (r == 0)
            return 0;
    }
    return probe_remote_fail(remote, "no connection: ", strerror(-r));
}

static int secure_line(struct remote *remote, struct connection *l, uint64_t deadline)
{
    char why[256];
    int r;

    if (!remote->ctx)
        return 0;
    l->ssl = trust_session(remote->options, remote->ctx);
    if (!l->ssl)
        return probe_remote_fail(remote, "out of memory", "");
    r = dial_tls(l->ssl, l->fd, deadline);
    if (r == 0)
        return 0;
    trust_explain(l->ssl, r, why, sizeof why);
    return probe_remote_fail(remote, why, "");
}

static int use_line(struct remote *remote, struct connection *l, uint64_t deadline,
                    struct fin_receipt *receipt)
{
    int r = secure_line(remote, l, deadline);

    if (r < 0)
        return r;
    r = connection_speak(l, &remote->request, deadline);
    if (r < 0)
        return probe_remote_fail(remote, "sending failed: ", strerror(-r));
    r = connection_close(l, &remote->options->policy, receipt);
    if (r < 0)
        return probe_remote_fail(remote, "cannot close: ", strerror(-r));
    return 0;
}

static int probe_once(void *arg, size_t index)
{
    struct remote *remote = arg;
    struct probe_result *result = &remote->results[index];
    uint64_t deadline = deadline_in_ms(remote->options->connect_ms);
    struct connection l = { .fd = -1 };
    int r = connect_line(remote, &l, deadline);

    if (r < 0)
        return r;
    result->receipt = (struct fin_receipt) FIN_RECEIPT_INIT;
    r = use_line(remote, &l, deadline, &result->receipt);
    result->closed = r == 0;
    if (r < 0)
        hang_up(l.fd);
    SSL_free(l.ssl);
    return r;
}

static int probe_next(void *arg, size_t index)
{
    int result = probe_once(arg, index);

    progress_step();
    return result;
}

static int probe_remote_report(struct remote *remote)
{
    size_t count = remote->options->count, i;
    int status = EXIT_FINE, trouble;

    for (i = 0; i < count; i++)
        if (remote->results[i].receipt.outcome != FIN_OUTCOME_GRACEFUL)
            status = EXIT_FOUND;
    if (*remote->failure)
        status = complain("%s: %s", remote->results[0].peer, remote->failure);
    for (i = 0; i < count && !remote->results[i].closed;)
        i++;
    if (i == count && !remote->options->json)
        return status;
    trouble = output_results(remote->results, count, remote->options, "", "");
    return trouble ? trouble : status;
}

static int probe_all(struct remote *remote)
{
    const struct probe_options *o = remote->options;
    char name[300];
    size_t i;

    format_target(o->host, o->port, name, sizeof name);
    remote->results = calloc(o->count, sizeof *remote->results);
    if (!remote->results)
        return complain("out of memory");
    for (i = 0; i < o->count; i++) {
        remote->results[i].peer = name;
        remote->results[i].tls = o->tls;
    }
    progress_begin(o->count, "closed");
    jobs_run(o->count, JOBS_WIDTH_MAX, probe_next, remote);
    progress_end();
    i = (size_t) probe_remote_report(remote);
    free(remote->results);
    return (int) i;
}

static int resolve(struct remote *remote)
{
    const struct probe_options *o = remote->options;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
    int r = getaddrinfo(o->host, o->port, &hints, &remote->addresses);

    if (r == 0)
        return 0;
    return complain("cannot find '%s': %s", o->host,
                    r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
}

int run_remote(const struct probe_options *o)
{
    struct remote remote = { .options = o, .lock = PTHREAD_MUTEX_INITIALIZER };
    int status = request_make(o, &remote.request);

    if (!status && o->tls)
        status = trust_make(o, &remote.ctx);
    if (!status)
        status = resolve(&remote);
    if (!status)
        status = probe_all(&remote);
    if (remote.addresses)
        freeaddrinfo(remote.addresses);
    SSL_CTX_free(remote.ctx);
    request_free(&remote.request);
    return status;
}
