/* SPDX-License-Identifier: MIT */

#include "scenes.h"

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

static void say(struct scene_run *run, const char *ours, const char *theirs)
{
    give(run->ours, ours);
    run->given += 5;
    if (theirs) {
        give(run->theirs, theirs);
        await_input(run->ours);
    }
}

static void connected(struct scene_run *run, int family)
{
    int fds[2];

    if (family == AF_UNIX)
        unix_pair(SOCK_STREAM, fds);
    else
        tcp_pair(family, BUFFERS_USUAL, fds);
    run->ours = fds[US];
    run->theirs = fds[THEM];
    say(run, "hello", "unread");
}

static void peer_ends(struct scene_run *run)
{
    assert_int_equal(shutdown(run->theirs, SHUT_WR), 0);
    await_event(run->ours, POLLRDHUP);
    run->peer_ended = true;
}

/* ---- streams ---- */

static void tcp(struct scene_run *run)
{
    connected(run, AF_INET);
    peer_ends(run);
    run->waits = true;
}

static void tcp6_gone(struct scene_run *run)
{
    connected(run, AF_INET6);
    peer_ends(run);
    run->waits = true;
    run->policy.proof = FIN_STAGE_GONE;
}

static void tcp_mute(struct scene_run *run)
{
    connected(run, AF_INET);
    run->waits = true;
}

static void tcp_prompt(struct scene_run *run)
{
    connected(run, AF_INET);
    run->policy.courtesy = FIN_COURTESY_PROMPT;
    run->policy.rebindable = 1;
}

static void tcp_abort(struct scene_run *run)
{
    connected(run, AF_INET);
    run->policy.courtesy = FIN_COURTESY_ABORT;
}

static void tcp_held(struct scene_run *run)
{
    tcp(run);
    run->copy = fcntl(run->ours, F_DUPFD_CLOEXEC, 0);
}

static void tcp_deaf(struct scene_run *run)
{
    static const char block[16384];
    int fds[2];
    ssize_t n;

    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    run->ours = fds[US];
    run->theirs = fds[THEM];
    while ((n = send(run->ours, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
        run->given += (size_t) n;
    run->deaf = true;
    run->waits = true;
    run->policy.linger_ms = 1;
    run->policy.orphan_ms = FIN_ORPHAN_RESET;
}

static void tcp_deaf_limited(struct scene_run *run)
{
    tcp_deaf(run);
    run->policy.orphan_ms = 1000;
}

static void mptcp(struct scene_run *run)
{
    int fds[2];

    mptcp_pair(fds);
    run->ours = fds[US];
    run->theirs = fds[THEM];
    say(run, "hello", NULL);
    peer_ends(run);
    run->waits = true;
    run->eof_is_unknown = true; /* it may have been shut by us */
}

static void unix_stream(struct scene_run *run)
{
    connected(run, AF_UNIX);
    peer_ends(run);
    run->waits = true;
    run->eof_is_unknown = true; /* it may have been shut by us */
}

static void unix_prompt(struct scene_run *run)
{
    connected(run, AF_UNIX);
    run->policy.courtesy = FIN_COURTESY_PROMPT;
}

static void seqpacket(struct scene_run *run)
{
    int fds[2];

    unix_pair(SOCK_SEQPACKET, fds);
    run->ours = fds[US];
    run->theirs = fds[THEM];
    say(run, "hello", "unread");
    assert_int_equal(send(run->theirs, "", 0, MSG_NOSIGNAL), 0);
    peer_ends(run);
    run->waits = true;
    run->eof_is_unknown = true; /* it may have been shut by us */
}

/* ---- a layer ---- */

static int layer_flush(void *arg, uint64_t *unsent)
{
    struct scene_run *run = arg;

    if (send(run->ours, "flush", 5, MSG_DONTWAIT | MSG_NOSIGNAL) != 5) {
        *unsent = 5;
        return -errno;
    }
    *unsent = 0;
    run->given += 5;
    return FIN_LAYER_DONE;
}

static int layer_notify(void *arg)
{
    struct scene_run *run = arg;

    if (send(run->ours, "bye", 3, MSG_DONTWAIT | MSG_NOSIGNAL) != 3)
        return -errno;
    run->given += 3;
    return FIN_LAYER_DONE;
}

/* The first thing read is the answer. */
static int layer_read(void *arg, uint64_t max, uint64_t *n)
{
    struct scene_run *run = arg;
    char buf[64];
    ssize_t got = recv(run->ours, buf, max < sizeof buf ? (size_t) max : sizeof buf, MSG_DONTWAIT);

    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? FIN_LAYER_WANT_READ : -errno;
    *n = (uint64_t) got;
    return got ? FIN_LAYER_ANSWERED : FIN_LAYER_EOF;
}

static void layered(struct scene_run *run)
{
    static struct fin_layer layer = { sizeof layer, NULL,       layer_flush,
                                      layer_notify, layer_read, NULL };

    tcp(run);
    layer.arg = run;
    run->layer = &layer;
    run->policy.courtesy = FIN_COURTESY_FULL;
}

/* ---- scope descriptor ---- */

static void descriptor_held(struct scene_run *run)
{
    struct linger linger = { 1, 7 };

    connected(run, AF_INET);
    run->copy = fcntl(run->ours, F_DUPFD_CLOEXEC, 0);
    assert_int_equal(setsockopt(run->ours, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    run->policy.scope = FIN_SCOPE_DESCRIPTOR;
}

static void descriptor_last(struct scene_run *run)
{
    int fds[2];

    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    run->ours = fds[US];
    run->theirs = fds[THEM];
    say(run, "hello", NULL);
    run->policy.scope = FIN_SCOPE_DESCRIPTOR;
}

/* ---- no streams ---- */

static void udp(struct scene_run *run)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };

    run->ours = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(run->ours, (struct sockaddr *) &address, sizeof address), 0);
    run->policy.proof = FIN_STAGE_GONE;
}

static void unix_datagram(struct scene_run *run)
{
    int fds[2];

    unix_pair(SOCK_DGRAM, fds);
    run->ours = fds[US];
    run->other[0] = fds[THEM];
}

static void pipe_end(struct scene_run *run)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    run->ours = fds[1];
    run->other[0] = fds[0];
}

static void connecting(struct scene_run *run)
{
    struct sockaddr_storage address;
    socklen_t size;

    run->other[0] = listen_tcp(AF_INET, 0, 0, BUFFERS_USUAL);
    run->other[1] = connect_to(run->other[0], 0, BUFFERS_USUAL);
    run->ours = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    size = address_of(run->other[0], &address);
    assert_int_equal(connect(run->ours, (struct sockaddr *) &address, size), -1);
    assert_int_equal(errno, EINPROGRESS);
}

static void listening(struct scene_run *run)
{
    run->ours = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL);
    for (int i = 0; i < SCENE_CLIENTS; i++)
        run->clients[run->clients_count++] = connect_to(run->ours, 0, BUFFERS_USUAL);
    run->policy.scope = FIN_SCOPE_CONNECTION;
    run->policy.linger_ms = 100; /* for the queue; nobody is waited for */
}

