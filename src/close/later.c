/* SPDX-License-Identifier: MIT */

/*
 * Closes for programs without a loop: a closer, and a thread that dispatches it. Both are made by
 * the first close that is asked for, and end with fin_close_later_drain(), which stops the thread
 * and goes on with the closer itself.
 *
 * A forked child has no such thread, and the closer in it belongs to its parent: it starts with
 * none. After fork(2) the child's copies of what is closing are closed at once, after clone(2) at
 * the child's first call.
 */

#include "base/alloc.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/fork.h"
#include "base/mark.h"
#include "base/poll.h"

#include <errno.h>
#include <finack.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct helper {
    struct fin_closer *closer;
    int stop; /* eventfd: the thread is to leave */
    int mark; /* of it: base/mark.h */
    pthread_t thread;
};

static struct fin__lock lock;
static struct helper *helper; /* NULL: no close since the start, or since the last drain */
static _Thread_local uint32_t helper_in; /* of which process this thread is the helper */

/* ---- the thread ---- */

/* Until the next deadline: a stray close(2) may have taken the closer's timer. */
static int patience_ms(const struct helper *h)
{
    uint64_t at = fin_closer_next_deadline(h->closer), now = fin__now();

    if (at == UINT64_MAX)
        return -1;
    return at > now ? (int) ((at - now) / FIN__NS_PER_MS) + 1 : 0;
}

static bool is_to_stop(const struct helper *h)
{
    uint64_t once;

    return read(h->stop, &once, sizeof once) > 0;
}

/* After a failed poll(2) anything may be ready, so `stop` is polled by itself. */
static bool may_stay(const struct helper *h, struct pollfd *entries)
{
    int ready;

    if (!fin__is_marked(h->stop, h->mark))
        return false;
    ready = fin__poll(entries, 2, patience_ms(h));
    return ready < 0 ? !is_to_stop(h) : !entries[1].revents;
}

/* Ends when `stop` is readable. Until then each wake-up is a dispatch, which is bounded. If a stray
 * close(2) of the program's takes the closer's descriptor nothing is left to wait for. */
static void *dispatch(void *arg)
{
    const struct helper *h = arg;
    struct pollfd entries[] = {
        { .fd = fin_closer_fd(h->closer), .events = POLLIN },
        { .fd = h->stop, .events = POLLIN },
    };

    helper_in = fin__process();
    while (may_stay(h, entries)) {
        if (fin_closer_dispatch(h->closer) != -EBADF)
            continue;
        (void) fin_closer_drain(h->closer, FIN_TIME_MAX_MS); /* at once: all are forced */
        entries[0].fd = -1;
    }
    if (!fin__is_marked(h->stop, h->mark)) /* taken too: nobody has said that this is the end */
        (void) fin_closer_drain(h->closer, FIN_TIME_MAX_MS);
    return NULL;
}

/* Signals are for the program's own threads. */
static int start_thread(struct helper *h)
{
    sigset_t all, before;
    int result;

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &before);
    result = pthread_create(&h->thread, NULL, dispatch, h);
    (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -result;
}

/* The thread has ended, was never there, or is the parent's. */
static struct helper *free_helper(struct helper *h)
{
    if (!h)
        return NULL;
    (void) fin_closer_free(h->closer);
    fin__drop_marked(&h->stop, h->mark);
    fin__free(h);
    return NULL;
}

static int make_helper(struct helper **ret)
{
    struct helper *h = fin__alloc(sizeof *h);
    int result;

    if (!h)
        return -ENOMEM;
    h->closer = NULL;
    h->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    h->mark = h->stop < 0 ? 0 : fin__mark_new(h->stop);
    result = h->stop < 0 ? -errno : fin_closer_new(NULL, &h->closer);
    if (result == 0)
        result = start_thread(h);
    if (result < 0)
        (void) free_helper(h);
    else
        *ret = h;
    return result;
}

/* ---- fork ---- */

static void later_lock(void)
{
    if (fin__lock_take(&lock))
        helper = free_helper(helper); /* the parent's */
}

static void later_unlock(void)
{
    fin__lock_give(&lock);
}

static void forget_parents(void)
{
    later_lock();
    later_unlock();
}

static void watch_forks(void)
{
    (void) pthread_atfork(later_lock, later_unlock, forget_parents);
}

/* ---- the calls ---- */

int fin_close_later(int fd, const struct fin_policy *policy, fin_closed_fn closed, void *arg)
{
    FIN__UNCANCELLED;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int result;

    (void) pthread_once(&once, watch_forks);
    later_lock();
    result = helper ? 0 : make_helper(&helper);
    if (result == 0)
        result = fin_closer_submit(helper->closer, fd, policy, closed, arg, NULL);
    later_unlock();
    return result;
}

/* Waits for a thread that can't be told to end, because a stray close(2) has closed the
 * descriptor for that: with closes pending it notices by itself. If none is pending it stays
 * where it is, for ever. */
static bool ends_by_itself(const struct helper *h, uint64_t limit)
{
    uint64_t now = fin__now(), left = limit > now ? limit - now : 0;
    struct timespec until;

    (void) clock_gettime(CLOCK_REALTIME, &until);
    left += (uint64_t) until.tv_nsec;
    until.tv_sec += (time_t) (left / FIN__NS_PER_S);
    until.tv_nsec = (long) (left % FIN__NS_PER_S);
    return pthread_timedjoin_np(h->thread, NULL, &until) == 0;
}

/* Ends the thread and returns its helper. NULL: there is none, or the thread stays. */
static struct helper *take_helper(uint64_t limit)
{
    struct helper *h;
    uint64_t one = 1;

    later_lock();
    h = helper;
    helper = NULL;
    later_unlock();
    if (!h)
        return NULL;
    if (!fin__is_marked(h->stop, h->mark)) {
        if (ends_by_itself(h, limit))
            return h;
        (void) pthread_detach(h->thread);
        return NULL;
    }
    (void) !write(h->stop, &one, sizeof one); /* a new eventfd has room for it */
    (void) pthread_join(h->thread, NULL);
    return h;
}

/* Completions may ask for more closes, which get a new helper: it is drained too, and once the
 * time is over everything that is left is aborted. */
int fin_close_later_drain(int32_t timeout_ms)
{
    FIN__UNCANCELLED;
    uint64_t limit = fin__now() + (uint64_t) timeout_ms * FIN__NS_PER_MS, now;
    struct helper *h;
    int left, stragglers = 0;

    if (timeout_ms < 0 || timeout_ms > FIN_TIME_MAX_MS)
        return -ERANGE;
    if (helper_in == fin__process())
        return -EBUSY; /* it would wait for itself */
    do {
        h = take_helper(limit);
        if (!h)
            break;
        now = fin__now();
        left = fin_closer_drain(h->closer,
                                now < limit ? (int32_t) ((limit - now) / FIN__NS_PER_MS) : 0);
        stragglers += left > 0 ? left : 0;
        (void) free_helper(h);
    } while (now < limit);
    return stragglers;
}
