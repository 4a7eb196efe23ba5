/* SPDX-License-Identifier: MIT */

#include "play.h"

#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK 32768
#define FILL_MAX 6000000 /* the peer may read as fast as we write */
#define SETTLE_TRIES 40
#define MS 1000000

/* ---- our end ---- */

static int tcp_option(int fd, int name, int value)
{
    return setsockopt(fd, IPPROTO_TCP, name, &value, sizeof value);
}

static void connect_to_peer(struct play *p)
{
    struct view *view = p->view;

    address_make(&p->scene, 0, &view->ours, &view->ours_size);
    if (p->scene.v[FAULT])
        ((struct sockaddr_in *) &view->ours)->sin_addr.s_addr = htonl(0x0a090101);
    else
        ((struct sockaddr_in *) &view->ours)->sin_addr =
            ((struct sockaddr_in *) &view->theirs)->sin_addr;
    if (view->ours.ss_family == AF_INET6)
        address_make(&p->scene, 0, &view->ours, &view->ours_size);
    p->fd = socket_bound(&p->scene, (struct sockaddr *) &view->ours, &view->ours_size);
    if (p->scene.v[KIND] >= CONNECTING)
        (void) fcntl(p->fd, F_SETFL, O_NONBLOCK);
    if (p->scene.v[KIND] == FAST_OPEN)
        return;
    must(connect(p->fd, (struct sockaddr *) &view->theirs, view->theirs_size) == 0
             || p->scene.v[KIND] == CONNECTING,
         "connect");
}

static void listen_to_peer(struct play *p, uint64_t host)
{
    struct view *view = p->view;

    address_make(&p->scene, host, &view->ours, &view->ours_size);
    p->fd = socket_bound(&p->scene, (struct sockaddr *) &view->ours, &view->ours_size);
    must(listen(p->fd, CLIENTS_MAX) == 0, "listen");
    view->clients = (unsigned) host % CLIENTS_MAX;
}

static void open_our_end(struct play *p, uint64_t host)
{
    p->fd = p->peer.fd;
    if (p->fd >= 0) {
        /* made by the peer */
    } else if (scene_is_listener(&p->scene)) {
        listen_to_peer(p, host);
    } else if (p->scene.v[KIND] == UNCONNECTED) {
        p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    } else {
        connect_to_peer(p);
    }
    must(p->fd >= 0, "our end");
    if (!scene_is_tls(&p->scene)) {
        must(peer_ask(&p->peer, ASK_MEET), "the peer is gone");
        return;
    }
    peer_begin(&p->peer, ASK_MEET);
    p->ssl = session_connect(p->fd, &p->scene);
    must(peer_answered(&p->peer), "the peer is gone");
}

/* ---- what the program did before ---- */

