/* SPDX-License-Identifier: MIT */

/* A kernel that keeps answering the same: each call that a close waits or reads by gives one answer
 * for ever. Every driver ends by its deadline all the same, and releases the descriptor once. */

#include "faults.h"
#include "scenes.h"
#include "support.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define TOTAL_MS 30

static const char *const calls_that_repeat[] = {
    "read",       "recv",  "recvmsg",
    "send",       "poll",  "ppoll",
    "accept4",    "pread", "mnl_socket_recvfrom",
    "epoll_wait", "fstat",
};

/* ---- the drivers ---- */

struct one {
    struct scene_run run;
    struct fin_receipt receipt;
    int completed;
};

static void completed(const struct fin_receipt *receipt, void *arg)
{
    struct one *one = arg;

    one->receipt = *receipt;
    one->completed++;
}

static int by_blocking(struct one *one)
{
    return scene_close(&one->run, &one->receipt);
}

static int submit(struct one *one, struct fin_closer *closer)
{
    struct scene_run *run = &one->run;

    if (run->layer)
        return fin_closer_submit_layered(closer, run->ours, run->layer, &run->policy, completed,
                                         one, NULL);
    return fin_closer_submit(closer, run->ours, &run->policy, completed, one, NULL);
}

/* A loop that dispatches at every chance. */
static int dispatch_all(struct one *one, struct fin_closer *closer)
{
    struct timespec start;
    int result = 0;

    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &start), 0);
    while (result >= 0 && !one->completed && !is_late(&start))
        result = fin_closer_dispatch(closer);
    assert_int_equal(one->completed, 1);
    return result < 0 ? result : 0;
}

static int by_closer(struct one *one, int (*go_on)(struct one *one, struct fin_closer *closer))
{
    struct fin_closer *closer = NULL;
    int result = fin_closer_new(NULL, &closer);

    if (result < 0)
        return result;
    result = submit(one, closer);
    if (result == 0)
        result = go_on(one, closer);
    (void) fin_closer_free(closer);
    return result;
}

static int drain(struct one *one, struct fin_closer *closer)
{
    int result = fin_closer_drain(closer, 3 * TOTAL_MS);

    assert_int_equal(one->completed, 1);
    return result < 0 ? result : 0;
}

static int by_dispatch(struct one *one)
{
    return by_closer(one, dispatch_all);
}

static int by_drain(struct one *one)
{
    return by_closer(one, drain);
}

/* What is refused goes by the blocking driver, so that every descriptor is closed. */
static int by_handle(struct one *one)
{
    struct scene_run *run = &one->run;
    struct fin_handle *handle = NULL;
    char byte;
    int client, result = fin_handle_new(run->ours, &handle);

    if (result < 0)
        return by_blocking(one);
    (void) fin_handle_recv(handle, &byte, 1, 0, 10);
    if (fin_handle_send(handle, "!", 1, 0, 10) == 1)
        run->given++;
    client = fin_handle_accept(handle, 10);
    if (client >= 0)
        drop_all(client, -1);
    result = fin_handle_close(handle, NULL, &run->policy, &one->receipt);
    (void) fin_handle_free(handle);
    return result;
}

static const struct driver {
    const char *name;
    int (*close)(struct one *one);
} drivers[] = {
    { "blocking", by_blocking },
    { "dispatch", by_dispatch },
    { "drain", by_drain },
    { "handle", by_handle },
};

/* ---- one close with one answer ---- */

static struct {
    const char *scene, *driver;
    struct fault fault;
} current;

static int tell_and_check(void **state)
{
    fault_disarm();
    if (current.scene)
        print_error("%s by %s: %s answers %d, errno %d, events %d\n", current.scene, current.driver,
                    current.fault.call, current.fault.result, current.fault.error,
                    current.fault.events);
    current.scene = NULL;
    return guard_end(state);
}

/* Returns whether the call was made. */
static bool run_with(const struct scene *scene, const struct driver *driver,
                     const struct fault *fault)
{
    struct one one = { .receipt = FIN_RECEIPT_INIT };
    struct timespec start;
    bool met;
    int result;

    scene_begin(scene, &one.run);
    one.run.policy.total_ms = TOTAL_MS;
    current.scene = scene->name;
    current.driver = driver->name;
    current.fault = *fault;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &start), 0);
    fault_arm(fault);
    result = driver->close(&one);
    met = fault_disarm() > 0;
    assert_false(is_late(&start));
    assert_int_equal(stray_closes(), 0);
    assert_int_equal(closes_of(one.run.ours, one.run.id.inode), result == 0);
    if (result == 0)
        assert_true(reached(&one.receipt, FIN_STAGE_RELEASED));
    scene_end(&one.run, result != 0);
    current.scene = NULL;
    return met;
}

