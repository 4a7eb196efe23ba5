/* SPDX-License-Identifier: MIT */

/*
 * What a close of ours costs against the calls that a program would write by hand.
 *
 * Both close connections to the same peer, which runs in a process of its own. A round is a batch
 * of one kind and a batch of the other, the first kind changing from round to round; only the
 * closes are timed. A round's ratio is that of the batches' medians, the result the median of the
 * rounds' ratios.
 */

#include "bench.h"

#include <finack.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 50
#define PARTS 10
#define ROUNDS 40 /* in each part */
#define WARM_UP 20
#define TIME_LIMIT_S 60

struct scenario {
    const char *name;
    int courtesy, proof, outcome; /* outcome: what the receipt must say */
    bool handle;                  /* keep a kernel handle */
    void (*raw)(int fd);
    double limit;
    unsigned calls_limit;
};

/* A scenario being measured. */
struct bench {
    const struct scenario *scenario;
    struct bench_peer *peer;
    struct fin_kernel *kernel;
    struct fin_policy policy;
    unsigned closed, answered; /* answered: the peer's FIN came before the end of the close */
};

/* ---- by hand ---- */

static void raw_prompt(int fd)
{
    bench_must(shutdown(fd, SHUT_WR), "shutdown");
    bench_must(close(fd), "close");
}

static void raw_orderly(int fd)
{
    char buf[16384];
    ssize_t n;

    bench_must(shutdown(fd, SHUT_WR), "shutdown");
    do
        n = recv(fd, buf, sizeof buf, 0);
    while (n > 0);
    bench_must((int) n, "recv");
    bench_must(close(fd), "close");
}

/* The calls that ours makes, for nothing: what they cost apart from what is made of the answers. */
static void same_calls_prompt(int fd)
{
    struct tcp_info info;
    int protocol;
    struct linger off = { 0 };
    socklen_t size = sizeof info;

    bench_must(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), "TCP_INFO");
    size = sizeof protocol;
    bench_must(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size), "SO_PROTOCOL");
    bench_must(setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off), "SO_LINGER");
    bench_must(shutdown(fd, SHUT_WR), "shutdown");
    (void) recv(fd, NULL, 1 << 20, MSG_TRUNC | MSG_DONTWAIT);
    bench_must(close(fd), "close");
}

/* ---- ours ---- */

static void ours(struct bench *b, int fd)
{
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    int result = fin_close(b->kernel, fd, &b->policy, &receipt);

    if (result < 0)
        bench_die("%s: fin_close: %s", b->scenario->name, strerror(-result));
    if (receipt.outcome != b->scenario->outcome || receipt.stage_ns[b->scenario->proof] < 0)
        bench_die("%s: closed %s, without the proof or the outcome asked for", b->scenario->name,
                  fin_outcome_name(receipt.outcome));
    b->closed++;
    b->answered += receipt.stage_ns[FIN_STAGE_EOF] >= 0;
}

static void prepare(struct bench *b, const struct scenario *scenario, struct bench_peer *peer)
{
    *b = (struct bench) { .scenario = scenario, .peer = peer, .policy = FIN_POLICY_INIT };
    b->policy.courtesy = scenario->courtesy;
    b->policy.proof = scenario->proof;
    if (scenario->handle && fin_kernel_new(&b->kernel) < 0)
        bench_die("fin_kernel_new failed");
}

/* ---- time ---- */

static double now(void)
{
    struct timespec ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}

/* Nanoseconds of a close: the median of the batch, since a mean would follow what else the machine
 * has to do. */
static double time_batch(struct bench *b, bool by_hand)
{
    int fds[BATCH];
    double took[BATCH], start, end;

    bench_peer_connect(b->peer, fds, BATCH);
    start = now();
    for (int i = 0; i < BATCH; i++) {
        if (by_hand)
            b->scenario->raw(fds[i]);
        else
            ours(b, fds[i]);
        end = now();
        took[i] = end - start;
        start = end;
    }
    bench_peer_settle(b->peer);
    return bench_median(took, BATCH);
}

static void run_round(struct bench *b, int round, double *ours_ns, double *raw_ns)
{
    bool by_hand_first = round % 2;

    if (by_hand_first)
        *raw_ns = time_batch(b, true);
    *ours_ns = time_batch(b, false);
    if (!by_hand_first)
        *raw_ns = time_batch(b, true);
}

static void summarize(double ratios[PARTS * ROUNDS], struct bench_result *result)
{
    result->min = 1e9;
    result->max = 0;
    for (int part = 0; part < PARTS; part++) {
        double median = bench_median(ratios + part * ROUNDS, ROUNDS);

        if (median < result->min)
            result->min = median;
        if (median > result->max)
            result->max = median;
    }
    result->ratio = bench_median(ratios, PARTS * ROUNDS);
}

