/* SPDX-License-Identifier: MIT */

/* What holds for every public call: it is no cancellation point, and takes at most 8 KiB of stack.
 * Each runs in a thread with a small painted stack and with a cancellation pending. The headers are
 * read, so that no call can be forgotten. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <finack/loop.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

/* The build says: STACK_SIZE of the thread, STACK_LIMIT of a call. A sanitizer takes more. */

#define PAINT 0xa5

struct lab {
    int us, them;   /* a connection; -1: the call closed it */
    int other, far; /* a second one, inside `handle` and at its peer */
    struct fin_kernel *kernel;
    struct fin_handle *handle;
    struct fin_closer *closer;
    struct fin_selector *selector;
    struct fin_policy policy;
    struct fin_receipt receipt;
    struct fin_identity id;
    struct fin_stale stale;
    struct fin_layer layer;
    int64_t result;
    size_t used; /* bytes of stack */
    bool returned;
};

/* ---- a layer that has nothing to say ---- */

static int layer_flush(void *arg, uint64_t *unsent)
{
    (void) arg;
    *unsent = 0;
    return FIN_LAYER_DONE;
}

static int layer_notify(void *arg)
{
    (void) arg;
    return FIN_LAYER_DONE;
}

static int layer_read(void *arg, uint64_t max, uint64_t *n)
{
    (void) arg;
    (void) max;
    (void) n;
    return FIN_LAYER_WANT_READ;
}

/* ---- the calls ---- */

static void close_by(struct lab *lab, struct fin_kernel *kernel)
{
    lab->result = fin_close(kernel, lab->us, &lab->policy, &lab->receipt);
    lab->us = -1;
}

static void call_close(struct lab *lab)
{
    close_by(lab, NULL);
}

static void call_close_gone(struct lab *lab)
{
    lab->policy.proof = FIN_STAGE_GONE;
    close_by(lab, lab->kernel);
}

static void call_close_held(struct lab *lab)
{
    int copy = fcntl(lab->us, F_DUPFD_CLOEXEC, 0);

    close_by(lab, NULL);
    lab->us = copy;
}

/* Makes of lab->us what a row needs, before the small stack is entered. */
static void as_unix(struct lab *lab)
{
    int fds[2];

    drop_all(lab->us, lab->them, -1);
    unix_pair(SOCK_STREAM, fds);
    lab->us = fds[US];
    lab->them = fds[THEM];
    give(lab->them, "unread");
}

static void as_messages(struct lab *lab)
{
    int fds[2];

    drop_all(lab->us, lab->them, -1);
    unix_pair(SOCK_SEQPACKET, fds);
    lab->us = fds[US];
    lab->them = fds[THEM];
    give(lab->them, "unread");
}

static void as_listener(struct lab *lab)
{
    drop_all(lab->us, lab->them, -1);
    lab->us = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL);
    lab->them = connect_to(lab->us, 0, BUFFERS_USUAL);
    lab->policy.scope = FIN_SCOPE_CONNECTION;
}

static void call_close_layered(struct lab *lab)
{
    lab->result = fin_close_layered(NULL, lab->us, &lab->layer, &lab->policy, &lab->receipt);
    lab->us = -1;
}

static void call_format(struct lab *lab)
{
    char line[64];

    lab->receipt.holders = 9;
    lab->receipt.search = FIN_SEARCH_FOUND;
    lab->receipt.stage_ns[FIN_STAGE_RELEASED] = 1500000000;
    lab->result = fin_receipt_format(&lab->receipt, line, sizeof line) > 0 ? 0 : -1;
}

static void call_json(struct lab *lab)
{
    char text[64];

    lab->receipt.holders = 9;
    lab->receipt.search = FIN_SEARCH_FOUND;
    lab->receipt.stage_ns[FIN_STAGE_RELEASED] = 1500000000;
    lab->result = fin_receipt_json(&lab->receipt, text, sizeof text) > 0 ? 0 : -1;
}

