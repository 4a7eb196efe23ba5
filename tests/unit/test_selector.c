/* SPDX-License-Identifier: MIT */

/* The selector: numbers that change their meaning, entries that outlive their descriptor, forked
 * children, and what can fail. */

#include "support.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <finack/loop.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

static struct fin_selector *make(void)
{
    struct fin_selector *s = NULL;

    assert_int_equal(fin_selector_new(&s), 0);
    return s;
}

static struct fin_registration get(struct fin_selector *s, int fd)
{
    struct fin_registration r = FIN_REGISTRATION_INIT;

    assert_int_equal(fin_selector_get(s, fd, &r), 0);
    return r;
}

static bool is_registered(struct fin_selector *s, int fd)
{
    struct fin_registration r = FIN_REGISTRATION_INIT;
    int result = fin_selector_get(s, fd, &r);

    assert_true(result == 0 || result == -ENOENT);
    return result == 0;
}

static int ready_now(struct fin_selector *s, struct fin_ready *ready)
{
    struct fin_ready all[8];
    int n = fin_selector_select(s, all, 8, 0);

    assert_true(n >= 0);
    if (n > 0 && ready)
        *ready = all[0];
    return n;
}

/* Is an entry left in the set that reports something? */
static bool set_is_ready(const struct fin_selector *s)
{
    struct pollfd entry = { .fd = fin_selector_fd(s), .events = POLLIN };

    return poll(&entry, 1, 0) == 1;
}

/* ---- observers ---- */

#define CHANGES_MAX 16

struct journal {
    int count;
    struct {
        enum fin_selector_change change;
        struct fin_registration registration;
    } entry[CHANGES_MAX];
};

static void note(enum fin_selector_change change, const struct fin_registration *r, void *arg)
{
    struct journal *journal = arg;

    assert_true(journal->count < CHANGES_MAX);
    journal->entry[journal->count].change = change;
    journal->entry[journal->count++].registration = *r;
}

static void assert_noted(const struct journal *journal, int i, enum fin_selector_change change,
                         int fd, int events)
{
    assert_true(i < journal->count);
    assert_int_equal(journal->entry[i].change, change);
    assert_int_equal(journal->entry[i].registration.fd, fd);
    assert_int_equal(journal->entry[i].registration.events, events);
}

static void test_observers(void **state)
{
    struct fin_selector *s = make();
    struct journal a = { 0 }, b = { 0 };
    int fd = eventfd(0, EFD_CLOEXEC);

    (void) state;
    assert_int_equal(fin_selector_observe(s, note, &a), 0);
    assert_int_equal(fin_selector_observe(s, note, &b), 0);
    assert_int_equal(fin_selector_register(s, fd, FIN_READ, &a), 0);
    assert_int_equal(fin_selector_unobserve(s, note, &b), 0);
    assert_int_equal(fin_selector_unobserve(s, note, &b), -ENOENT);
    assert_int_equal(fin_selector_modify(s, fd, FIN_WRITE, &b), 0);
    assert_int_equal(fin_selector_unregister(s, fd, NULL), 0);
    assert_int_equal(a.count, 3);
    assert_noted(&a, 0, FIN_SELECTOR_REGISTER, fd, FIN_READ);
    assert_noted(&a, 1, FIN_SELECTOR_MODIFY, fd, FIN_WRITE);
    assert_noted(&a, 2, FIN_SELECTOR_UNREGISTER, fd, FIN_WRITE);
    assert_ptr_equal(a.entry[0].registration.data, &a);
    assert_ptr_equal(a.entry[2].registration.data, &b);
    assert_int_equal(b.count, 1);
    assert_noted(&b, 0, FIN_SELECTOR_REGISTER, fd, FIN_READ);
    fin_selector_free(s);
    drop_all(fd, -1);
}

/* ---- the usual course ---- */

