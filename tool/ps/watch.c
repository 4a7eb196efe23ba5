/* SPDX-License-Identifier: MIT */

#include "ps/watch.h"

#include "base/line.h"
#include "common/say.h"
#include "common/terminal.h"
#include "ps/json.h"
#include "ps/rows.h"
#include "ps/text.h"
#include "sockets/join.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* What is kept of a socket from one time to the next. */
struct memory {
    uint64_t cookie, received, acked;
};

/* A TCP connection that a process has: once it is over, sock_diag(7) lists it no more. */
struct connection {
    uint64_t inode;
    uint8_t local[16], remote[16];
    uint16_t local_port, remote_port;
    uint8_t family;
};

struct past {
    LIST(struct memory) sockets;         /* by cookie */
    LIST(struct connection) connections; /* by inode */
    size_t count[FINDINGS];
    uint64_t at_ns; /* 0: there was no look yet */
};

/* How it changed, a second. */
struct rates {
    bool known;
    double begun, ended;
    double count[FINDINGS];
};

static int by_cookie(const void *a, const void *b)
{
    const struct memory *x = a, *y = b;

    return x->cookie < y->cookie ? -1 : x->cookie > y->cookie;
}

/* ---- rates ---- */

static const struct memory *recall(const struct past *past, const struct socket *s)
{
    struct memory key = { .cookie = s->cookie };

    return s->cookie ? list_search(&past->sockets, &key, by_cookie) : NULL;
}

static float grown(uint64_t now, uint64_t before, double seconds)
{
    return now > before ? (float) ((double) (now - before) / seconds) : 0;
}

static void rate(const struct past *past, struct snapshot *snapshot, struct rates *rates)
{
    double seconds = (double) (snapshot->at_ns - past->at_ns) / 1e9;
    size_t found = 0, fresh = 0;

    *rates = (struct rates) { .known = past->at_ns != 0 };
    snapshot->rates = calloc(snapshot->dump.sockets.count + 1, sizeof *snapshot->rates);
    for (size_t i = 0; i < snapshot->dump.sockets.count; i++) {
        struct socket *s = &snapshot->dump.sockets.at[i];
        const struct memory *before = recall(past, s);

        if (before && s->has_tcp && snapshot->rates)
            snapshot->rates[i] = (struct socket_rate) {
                .known = true,
                .received = grown(s->tcp.received, before->received, seconds),
                .acked = grown(s->tcp.acked, before->acked, seconds),
            };
        found += before != NULL;
        fresh += before == NULL && s->cookie;
    }
    rates->begun = (double) fresh / seconds;
    rates->ended = (double) (past->sockets.count - found) / seconds;
}

static int remember(struct past *past, const struct snapshot *snapshot, const struct ps_rows *rows,
                    struct rates *rates)
{
    size_t count = snapshot->dump.sockets.count;
    double seconds = (double) (snapshot->at_ns - past->at_ns) / 1e9;

    for (int f = 0; f < FINDINGS; f++)
        rates->count[f] = ((double) rows->count[f] - (double) past->count[f]) / seconds;
    memcpy(past->count, rows->count, sizeof past->count);
    past->at_ns = snapshot->at_ns;
    past->sockets.count = 0;
    if (count && list_need(&past->sockets, count) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        const struct socket *s = &snapshot->dump.sockets.at[i];

        if (s->cookie && !s->gone)
            past->sockets.at[past->sockets.count++] = s->has_tcp
                ? (struct memory) { s->cookie, s->tcp.received, s->tcp.acked }
                : (struct memory) { .cookie = s->cookie };
    }
    list_sort(&past->sockets, by_cookie);
    return 0;
}

/* ---- connections that are over ---- */

static int by_inode(const void *a, const void *b)
{
    const struct connection *x = a, *y = b;

    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static void bury(struct socket *s, const struct connection *was)
{
    s->family = was->family;
    memcpy(s->local, was->local, sizeof s->local);
    memcpy(s->remote, was->remote, sizeof s->remote);
    s->local_port = was->local_port;
    s->remote_port = was->remote_port;
    s->state = STATE_CLOSE;
    s->findings |= 1u << FOUND_DEAD;
    s->verdict = FOUND_DEAD;
}

/* Of what may not be looked at closer: the look before knew more. */
static void recall_dead(const struct past *past, struct snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->dump.sockets.count; i++) {
        struct socket *s = &snapshot->dump.sockets.at[i];
        struct connection key = { .inode = s->inode }, *was;

        if (s->listed || s->state != STATE_UNKNOWN || s->protocol != PROTOCOL_TCP)
            continue;
        was = list_search(&past->connections, &key, by_inode);
        if (!was)
            continue;
        bury(s, was);
        snapshot->blind.unidentified--;
    }
}

