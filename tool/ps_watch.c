/* SPDX-License-Identifier: MIT */

#include "ps_watch.h"

#include "ps_json.h"
#include "ps_rows.h"
#include "ps_text.h"
#include "say.h"
#include "screen.h"
#include "terminal.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* What is kept of a socket from look to look. */
struct memory {
    uint64_t cookie, received, acked;
};

struct past {
    LIST(struct memory) sockets; /* by cookie */
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

    if (!s->cookie || past->sockets.count == 0)
        return NULL;
    return bsearch(&key, past->sockets.at, past->sockets.count, sizeof key, by_cookie);
}

static double grown(uint64_t now, uint64_t before, double seconds)
{
    return now > before ? (double) (now - before) / seconds : 0;
}

static void rate_sockets(const struct past *past, struct look *look, double seconds,
                         struct rates *rates)
{
    size_t found = 0, fresh = 0;

    for (size_t i = 0; i < look->dump.sockets.count; i++) {
        struct socket *s = &look->dump.sockets.at[i];
        const struct memory *before = recall(past, s);

        s->rated = before && s->tcp.known;
        if (s->rated) {
            s->received_rate = grown(s->tcp.received, before->received, seconds);
            s->acked_rate = grown(s->tcp.acked, before->acked, seconds);
        }
        found += before != NULL;
        fresh += before == NULL && s->cookie;
    }
    rates->begun = (double) fresh / seconds;
    rates->ended = (double) (past->sockets.count - found) / seconds;
}

static void rate(const struct past *past, struct look *look, struct rates *rates)
{
    double seconds = (double) (look->at_ns - past->at_ns) / 1e9;

    *rates = (struct rates) { .known = past->at_ns != 0 };
    rate_sockets(past, look, seconds, rates);
}

static int remember(struct past *past, const struct look *look, const struct ps_rows *rows,
                    struct rates *rates)
{
    size_t count = look->dump.sockets.count;
    double seconds = (double) (look->at_ns - past->at_ns) / 1e9;

    for (int f = 0; f < FINDINGS; f++)
        rates->count[f] = ((double) rows->count[f] - (double) past->count[f]) / seconds;
    memcpy(past->count, rows->count, sizeof past->count);
    past->at_ns = look->at_ns;
    past->sockets.count = 0;
    if (count && list_need(&past->sockets, count) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        const struct socket *s = &look->dump.sockets.at[i];

        if (s->cookie && !s->gone)
            past->sockets.at[past->sockets.count++] =
                (struct memory) { s->cookie, s->tcp.received, s->tcp.acked };
    }
    if (past->sockets.count)
        qsort(past->sockets.at, past->sockets.count, sizeof *past->sockets.at, by_cookie);
    return 0;
}

/* ---- a picture ---- */

static void print_rates(FILE *out, const struct rates *rates, const struct ps_rows *rows,
                        size_t width)
{
    char line[512] = "rates need a second look";
    size_t used;

    if (rates->known) {
        used = (size_t) snprintf(line, sizeof line, "%.1f/s begun, %.1f/s ended", rates->begun,
                                 rates->ended);
        for (int f = 0; f < FOUND_NOTHING; f++)
            if (rows->count[f] || rates->count[f] != 0)
                used += (size_t) snprintf(line + used, sizeof line - used, ", %s %+.1f/s",
                                          finding_name(f), rates->count[f]);
    }
    ps_text_line(out, line, width);
}

static void print_page(FILE *out, const struct look *look, const struct ps_rows *rows,
                       const struct rates *rates)
{
    size_t width = screen_size().columns;

    ps_text_summary(out, look, rows, width);
    print_rates(out, rates, rows, width);
    if (rows->rows.count)
        ps_text_rows(out, look, rows, true, width);
}

/* On a terminal the page is drawn anew in place, and what does not fit is left out. */
static int put_page(char *text, size_t size)
{
    static const char home[] = "\033[H\033[2J";
    size_t lines = screen_size().lines, used = 0;
    const char *end;
    int status;

    if (lines == 0 || !terminal_moves(STDOUT_FILENO))
        return put_out(text, size);
    while (lines-- > 1 && (end = memchr(text + used, '\n', size - used)))
        used = (size_t) (end + 1 - text);
    status = put_out(home, sizeof home - 1);
    return status ? status : put_out(text, used);
}

static int show(const struct ps_options *o, const struct look *look, const struct ps_rows *rows,
                const struct rates *rates)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int result = 0, status;

    if (!out)
        return complain("out of memory");
    if (o->json)
        result = ps_json_print(out, look, rows, true);
    else
        print_page(out, look, rows, rates);
    if (fclose(out) != 0 || result < 0)
        status = complain("out of memory");
    else
        status = o->json ? put_out(text, size) : put_page(text, size);
    free(text);
    return status;
}

static int look_again(const struct ps_options *o, struct netns_list *spaces, struct past *past)
{
    struct look look;
    struct ps_rows rows = { .rows.at = NULL };
    struct rates rates;
    int status = look_take(&look, spaces);

    if (!status) {
        rate(past, &look, &rates);
        if (ps_rows_pick(&look, o, &rows) < 0 || remember(past, &look, &rows, &rates) < 0)
            status = complain("out of memory");
    }
    if (!status)
        status = show(o, &look, &rows, &rates);
    if (!status)
        status = rows.rows.count > rows.count[FOUND_NOTHING] ? EXIT_FOUND : EXIT_FINE;
    ps_rows_free(&rows);
    look_free(&look);
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
    return status;
}
