/* SPDX-License-Identifier: MIT */

#include "guarded.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "close/blocking.h"
#include "close/machine.h"
#include "close/policy.h"
#include "handle/clear.h"
#include "handle/dead.h"
#include "kernel/holders.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define SETTLE_NS (20 * (uint64_t) FIN__NS_PER_MS)
#define LEAVE_NS (50 * (uint64_t) FIN__NS_PER_MS) /* for who was woken at the last moment */

struct guarded {
    int fd;
    const struct fin_policy *policy;
    const struct fin__guarded_options *options;
    struct fin__inside inside;
    bool listening;
    bool stays;  /* somebody has not left: a tombstone is on the number */
    bool kept;   /* or the socket itself, if no tombstone could be made */
    bool shut;   /* by waking them */
    bool waking; /* whether to wake those inside: not with scope descriptor, which ends nothing */
    uint64_t deadline;
    uint64_t least; /* how long those inside have for leaving, even after the deadline */
    uint64_t pause; /* between two looks */
    int dead;
    struct fin__tomb *tomb;
};

/* ---- those who send: a layer whose bytes are in their hands ---- */

static bool may_send(const struct guarded *g)
{
    return g->inside.sending || g->inside.unknown;
}

static int guarded_flush(void *arg, uint64_t *unsent)
{
    struct guarded *g = arg;

    fin__inside_settle(&g->inside, SETTLE_NS);
    *unsent = g->inside.unsent;
    if (g->inside.stranded)
        return -ECANCELED;
    return may_send(g) ? FIN_LAYER_WANT_WRITE : FIN_LAYER_DONE;
}

static int guarded_notify(void *arg)
{
    const struct guarded *g = arg;

    return g->options->half_written ? FIN_LAYER_BROKEN : FIN_LAYER_NONE;
}

