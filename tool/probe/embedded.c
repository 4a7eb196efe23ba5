/* SPDX-License-Identifier: MIT */

/* Closing a connection to each embedded peer, all side by side. */

#include "common/deadline.h"
#include "common/jobs.h"
#include "common/progress.h"
#include "common/say.h"
#include "peers/client.h"
#include "peers/credentials.h"
#include "probe/expected.h"
#include "probe/output.h"
#include "probe/runs.h"

#include <stdio.h>
#include <string.h>

/* How long a peer may take to see the end, once our side is closed. */
enum {
    GRACE_MS = 2000
};

struct row {
    const struct expectation *expected;
    struct peer *peer;
    struct client client;
    int error;
};

struct embedded {
    const struct fin_policy *policy;
    struct credentials credentials;
    struct row rows[EXPECTATIONS];
    struct probe_result results[EXPECTATIONS];
};

static int open_row(struct embedded *e, struct row *row)
{
    const struct expectation *x = row->expected;
    int r = peer_start(x->kind, x->tls ? e->credentials.server : NULL, AF_INET, &row->peer);

    if (r < 0)
        return r;
    r = client_open(&row->client, row->peer, x->tls ? e->credentials.client : NULL);
    if (r < 0)
        return r;
    return client_prepare(&row->client, x->kind);
}

/* One after another: a forked holder must not inherit a connection that is closed already. */
static int open_all(struct embedded *e)
{
    size_t i;

    for (i = 0; i < EXPECTATIONS; i++) {
        struct row *row = &e->rows[i];
        int r = open_row(e, row);

        if (r < 0)
            return complain("embedded peer %s%s: %s", peer_kind_name(row->expected->kind),
                            row->expected->tls ? " over TLS" : "", strerror(-r));
    }
    return 0;
}

static int close_row(void *arg, size_t index)
{
    struct embedded *e = arg;
    struct row *row = &e->rows[index];
    struct fin_kernel *kernel = NULL;

    if (fin_kernel_new(&kernel) < 0)
        kernel = NULL;
    row->error = client_close(&row->client, kernel, e->policy, &e->results[index].receipt);
    fin_kernel_free(kernel);
    progress_step();
    return 0;
}

static void finish_row(struct embedded *e, size_t index)
{
    struct row *row = &e->rows[index];
    struct probe_result *result = &e->results[index];
    uint64_t written = row->client.written;

    if (row->peer)
        peer_finish(row->peer, result->closed ? GRACE_MS : 0, &result->view);
    client_free(&row->client);
    result->has_view = true;
    result->verdict = expectation_judge(row->expected, e->policy, written, result);
}

static int close_all(struct embedded *e)
{
    size_t i;

    progress_begin(EXPECTATIONS, "closed");
    jobs_run(EXPECTATIONS, EXPECTATIONS, close_row, e);
    progress_end();
    for (i = 0; i < EXPECTATIONS; i++) {
        if (e->rows[i].error < 0)
            return complain("cannot close the connection to %s: %s", e->results[i].peer,
                            strerror(-e->rows[i].error));
        e->results[i].closed = true;
    }
    return 0;
}

static void set_up(struct embedded *e, const struct fin_policy *policy)
{
    size_t i;

    memset(e, 0, sizeof *e);
    e->policy = policy;
    for (i = 0; i < EXPECTATIONS; i++) {
        e->rows[i].expected = &expectations[i];
        e->rows[i].client = (struct client) { .fd = -1, .holder_end = -1 };
        e->results[i].peer = peer_kind_name(expectations[i].kind);
        e->results[i].tls = expectations[i].tls;
        e->results[i].receipt = (struct fin_receipt) FIN_RECEIPT_INIT;
    }
}

static size_t count_verdict(const struct embedded *e, enum verdict verdict)
{
    size_t n = 0, i;

    for (i = 0; i < EXPECTATIONS; i++)
        n += e->results[i].verdict == verdict;
    return n;
}

static void explain(FILE *out, const struct embedded *e)
{
    char text[512];
    size_t i;

    for (i = 0; i < EXPECTATIONS; i++) {
        const struct probe_result *result = &e->results[i];

        if (result->verdict != VERDICT_UNEXPECTED)
            continue;
        expectation_format(&expectations[i], text, sizeof text);
        fprintf(out, "%s%s: expected %s\n", result->peer, result->tls ? " *" : "", text);
        fin_receipt_format(&result->receipt, text, sizeof text);
        fprintf(out, "    got: %s\n", text);
    }
}

static int print_all(const struct embedded *e, const struct probe_options *o, uint64_t began)
{
    static const char legend[] =
        "\n* over TLS; N close_notify; - not reached; ? can't be observed here. Times since the "
        "close was asked for, of:\nflushed, notified, answered, shut, acked, eof, unwatched, "
        "released, unreferenced, finished (finack-probe(1)).\n";
    char note[16384];
    FILE *out = fmemopen(note, sizeof note, "w");

    if (!out)
        return complain("out of memory");
    explain(out, e);
    if (count_verdict(e, VERDICT_NONE) == 0)
        fprintf(out, "%zu of %d as expected, in %.1f s.\n", count_verdict(e, VERDICT_OK),
                EXPECTATIONS, (double) (fin__now() - began) / 1e9);
    fclose(out);
    return output_results(e->results, EXPECTATIONS, o, legend, note);
}

int run_embedded(const struct probe_options *o)
{
    struct embedded e;
    uint64_t began = fin__now();
    size_t i;
    int status;

    set_up(&e, &o->policy);
    if (credentials_make(&e.credentials) < 0)
        return complain("cannot make a certificate");
    status = open_all(&e);
    if (!status)
        status = close_all(&e);
    for (i = 0; i < EXPECTATIONS; i++)
        finish_row(&e, i);
    if (!status)
        status = print_all(&e, o, began);
    credentials_free(&e.credentials);
    if (!status && count_verdict(&e, VERDICT_UNEXPECTED))
        status = EXIT_FOUND;
    return status;
}