static void call_version(struct lab *lab)
{
    lab->result = fin_version() ? 0 : -1;
}

static void call_names(struct lab *lab)
{
    lab->result = fin_stage_name(0) && fin_outcome_name(0) && fin_phase_name(0) && fin_end_name(0)
            && fin_answer_name(0) && fin_courtesy_name(0) && fin_scope_name(0) && fin_search_name(0)
            && fin_kind_name(0)
        ? 0
        : -1;
}

static void call_policy_check(struct lab *lab)
{
    lab->result = fin_policy_check(&lab->policy, NULL);
}

static void call_later(struct lab *lab)
{
    lab->result = fin_close_later(lab->us, &lab->policy, NULL, NULL);
    lab->us = -1;
    if (lab->result == 0)
        lab->result = fin_close_later_drain(500);
}

static void call_kernel_new(struct lab *lab)
{
    (void) fin_kernel_free(lab->kernel);
    lab->result = fin_kernel_new(&lab->kernel);
}

static void call_kernel_free(struct lab *lab)
{
    lab->kernel = fin_kernel_free(lab->kernel);
}

static void call_identify(struct lab *lab)
{
    lab->result = fin_identify(lab->us, &lab->id);
}

static void call_is(struct lab *lab)
{
    lab->result = fin_is(lab->us, &lab->id) == 1 ? 0 : -1;
}

static void call_inspect(struct lab *lab)
{
    struct fin_state state = FIN_STATE_INIT;

    lab->result = fin_inspect(NULL, &lab->id, &state);
}

static void call_holders(struct lab *lab)
{
    lab->result = fin_holders(&lab->id, NULL, 0, NULL) > 0 ? 0 : -1;
}

static void call_audit(struct lab *lab)
{
    struct fin_stale stale[4];

    lab->result = fin_epoll_audit(0, stale, 4) == 1 ? 0 : -1;
}

static void call_heal(struct lab *lab)
{
    lab->result = fin_epoll_heal(&lab->stale);
}

static void call_handle_new(struct lab *lab)
{
    struct fin_handle *handle = NULL;

    lab->result = fin_handle_new(lab->us, &handle);
    (void) fin_handle_free(handle);
    lab->us = -1;
}

static void call_handle_dup_ref(struct lab *lab)
{
    struct fin_handle *copy = NULL;

    lab->result = fin_handle_dup_ref(lab->handle, &copy);
    (void) fin_handle_free(copy);
}

static void call_handle_recv(struct lab *lab)
{
    char byte;

    lab->result = fin_handle_recv(lab->handle, &byte, 1, 0, 10) == -ETIMEDOUT ? 0 : -1;
}

static void call_handle_send(struct lab *lab)
{
    lab->result = fin_handle_send(lab->handle, "!", 1, 0, 10) == 1 ? 0 : -1;
}

static void call_handle_accept(struct lab *lab)
{
    lab->result = fin_handle_accept(lab->handle, 10) == -EINVAL ? 0 : -1;
}

static void call_handle_enter(struct lab *lab)
{
    lab->result = fin_handle_enter(lab->handle) == lab->other ? 0 : -1;
    fin_handle_leave(lab->handle);
}

static void call_handle_close(struct lab *lab)
{
    lab->result = fin_handle_close(lab->handle, NULL, &lab->policy, &lab->receipt);
}

static void call_handle_free(struct lab *lab)
{
    lab->handle = fin_handle_free(lab->handle);
}

static void count_completion(const struct fin_receipt *receipt, void *arg)
{
    int *count = arg;

    (void) receipt;
    ++*count;
}

static void call_closer_new(struct lab *lab)
{
    (void) fin_closer_free(lab->closer);
    lab->result = fin_closer_new(NULL, &lab->closer);
}

static void submit(struct lab *lab, uint64_t *op)
{
    lab->result = fin_closer_submit(lab->closer, lab->us, &lab->policy, NULL, NULL, op);
    lab->us = -1;
}

