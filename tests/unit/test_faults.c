/* SPDX-License-Identifier: MIT */

/* Every system call that a close makes fails in turn, and every allocation. Whatever fails: the
 * call returns in time, the descriptor is released once or still the caller's, nothing leaks, and
 * the receipt claims nothing that did not happen. */

#include "faults.h"
#include "scenes.h"
#include "support.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* ---- telling which fault a failed assertion is about ---- */

static struct {
    const char *scene;
    struct fault fault;
    struct fin_receipt receipt;
} current;

static int tell_and_check(void **state)
{
    char line[512] = "";

    fault_disarm();
    if (current.scene) {
        (void) fin_receipt_format(&current.receipt, line, sizeof line);
        print_error("%s: %s gave %s from call %d%s: %s\n", current.scene, current.fault.call,
                    strerrorname_np(current.fault.error), current.fault.from,
                    current.fault.lasting ? " on" : "", line);
    }
    current.scene = NULL;
    return guard_end(state);
}

/* ---- the truth ---- */

/* What proves that they came is getsockopt(2), of TCP_INFO, and poll(2), of Unix sockets: where
 * these fail acked and eof are reached, or can't be known, as it comes. Nothing else that fails
 * hides them. */
static void judge_proven(const struct scene_run *run, const struct fin_receipt *r, bool met)
{
    const char *call = met ? current.fault.call : "";

    if (strcmp(call, "getsockopt") == 0 || strcmp(call, "poll") == 0) {
        assert_true(reached(r, FIN_STAGE_ACKED) || unverifiable(r, FIN_STAGE_ACKED));
        assert_true(reached(r, FIN_STAGE_EOF) || unverifiable(r, FIN_STAGE_EOF));
        return;
    }
    assert_true(reached(r, FIN_STAGE_ACKED));
    assert_int_equal(reached(r, FIN_STAGE_EOF), !run->eof_is_unknown);
    assert_int_equal(unverifiable(r, FIN_STAGE_EOF), run->eof_is_unknown);
}

static void judge_claims(const struct scene_run *run, const struct fin_receipt *r, bool met)
{
    if (reached(r, FIN_STAGE_EOF))
        assert_true(run->peer_ended);
    if (reached(r, FIN_STAGE_ACKED))
        assert_false(run->deaf);
    if (r->held == FIN_NO)
        assert_int_equal(run->copy, -1);
    if (r->held == FIN_YES)
        assert_int_not_equal(run->copy, -1);
    if (r->outcome == FIN_OUTCOME_GRACEFUL) {
        assert_int_equal(r->error, 0);
        assert_int_equal(r->unsent, 0);
        assert_int_equal(r->accepted, run->clients_count);
    }
    if (r->outcome == FIN_OUTCOME_GRACEFUL && run->waits)
        judge_proven(run, r, met);
}

static void judge_end(const struct scene_run *run, const struct fin_receipt *r)
{
    struct seen seen;

    if (run->theirs < 0 || (r->end != FIN_END_FIN && r->end != FIN_END_RESET))
        return;
    seen = see(run->theirs);
    if (r->end == FIN_END_FIN) {
        assert_seen_fin(seen, run->given);
    } else {
        assert_true(seen.end == ECONNRESET || seen.next_send == EPIPE
                    || seen.next_send == ECONNRESET);
    }
}

/* A slow processor may need longer than the close has for it. */
static bool is_time_up(const struct scene_run *run, const struct fin_receipt *r)
{
    int64_t shut = r->stage_ns[FIN_STAGE_SHUT], end = r->stage_ns[FIN_STAGE_UNWATCHED];

    return r->outcome == FIN_OUTCOME_TIMED_OUT && r->phase == FIN_PHASE_LINGER
        && end - shut >= (int64_t) run->policy.linger_ms * 1000000;
}

/* Where nothing failed all that there is to be seen is seen. */
static void judge(const struct scene_run *run, int result, const struct fin_receipt *r, bool met)
{
    assert_int_equal(stray_closes(), 0);
    if (result < 0) {
        assert_true(met);
        assert_int_equal(closes_of(run->ours, run->id.inode), 0);
        assert_int_equal(fin_is(run->ours, &run->id), 1);
        assert_int_equal(r->requested_ns, 0);
        return;
    }
    assert_int_equal(closes_of(run->ours, run->id.inode), 1);
    assert_int_equal(fin_is(run->ours, &run->id), 0);
    assert_sound(r);
    assert_true(reached(r, FIN_STAGE_RELEASED));
    if (!met && run->waits && run->peer_ended && !is_time_up(run, r))
        assert_int_equal(r->outcome, FIN_OUTCOME_GRACEFUL);
    judge_claims(run, r, met);
    judge_end(run, r);
}