static void test_course(void **state)
{
    struct fin_selector *s = make();
    struct fin_ready ready = { 0 };
    void *data = NULL;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_selector_register(s, fds[US], FIN_READ, fds), 0);
    assert_int_equal(fin_selector_register(s, fds[US], FIN_READ, fds), -EEXIST);
    assert_int_equal(ready_now(s, NULL), 0);
    give(fds[THEM], "x");
    assert_int_equal(fin_selector_select(s, &ready, 1, -1), 1);
    assert_int_equal(ready.fd, fds[US]);
    assert_int_equal(ready.events, FIN_READ);
    assert_ptr_equal(ready.data, fds);
    assert_int_equal(fin_selector_is_current(s, &ready), 1);

    assert_int_equal(fin_selector_modify(s, fds[US], FIN_READ | FIN_WRITE, s), 0);
    assert_int_equal(fin_selector_is_current(s, &ready), 1);
    assert_int_equal(ready_now(s, &ready), 1);
    assert_int_equal(ready.events, FIN_READ | FIN_WRITE);
    assert_ptr_equal(ready.data, s);
    assert_int_equal(get(s, fds[US]).events, FIN_READ | FIN_WRITE);

    assert_int_equal(fin_selector_unregister(s, fds[US], &data), 0);
    assert_ptr_equal(data, s);
    assert_int_equal(fin_selector_is_current(s, &ready), 0);
    assert_int_equal(fin_selector_unregister(s, fds[US], NULL), -ENOENT);
    assert_int_equal(ready_now(s, NULL), 0);
    assert_int_equal(fin_selector_select(s, &ready, 1, 1), 0); /* the time passes */
    fin_selector_free(s);
    drop_all(fds[US], fds[THEM], -1);
}

/* A hang-up is reported as what the program watches for. */
static void test_hang_up(void **state)
{
    struct fin_selector *s = make();
    struct fin_ready ready = { 0 };
    int fds[2] = { -1, -1 };

    (void) state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fin_selector_register(s, fds[0], FIN_READ, NULL), 0);
    drop_all(fds[1], -1);
    assert_int_equal(ready_now(s, &ready), 1);
    assert_int_equal(ready.events, FIN_READ);
    fin_selector_free(s);
    drop_all(fds[0], -1);
}

#define MANY 700

static void test_many(void **state)
{
    struct fin_selector *s = make();
    static struct fin_ready ready[MANY];
    static int fds[MANY];
    int n, seen = 0;

    (void) state;
    for (int i = 0; i < MANY; i++) {
        fds[i] = eventfd(1, EFD_CLOEXEC);
        assert_true(fds[i] >= 0);
        assert_int_equal(fin_selector_register(s, fds[i], FIN_READ, NULL), 0);
    }
    while (seen < MANY) {
        n = fin_selector_select(s, ready, MANY, 0);
        assert_true(n > 0);
        for (int i = 0; i < n; i++)
            assert_int_equal(fin_selector_unregister(s, ready[i].fd, NULL), 0);
        seen += n;
    }
    assert_int_equal(seen, MANY);
    for (int i = 0; i < MANY; i++)
        drop_all(fds[i], -1);
    fin_selector_free(s);
}

/* ---- numbers and what they mean ---- */

/* fds[US] is registered and readable; its number is closed and means another socket now, which
 * fds[US] is then, while *copy keeps the description alive. */
static void replace(int fds[2], int *copy)
{
    int other;

    *copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(dup3(other, fds[US], O_CLOEXEC), fds[US]);
    drop_all(other, -1);
}

static struct fin_selector *make_replaced(int fds[2], int *copy)
{
    struct fin_selector *s = make();

    unix_pair(SOCK_STREAM, fds);
    give(fds[THEM], "x");
    assert_int_equal(fin_selector_register(s, fds[US], FIN_READ, fds), 0);
    replace(fds, copy);
    return s;
}

static void test_get_drops(void **state)
{
    struct journal journal = { 0 };
    struct fin_selector *s;
    int fds[2], copy;

    (void) state;
    s = make_replaced(fds, &copy);
    assert_int_equal(fin_selector_observe(s, note, &journal), 0);
    assert_false(is_registered(s, fds[US]));
    assert_int_equal(journal.count, 1);
    assert_noted(&journal, 0, FIN_SELECTOR_UNREGISTER, fds[US], FIN_READ);
    assert_ptr_equal(journal.entry[0].registration.data, fds);
    assert_int_equal(fin_selector_modify(s, fds[US], FIN_READ, NULL), -ENOENT);
    fin_selector_free(s);
    drop_all(fds[US], fds[THEM], copy, -1);
}

static void test_register_drops(void **state)
{
    struct journal journal = { 0 };
    struct fin_selector *s;
    int fds[2], copy;

    (void) state;
    s = make_replaced(fds, &copy);
    assert_int_equal(fin_selector_observe(s, note, &journal), 0);
    assert_int_equal(fin_selector_register(s, fds[US], FIN_WRITE, NULL), 0);
    assert_int_equal(journal.count, 2);
    assert_noted(&journal, 0, FIN_SELECTOR_UNREGISTER, fds[US], FIN_READ);
    assert_noted(&journal, 1, FIN_SELECTOR_REGISTER, fds[US], FIN_WRITE);
    assert_int_equal(get(s, fds[US]).events, FIN_WRITE);
    fin_selector_free(s);
    drop_all(fds[US], fds[THEM], copy, -1);
}