/* An answer of accept(2) would be a descriptor of the test's. */
static bool is_sensible(const struct fault *fault)
{
    return fault->error || strcmp(fault->call, "accept4") != 0;
}

static void try_answers(const struct scene *scene, const struct driver *driver, const char *call)
{
    for (size_t i = 0; i < lasting_count; i++) {
        struct fault fault = lasting_answers[i];

        fault.call = call;
        if (is_sensible(&fault) && !run_with(scene, driver, &fault))
            return; /* this close makes no such call */
    }
}

static void test_scene(void **state)
{
    const struct scene *scene = *state;

    if (!scene_is_possible(scene))
        skip();
    busy();
    for (size_t d = 0; d < sizeof drivers / sizeof *drivers; d++)
        for (size_t c = 0; c < sizeof calls_that_repeat / sizeof *calls_that_repeat; c++)
            try_answers(scene, &drivers[d], calls_that_repeat[c]);
}

/* The time of a listener's close is that of the connections in its queue, too: a byte each
 * millisecond would be a quarter of an hour until the bound on input is met. */
static void test_queue_that_sends_for_ever(void **state)
{
    static const struct fault fault = {
        .call = "recv", .result = 1, .slow_ms = 1, .from = 1, .lasting = true
    };

    (void) state;
    for (int i = 0; i < scenes_count; i++)
        if (strncmp(scenes[i].name, "listening", strlen("listening")) == 0)
            assert_true(run_with(&scenes[i], &drivers[0], &fault));
}

/* ---- a call of a handle that has no time limit ends with the close ---- */

struct caller {
    struct fin_handle *handle;
    struct fault fault;
    int64_t result;
    pthread_t thread;
    bool accepting;
};

static void *call_for_ever(void *arg)
{
    struct caller *c = arg;
    char byte;

    fault_arm(&c->fault);
    c->result = c->accepting ? fin_handle_accept(c->handle, -1)
                             : fin_handle_recv(c->handle, &byte, 1, 0, -1);
    (void) fault_disarm();
    return NULL;
}

static void end_call(const char *name, const struct fault *answer, bool accepting)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_PROMPT);
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct caller c = { .fault = *answer, .accepting = accepting };
    int fds[2];

    current.scene = accepting ? "accept" : "recv";
    current.driver = "handle";
    c.fault.call = name;
    current.fault = c.fault;
    if (accepting) {
        fds[US] = listen_tcp(AF_INET, 0, 1, BUFFERS_USUAL);
        fds[THEM] = -1;
    } else {
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    }
    assert_int_equal(fin_handle_new(fds[US], &c.handle), 0);
    assert_int_equal(pthread_create(&c.thread, NULL, call_for_ever, &c), 0);
    assert_int_equal(fin_handle_close(c.handle, NULL, &policy, &receipt), 0);
    assert_int_equal(receipt.tombstone, 0);
    assert_int_equal(pthread_join(c.thread, NULL), 0);
    assert_int_equal(c.result, -ECANCELED);
    assert_null(fin_handle_free(c.handle));
    drop_all(fds[THEM], -1);
    current.scene = NULL;
}

static void test_calls_of_a_handle(void **state)
{
    static const struct fault ready = { .result = 1, .events = POLLIN, .from = 1, .lasting = true };
    static const struct fault dead = { .result = 1, .events = POLLERR, .from = 1, .lasting = true };
    static const struct fault interrupted = { .error = EINTR, .from = 1, .lasting = true };
    static const struct fault idle = { .result = 0, .from = 1, .lasting = true };
    static const struct fault aborted = { .error = ECONNABORTED, .from = 1, .lasting = true };

    (void) state;
    busy();
    end_call("recv", &interrupted, false);
    end_call("ppoll", &interrupted, false);
    end_call("ppoll", &ready, false);
    end_call("ppoll", &dead, false);
    end_call("ppoll", &idle, false);
    end_call("accept4", &interrupted, true);
    end_call("accept4", &aborted, true);
    end_call("ppoll", &ready, true);
}

#define CHECKED(test) GUARDED_BY(test, guard_begin, tell_and_check)

int main(void)
{
    struct CMUnitTest tests[32] = {
        CHECKED(test_calls_of_a_handle),
        CHECKED(test_queue_that_sends_for_ever),
    };
    size_t count = 2;

    for (int i = 0; i < scenes_count; i++)
        tests[count++] = (struct CMUnitTest) { scenes[i].name, test_scene, guard_begin,
                                               tell_and_check, (void *) &scenes[i] };
    own_network();
    return _cmocka_run_group_tests("endless", tests, count, NULL, NULL);
}
