/* SPDX-License-Identifier: MIT */

#include "loop/selector.h"

#include "base/alloc.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#define BATCH 256
#define EVENTS_ALL (FIN_READ | FIN_WRITE)
#define EVERY_EDGE ((uint32_t) EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* ---- life ---- */

int fin__selector_new_bare(struct fin_selector **ret)
{
    struct fin_selector *s = fin__alloc(sizeof *s);

    if (!s)
        return -ENOMEM;
    s->set = -1;
    fin__fork_guard_init(&s->guard);
    *ret = s;
    return 0;
}

int fin_selector_new(struct fin_selector **ret)
{
    FIN__UNCANCELLED;
    struct fin_selector *s;
    int set, result;

    if (!ret)
        return -EINVAL;
    set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0)
        return -errno;
    result = fin__selector_new_bare(&s);
    if (result < 0) {
        fin__drop(&set);
        return result;
    }
    s->set = set;
    *ret = s;
    return 0;
}

struct fin_selector *fin_selector_free(struct fin_selector *s)
{
    FIN__UNCANCELLED;

    if (!s)
        return NULL;
    fin__drop(&s->set);
    fin__table_free(&s->table);
    fin__free(s->observers);
    fin__free(s);
    return NULL;
}

int fin_selector_fd(const struct fin_selector *s)
{
    return s ? s->set : -EINVAL;
}

int fin__selector_check(const struct fin_selector *s)
{
    return fin__fork_check(&s->guard);
}

/* ---- observers ---- */

static void selector_tell(struct fin_selector *s, enum fin_selector_change change, int fd,
                          const struct fin__slot *slot)
{
    struct fin_registration registration = {
        .size = sizeof registration,
        .fd = fd,
        .events = slot->events,
        .data = slot->data,
        .generation = slot->generation,
    };

    for (size_t i = 0; i < s->observer_count; i++)
        s->observers[i].call(change, &registration, s->observers[i].arg);
}

int fin_selector_observe(struct fin_selector *s, fin_selector_observer_fn observer, void *arg)
{
    struct fin__observer *all;

    if (!s || !observer)
        return -EINVAL;
    all = fin__alloc((s->observer_count + 1) * sizeof *all);
    if (!all)
        return -ENOMEM;
    if (s->observers)
        memcpy(all, s->observers, s->observer_count * sizeof *all);
    all[s->observer_count++] = (struct fin__observer) { observer, arg };
    fin__free(s->observers);
    s->observers = all;
    return 0;
}

int fin_selector_unobserve(struct fin_selector *s, fin_selector_observer_fn observer, void *arg)
{
    if (!s || !observer)
        return -EINVAL;
    for (size_t i = 0; i < s->observer_count; i++) {
        struct fin__observer *o = &s->observers[i];

        if (o->call != observer || o->arg != arg)
            continue;
        memmove(o, o + 1, (--s->observer_count - i) * sizeof *o);
        return 0;
    }
    return -ENOENT;
}

/* ---- the kernel's side ---- */

static int control(const struct fin_selector *s, int what, int fd, int events, uint32_t generation)
{
    struct epoll_event entry = {
        .events = (events & FIN_READ ? (uint32_t) EPOLLIN : 0)
            | (events & FIN_WRITE ? (uint32_t) EPOLLOUT : 0)
            | (events & FIN__EDGE ? EVERY_EDGE : 0),
        .data.u64 = (uint64_t) generation << 32 | (uint32_t) fd,
    };

    return epoll_ctl(s->set, what, fd, &entry) < 0 ? -errno : 0;
}

/* EEXIST: an entry outlived a registration, and now this very description is at its number
 * again. */
static int selector_watch(const struct fin_selector *s, int fd, int events, uint32_t generation)
{
    int result = control(s, EPOLL_CTL_ADD, fd, events, generation);

    return result == -EEXIST ? control(s, EPOLL_CTL_MOD, fd, events, generation) : result;
}

/* In a child the set is the parent's. */
static bool has_set(const struct fin_selector *s)
{
    return s->set >= 0 && fin__selector_check(s) == 0;
}

int fin__selector_add(struct fin_selector *s, int fd, const struct fin__mark *mark, int events,
                      void *data)
{
    struct fin__slot *slot;
    int result = fin__selector_check(s);

    if (result < 0)
        return result;
    if (fin__table_find(&s->table, fd))
        return -EEXIST;
    result = fin__table_reserve(&s->table, fd);
    if (result < 0)
        return result;
    slot = fin__table_put(&s->table, fd, mark);
    slot->events = events;
    slot->data = data;
    if (s->set >= 0)
        result = selector_watch(s, fd, events, slot->generation);
    if (result < 0)
        fin__table_remove(&s->table, fd);
    return result;
}

