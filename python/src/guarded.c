/* SPDX-License-Identifier: MIT */

#include "guarded.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "close/blocking.h"
#include "close/policy.h"
#include "handle/dead.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define SETTLE_NS (20 * (uint64_t) FIN__NS_PER_MS)
#define LEAVE_NS (50 * (uint64_t) FIN__NS_PER_MS) /* for who was woken at the last moment */

struct guarded {
    int fd;
    const struct fin_policy *policy;
    struct fin__inside inside;
    bool listening;
    bool waking; /* those inside are to be woken: not by scope descriptor, which ends nothing */
    uint64_t deadline;
    struct fin__tomb *tomb;
};

/* ---- those who send: a layer whose bytes are in their hands ---- */

static bool may_send(const struct guarded *g)
{
    return g->inside.sending || g->inside.unknown;
}

static int flush(void *arg, uint64_t *unsent)
{
    struct guarded *g = arg;

    fin__inside_settle(&g->inside, SETTLE_NS);
    *unsent = g->inside.unsent;
    if (g->inside.stranded)
        return -ECANCELED;
    return may_send(g) ? FIN_LAYER_WANT_WRITE : FIN_LAYER_DONE;
}

static int notify(void *arg)
{
    (void) arg;
    return FIN_LAYER_NONE;
}

static int discard(void *arg, uint64_t max, uint64_t *n)
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

static void wake_all(struct guarded *g)
{
    if (g->waking)
        (void) shutdown(g->fd, SHUT_RDWR);
}

/* True once nobody is inside. */
static bool clear_out(struct guarded *g)
{
    uint64_t last = fin__now() + LEAVE_NS, pause = 0;

    if (last < g->deadline)
        last = g->deadline;
    fin__inside_look(&g->inside);
    if (fin__inside_any(&g->inside))
        wake_all(g);
    while (fin__inside_any(&g->inside) || g->inside.unknown) {
        if (fin__now() >= last || (!g->waking && !g->inside.unknown))
            return false;
        fin__inside_pause(&pause);
        fin__inside_look(&g->inside);
        if (pause > FIN__NS_PER_MS && fin__inside_any(&g->inside))
            wake_all(g); /* who was about to enter at the first time */
    }
    return true;
}

static int entomb(const struct guarded *g)
{
    int dead = fin__dead_take();
    int result = dead < 0 ? dead : fin__entomb(dead, g->fd);

    if (dead >= 0)
        fin__dead_drop();
    return result;
}

/* Without descriptors for a dead one, or memory, the socket itself keeps the number: it is shut. */
static int release(void *arg, int fd)
{
    struct guarded *g = arg;

    if (clear_out(g))
        return fin__release(fd);
    g->tomb = fin__alloc(sizeof *g->tomb);
    (void) entomb(g);
    if (!g->tomb)
        return -ENOMEM;
    *g->tomb = (struct fin__tomb) { .fd = fd, .inside = g->inside };
    g->inside = (struct fin__inside) { 0 };
    return 0;
}

int fin__release_guarded(int fd, uint64_t deadline, struct fin__tomb **tomb)
{
    struct guarded g = { .fd = fd, .waking = true, .deadline = deadline };
    int result;

    fin__inside_begin(&g.inside, fd);
    result = release(&g, fd);
    fin__inside_end(&g.inside);
    *tomb = g.tomb;
    return result;
}

struct fin__tomb *fin__tomb_open(struct fin__tomb *tomb)
{
    fin__inside_look(&tomb->inside);
    if (fin__inside_any(&tomb->inside) || tomb->inside.unknown)
        return tomb;
    (void) fin__release(tomb->fd);
    fin__inside_end(&tomb->inside);
    fin__free(tomb);
    return NULL;
}

/* ---- the close ---- */

static bool is_listening(int fd)
{
    int listening = 0;
    socklen_t size = sizeof listening;

    (void) getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
    return listening;
}

/* shutdown() would end a listening socket for every worker that has a copy. */
static bool others_hold(int fd)
{
    struct fin_identity id = FIN_IDENTITY_INIT;
    struct fin_holder holders[16] = { 0 };
    int count = fin_identify(fd, &id);

    if (count == 0)
        count = fin_holders(&id, holders, 16, NULL);
    for (int i = 0; i < count && i < 16; i++)
        if (holders[i].pid != getpid())
            return true;
    return count < 0 || count > 16;
}

static void prepare(struct guarded *g)
{
    struct fin__plan plan;

    g->listening = is_listening(g->fd);
    fin__plan_make(g->policy, g->listening, &plan);
    g->waking = !plan.descriptor_only;
    fin__inside_settle(&g->inside, SETTLE_NS);
    if (!fin__inside_any(&g->inside))
        return;
    if (plan.descriptor_only && g->listening && g->policy->scope == FIN_SCOPE_DEFAULT)
        g->waking = !others_hold(g->fd);
}

static int close_it(struct guarded *g, struct fin__close_options *options,
                    struct fin_receipt *receipt)
{
    struct fin_layer layer = FIN_LAYER_INIT;
    int result = -ENOTCONN;

    layer.arg = g;
    layer.flush = flush;
    layer.notify = notify;
    layer.read = discard;
    if (may_send(g) && g->waking)
        result = fin__close(NULL, g->fd, &layer, g->policy, options, receipt);
    if (result == -ENOTCONN) /* no stream: nobody waits long to send */
        result = fin__close(NULL, g->fd, NULL, g->policy, options, receipt);
    return result;
}

int fin__close_guarded(int fd, const struct fin_policy *policy, uint64_t requested,
                       struct fin_receipt *receipt, struct fin__tomb **tomb)
{
    struct guarded g = { .fd = fd, .policy = policy };
    struct fin__close_options options = { .release = release, .arg = &g };
    int result = fin__policy_check(policy);

    if (result < 0)
        return result;
    *tomb = NULL;
    options.requested = requested ? requested : fin__now();
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
    receipt->tombstone = g.tomb != NULL;
    *tomb = g.tomb;
    return result;
}