static void call_closer_submit(struct lab *lab)
{
    submit(lab, NULL);
}

static void call_closer_submit_layered(struct lab *lab)
{
    lab->result = fin_closer_submit_layered(lab->closer, lab->us, &lab->layer, &lab->policy, NULL,
                                            NULL, NULL);
    lab->us = -1;
}

static void call_closer_dispatch(struct lab *lab)
{
    submit(lab, NULL);
    if (lab->result == 0)
        lab->result = fin_closer_dispatch(lab->closer) < 0;
}

static void call_closer_drain(struct lab *lab)
{
    int copy = fcntl(lab->us, F_DUPFD_CLOEXEC, 0), completed = 0;

    lab->result =
        fin_closer_submit(lab->closer, lab->us, &lab->policy, count_completion, &completed, NULL);
    if (lab->result == 0)
        lab->result = fin_closer_drain(lab->closer, 500) < 0 || completed != 1;
    lab->us = copy;
}

static void call_closer_abort(struct lab *lab)
{
    uint64_t op = 0;

    submit(lab, &op);
    if (lab->result == 0)
        lab->result = fin_closer_abort(lab->closer, op);
}

static void call_closer_reads(struct lab *lab)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;

    lab->result = fin_closer_count(lab->closer, &counters);
    if (lab->result == 0
        && (fin_closer_fd(lab->closer) < 0 || fin_closer_next_deadline(lab->closer) != UINT64_MAX))
        lab->result = -1;
}

static void call_closer_free(struct lab *lab)
{
    submit(lab, NULL);
    lab->closer = fin_closer_free(lab->closer);
}

static void observe(enum fin_selector_change change, const struct fin_registration *registration,
                    void *arg)
{
    (void) change;
    (void) registration;
    (void) arg;
}

static void call_selector_new(struct lab *lab)
{
    lab->selector = fin_selector_free(lab->selector);
    lab->result = fin_selector_new(&lab->selector);
}

static void call_selector_all(struct lab *lab)
{
    struct fin_registration found = { .size = sizeof found };
    struct fin_selector *s = lab->selector;
    struct fin_ready ready;
    void *data;

    lab->result = fin_selector_observe(s, observe, NULL);
    if (lab->result == 0)
        lab->result = fin_selector_register(s, lab->us, FIN_READ, NULL);
    if (lab->result == 0)
        lab->result = fin_selector_modify(s, lab->us, FIN_WRITE, NULL);
    if (lab->result == 0)
        lab->result = fin_selector_select(s, &ready, 1, 10) == 1 ? 0 : -1;
    if (lab->result == 0)
        lab->result = fin_selector_is_current(s, &ready) == 1 ? 0 : -1;
    if (lab->result == 0)
        lab->result = fin_selector_get(s, lab->us, &found);
    if (lab->result == 0)
        lab->result = fin_selector_unregister(s, lab->us, &data);
    if (lab->result == 0)
        lab->result = fin_selector_unobserve(s, observe, NULL);
    if (lab->result == 0)
        lab->result = fin_selector_fd(s) < 0;
}