/* ---- one close with one fault ---- */

/* Returns whether the fault was met. */
static bool run_with(const struct scene *scene, const struct fault *fault)
{
    struct descriptors before, after;
    struct timespec start;
    struct scene_run run;
    bool met;
    int result;

    descriptors_take(&before);
    scene_begin(scene, &run);
    current.scene = scene->name;
    current.fault = *fault;
    current.receipt = (struct fin_receipt) FIN_RECEIPT_INIT;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &start), 0);
    fault_arm(fault);
    result = scene_close(&run, &current.receipt);
    met = fault_disarm() > 0;
    assert_false(is_late(&start));
    judge(&run, result, &current.receipt, met);
    scene_end(&run, result < 0);
    descriptors_take(&after);
    assert_int_equal(descriptors_differ(&before, &after), -1);
    current.scene = NULL;
    return met;
}

static bool try_error(const struct scene *scene, const char *call, int error, bool lasting)
{
    struct fault fault = { .call = call, .error = error, .from = 1, .lasting = lasting };

    while (run_with(scene, &fault))
        fault.from++;
    return fault.from > 1;
}

static void try_call(const struct scene *scene, const struct call *call)
{
    for (const int *error = call->errors; *error; error++) {
        if (!try_error(scene, call->name, *error, false))
            return; /* this close makes no such call */
        if (*error != EINTR)
            (void) try_error(scene, call->name, *error, true);
    }
}

static void test_scene(void **state)
{
    const struct scene *scene = *state;

    if (!scene_is_possible(scene))
        skip();
    busy();
    for (int i = 0; i < calls_count; i++)
        try_call(scene, &calls[i]);
}

/* ---- close(2) itself ---- */

static struct fin_receipt release_with(int error)
{
    struct fault fault = { .call = "close", .error = error, .from = 1, .lasting = false };
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_identity id = FIN_IDENTITY_INIT;
    struct fin_receipt r = FIN_RECEIPT_INIT;
    int fds[2], result;

    policy.proof = FIN_STAGE_RELEASED;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_identify(fds[US], &id), 0);
    fault_arm(&fault);
    result = fin_close(NULL, fds[US], &policy, &r);
    assert_int_equal(fault_disarm(), 1);
    assert_int_equal(result, 0);
    assert_int_equal(stray_closes(), 0);
    assert_int_equal(closes_of(fds[US], id.inode), 1);
    assert_true(is_free(fds[US]));
    assert_true(reached(&r, FIN_STAGE_RELEASED));
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
    return r;
}

static void test_close_interrupted(void **state)
{
    struct fin_receipt r = release_with(EINTR);

    (void) state;
    assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
    assert_int_equal(r.error, 0);
}

static void test_close_fails(void **state)
{
    struct fin_receipt r = release_with(EIO);

    (void) state;
    assert_outcome(&r, FIN_OUTCOME_ERROR, FIN_END_KERNEL);
    assert_int_equal(r.error, -EIO);
    assert_int_equal(r.phase, FIN_PHASE_NONE);
}

/* ---- the kernel handle ---- */

static bool make_kernel_with(const struct fault *fault)
{
    struct fin_kernel *kernel = NULL;
    struct descriptors before, after;
    bool met;
    int result;

    descriptors_take(&before);
    current.scene = "fin_kernel_new";
    current.fault = *fault;
    fault_arm(fault);
    result = fin_kernel_new(&kernel);
    met = fault_disarm() > 0;
    if (result < 0) {
        assert_int_equal(result, -fault->error);
        assert_null(kernel);
    } else {
        assert_non_null(kernel);
    }
    (void) fin_kernel_free(kernel);
    descriptors_take(&after);
    assert_int_equal(descriptors_differ(&before, &after), -1);
    current.scene = NULL;
    return met;
}

static void test_kernel_new(void **state)
{
    (void) state;
    busy();
    for (int i = 0; i < calls_count; i++)
        for (const int *error = calls[i].errors; *error; error++) {
            struct fault fault = {
                .call = calls[i].name, .error = *error, .from = 1, .lasting = false
            };

            while (make_kernel_with(&fault))
                fault.from++;
        }
}