static void listening_unix(struct scene_run *run)
{
    struct sockaddr_storage address;
    socklen_t size;

    run->ours = listen_unix(&address, &size);
    for (int i = 0; i < SCENE_CLIENTS; i++)
        run->clients[run->clients_count++] = connect_to(run->ours, 0, BUFFERS_USUAL);
    run->policy.scope = FIN_SCOPE_CONNECTION;
    run->policy.linger_ms = 100; /* for the queue; nobody is waited for */
}

/* ---- running them ---- */

const struct scene scenes[] = {
    { "tcp", tcp, false },
    { "tcp_with_kernel", tcp, true },
    { "tcp6_gone", tcp6_gone, false },
    { "tcp6_gone_with_kernel", tcp6_gone, true },
    { "tcp_mute", tcp_mute, false },
    { "tcp_prompt", tcp_prompt, true },
    { "tcp_abort", tcp_abort, false },
    { "tcp_held", tcp_held, true },
    { "tcp_deaf", tcp_deaf, false },
    { "tcp_deaf_limited", tcp_deaf_limited, true },
    { "mptcp", mptcp, false },
    { "unix_stream", unix_stream, false },
    { "unix_prompt", unix_prompt, true },
    { "seqpacket", seqpacket, false },
    { "layered", layered, true },
    { "descriptor_held", descriptor_held, false },
    { "descriptor_last", descriptor_last, true },
    { "udp", udp, false },
    { "unix_datagram", unix_datagram, true },
    { "pipe", pipe_end, false },
    { "connecting", connecting, false },
    { "listening", listening, false },
    { "listening_unix", listening_unix, true },
};
const int scenes_count = sizeof scenes / sizeof *scenes;

bool scene_is_possible(const struct scene *scene)
{
    return scene->begin != mptcp || has_mptcp();
}

void scene_begin(const struct scene *scene, struct scene_run *run)
{
    *run = (struct scene_run) {
        .ours = -1,
        .theirs = -1,
        .copy = -1,
        .other = { -1, -1 },
        .policy = FIN_POLICY_INIT,
        .id = FIN_IDENTITY_INIT,
    };
    run->policy.flush_ms = run->policy.farewell_ms = run->policy.linger_ms = 3;
    run->policy.total_ms = 100;
    run->policy.proof_ms = 2;
    run->policy.find_holders = 0;
    if (scene->with_kernel)
        assert_int_equal(fin_kernel_new(&run->kernel), 0);
    scene->begin(run);
    assert_int_equal(fin_identify(run->ours, &run->id), 0);
}

int scene_close(struct scene_run *run, struct fin_receipt *receipt)
{
    if (run->layer)
        return fin_close_layered(run->kernel, run->ours, run->layer, &run->policy, receipt);
    return fin_close(run->kernel, run->ours, &run->policy, receipt);
}

static void drop(int fd)
{
    if (fd >= 0)
        drop_all(fd, -1);
}

void scene_end(struct scene_run *run, bool ours_too)
{
    if (ours_too)
        drop(run->ours);
    drop(run->theirs);
    drop(run->copy);
    drop(run->other[0]);
    drop(run->other[1]);
    for (size_t i = 0; i < run->clients_count; i++)
        drop(run->clients[i]);
    (void) fin_kernel_free(run->kernel);
}