static int remember_connections(struct past *past, const struct snapshot *snapshot)
{
    past->connections.count = 0;
    for (size_t i = 0; i < snapshot->dump.sockets.count; i++) {
        const struct socket *s = &snapshot->dump.sockets.at[i];
        struct connection c = { .inode = s->inode,
                                .local_port = s->local_port,
                                .remote_port = s->remote_port,
                                .family = s->family };

        if (s->protocol != PROTOCOL_TCP || !s->inode || !s->remote_port)
            continue;
        memcpy(c.local, s->local, sizeof c.local);
        memcpy(c.remote, s->remote, sizeof c.remote);
        if (list_add(&past->connections, c) < 0)
            return -ENOMEM;
    }
    list_sort(&past->connections, by_inode);
    return 0;
}

/* ---- a picture ---- */

static void print_rates(FILE *out, const struct rates *rates, const struct ps_rows *rows,
                        size_t width)
{
    char text[512] = "rates need a second look";
    struct fin__line line = { text, sizeof text, 0 };

    if (rates->known)
        fin__put(&line, "%.1f/s begun, %.1f/s ended", rates->begun, rates->ended);
    for (int f = 0; rates->known && f < FOUND_NOTHING; f++)
        if (rows->count[f] || rates->count[f] != 0)
            fin__put(&line, ", %s %+.1f/s", finding_name(f), rates->count[f]);
    ps_text_line(out, text, width);
}

static void print_page(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                       const struct rates *rates)
{
    size_t width = screen_size(STDOUT_FILENO).columns;

    ps_text_summary(out, snapshot, rows, width);
    print_rates(out, rates, rows, width);
    if (rows->rows.count)
        ps_text_rows(out, snapshot, rows, true, width);
}

/* On a terminal the page is drawn anew in place, and what does not fit is left out. */
static int put_page(char *text, size_t size)
{
    static const char home[] = "\033[H\033[2J";
    size_t lines = screen_size(STDOUT_FILENO).lines, used = 0;
    const char *end;
    int status;

    if (lines == 0 || !terminal_moves(STDOUT_FILENO))
        return put_out(text, size);
    while (lines-- > 1 && (end = memchr(text + used, '\n', size - used)))
        used = (size_t) (end + 1 - text);
    status = put_out(home, sizeof home - 1);
    return status ? status : put_out(text, used);
}

static int show(const struct ps_options *o, const struct snapshot *snapshot,
                const struct ps_rows *rows, const struct rates *rates)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int result = 0, status;

    if (!out)
        return complain("out of memory");
    if (o->json)
        result = ps_json_print(out, snapshot, rows, GROUP_NONE, true);
    else
        print_page(out, snapshot, rows, rates);
    if (fclose(out) != 0 || result < 0)
        status = complain("out of memory");
    else
        status = o->json ? put_out(text, size) : put_page(text, size);
    free(text);
    return status;
}

static int look_again(const struct ps_options *o, struct netns_list *spaces, struct past *past)
{
    struct snapshot snapshot;
    struct ps_rows rows = { .rows.at = NULL };
    struct rates rates;
    int status = snapshot_take(&snapshot, spaces);

    if (!status) {
        rate(past, &snapshot, &rates);
        recall_dead(past, &snapshot);
        if (ps_rows_pick(&snapshot, o, &rows) < 0 || remember(past, &snapshot, &rows, &rates) < 0
            || remember_connections(past, &snapshot) < 0)
            status = complain("out of memory");
    }
    if (!status)
        status = show(o, &snapshot, &rows, &rates);
    if (!status)
        status = rows.ghosts ? EXIT_FOUND : EXIT_FINE;
    ps_rows_free(&rows);
    snapshot_free(&snapshot);
    return status;
}

/* ---- again and again ---- */

static int open_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

/* False once it shall end: asked to, or nobody reads any more. */
static bool wait_for_next(int signals, int32_t ms)
{
    struct pollfd pollers[] = { { .fd = signals, .events = POLLIN }, { .fd = STDOUT_FILENO } };
    int n = poll(pollers, 2, ms);

    return n == 0 || (n < 0 && errno == EINTR);
}

int ps_watch(const struct ps_options *o, struct netns_list *spaces)
{
    struct past past = { .at_ns = 0 };
    int signals = open_signals(), status;

    if (signals < 0)
        return complain("cannot wait for signals: %s", strerror(errno));
    do
        status = look_again(o, spaces, &past);
    while (status != EXIT_TROUBLE && wait_for_next(signals, o->interval_ms));
    close(signals);
    free(past.sockets.at);
    free(past.connections.at);
    return status;
}