/* A part that is not there makes its stages unverifiable, and no more than those. */
static void test_kernel_without(void **state)
{
    static const struct fault faults[] = {
        { .call = "open", .error = ENOENT, .from = 1, .lasting = true },
        { .call = "mnl_socket_open2", .error = EPROTONOSUPPORT, .from = 1, .lasting = true },
        { .call = "epoll_create1", .error = EPERM, .from = 1, .lasting = true },
    };
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);

    (void) state;
    policy.proof = FIN_STAGE_FINISHED;
    for (size_t i = 0; i < 3; i++) {
        struct fin_kernel *kernel = NULL;
        struct fin_receipt r;
        int fds[2];

        fault_arm(&faults[i]);
        assert_int_equal(fin_kernel_new(&kernel), 0);
        assert_true(fault_disarm() > 0);
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
        r = closed(kernel, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_FIN);
        assert_int_equal(unverifiable(&r, FIN_STAGE_UNREFERENCED), i != 1);
        assert_int_equal(unverifiable(&r, FIN_STAGE_FINISHED), i == 1);
        drop_all(fds[THEM], -1);
        assert_null(fin_kernel_free(kernel));
    }
}

/* Without an epoll entry to be had acked is looked for in pauses that double, neither at the end
 * alone nor all the time. */
static void test_acked_without_an_epoll_set(void **state)
{
    static const struct fault fault = {
        .call = "epoll_create1", .error = EMFILE, .from = 1, .lasting = true
    };
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.linger_ms = 2000;
    policy.proof = FIN_STAGE_RELEASED;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "hello");
    fault_arm(&fault);
    r = closed(NULL, fds[US], &policy);
    assert_int_equal(fault_disarm(), 1);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_true(r.stage_ns[FIN_STAGE_ACKED] < 1500000000);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN);
    drop_all(fds[THEM], -1);

    policy.linger_ms = 300;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    (void) fill(fds[US]);
    fault_arm(&fault);
    r = closed(NULL, fds[US], &policy);
    assert_in_range(fault_disarm(), 3, 20); /* 1 + 2 + 4 + ... + 64 ms */
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_KERNEL);
    drop_all(fds[THEM], -1);
}

/* TCP_INFO fails from some moment on: what it would have told can't be known, and is not waited
 * for. */
static void test_without_tcp_info(void **state)
{
    struct fault fault = { .call = "getsockopt", .error = EPERM, .from = 1, .lasting = true };
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r = FIN_RECEIPT_INIT;
    int fds[2], result;

    (void) state;
    policy.linger_ms = 1000;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "hello");
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    await_input(fds[US]);
    do {
        fault_arm(&fault);
        result = fin_close(NULL, fds[US], &policy, &r);
        (void) fault_disarm();
        fault.from++;
    } while (result < 0); /* it is refused, and still open */
    assert_true(unverifiable(&r, FIN_STAGE_ACKED));
    assert_true(r.stage_ns[FIN_STAGE_RELEASED] < 900000000);
    drop_all(fds[THEM], -1);
}

/* On a busy machine the search for holders finds less, and the close ends with its time. */
static void test_a_slow_search(void **state)
{
    static const struct fault fault = {
        .call = "readlinkat", .slow_ms = 40, .from = 1, .lasting = true
    };
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct timespec start;
    struct fin_receipt r;
    int fds[2], copy, looked;

    (void) state;
    policy.find_holders = 1;
    policy.total_ms = 100;
    policy.proof_ms = 2;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = dup(fds[US]);
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &start), 0);
    fault_arm(&fault);
    r = closed(NULL, fds[US], &policy);
    looked = fault_disarm();
    assert_false(is_late(&start));
    assert_true(looked <= 4); /* they fit into the time */
    assert_int_equal(r.held, FIN_YES);
    assert_int_equal(r.search, FIN_SEARCH_CUT);
    drop_all(copy, fds[THEM], -1);
}

/* ---- memory ---- */

static int allocations_left, allocated;

static void *allocate(size_t size)
{
    void *block = allocations_left-- > 0 ? malloc(size) : NULL;

    allocated += block != NULL;
    return block;
}

static void release(void *block)
{
    allocated--;
    free(block);
}

static int restore_allocator(void **state)
{
    fin__allocator = (struct fin__allocator) { malloc, free };
    return tell_and_check(state);
}