/* The copy keeps the old entry in the set, and readable: it must neither be reported as the new
 * registration of its number nor make every wait return at once. */
static void test_stale_entry(void **state)
{
    struct fin_ready ready = { 0 };
    struct fin_selector *s;
    int fds[2], copy, set;

    (void) state;
    s = make_replaced(fds, &copy);
    set = fin_selector_fd(s);
    assert_int_equal(fin_selector_register(s, fds[US], FIN_READ, NULL), 0);
    assert_true(set_is_ready(s));
    assert_int_equal(fin_selector_select(s, &ready, 1, 20) == 1 && ready.events == FIN_READ, 1);
    assert_int_equal(fin_selector_unregister(s, fds[US], NULL), 0);
    assert_false(set_is_ready(s)); /* the old entry is gone */
    assert_int_equal(fin_selector_fd(s), set);
    fin_selector_free(s);
    drop_all(fds[US], fds[THEM], copy, -1);
}

static void test_stale_entry_alone(void **state)
{
    struct fin_selector *s = make();
    struct fin_ready ready = { 0 };
    int fds[2], copy;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    give(fds[THEM], "x");
    assert_int_equal(fin_selector_register(s, fds[US], FIN_READ, NULL), 0);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    drop_all(fds[US], -1);
    assert_true(is_registered(s, fds[US])); /* closed, but nothing else yet */
    assert_int_equal(fin_selector_unregister(s, fds[US], NULL), 0);
    assert_true(set_is_ready(s));
    assert_int_equal(fin_selector_select(s, &ready, 1, 10), 0);
    assert_false(set_is_ready(s));
    fin_selector_free(s);
    drop_all(copy, fds[THEM], -1);
}

/* Closed and not unregistered: nobody has looked, and the first to find out is select() itself. */
static void test_event_of_what_was_closed(void **state)
{
    struct fin_selector *s = make();
    struct fin_ready ready = { 0 };
    int fds[2], copy;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    give(fds[THEM], "x");
    assert_int_equal(fin_selector_register(s, fds[US], FIN_READ, NULL), 0);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    drop_all(fds[US], -1);
    assert_int_equal(fin_selector_select(s, &ready, 1, 0), 0);
    assert_false(set_is_ready(s));
    assert_true(is_registered(s, fds[US])); /* its owner may unregister it yet */
    fin_selector_free(s);
    drop_all(copy, fds[THEM], -1);
}

/* The same, and the number means something else: its owner is not to hear of it. */
static void test_event_under_a_taken_number(void **state)
{
    struct fin_ready ready = { 0 };
    struct journal journal = { 0 };
    struct fin_selector *s;
    int fds[2], copy;

    (void) state;
    s = make_replaced(fds, &copy);
    assert_int_equal(fin_selector_observe(s, note, &journal), 0);
    assert_int_equal(fin_selector_select(s, &ready, 1, 0), 0);
    assert_false(set_is_ready(s));
    assert_noted(&journal, 0, FIN_SELECTOR_UNREGISTER, fds[US], FIN_READ);
    assert_int_equal(fin_selector_unregister(s, fds[US], NULL), -ENOENT);
    fin_selector_free(s);
    drop_all(fds[US], fds[THEM], copy, -1);
}

/* What else is registered is in the new set, under the registration that it had. */
static void test_others_survive(void **state)
{
    struct fin_ready ready = { 0 };
    struct fin_selector *s;
    int fds[2], copy, event = -1;
    uint32_t generation;

    (void) state;
    s = make_replaced(fds, &copy);
    event = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(fin_selector_register(s, event, FIN_WRITE | FIN_READ, &event), 0);
    generation = get(s, event).generation;
    assert_false(is_registered(s, fds[US]));
    assert_int_equal(fin_selector_select(s, &ready, 1, 20), 1);
    assert_int_equal(ready_now(s, &ready), 1);
    assert_int_equal(ready.fd, event);
    assert_int_equal(ready.generation, generation);
    assert_ptr_equal(ready.data, &event);
    fin_selector_free(s);
    drop_all(fds[US], fds[THEM], copy, event, -1);
}

