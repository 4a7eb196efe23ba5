/* SPDX-License-Identifier: MIT */

#include "command.h"
#include "deadline.h"
#include "export_options.h"
#include "metrics.h"
#include "say.h"
#include "target.h"

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
    FRESH_MS = 500, /* scrapes within that time share a look */
    CONNECTIONS = 32,
    PATIENCE_S = 30
};

struct exporter {
    const struct export_options *options;
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
static int print_page(struct exporter *e, const struct look *look, uint64_t began)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int result;

    if (!out)
        return -ENOMEM;
    result = metrics_print(out, look, e->options);
    print_own(out, e, now_ns() - began);
    if (fclose(out) != 0 || result < 0) {
        free(text);
        return -ENOMEM;
    }
    free(e->text);
    e->text = text;
    e->size = size;
    e->at_ns = now_ns();
    return 0;
}

static bool is_fresh(const struct exporter *e)
{
    return e->text && now_ns() - e->at_ns < FRESH_MS * 1000000ull;
}

static int refresh(struct exporter *e)
{
    uint64_t began = now_ns();
    struct look look;
    int result;

    if (is_fresh(e))
        return 0;
    e->looks++;
    result = look_take(&look, &e->spaces) ? -EIO : print_page(e, &look, began);
    look_free(&look);
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

static int announce(const struct export_options *o)
{
    char target[300], line[400];

    format_target(o->host, o->port, target, sizeof target);
    return put_out(line, (size_t) snprintf(line, sizeof line, "http://%s/metrics\n", target));
}

static int cannot_listen(const struct export_options *o, int error)
{
    char target[300];

    format_target(o->host, o->port, target, sizeof target);
    return complain("cannot listen on %s: %s", target, strerror(error));
}

/* Blocks until the process is asked to end. The signals are blocked before any thread is there. */
static void wait_for_end(const sigset_t *signals)
{
    int which;

    while (sigwait(signals, &which) != 0)
        ;
}

static int run(struct exporter *e)
{
    struct MHD_Daemon *daemon;
    sigset_t signals;
    int fd = listen_on(e->options), status;

    if (fd < 0)
        return cannot_listen(e->options, -fd);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    /* One thread serves all, so that looks come one after another. It takes the socket over. */
    daemon = MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, serve,
                              e, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                              (unsigned) CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
                              (unsigned) PATIENCE_S, MHD_OPTION_END);
    if (!daemon) {
        close(fd);
        return complain("cannot start the HTTP server");
    }
    status = announce(e->options);
    if (!status)
        wait_for_end(&signals);
    MHD_stop_daemon(daemon);
    return status;
}

int export_main(int argc, char **argv)
{
    struct export_options options;
    struct exporter exporter = { .options = &options };
    int status;

    switch (export_options_parse(argc, argv, &options)) {
    case PARSE_DONE:
        return EXIT_FINE;
    case PARSE_WRONG:
        return EXIT_TROUBLE;
    default:
        break;
    }
    status = netns_list_make(options.netns, &exporter.spaces);
    if (!status)
        status = run(&exporter);
    netns_list_free(&exporter.spaces);
    free(exporter.text);
    return status;
}
