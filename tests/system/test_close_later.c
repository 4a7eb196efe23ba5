/* SPDX-License-Identifier: MIT */

/* Closes by the library's own thread, for programs that have no loop. */

#include "support.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY 40

struct note {
    struct fin_receipt receipt;
    atomic_int calls;
    pthread_t thread;
    int drained; /* what a drain from the completion came to */
};

static void completed(const struct fin_receipt *receipt, void *arg)
{
    struct note *note = arg;

    note->receipt = *receipt;
    note->thread = pthread_self();
    note->drained = fin_close_later_drain(0);
    atomic_fetch_add(&note->calls, 1);
}

static void test_closes_and_tells(void **state)
{
    static struct note notes[MANY];
    int theirs[MANY], fds[2];

    (void) state;
    for (int i = 0; i < MANY; i++) {
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        give(fds[US], "hello");
        theirs[i] = fds[THEM];
        notes[i] = (struct note) { .drained = 1 };
        assert_int_equal(fin_close_later(fds[US], NULL, completed, &notes[i]), 0);
    }
    for (int i = 0; i < MANY; i++) {
        assert_seen_fin(see_end(theirs[i]), 5);
        drop_all(theirs[i], -1);
    }
    assert_int_equal(fin_close_later_drain(10000), 0);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(atomic_load(&notes[i].calls), 1);
        assert_int_equal(notes[i].receipt.outcome, FIN_OUTCOME_GRACEFUL);
        assert_true(notes[i].receipt.stage_ns[FIN_STAGE_UNREFERENCED] >= 0);
        /* Refused on the library's thread; done already if the drain itself ran it. */
        assert_int_equal(notes[i].drained,
                         pthread_equal(notes[i].thread, pthread_self()) ? 0 : -EBUSY);
    }
}

static void test_stragglers_are_aborted(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct note note = { .drained = 1 };
    struct seen seen;
    int fds[2];

    (void) state;
    policy.linger_ms = policy.total_ms = 60000;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_close_later(fds[US], &policy, completed, &note), 0);
    assert_int_equal(fin_close_later_drain(30), 1);
    assert_int_equal(atomic_load(&note.calls), 1);
    assert_int_equal(note.receipt.outcome, FIN_OUTCOME_ABORTED);
    seen = see(fds[THEM]); /* our FIN went first: it is read, and then there is the reset */
    assert_true(seen.pollerr);
    drop_all(fds[THEM], -1);
}

static void test_refused(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    int fds[2];

    (void) state;
    policy.total_ms = -1;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_close_later(-1, NULL, NULL, NULL), -EBADF);
    assert_int_equal(fin_close_later(fds[US], &policy, NULL, NULL), -ERANGE);
    assert_int_equal(fin_close_later_drain(-1), -ERANGE);
    assert_int_equal(fin_close_later_drain(FIN_TIME_MAX_MS + 1), -ERANGE);
    assert_int_equal(fin_close_later_drain(0), 0);
    give(fds[US], "still ours");
    expect_text(fds[THEM], "still ours");
    drop_all(fds[US], fds[THEM], -1);
}

/* A child has no such thread. What the parent asked for goes on there, once. */
/* What a child does of its own ends there. 0, or why not. */
static int closes_in_child(void)
{
    struct note note = { 0 };
    int own[2], result;

    tcp_pair(AF_INET, BUFFERS_USUAL, own);
    close(own[THEM]);
    result = fin_close_later(own[US], NULL, completed, &note);
    if (result == 0)
        result = fin_close_later_drain(10000);
    return result || atomic_load(&note.calls) != 1 || note.receipt.outcome != FIN_OUTCOME_GRACEFUL;
}

static pid_t fork_usually(void)
{
    return fork();
}