/* The old entry and the registration made again are the same description at the same number. */
static void test_number_given_back(void **state)
{
    struct fin_selector *s = make();
    struct fin_ready ready = { 0 };
    int fds[2] = { -1, -1 }, copy = -1;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    give(fds[THEM], "x");
    assert_int_equal(fin_selector_register(s, fds[US], FIN_READ, NULL), 0);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    drop_all(fds[US], -1);
    assert_int_equal(fin_selector_unregister(s, fds[US], NULL), 0);
    assert_int_equal(dup3(copy, fds[US], O_CLOEXEC), fds[US]);
    assert_int_equal(fin_selector_register(s, fds[US], FIN_READ, s), 0);
    assert_int_equal(ready_now(s, &ready), 1);
    assert_ptr_equal(ready.data, s);
    fin_selector_free(s);
    drop_all(fds[US], fds[THEM], copy, -1);
}

/* Of two that are ready, the first one's handler replaces the second. */
static void test_same_batch(void **state)
{
    struct fin_selector *s = make();
    struct fin_ready ready[2];
    int fds[2];

    (void) state;
    for (int i = 0; i < 2; i++) {
        fds[i] = eventfd(1, EFD_CLOEXEC);
        assert_int_equal(fin_selector_register(s, fds[i], FIN_READ, NULL), 0);
    }
    assert_int_equal(fin_selector_select(s, ready, 2, 0), 2);
    assert_int_equal(fin_selector_unregister(s, ready[1].fd, NULL), 0);
    drop_all(ready[1].fd, -1);
    assert_int_equal(eventfd(0, EFD_CLOEXEC), ready[1].fd);
    assert_int_equal(fin_selector_register(s, ready[1].fd, FIN_READ, NULL), 0);
    assert_int_equal(fin_selector_is_current(s, &ready[0]), 1);
    assert_int_equal(fin_selector_is_current(s, &ready[1]), 0);
    fin_selector_free(s);
    drop_all(fds[0], fds[1], -1);
}

static void test_modify_after_close(void **state)
{
    struct fin_selector *s = make();
    struct journal journal = { 0 };
    int fd = eventfd(0, EFD_CLOEXEC);

    (void) state;
    assert_int_equal(fin_selector_register(s, fd, FIN_READ, NULL), 0);
    assert_int_equal(fin_selector_observe(s, note, &journal), 0);
    drop_all(fd, -1);
    assert_int_equal(fin_selector_modify(s, fd, FIN_WRITE, NULL), -EBADF);
    assert_false(is_registered(s, fd));
    assert_int_equal(journal.count, 1);
    assert_noted(&journal, 0, FIN_SELECTOR_UNREGISTER, fd, FIN_READ);
    fin_selector_free(s);
}

/* ---- fork ---- */

struct family {
    struct fin_selector *selector;
    int fd, other;
};

static bool be_child(void *arg)
{
    struct family *f = arg;
    struct fin_ready ready = { 0 };
    bool fine = fin_selector_register(f->selector, f->other, FIN_READ, NULL) == -ECHILD
        && fin_selector_select(f->selector, &ready, 1, 0) == -ECHILD
        && fin_selector_modify(f->selector, f->fd, FIN_WRITE, NULL) == 0
        && get(f->selector, f->fd).events == FIN_WRITE
        && fin_selector_unregister(f->selector, f->fd, NULL) == 0
        && !is_registered(f->selector, f->fd);

    fin_selector_free(f->selector);
    return fine;
}

static void test_child(void **state)
{
    struct family f = { make(), eventfd(1, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) };
    struct fin_ready ready = { 0 };

    (void) state;
    assert_int_equal(fin_selector_register(f.selector, f.fd, FIN_READ, NULL), 0);
    child_join(child_start(be_child, &f));
    assert_int_equal(ready_now(f.selector, &ready), 1);
    assert_int_equal(ready.fd, f.fd);
    assert_int_equal(ready.events, FIN_READ);
    fin_selector_free(f.selector);
    drop_all(f.fd, f.other, -1);
}

/* ---- what can fail ---- */