/* The only thing that needs memory is the handle; a close without one needs none. */
static void test_memory(void **state)
{
    struct fin_kernel *kernel = NULL;
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    int failures = -1, result, fds[2];

    (void) state;
    fin__allocator = (struct fin__allocator) { allocate, release };
    do {
        allocations_left = ++failures;
        result = fin_kernel_new(&kernel);
        assert_true(result == 0 || result == -ENOMEM);
        assert_int_equal(allocated == 0, result < 0);
    } while (result < 0);
    assert_true(failures > 0);
    allocations_left = 0;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(closed(kernel, fds[US], &policy).held, FIN_NO);
    assert_int_equal(closed(NULL, fds[THEM], &policy).held, FIN_NO);
    assert_null(fin_kernel_free(kernel));
    assert_int_equal(allocated, 0);
}

/* ---- looking at a socket ---- */

static void test_identify_and_inspect(void **state)
{
    struct fin_identity id = FIN_IDENTITY_INIT;
    int fds[2];

    (void) state;
    busy();
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_identify(fds[US], &id), 0);
    for (int i = 0; i < calls_count; i++)
        for (const int *error = calls[i].errors; *error; error++) {
            struct fault fault = {
                .call = calls[i].name, .error = *error, .from = 1, .lasting = true
            };
            struct fin_identity again = FIN_IDENTITY_INIT;
            struct fin_state st = FIN_STATE_INIT;

            fault_arm(&fault);
            assert_true(fin_identify(fds[US], &again) <= 0);
            if (*error != EINTR) {
                struct fin_identity copy = id;

                assert_int_equal(fin_inspect(NULL, &copy, &st), 0);
                assert_true(st.exists == FIN_YES || st.exists == FIN_UNVERIFIABLE);
                assert_true(st.exists == FIN_YES || st.inode == 0);
            }
            (void) fault_disarm();
        }
    drop_all(fds[US], fds[THEM], -1);
}

/* Whatever connect(2) says, the RST is sent. */
static void check_abort_under(const struct fault *fault)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);
    struct fin_receipt receipt;
    int fds[2];

    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    fault_arm(fault);
    receipt = closed(NULL, fds[US], &policy);
    assert_int_equal(fault_disarm(), 1);
    assert_outcome(&receipt, FIN_OUTCOME_ABORTED, FIN_END_RESET);
    assert_int_equal(receipt.error, 0);
    assert_seen_reset(see(fds[THEM]));
    drop_all(fds[THEM], -1);
}

/* Then the last close(2) sends the RST that is due. */
static void test_abort_where_disconnect_fails(void **state)
{
    static const struct fault fault = {
        .call = "connect", .error = EPERM, .from = 1, .lasting = true
    };
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);
    struct fin_receipt receipt;
    int fds[2], copy;

    (void) state;
    check_abort_under(&fault);

    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = dup(fds[US]);
    fault_arm(&fault);
    receipt = closed(NULL, fds[US], &policy);
    (void) fault_disarm();
    assert_outcome(&receipt, FIN_OUTCOME_ABORTED, FIN_END_NONE); /* the connection goes on */
    assert_int_equal(receipt.held, FIN_YES);
    drop_all(copy, -1);
    assert_seen_reset(see(fds[THEM]));
    drop_all(fds[THEM], -1);
}

/* As where a thread waits in a call, on some kernels: what wakes it is no FIN. */
static void test_abort_of_what_is_busy(void **state)
{
    static const struct fault fault = { .call = "connect", .error = EBUSY, .from = 1 };

    (void) state;
    check_abort_under(&fault);
}

#define CHECKED(test) GUARDED_BY(test, guard_begin, tell_and_check)

int main(void)
{
    struct CMUnitTest tests[48] = {
        CHECKED(test_close_interrupted),
        CHECKED(test_close_fails),
        CHECKED(test_kernel_new),
        CHECKED(test_kernel_without),
        CHECKED(test_acked_without_an_epoll_set),
        CHECKED(test_without_tcp_info),
        CHECKED(test_a_slow_search),
        GUARDED_BY(test_memory, guard_begin, restore_allocator),
        CHECKED(test_identify_and_inspect),
        CHECKED(test_abort_where_disconnect_fails),
        CHECKED(test_abort_of_what_is_busy),
    };
    size_t count = 0;

    while (tests[count].name)
        count++;
    for (int i = 0; i < scenes_count; i++)
        tests[count++] = (struct CMUnitTest) { scenes[i].name, test_scene, guard_begin,
                                               tell_and_check, (void *) &scenes[i] };
    own_network();
    return _cmocka_run_group_tests("faults", tests, count, NULL, NULL);
}