/* Runs no handlers of pthread_atfork(3). */
static pid_t fork_by_clone(void)
{
    return (pid_t) syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void fork_by(pid_t (*fork_child)(void))
{
    struct note ours = { 0 };
    int fds[2], status;
    pid_t child;

    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_close_later(fds[US], NULL, completed, &ours), 0);
    child = fork_child();
    if (child == 0) {
        (void) alarm(20);
        close(fds[THEM]);
        _exit(closes_in_child() || atomic_load(&ours.calls) != 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    drop_all(fds[THEM], -1);
    assert_int_equal(fin_close_later_drain(10000), 0);
    assert_int_equal(atomic_load(&ours.calls), 1);
}

static void test_fork(void **state)
{
    (void) state;
    fork_by(fork_usually);
    fork_by(fork_by_clone);
}

struct forked {
    sem_t over;
    int status;
};

static void forks(const struct fin_receipt *receipt, void *arg)
{
    struct forked *forked = arg;
    pid_t child = fork();

    (void) receipt;
    if (child == 0) {
        (void) alarm(20);
        _exit(closes_in_child());
    }
    (void) waitpid(child, &forked->status, 0);
    (void) sem_post(&forked->over);
}

/* Its only thread is a copy of the library's, and no helper all the same. */
static void test_fork_in_a_completion(void **state)
{
    struct forked forked = { .status = -1 };
    int fds[2];

    (void) state;
    (void) sem_init(&forked.over, 0, 0);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    drop_all(fds[THEM], -1);
    assert_int_equal(fin_close_later(fds[US], NULL, forks, &forked), 0);
    assert_int_equal(sem_wait(&forked.over), 0);
    assert_int_equal(fin_close_later_drain(10000), 0);
    assert_int_equal(forked.status, 0);
    (void) sem_destroy(&forked.over);
}

static pthread_t handler_ran_in;

static void note_thread(int signal)
{
    (void) signal;
    handler_ran_in = pthread_self();
}

/* Signals are for the program's threads: with all of those blocking it, it stays pending. */
static bool has(const struct descriptors *set, int number)
{
    bool found = false;

    for (size_t i = 0; i < set->count; i++)
        found |= set->entry[i].number == number;
    return found;
}

/* A stray close(2) of the program's takes all that the library has opened: the closes end, its
 * thread rests, and after a drain it is as good as new. */
static void test_closed_behind_its_back(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    static struct note note, next;
    struct descriptors before, after;
    int fds[2];

    (void) state;
    policy.linger_ms = policy.total_ms = 60000;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    descriptors_take(&before);
    assert_int_equal(fin_close_later(fds[US], &policy, completed, &note), 0);
    await_input(fds[THEM]); /* the library's thread is at it */
    descriptors_take(&after);
    for (size_t i = 0; i < after.count; i++)
        if (!has(&before, after.entry[i].number))
            drop_all(after.entry[i].number, -1);
    (void) fin_close_later_drain(10000);
    assert_int_equal(atomic_load(&note.calls), 1);
    drop_all(fds[THEM], -1);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_close_later(fds[US], NULL, completed, &next), 0);
    drop_all(fds[THEM], -1);
    assert_int_equal(fin_close_later_drain(10000), 0);
    assert_int_equal(atomic_load(&next.calls), 1);
}

static void test_takes_no_signal(void **state)
{
    struct sigaction action = { .sa_handler = note_thread }, before;
    struct timespec moment = { 5, 0 };
    sigset_t one, old;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handler_ran_in = 0;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(fin_close_later(fds[US], NULL, NULL, NULL), 0);
    (void) sigemptyset(&one);
    (void) sigaddset(&one, SIGUSR1);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &one, &old), 0);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    assert_int_equal(sigtimedwait(&one, NULL, &moment), SIGUSR1);
    assert_true(handler_ran_in == 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    drop_all(fds[THEM], -1);
    assert_int_equal(fin_close_later_drain(10000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_closes_and_tells),
        GUARDED(test_stragglers_are_aborted),
        GUARDED(test_refused),
        GUARDED(test_fork),
        GUARDED(test_takes_no_signal),
        GUARDED(test_closed_behind_its_back),
        GUARDED(test_fork_in_a_completion),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