/* A mark tells sockets and pipes apart, but not the two ends of a pipe, nor one eventfd from
 * another. */
static bool is_exact(const struct fin__slot *slot)
{
    return slot->mark.device == 0;
}

bool fin__selector_fits(const struct fin_selector *s, const struct fin__slot *slot, int fd)
{
    if (is_exact(slot) || !has_set(s))
        return fin__slot_is_current(slot, fd);
    return control(s, EPOLL_CTL_MOD, fd, slot->events, slot->generation) == 0;
}

int fin__selector_rewatch(struct fin_selector *s, int fd, int events)
{
    const struct fin__slot *slot = &s->table.slots[fd];
    int result;

    if ((slot->events == events && is_exact(slot)) || !has_set(s))
        return 0;
    result = control(s, EPOLL_CTL_MOD, fd, events, slot->generation);
    if (result != -ENOENT)
        return result;
    /* The number is another file, which the mark can't show. */
    fin__table_renew(&s->table, fd);
    return control(s, EPOLL_CTL_ADD, fd, events, slot->generation);
}

void fin__selector_ask_again(struct fin_selector *s, int fd)
{
    const struct fin__slot *slot = fin__table_find(&s->table, fd);

    if (slot && has_set(s)) /* ep_modify() looks what is ready, of edge-triggered entries too */
        (void) control(s, EPOLL_CTL_MOD, fd, slot->events, slot->generation);
}

/* That it can't be taken out (the descriptor was closed, the number has another file) is no error:
 * should the entry live on, its events are found to be stale. */
void fin__selector_remove(struct fin_selector *s, int fd)
{
    if (has_set(s))
        (void) control(s, EPOLL_CTL_DEL, fd, 0, 0);
    fin__table_remove(&s->table, fd);
}

/* ---- registrations ---- */

static bool are_events(int events)
{
    return events != 0 && (events & ~EVENTS_ALL) == 0;
}

static void selector_drop(struct fin_selector *s, int fd)
{
    struct fin__slot was = s->table.slots[fd];

    fin__selector_remove(s, fd);
    selector_tell(s, FIN_SELECTOR_UNREGISTER, fd, &was);
}

int fin_selector_register(struct fin_selector *s, int fd, int events, void *data)
{
    struct fin__mark mark = { 0 };
    const struct fin__slot *slot;
    int result;

    if (!s || !are_events(events))
        return -EINVAL;
    result = fin__selector_check(s);
    if (result == 0)
        result = fin__mark_of(fd, &mark);
    if (result < 0)
        return result;
    slot = fin__table_find(&s->table, fd);
    if (slot && (slot->mark.serial != mark.serial || slot->mark.device != mark.device))
        selector_drop(s, fd);
    result = fin__selector_add(s, fd, &mark, events, data);
    if (result == 0)
        selector_tell(s, FIN_SELECTOR_REGISTER, fd, &s->table.slots[fd]);
    return result;
}

int fin_selector_modify(struct fin_selector *s, int fd, int events, void *data)
{
    struct fin__slot *slot;
    int result;

    if (!s || !are_events(events))
        return -EINVAL;
    slot = fin__table_find(&s->table, fd);
    if (!slot)
        return -ENOENT;
    result = fin__selector_rewatch(s, fd, events);
    if (result < 0) {
        selector_drop(s, fd);
        return result;
    }
    slot->events = events;
    slot->data = data;
    selector_tell(s, FIN_SELECTOR_MODIFY, fd, slot);
    return 0;
}

int fin_selector_unregister(struct fin_selector *s, int fd, void **data)
{
    const struct fin__slot *slot;
    void *was;

    if (!s)
        return -EINVAL;
    slot = fin__table_find(&s->table, fd);
    if (!slot)
        return -ENOENT;
    was = slot->data;
    selector_drop(s, fd);
    if (data)
        *data = was;
    return 0;
}