static const struct row {
    const char *calls; /* of the header; the first names the row */
    void (*call)(struct lab *lab);
    void (*prepare)(struct lab *lab);
} rows[] = {
    { "fin_close", call_close, NULL },
    { "fin_close (gone)", call_close_gone, NULL },
    { "fin_close (held)", call_close_held, NULL },
    { "fin_close (unix)", call_close, as_unix },
    { "fin_close (seqpacket)", call_close, as_messages },
    { "fin_close (listening)", call_close, as_listener },
    { "fin_close_layered", call_close_layered, NULL },
    { "fin_receipt_format", call_format, NULL },
    { "fin_receipt_json", call_json, NULL },
    { "fin_version", call_version, NULL },
    { "fin_stage_name fin_outcome_name fin_phase_name fin_end_name fin_answer_name "
      "fin_courtesy_name fin_scope_name fin_search_name fin_kind_name",
      call_names, NULL },
    { "fin_policy_check", call_policy_check, NULL },
    { "fin_close_later fin_close_later_drain", call_later, NULL },
    { "fin_kernel_new", call_kernel_new, NULL },
    { "fin_kernel_free", call_kernel_free, NULL },
    { "fin_identify", call_identify, NULL },
    { "fin_is", call_is, NULL },
    { "fin_inspect", call_inspect, NULL },
    { "fin_holders", call_holders, NULL },
    { "fin_epoll_audit", call_audit, NULL },
    { "fin_epoll_heal", call_heal, NULL },
    { "fin_handle_new", call_handle_new, NULL },
    { "fin_handle_dup_ref", call_handle_dup_ref, NULL },
    { "fin_handle_recv", call_handle_recv, NULL },
    { "fin_handle_send", call_handle_send, NULL },
    { "fin_handle_accept", call_handle_accept, NULL },
    { "fin_handle_enter fin_handle_leave", call_handle_enter, NULL },
    { "fin_handle_close", call_handle_close, NULL },
    { "fin_handle_free", call_handle_free, NULL },
    { "fin_closer_new", call_closer_new, NULL },
    { "fin_closer_submit", call_closer_submit, NULL },
    { "fin_closer_submit_layered", call_closer_submit_layered, NULL },
    { "fin_closer_dispatch", call_closer_dispatch, NULL },
    { "fin_closer_dispatch (listening)", call_closer_dispatch, as_listener },
    { "fin_closer_drain", call_closer_drain, NULL },
    { "fin_closer_drain (unix)", call_closer_drain, as_unix },
    { "fin_closer_abort", call_closer_abort, NULL },
    { "fin_closer_count fin_closer_fd fin_closer_next_deadline", call_closer_reads, NULL },
    { "fin_closer_free", call_closer_free, NULL },
    { "fin_selector_new fin_selector_free", call_selector_new, NULL },
    { "fin_selector_register fin_selector_modify fin_selector_unregister fin_selector_get "
      "fin_selector_select fin_selector_is_current fin_selector_observe fin_selector_unobserve "
      "fin_selector_fd",
      call_selector_all, NULL },
};
#define ROWS (sizeof rows / sizeof *rows)

/* ---- the lab ---- */

/* An entry of an epoll set whose number is gone and whose description lives on. */
static void make_stale(struct lab *lab, int *set, int *survivor)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = 7 };
    int fds[2];

    unix_pair(SOCK_STREAM, fds);
    *set = epoll_create1(EPOLL_CLOEXEC);
    *survivor = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    assert_int_equal(epoll_ctl(*set, EPOLL_CTL_ADD, fds[US], &event), 0);
    drop_all(fds[US], fds[THEM], -1);
    assert_int_equal(fin_epoll_audit(0, &lab->stale, 1), 1);
}

static void lab_open(struct lab *lab)
{
    int fds[2];

    memset(lab, 0, sizeof *lab);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    lab->us = fds[US];
    lab->them = fds[THEM];
    give(lab->them, "unread");
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    lab->other = fds[US];
    lab->far = fds[THEM];
    lab->policy = policy_hasty(FIN_COURTESY_ORDERLY);
    lab->receipt = (struct fin_receipt) FIN_RECEIPT_INIT;
    lab->id = (struct fin_identity) FIN_IDENTITY_INIT;
    lab->layer =
        (struct fin_layer) { sizeof lab->layer, NULL, layer_flush, layer_notify, layer_read, NULL };
    assert_int_equal(fin_identify(lab->us, &lab->id), 0);
    assert_int_equal(fin_kernel_new(&lab->kernel), 0);
    assert_int_equal(fin_handle_new(lab->other, &lab->handle), 0);
    assert_int_equal(fin_closer_new(NULL, &lab->closer), 0);
    assert_int_equal(fin_selector_new(&lab->selector), 0);
}