static void test_bad_input(void **state)
{
    struct fin_registration r = FIN_REGISTRATION_INIT;
    struct fin_selector *s = make();
    struct fin_ready ready = { 0 };
    int fd = memfd_create("file", MFD_CLOEXEC);

    (void) state;
    assert_int_equal(fin_selector_new(NULL), -EINVAL);
    assert_null(fin_selector_free(NULL));
    assert_int_equal(fin_selector_fd(NULL), -EINVAL);
    assert_int_equal(fin_selector_register(NULL, fd, FIN_READ, NULL), -EINVAL);
    assert_int_equal(fin_selector_register(s, fd, 0, NULL), -EINVAL);
    assert_int_equal(fin_selector_register(s, fd, 4, NULL), -EINVAL);
    assert_int_equal(fin_selector_register(s, -1, FIN_READ, NULL), -EBADF);
    assert_int_equal(fin_selector_register(s, INT_MAX, FIN_READ, NULL), -EBADF);
    assert_int_equal(fin_selector_register(s, fd, FIN_READ, NULL), -EPERM);
    assert_false(is_registered(s, fd));
    assert_int_equal(fin_selector_modify(NULL, fd, FIN_READ, NULL), -EINVAL);
    assert_int_equal(fin_selector_modify(s, fd, 0, NULL), -EINVAL);
    assert_int_equal(fin_selector_modify(s, -1, FIN_READ, NULL), -ENOENT);
    assert_int_equal(fin_selector_unregister(NULL, fd, NULL), -EINVAL);
    assert_int_equal(fin_selector_unregister(s, INT_MAX, NULL), -ENOENT);
    assert_int_equal(fin_selector_get(s, fd, NULL), -EINVAL);
    r.size--;
    assert_int_equal(fin_selector_get(s, fd, &r), -EINVAL);
    assert_int_equal(fin_selector_select(s, NULL, 1, 0), -EINVAL);
    assert_int_equal(fin_selector_select(s, &ready, 0, 0), -EINVAL);
    assert_int_equal(fin_selector_is_current(s, NULL), -EINVAL);
    assert_int_equal(fin_selector_is_current(s, &ready), 0);
    assert_int_equal(fin_selector_observe(s, NULL, NULL), -EINVAL);
    assert_int_equal(fin_selector_unobserve(NULL, note, NULL), -EINVAL);
    fin_selector_free(s);
    drop_all(fd, -1);
}

static void *alloc_nothing(size_t size)
{
    (void) size;
    return NULL;
}

static void test_no_memory(void **state)
{
    const struct fin__allocator usual = fin__allocator;
    struct fin_selector *s = make(), *none = NULL;
    int fd = eventfd(0, EFD_CLOEXEC), results[3];

    (void) state;
    fin__allocator.alloc = alloc_nothing;
    results[0] = fin_selector_new(&none);
    results[1] = fin_selector_register(s, fd, FIN_READ, NULL);
    results[2] = fin_selector_observe(s, note, NULL);
    fin__allocator = usual;
    for (int i = 0; i < 3; i++)
        assert_int_equal(results[i], -ENOMEM);
    assert_null(none);
    assert_false(is_registered(s, fd));
    assert_int_equal(fin_selector_register(s, fd, FIN_READ, NULL), 0);
    fin_selector_free(s);
    drop_all(fd, -1);
}

/* With no descriptor for a new set the wait returns early, and the stale entry goes the next
 * time. */
static void test_no_descriptor(void **state)
{
    struct rlimit usual, none;
    struct fin_ready ready = { 0 };
    struct fin_selector *s;
    int fds[2], copy, result;

    (void) state;
    s = make_replaced(fds, &copy);
    assert_false(is_registered(s, fds[US]));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
    none = (struct rlimit) { 0, usual.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    result = fin_selector_select(s, &ready, 1, -1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    assert_int_equal(result, 0);
    assert_true(set_is_ready(s));
    assert_int_equal(fin_selector_select(s, &ready, 1, 0), 0);
    assert_false(set_is_ready(s));
    fin_selector_free(s);
    drop_all(fds[US], fds[THEM], copy, -1);
}

static void do_nothing(int number)
{
    (void) number;
}

static void test_interrupted(void **state)
{
    const struct sigaction handler = { .sa_handler = do_nothing };
    const struct itimerval often = { { 0, 5000 }, { 0, 5000 } }, never = { 0 };
    struct fin_selector *s = make();
    struct sigaction usual;
    struct fin_ready ready = { 0 };

    (void) state;
    assert_int_equal(sigaction(SIGALRM, &handler, &usual), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    assert_int_equal(fin_selector_select(s, &ready, 1, -1), -EINTR);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &usual, NULL), 0);
    fin_selector_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_observers),
        GUARDED(test_course),
        GUARDED(test_hang_up),
        GUARDED(test_many),
        GUARDED(test_get_drops),
        GUARDED(test_register_drops),
        GUARDED(test_stale_entry),
        GUARDED(test_stale_entry_alone),
        GUARDED(test_others_survive),
        GUARDED(test_number_given_back),
        GUARDED(test_same_batch),
        GUARDED(test_modify_after_close),
        GUARDED(test_child),
        GUARDED(test_bad_input),
        GUARDED(test_no_memory),
        GUARDED(test_no_descriptor),
        GUARDED(test_interrupted),
        GUARDED(test_event_of_what_was_closed),
        GUARDED(test_event_under_a_taken_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