int fin_selector_get(struct fin_selector *s, int fd, struct fin_registration *registration)
{
    const struct fin__slot *slot;

    if (!s || !registration || registration->size != sizeof *registration)
        return -EINVAL;
    slot = fin__table_find(&s->table, fd);
    if (!slot)
        return -ENOENT;
    if (fin__slot_is_taken(slot, fd)) {
        selector_drop(s, fd);
        return -ENOENT;
    }
    registration->fd = fd;
    registration->events = slot->events;
    registration->data = slot->data;
    registration->generation = slot->generation;
    return 0;
}

/* ---- waiting ---- */

int fin__selector_wait(int set, struct epoll_event *events, int max, int timeout_ms)
{
    int n = epoll_wait(set, events, max, timeout_ms);

    return n < 0 ? -errno : n;
}

struct fin__slot *fin__selector_resolve(const struct fin_selector *s,
                                        const struct epoll_event *event, int *fd, int *ready)
{
    struct fin__slot *slot;

    *fd = (int) (uint32_t) event->data.u64;
    slot = fin__table_find(&s->table, *fd);
    if (!slot || slot->generation != event->data.u64 >> 32)
        return NULL;
    *ready = (event->events & ~(uint32_t) EPOLLIN ? FIN_WRITE : 0)
        | (event->events & ~(uint32_t) EPOLLOUT ? FIN_READ : 0);
    *ready &= slot->events;
    return slot;
}

static int move_to(struct fin_selector *s, int set)
{
    const struct fin_selector fresh = { .set = set };

    for (int fd = 0; fd < s->table.size; fd++) {
        const struct fin__slot *slot = fin__table_find(&s->table, fd);
        int result;

        if (!slot || !fin__selector_fits(s, slot, fd))
            continue;
        result = selector_watch(&fresh, fd, slot->events, slot->generation);
        if (result < 0 && result != -EBADF && result != -EPERM)
            return result;
    }
    return fin__entomb(set, s->set);
}

int fin__selector_renew(struct fin_selector *s)
{
    int set = epoll_create1(EPOLL_CLOEXEC), result;

    if (set < 0)
        return -errno;
    result = move_to(s, set);
    fin__drop(&set);
    return result;
}

struct batch {
    struct fin_ready *ready;
    int count;
    bool stale;
};

static void selector_take(struct fin_selector *s, const struct epoll_event *event,
                          struct batch *batch)
{
    int fd, events;
    const struct fin__slot *slot = fin__selector_resolve(s, event, &fd, &events);

    if (!slot || !fin__selector_fits(s, slot, fd)) {
        batch->stale = true;
        if (slot && fcntl(fd, F_GETFD) >= 0)
            selector_drop(s, fd);
    } else if (events != 0)
        batch->ready[batch->count++] =
            (struct fin_ready) { fd, events, slot->data, slot->generation };
}

static int select_once(struct fin_selector *s, struct batch *batch, int max, int timeout_ms)
{
    struct epoll_event events[BATCH];
    int n = fin__selector_wait(s->set, events, max < BATCH ? max : BATCH, timeout_ms);

    for (int i = 0; i < n; i++)
        selector_take(s, &events[i], batch);
    return n;
}

static int remaining(uint64_t until)
{
    uint64_t now = fin__now();

    return now >= until ? 0 : (int) ((until - now + FIN__NS_PER_MS - 1) / FIN__NS_PER_MS);
}

int fin_selector_select(struct fin_selector *s, struct fin_ready *ready, int max, int timeout_ms)
{
    FIN__UNCANCELLED;
    struct batch batch = { .ready = ready };
    uint64_t until;
    int result;

    if (!s || !ready || max <= 0)
        return -EINVAL;
    result = fin__selector_check(s);
    if (result < 0)
        return result;
    until = timeout_ms > 0 ? fin__now() + (uint64_t) timeout_ms * FIN__NS_PER_MS : 0;
    for (;;) {
        batch.stale = false;
        result = select_once(s, &batch, max, timeout_ms);
        if (result < 0)
            return result;
        /* If no descriptor is free for a new set, return early rather than spin here. */
        if (batch.stale && fin__selector_renew(s) < 0)
            return batch.count;
        if (result == 0 || batch.count > 0 || timeout_ms == 0)
            return batch.count;
        if (timeout_ms > 0)
            timeout_ms = remaining(until);
    }
}

int fin_selector_is_current(const struct fin_selector *s, const struct fin_ready *ready)
{
    const struct fin__slot *slot;

    if (!s || !ready)
        return -EINVAL;
    slot = fin__table_find(&s->table, ready->fd);
    return slot && slot->generation == ready->generation;
}