static void lab_close(struct lab *lab)
{
    if (lab->us >= 0)
        drop_all(lab->us, -1);
    (void) fin_closer_free(lab->closer);
    (void) fin_selector_free(lab->selector);
    (void) fin_handle_free(lab->handle);
    (void) fin_kernel_free(lab->kernel);
    drop_all(lab->them, lab->far, -1);
}

/* ---- the thread ---- */

struct errand {
    struct lab *lab;
    const struct row *row;
    unsigned char *stack;
};

static void *run(void *arg)
{
    const struct errand *errand = arg;
    unsigned char here, *lowest = errand->stack;

    assert_int_equal(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL), 0);
    assert_int_equal(pthread_cancel(pthread_self()), 0);
    assert_int_equal(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL), 0);
    errand->row->call(errand->lab);
    errand->lab->returned = true;
    while (*lowest == PAINT)
        lowest++;
    errand->lab->used = (size_t) (&here - lowest);
    pthread_testcancel();
    return NULL;
}

static void run_small(struct lab *lab, const struct row *row)
{
    unsigned char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    struct errand errand = { lab, row, stack };
    pthread_attr_t attributes;
    pthread_t thread;
    void *ended;

    assert_ptr_not_equal(stack, MAP_FAILED);
    memset(stack, PAINT, STACK_SIZE);
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstack(&attributes, stack, STACK_SIZE), 0);
    assert_int_equal(pthread_create(&thread, &attributes, run, &errand), 0);
    assert_int_equal(pthread_join(thread, &ended), 0);
    assert_int_equal(pthread_attr_destroy(&attributes), 0);
    assert_true(ended == PTHREAD_CANCELED); /* after the call, and not before */
    assert_int_equal(munmap(stack, STACK_SIZE), 0);
}

static void test_row(void **state)
{
    const struct row *row = *state;
    int set = -1, survivor = -1;
    struct lab lab;

    lab_open(&lab);
    if (strstr(row->calls, "fin_epoll"))
        make_stale(&lab, &set, &survivor);
    if (row->prepare)
        row->prepare(&lab);
    run_small(&lab, row);
    if (set >= 0)
        drop_all(set, survivor, -1);
    lab_close(&lab);
    print_message("%s: %zu bytes of stack\n", row->calls, lab.used);
    assert_true(lab.returned);
    assert_int_equal(lab.result, 0);
    assert_true(lab.used <= STACK_LIMIT);
}

/* ---- none is forgotten ---- */

static bool has_row(const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < ROWS; i++) {
        const char *at = rows[i].calls;

        for (; (at = strstr(at, name)); at += length)
            if (at[length] == '\0' || at[length] == ' ')
                return true;
    }
    return false;
}

static int check_header(const char *path)
{
    char line[512], name[64];
    FILE *file = fopen(path, "r");
    int found = 0;

    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        const char *at = strncmp(line, "FIN_API ", 8) == 0 ? strstr(line, "fin_") : NULL;

        while (at && sscanf(at, "%63[a-z_0-9]", name) == 1 && at[strlen(name)] != '(')
            at = strstr(at + 1, "fin_"); /* the type of the result */
        if (!at)
            continue;
        if (!has_row(name))
            print_error("%s() has no row\n", name);
        found += has_row(name) ? 1 : -100;
    }
    assert_int_equal(fclose(file), 0);
    return found;
}

static void test_headers(void **state)
{
    (void) state;
    assert_true(check_header(HEADERS "/finack.h") > 30);
    assert_true(check_header(HEADERS "/finack/loop.h") > 10);
}

int main(void)
{
    struct CMUnitTest tests[ROWS + 1] = { GUARDED(test_headers) };

    for (size_t i = 0; i < ROWS; i++)
        tests[i + 1] = (struct CMUnitTest) { rows[i].calls, test_row, guard_begin, guard_end,
                                             (void *) &rows[i] };
    own_network();
    return _cmocka_run_group_tests("every call", tests, ROWS + 1, NULL, NULL);
}