static int guarded_discard(void *arg, uint64_t max, uint64_t *n)
{
    const struct guarded *g = arg;
    char buf[4096];
    ssize_t got = recv(g->fd, buf, max < sizeof buf ? max : sizeof buf, MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return FIN_LAYER_WANT_READ;
    if (got <= 0)
        return got < 0 ? -errno : FIN_LAYER_EOF;
    *n = (uint64_t) got;
    return FIN_LAYER_DONE;
}

/* ---- getting them out ---- */

/* Ends the wait of a thread in recv(2) or accept(2). */
static void wake_receivers(struct guarded *g)
{
    if (g->waking)
        (void) shutdown(g->fd, SHUT_RD);
}

static bool is_cut(void *arg)
{
    const struct guarded *g = arg;

    return g->options && g->options->cut && g->options->cut(g->options->arg);
}

static bool is_in_use(const struct guarded *g)
{
    return g->options && g->options->in_use && g->options->in_use(g->options->arg);
}

static bool is_inside(void *arg)
{
    const struct guarded *g = arg;

    return fin__inside_any(&g->inside) || g->inside.unknown || is_in_use(g);
}

static void wake_all(void *arg)
{
    struct guarded *g = arg;

    fin__inside_look(&g->inside);
    if (g->waking && fin__inside_any(&g->inside))
        g->shut |= shutdown(g->fd, SHUT_RDWR) == 0;
}

/* A thread that is in a call and is not to be woken stays there. */
static bool awaited(void *arg)
{
    const struct guarded *g = arg;

    return g->inside.unknown || (g->waking && (fin__inside_any(&g->inside) || is_in_use(g)));
}

static void pause_and_look(void *arg, uint64_t *until)
{
    struct guarded *g = arg;

    fin__inside_pause(&g->pause);
    if (is_cut(g) && *until > g->least)
        *until = g->least;
    if (g->pause > FIN__NS_PER_MS)
        wake_all(g); /* who was about to enter at the first time */
    else
        fin__inside_look(&g->inside);
}

static int take_dead(void *arg)
{
    struct guarded *g = arg;

    g->dead = fin__dead_take();
    return g->dead;
}

static void guarded_unlock(void *arg, bool tombstone)
{
    struct guarded *g = arg;

    g->stays = tombstone;
    if (tombstone && g->dead >= 0)
        fin__dead_drop();
}

/* No thread can begin to use the number, and one that leaves between the last look and the
 * tombstone is noticed at the next look (fin__tomb_is_left()). */
static const struct fin__clear clear = {
    .wake = wake_all,
    .awaited = awaited,
    .pause = pause_and_look,
    .lock = is_inside,
    .dead = take_dead,
    .unlock = guarded_unlock,
};

/* If there is no descriptor or memory for a dead one, the socket itself keeps the number: it is
 * shut. */
static int guarded_release(void *arg, int fd, unsigned *facts)
{
    struct guarded *g = arg;
    int result;

    *facts |= is_inside(g) ? FIN__IS_RESET_UNSURE : 0;
    g->pause = 0;
    g->least = fin__now() + LEAVE_NS;
    result = fin__clear_and_release(&clear, g, fd, g->least > g->deadline ? g->least : g->deadline);
    *facts |= g->shut ? FIN__IS_SHUT : 0;
    if (!g->stays)
        return result;
    *facts |= result < 0 ? FIN__IS_KEPT : 0;
    g->kept = result < 0;
    g->tomb = fin__alloc(sizeof *g->tomb);
    if (!g->tomb)
        return -ENOMEM;
    *g->tomb = (struct fin__tomb) { .fd = fd, .inside = g->inside };
    g->inside = (struct fin__inside) { 0 };
    return result;
}

int fin__release_guarded(int fd, uint64_t deadline, const struct fin__guarded_options *options,
                         struct fin__tomb **tomb)
{
    struct guarded g = { .fd = fd, .options = options, .waking = true, .deadline = deadline };
    unsigned facts = 0;
    int result;

    fin__inside_begin(&g.inside, fd);
    result = guarded_release(&g, fd, &facts);
    fin__inside_end(&g.inside);
    *tomb = g.tomb;
    return result;
}

bool fin__tomb_is_left(struct fin__tomb *tomb)
{
    fin__inside_look(&tomb->inside);
    return !fin__inside_any(&tomb->inside) && !tomb->inside.unknown;
}

void fin__tomb_open(struct fin__tomb *tomb)
{
    (void) fin__release(tomb->fd);
    fin__inside_end(&tomb->inside);
    fin__free(tomb);
}

/* ---- the close ---- */

static bool is_listening(int fd)
{
    int listening = 0;
    socklen_t size = sizeof listening;

    (void) getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
    return listening;
}

/* shutdown() would end a listening socket for every worker that has a copy. If there is no time
 * to find out, assume that there is one. */
static bool others_hold(const struct guarded *g)
{
    struct fin_identity id = FIN_IDENTITY_INIT;
    struct fin_receipt found = FIN_RECEIPT_INIT;

    if (fin_identify(g->fd, &id) < 0)
        return true;
    fin__receipt_holders(&found, id.inode, FIN__A_SOCKET, g->deadline);
    for (uint32_t i = 0; i < found.holders && i < FIN_RECEIPT_HOLDERS; i++)
        if (found.holder[i].pid != getpid())
            return true;
    return found.search != FIN_SEARCH_FOUND || found.holders > FIN_RECEIPT_HOLDERS;
}

static void prepare(struct guarded *g)
{
    bool spares;

    g->listening = is_listening(g->fd);
    spares = fin__policy_spares_connection(g->policy, g->listening);
    g->waking = !spares;
    fin__inside_settle(&g->inside, SETTLE_NS);
    if (!fin__inside_any(&g->inside))
        return;
    if (spares && g->listening && g->policy->scope == FIN_SCOPE_DEFAULT)
        g->waking = !others_hold(g);
}

static int close_it(struct guarded *g, struct fin__close_options *options,
                    struct fin_receipt *receipt)
{
    struct fin_layer layer = FIN_LAYER_INIT;
    int result = -ENOTCONN;

    layer.arg = g;
    layer.flush = guarded_flush;
    layer.notify = guarded_notify;
    layer.read = guarded_discard;
    if (g->options->half_written || (may_send(g) && g->waking))
        result = fin__close(NULL, g->fd, &layer, g->policy, options, receipt);
    if (result == -ENOTCONN) /* no stream: nobody waits long to send */
        result = fin__close(NULL, g->fd, NULL, g->policy, options, receipt);
    return result;
}

int fin__close_guarded(int fd, const struct fin_policy *policy,
                       const struct fin__guarded_options *guarded, struct fin_receipt *receipt,
                       struct fin__tomb **tomb)
{
    struct guarded g = { .fd = fd, .policy = policy, .options = guarded };
    struct fin__close_options options = { .release = guarded_release, .cut = is_cut, .arg = &g };
    int result = fin__policy_check(policy);

    if (result < 0)
        return result;
    *tomb = NULL;
    options.requested = guarded->requested ? guarded->requested : fin__now();
    g.deadline = options.requested + (uint64_t) policy->total_ms * FIN__NS_PER_MS;
    fin__inside_begin(&g.inside, fd);
    if (g.inside.count)
        prepare(&g);
    /* A listening socket's queue is emptied first; RST wakes everybody. */
    if (g.inside.receiving && g.waking && !g.listening && policy->courtesy != FIN_COURTESY_ABORT) {
        wake_receivers(&g);
        options.input_shut = true;
    }
    result = close_it(&g, &options, receipt);
    fin__inside_end(&g.inside);
    if (result < 0)
        return result;
    receipt->tombstone = g.tomb && !g.kept;
    *tomb = g.tomb;
    return result;
}