static void measure(struct bench *b, struct bench_result *result)
{
    static double ours_ns[PARTS * ROUNDS], raw_ns[PARTS * ROUNDS], ratios[PARTS * ROUNDS];

    for (int i = -WARM_UP; i < PARTS * ROUNDS; i++) {
        int at = i < 0 ? 0 : i;

        run_round(b, i + WARM_UP, &ours_ns[at], &raw_ns[at]);
        ratios[at] = ours_ns[at] / raw_ns[at];
    }
    summarize(ratios, result);
    result->ours_ns = bench_median(ours_ns, PARTS * ROUNDS);
    result->raw_ns = bench_median(raw_ns, PARTS * ROUNDS);
}

/* ---- system calls ---- */

/* In the traced child, which needs a kernel handle of its own. */
static void closes_to_count(const void *arg)
{
    const struct bench *parent = arg;
    struct bench b;
    int fd;

    prepare(&b, parent->scenario, parent->peer);
    for (int i = 0; i < BENCH_COUNTED; i++) {
        bench_peer_connect(b.peer, &fd, 1);
        bench_mark();
        ours(&b, fd);
        bench_mark();
        bench_peer_settle(b.peer);
    }
    (void) fin_kernel_free(b.kernel);
}

static struct bench_calls count(const struct bench *b, bool answered)
{
    struct bench_calls calls;

    b->peer->holds = !answered;
    calls = bench_count(closes_to_count, b);
    b->peer->holds = false;
    return calls;
}

/* Tracing slows us down and not the peer, so that it answers a close that would be over in truth.
 * What counts is the calls of the case that most of the timed closes were. */
static struct bench_calls count_as_timed(const struct bench *b)
{
    bool answered = b->answered * 2 > b->closed;
    struct bench_calls calls = count(b, answered), other;

    if (b->scenario->courtesy > FIN_COURTESY_PROMPT) /* waits for the answer: no other case */
        return calls;
    other = count(b, !answered);
    calls.least = other.least < calls.least ? other.least : calls.least;
    calls.most = other.most > calls.most ? other.most : calls.most;
    return calls;
}

/* ---- all ---- */

static const struct scenario scenarios[] = {
    /* TCP_INFO, SO_PROTOCOL, SO_LINGER, shutdown, recv, close. Nothing but SO_PROTOCOL tells MPTCP
     * from TCP: its TCP_INFO is that of a subflow, by which a connection that lives may look as if
     * it were over. */
    { "close.prompt/raw", FIN_COURTESY_PROMPT, FIN_STAGE_RELEASED, FIN_OUTCOME_PROMPT, true,
      raw_prompt, 1.25, 6 },
    { "close.prompt/calls", FIN_COURTESY_PROMPT, FIN_STAGE_RELEASED, FIN_OUTCOME_PROMPT, true,
      same_calls_prompt, 1.15, 6 },
    { "close.orderly/raw", FIN_COURTESY_ORDERLY, FIN_STAGE_UNREFERENCED, FIN_OUTCOME_GRACEFUL, true,
      raw_orderly, 1.18, 11 },
    { "close.orderly.nohandle/raw", FIN_COURTESY_ORDERLY, FIN_STAGE_UNREFERENCED,
      FIN_OUTCOME_GRACEFUL, false, raw_orderly, 1.35, 16 },
};
#define SCENARIOS (sizeof scenarios / sizeof *scenarios)

static void run(const struct scenario *scenario, struct bench_peer *peer,
                struct bench_result *result)
{
    struct bench b;

    prepare(&b, scenario, peer);
    *result = (struct bench_result) {
        .name = scenario->name,
        .limit = scenario->limit,
        .calls_limit = scenario->calls_limit,
    };
    measure(&b, result);
    result->calls = count_as_timed(&b);
    (void) fin_kernel_free(b.kernel);
}

int main(int argc, char **argv)
{
    struct bench_result results[SCENARIOS];
    struct bench_peer peer;

    if (argc != 2) {
        (void) fprintf(stderr, "usage: %s FILE.json\n", argv[0]);
        return 2;
    }
    (void) alarm(TIME_LIMIT_S); /* a benchmark that hangs has failed */
    bench_peer_start(&peer);
    for (size_t i = 0; i < SCENARIOS; i++)
        run(&scenarios[i], &peer, &results[i]);
    bench_peer_stop(&peer);
    return bench_report(results, SCENARIOS, argv[1]) ? 0 : 1;
}