static ssize_t send_chunk(struct play *p, uint64_t size)
{
    unsigned char buf[CHUNK];
    size_t n = size < sizeof buf ? (size_t) size : sizeof buf;

    for (size_t i = 0; i < n; i++)
        buf[i] = view_byte(p->handed + i);
    if (p->scene.v[KIND] == PIPE_WRITE)
        return write(p->fd, buf, n);
    if (p->scene.v[KIND] == FAST_OPEN)
        return sendto(p->fd, buf, n, MSG_FASTOPEN | MSG_NOSIGNAL,
                      (struct sockaddr *) &p->view->theirs, p->view->theirs_size);
    return send(p->fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Returns the bytes that are in the kernel, or -1: it did not finish. */
static ssize_t write_record(struct play *p, uint64_t size)
{
    size_t n = size < sizeof p->record ? (size_t) size : sizeof p->record;

    for (size_t i = 0; i < n; i++)
        p->record[i] = view_byte(p->handed + i);
    if (SSL_write(p->ssl, p->record, (int) n) == (int) n)
        return (ssize_t) n;
    p->unfinished = n;
    return -1;
}

static void give(struct play *p)
{
    bool fill = p->scene.v[SENT] == 4;
    uint64_t left = fill ? FILL_MAX : (uint64_t) scene_number(&p->scene, SENT);
    int flags = fcntl(p->fd, F_GETFL);

    if (p->scene.v[KIND] == PIPE_WRITE || p->ssl)
        (void) fcntl(p->fd, F_SETFL, flags | O_NONBLOCK);
    while (left > 0) {
        ssize_t n = p->ssl ? write_record(p, left) : send_chunk(p, left);

        if (n < 0)
            break;
        p->handed += (uint64_t) n;
        left -= (uint64_t) n;
    }
    (void) fcntl(p->fd, F_SETFL, flags);
}

static uint64_t output_left(int fd)
{
    int bytes = 0;

    return ioctl(fd, TIOCOUTQ, &bytes) == 0 ? (uint64_t) bytes : 0;
}

/* Until the peer's kernel has all that it can take. */
static void await_settled(const struct play *p)
{
    uint64_t last = UINT64_MAX;

    for (int i = 0; i < SETTLE_TRIES; i++) {
        uint64_t left = output_left(p->fd);

        if (left == 0 || (left == last && i > 8))
            return;
        last = left;
        (void) poll(NULL, 0, 1);
    }
}

static void read_all(struct play *p)
{
    char buf[CHUNK];
    ssize_t n;

    if (p->ssl) {
        (void) fcntl(p->fd, F_SETFL, fcntl(p->fd, F_GETFL) | O_NONBLOCK);
        (void) signal(SIGPIPE, SIG_IGN); /* OpenSSL may send an alert */
        while ((n = SSL_read(p->ssl, buf, sizeof buf)) > 0)
            p->program_read += (uint64_t) n;
        (void) signal(SIGPIPE, SIG_DFL); /* finack raises none */
        return;
    }
    while ((n = recv(p->fd, buf, sizeof buf, MSG_DONTWAIT)) > 0)
        p->program_read += (uint64_t) n;
    if (n < 0 && errno != EAGAIN)
        p->program_saw_reset = true;
}

static void take_error(struct play *p)
{
    int error = 0;
    socklen_t size = sizeof error;
    char byte = (char) view_byte(p->handed);

    if (p->scene.v[ERROR] == TAKEN_SO_ERROR) {
        (void) getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        p->program_saw_reset |= error != 0;
    } else if (p->scene.v[ERROR] == TAKEN_SEND) {
        if (send(p->fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
            p->handed++;
        else if (errno != EAGAIN)
            p->program_saw_reset = true;
    } else if (p->scene.v[ERROR] == TAKEN_RECV) {
        ssize_t n = recv(p->fd, &byte, 1, MSG_DONTWAIT);

        p->program_read += n > 0 && p->scene.v[KIND] != UNIX_SEQPACKET;
        p->program_saw_reset |= n < 0 && errno != EAGAIN;
    }
}

static void set_options(const struct play *p)
{
    struct linger linger = { 1, p->scene.v[LINGER] == 2 };

    if (p->scene.v[LINGER])
        (void) setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (p->scene.v[USER_TIMEOUT])
        (void) tcp_option(p->fd, TCP_USER_TIMEOUT, (int) scene_number(&p->scene, USER_TIMEOUT));
    if (p->scene.v[LINGER2])
        (void) tcp_option(p->fd, TCP_LINGER2, -1);
}

static void before(struct play *p)
{
    static const int how[] = { 0, SHUT_RD, SHUT_WR, SHUT_RDWR };

    (void) peer_ask(&p->peer, ASK_BEGIN);
    give(p);
    if (!p->scene.v[SETTLED])
        await_settled(p);
    if (p->scene.v[INPUT])
        read_all(p);
    if (p->scene.v[PEER_ACT] >= ACT_CLOSE && p->scene.v[PEER_WHEN] == WHEN_BEFORE)
        (void) peer_ask(&p->peer, ASK_ACT);
    if (p->scene.v[INPUT])
        read_all(p);
    take_error(p);
    if (p->scene.v[SHUT])
        (void) shutdown(p->fd, how[p->scene.v[SHUT]]);
    set_options(p);
}

/* ---- who else holds it ---- */

static void hold_in_child(struct play *p)
{
    p->holder_pid = fork_mortal();
    if (p->holder_pid > 0)
        return;
    (void) close(p->peer.control);
    if (p->scene.v[HOLDER] == HELD_CHILD_READS) {
        char buf[512];

        (void) fcntl(p->fd, F_SETFL, fcntl(p->fd, F_GETFL) & ~O_NONBLOCK);
        while (recv(p->fd, buf, sizeof buf, 0) > 0)
            ;
    }
    for (;;)
        (void) pause();
}

static void hold_in_flight(struct play *p)
{
    char byte = 'x', room[CMSG_SPACE(sizeof p->fd)] = { 0 };
    struct iovec part = { &byte, 1 };
    struct msghdr message = { NULL, 0, &part, 1, room, sizeof room, 0 };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->flight) == 0, "socketpair");
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof p->fd);
    memcpy(CMSG_DATA(header), &p->fd, sizeof p->fd);
    must(sendmsg(p->flight[0], &message, 0) == 1, "send a descriptor");
}

static void hold(struct play *p)
{
    p->holder_fd = -1;
    p->flight[0] = p->flight[1] = -1;
    switch (p->scene.v[HOLDER]) {
    case HELD_DUP:
        p->holder_fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
        break;
    case HELD_CHILD:
    case HELD_CHILD_READS:
        hold_in_child(p);
        break;
    case HELD_IN_FLIGHT:
        hold_in_flight(p);
        break;
    default:
        break;
    }
}

static void let_go(struct play *p)
{
    if (p->holder_pid) {
        (void) kill(p->holder_pid, SIGKILL);
        (void) waitpid(p->holder_pid, NULL, 0);
    }
    for (int i = 0; i < 2; i++) {
        if (p->flight[i] >= 0)
            (void) close(p->flight[i]);
    }
    if (p->holder_fd >= 0)
        (void) close(p->holder_fd);
}

/* ---- the whole ---- */

struct fin_policy play_policy(const struct scene *scene)
{
    static const int proofs[] = { FIN_STAGE_UNREFERENCED, FIN_STAGE_RELEASED, FIN_STAGE_FINISHED,
                                  FIN_STAGE_GONE };
    static const int courtesies[] = { FIN_COURTESY_ORDERLY, FIN_COURTESY_PROMPT, FIN_COURTESY_ABORT,
                                      FIN_COURTESY_FULL };
    struct fin_policy policy = FIN_POLICY_INIT;

    policy.courtesy = courtesies[scene->v[COURTESY]];
    policy.scope = scene->v[SCOPE];
    policy.proof = proofs[scene->v[PROOF]];
    policy.rebindable = scene->v[REBINDABLE];
    policy.flush_ms = (int32_t) scene_number(scene, FLUSH_MS);
    policy.farewell_ms = (int32_t) scene_number(scene, FAREWELL_MS);
    policy.linger_ms = (int32_t) scene_number(scene, LINGER_MS);
    policy.total_ms = (int32_t) scene_number(scene, TOTAL_MS);
    policy.proof_ms = (int32_t) scene_number(scene, PROOF_MS);
    policy.orphan_ms = (int32_t) scene_number(scene, ORPHAN);
    policy.drain = (uint64_t) scene_number(scene, DRAIN);
    policy.find_holders = scene->v[SEARCH];
    return policy;
}

static void close_it(struct play *p)
{
    p->policy = play_policy(&p->scene);
    p->layer_left = (uint64_t) scene_number(&p->scene, LAYER);
    descriptors_take(&p->before);
    workers_start(p);
    network_break_before(&p->net, &p->scene);
    (void) peer_ask(&p->peer, ASK_GO);
    network_go(&p->net, &p->scene);
    drive(p);
    p->number_is_free = fcntl(p->fd, F_GETFD) < 0;
    (void) peer_ask(&p->peer, ASK_HAS);
    p->tcp_state = scene_is_tcp(&p->scene) ? diag_state(&p->view->ours, &p->view->theirs) : -1;
    if (p->scene.v[DRIVER] != HANDLE)
        descriptors_take(&p->after);
}

void play_begin(struct play *p, const struct scene *scene, uint64_t host)
{
    memset(p, 0, sizeof *p);
    p->scene = *scene;
    p->pid = getpid();
    p->receipt = (struct fin_receipt) FIN_RECEIPT_INIT;
    p->view =
        mmap(NULL, sizeof *p->view, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(p->view != MAP_FAILED, "mmap");
    if (scene->v[KIND] == FAST_OPEN)
        network_of_fast_open();
    network_begin(&p->net, scene, p->view);
    peer_start(&p->peer, scene, p->view, host, &p->net);
}

/* The first handle of a process keeps a descriptor for all. */
static void make_handle(void)
{
    struct fin_handle *handle = NULL;
    int fds[2];

    must(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "socketpair");
    must(fin_handle_new(fds[0], &handle) == 0, "a handle");
    (void) fin_handle_free(handle);
    (void) close(fds[1]);
}

void play(struct play *p, const struct scene *scene, uint64_t host)
{
    if (scene->v[DRIVER] == HANDLE)
        make_handle();
    if (scene_is_tls(scene))
        session_setup();
    play_begin(p, scene, host);
    open_our_end(p, host);
    before(p);
    hold(p);
    close_it(p);
    let_go(p);
    network_heal(&p->net);
    (void) peer_ask(&p->peer, ASK_FINAL);
    peer_end(&p->peer);
    network_end(&p->net);
    SSL_free(p->ssl);
    workers_join(p);
    if (scene->v[DRIVER] == HANDLE)
        descriptors_take(&p->after);
}
