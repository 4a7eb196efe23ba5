/* SPDX-License-Identifier: MIT */

#include "common/command.h"
#include "common/deadline.h"
#include "common/say.h"
#include "common/target.h"
#include "export/clients.h"
#include "export/metrics.h"
#include "export/options.h"
#include "sockets/join.h"

#include <errno.h>
#include <finack.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FRESH_MS = 500,                /* scrapes within that time share a look */
    CONNECTIONS = 2 * CLIENTS_MAX, /* the rest are on their way out */
    PATIENCE_S = 30
};

struct exporter {
    const struct export_options *options;
    struct clients clients;
    struct netns_list spaces;
    char *text; /* of the last look */
    size_t size;
    uint64_t at_ns;
    uint64_t looks, failures;
};

/* ---- a page ---- */

static void print_own(FILE *out, const struct exporter *e, uint64_t took_ns)
{
    char label[64];

    snprintf(label, sizeof label, "version=\"%s\"", fin_version());
    metrics_print_one(out, "finack_build_info", "gauge", "The release of finack.", label, 1);
    metrics_print_one(out, "finack_look_seconds", "gauge", "How long the last look took.", NULL,
                      (double) took_ns / 1e9);
    metrics_print_one(out, "finack_looks_total", "counter", "Looks so far.", NULL,
                      (double) e->looks);
    metrics_print_one(out, "finack_look_failures_total", "counter", "Looks that failed.", NULL,
                      (double) e->failures);
}

/* Whole or not at all. */
static int print_page(struct exporter *e, const struct snapshot *snapshot, uint64_t began)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int result;

    if (!out)
        return -ENOMEM;
    result = metrics_print(out, snapshot, e->options);
    print_own(out, e, fin__now() - began);
    if (fclose(out) != 0 || result < 0) {
        free(text);
        return -ENOMEM;
    }
    free(e->text);
    e->text = text;
    e->size = size;
    e->at_ns = fin__now();
    return 0;
}

static bool is_fresh(const struct exporter *e)
{
    return e->text && fin__now() - e->at_ns < FRESH_MS * 1000000ull;
}

static int refresh(struct exporter *e)
{
    uint64_t began = fin__now();
    struct snapshot snapshot;
    int result;

    if (is_fresh(e))
        return 0;
    e->looks++;
    result = snapshot_take(&snapshot, &e->spaces) ? -EIO : print_page(e, &snapshot, began);
    snapshot_free(&snapshot);
    e->failures += result < 0;
    return result;
}

/* ---- HTTP ---- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              const char *text, size_t size)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, (void *) (uintptr_t) text, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result = MHD_NO;

    if (!response)
        return MHD_NO;
    if (MHD_add_response_header(response, "Content-Type", type) == MHD_YES
        && (status != MHD_HTTP_METHOD_NOT_ALLOWED
            || MHD_add_response_header(response, "Allow", "GET, HEAD") == MHD_YES))
        result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_words(struct MHD_Connection *connection, unsigned status,
                                    const char *words)
{
    return answer(connection, status, "text/plain; charset=utf-8", words, strlen(words));
}

static enum MHD_Result serve(void *arg, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_size, void **state)
{
    struct exporter *e = arg;

    (void) version;
    (void) upload;
    (void) upload_size;
    (void) state;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return answer_words(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
    if (strcmp(url, "/") == 0)
        return answer_words(connection, MHD_HTTP_OK, "finack export: see /metrics\n");
    if (strcmp(url, "/metrics") != 0)
        return answer_words(connection, MHD_HTTP_NOT_FOUND, "see /metrics\n");
    if (refresh(e) < 0)
        return answer_words(connection, MHD_HTTP_INTERNAL_SERVER_ERROR,
                            "sockets can't be listed\n");
    return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", e->text,
                  e->size);
}

/* ---- listening ---- */

static int listen_on(const struct export_options *o)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                              .ai_socktype = SOCK_STREAM };
    struct addrinfo *found;
    int fd, on = 1, result = 0;

    if (getaddrinfo(o->host, o->port, &hints, &found) != 0)
        return -EADDRNOTAVAIL;
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0
        || bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, CONNECTIONS) < 0)
        result = -errno;
    freeaddrinfo(found);
    if (result < 0 && fd >= 0)
        close(fd);
    return result < 0 ? result : fd;
}

/* Until the process is asked to end. The signals are blocked before any thread is there. */
static void wait_for_end(struct exporter *e, const sigset_t *signals)
{
    const struct timespec second = { .tv_sec = 1 };

    while (sigtimedwait(signals, NULL, &second) < 0)
        clients_expire(&e->clients);
}

/* Names are taken as they come: "/metrics%00" is none of ours. */
static size_t keep_name(void *arg, struct MHD_Connection *connection, char *name)
{
    (void) arg;
    (void) connection;
    return strlen(name);
}

static int export_run(struct exporter *e)
{
    struct MHD_Daemon *daemon;
    char target[300], line[400];
    sigset_t signals;
    int fd = listen_on(e->options), status;

    format_target(e->options->host, e->options->port, target, sizeof target);
    if (fd < 0)
        return complain("cannot listen on %s: %s", target, strerror(-fd));
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    /* One thread serves all, so that looks come one after another. It takes the socket over. */
    daemon = MHD_start_daemon(
        MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, serve, e,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned) CONNECTIONS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) PATIENCE_S, MHD_OPTION_NOTIFY_CONNECTION,
        clients_notify, &e->clients, MHD_OPTION_NOTIFY_COMPLETED, clients_completed, &e->clients,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_name, NULL, MHD_OPTION_END);
    if (!daemon) {
        close(fd);
        return complain("cannot start the HTTP server");
    }
    status = put_out(line, (size_t) snprintf(line, sizeof line, "http://%s/metrics\n", target));
    if (!status)
        wait_for_end(e, &signals);
    MHD_stop_daemon(daemon);
    return status;
}

int export_main(int argc, char **argv)
{
    struct export_options options;
    struct exporter exporter = { .options = &options, .clients = CLIENTS_INIT };
    int status;
    int parsed = export_options_parse(argc, argv, &options);

    if (parsed != PARSE_RUN)
        return parsed;
    status = netns_list_make(options.netns, &exporter.spaces);
    if (!status)
        status = export_run(&exporter);
    netns_list_free(&exporter.spaces);
    free(exporter.text);
    return status;
}
