/* SPDX-License-Identifier: MIT */

#include "peer.h"

#include "common.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 1000000
#define SLOW_BYTES 700
#define CHAT_BYTES 200
#define FINAL_NS 1000000000
#define BUFFER 32768

struct self {
    const struct scene *scene;
    struct view *view;
    int control;
    int fd;
    int client[CLIENTS_MAX];
    uint64_t act_at; /* 0: not yet, or never */
    uint64_t tick;
    bool met;
    struct session session;
};

unsigned char view_byte(uint64_t offset)
{
    return (unsigned char) (offset * 131 + (offset >> 8) * 7);
}

uint64_t view_clock(void)
{
    struct timespec now;

    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}

uint64_t queued_input(int fd)
{
    int bytes = 0;

    return fd >= 0 && ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0 ? (uint64_t) bytes : 0;
}

/* ---- reading and sending ---- */

static void flush(struct self *self)
{
    int error = self->fd >= 0 ? session_flush(&self->session, self->fd) : 0;

    if (error && error != EAGAIN && !self->view->send_error)
        self->view->send_error = error;
}

static void say_farewell(struct self *self)
{
    if (!self->session.ssl || self->session.said || self->scene->v[PEER_ANSWERS])
        return;
    self->view->said_ns = view_clock();
    session_notify(&self->session);
    flush(self);
    self->view->told_ns = view_clock();
}

static void note_end(struct self *self, enum view_end end, int error)
{
    struct view *view = self->view;

    view->end = end;
    view->error = error;
    view->end_ns = view_clock();
}

/* FIONREAD counts the FIN of MPTCP. */
static bool has_unread(struct self *self)
{
    char byte;
    ssize_t n = recv(self->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && errno != EAGAIN && errno != ENOTSOCK)
        self->view->so_error = errno;
    return n > 0;
}

static void act(struct self *self)
{
    const struct linger now = { 1, 0 };

    self->act_at = 0;
    if (self->fd < 0)
        return;
    if (self->scene->v[PEER_ACT] < ACT_RESET)
        say_farewell(self);
    self->view->acted_unread = has_unread(self);
    self->view->acted_ns = view_clock();
    switch (self->scene->v[PEER_ACT]) {
    case ACT_SHUT:
        (void) shutdown(self->fd, SHUT_WR);
        self->view->did_ns = view_clock();
        return;
    case ACT_DIE:
        self->view->died = true;
        (void) kill(getpid(), SIGKILL);
        return;
    case ACT_RESET:
        (void) setsockopt(self->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        break;
    default:
        break;
    }
    (void) close(self->fd);
    self->fd = -1;
    self->view->did_ns = view_clock();
}

static void check_bytes(struct view *view, const unsigned char *bytes, ssize_t n)
{
    for (ssize_t i = 0; i < n; i++)
        view->corrupt |= bytes[i] != view_byte(view->read + (uint64_t) i);
    view->read += (uint64_t) n;
}

static void decrypt(struct self *self, const unsigned char *bytes, ssize_t n)
{
    unsigned char buf[BUFFER];

    session_feed(&self->session, bytes, n);
    while ((n = session_read(&self->session, buf, sizeof buf)) > 0)
        check_bytes(self->view, buf, n);
    self->view->notified = self->session.notified;
    if (self->session.notified)
        say_farewell(self);
    flush(self); /* new keys are answered */
}

/* Returns false when there is nothing to be read for now, or ever. */
static bool read_some(struct self *self, size_t most)
{
    unsigned char buf[BUFFER];
    ssize_t n = read(self->fd, buf, most);

    if (n > 0) {
        if (self->session.ssl)
            decrypt(self, buf, n);
        else
            check_bytes(self->view, buf, n);
        return true;
    }
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n < 0)
        note_end(self, VIEW_RESET, errno);
    else if (self->scene->v[KIND] != UNIX_DGRAM && self->scene->v[KIND] != UDP)
        note_end(self, VIEW_EOF, 0);
    return false;
}

static ssize_t send_part(struct self *self, const void *bytes, size_t size, int flags)
{
    if (self->scene->v[KIND] == PIPE_READ)
        return write(self->fd, bytes, size);
    if (!self->session.ssl)
        return send(self->fd, bytes, size, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    errno = EPIPE;
    if (self->session.said || !session_write(&self->session, bytes, size))
        return -1;
    flush(self);
    return (ssize_t) size;
}

static void send_some(struct self *self, uint64_t bytes, int flags)
{
    unsigned char buf[BUFFER];

    if (self->scene->v[PEER_UPDATES])
        session_update_key(&self->session);
    while (bytes > 0) {
        size_t size = bytes < sizeof buf ? (size_t) bytes : sizeof buf;
        ssize_t n;

        for (size_t i = 0; i < size; i++)
            buf[i] = view_byte(self->view->sent + i);
        self->view->sent_ns = view_clock();
        n = send_part(self, buf, size, flags);
        if (n < 0) {
            if (errno != EAGAIN && !self->view->send_error && !self->session.said)
                self->view->send_error = errno;
            return;
        }
        self->view->sent += (uint64_t) n;
        bytes -= (uint64_t) n;
    }
}

/* ---- how it gets to know us ---- */

static int kind_type(const struct scene *scene)
{
    return scene->v[KIND] == UDP ? SOCK_DGRAM : SOCK_STREAM;
}

static void listen_for_us(struct self *self)
{
    struct view *view = self->view;
    int backlog = self->scene->v[KIND] >= CONNECTING ? 0 : 4;

    self->fd = socket_bound(self->scene, (struct sockaddr *) &view->theirs, &view->theirs_size);
    if (kind_type(self->scene) == SOCK_STREAM)
        must(listen(self->fd, backlog) == 0, "listen");
    for (int i = 0; backlog == 0 && i < 2; i++) { /* one more than the queue takes */
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

        (void) connect(fd, (struct sockaddr *) &view->theirs, view->theirs_size);
    }
}

static int pass(int control, int fd)
{
    char byte = 'p', room[CMSG_SPACE(sizeof fd)] = { 0 };
    struct iovec part = { &byte, 1 };
    struct msghdr message = { NULL, 0, &part, 1, room, sizeof room, 0 };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    if (fd < 0) {
        message.msg_control = NULL;
        message.msg_controllen = 0;
    } else {
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    return sendmsg(control, &message, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

static int make_pair(struct self *self)
{
    static const int types[] = {
        [UNIX_STREAM] = SOCK_STREAM, [UNIX_SEQPACKET] = SOCK_SEQPACKET, [UNIX_DGRAM] = SOCK_DGRAM
    };
    enum kind kind = (enum kind) self->scene->v[KIND];
    int fds[2], ours;

    if (kind == PIPE_WRITE || kind == PIPE_READ) {
        must(pipe2(fds, O_CLOEXEC) == 0, "pipe");
        ours = kind == PIPE_WRITE;
    } else {
        must(socketpair(AF_UNIX, types[kind] | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
        ours = 0;
    }
    self->fd = fds[!ours];
    return fds[ours];
}

static void introduce(struct self *self)
{
    int theirs = -1;

    self->fd = -1;
    if (scene_is_unix(self->scene) || self->scene->v[KIND] == PIPE_WRITE
        || self->scene->v[KIND] == PIPE_READ)
        theirs = make_pair(self);
    else if (self->scene->v[KIND] <= UDP || self->scene->v[KIND] >= CONNECTING)
        listen_for_us(self);
    must(pass(self->control, theirs) == 0, "pass a descriptor");
    if (theirs >= 0)
        (void) close(theirs);
}

static void meet(struct self *self)
{
    struct view *view = self->view;
    int listener = self->fd;

    if (scene_is_listener(self->scene)) {
        for (unsigned i = 0; i < view->clients; i++) {
            self->client[i] = socket(view->ours.ss_family, SOCK_STREAM, 0);
            must(connect(self->client[i], (struct sockaddr *) &view->ours, view->ours_size) == 0,
                 "connect to a listening socket");
        }
    } else if (self->scene->v[KIND] == UDP) {
        must(connect(self->fd, (struct sockaddr *) &view->ours, view->ours_size) == 0, "connect");
    } else if (self->scene->v[KIND] <= MPTCP) {
        self->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        must(self->fd >= 0, "accept");
        (void) close(listener);
    }
    self->met = true;
    if (scene_is_tls(self->scene))
        session_accept(&self->session, self->fd, self->scene);
    if (self->fd >= 0)
        (void) fcntl(self->fd, F_SETFL, fcntl(self->fd, F_GETFL) | O_NONBLOCK);
}

/* ---- answers ---- */

static void note_now(struct self *self)
{
    struct pollfd entry = { self->fd, POLLIN | POLLRDHUP, 0 };

    self->view->now_read = self->view->read;
    self->view->now_queued = queued_input(self->fd);
    self->view->now_poll = self->fd >= 0 && poll(&entry, 1, 0) >= 0 ? entry.revents : -1;
    self->view->now_end = self->view->end;
}

static void see_clients(struct self *self)
{
    struct view *view = self->view;
    char byte;

    for (unsigned i = 0; i < view->clients; i++) {
        struct pollfd entry = { self->client[i], POLLIN, 0 };
        ssize_t n = poll(&entry, 1, 700) == 1 ? recv(self->client[i], &byte, 1, 0) : 1;

        if (n == 0)
            view->client_eof++;
        else if (n < 0)
            view->client_reset++;
        else
            view->client_open++;
        (void) close(self->client[i]);
    }
}

static void see_end(struct self *self)
{
    uint64_t end = view_clock() + FINAL_NS;
    socklen_t size = sizeof self->view->so_error;

    if (scene_is_listener(self->scene))
        see_clients(self);
    if (self->fd < 0)
        return;
    self->view->watched = true;
    while (scene_is_stream(self->scene) && self->view->end == VIEW_OPEN && view_clock() < end) {
        struct pollfd entry = { self->fd, POLLIN, 0 };

        (void) poll(&entry, 1, 50);
        if (self->session.ssl)
            flush(self);
        while (read_some(self, BUFFER))
            ;
    }
    while (!scene_is_stream(self->scene) && read_some(self, BUFFER))
        ;
    if (self->scene->v[KIND] == MPTCP) { /* a worker of the kernel's brings the news */
        struct pollfd entry = { self->fd, 0, 0 };

        (void) poll(&entry, 1, 100);
    }
    if (!self->view->so_error)
        (void) getsockopt(self->fd, SOL_SOCKET, SO_ERROR, &self->view->so_error, &size);
}

static void begin(struct self *self)
{
    if (self->scene->v[EMPTY])
        (void) send(self->fd, "", 0, MSG_NOSIGNAL);
    if (self->scene->v[PEER_SENDS])
        send_some(self, (uint64_t) scene_number(self->scene, PEER_SENDS), 0);
    if (self->scene->v[URGENT])
        send_some(self, 1, MSG_OOB);
}

static void go(struct self *self)
{
    if (self->scene->v[PEER_ACT] >= ACT_CLOSE && self->scene->v[PEER_WHEN] != WHEN_BEFORE)
        self->act_at = view_clock() + (uint64_t) scene_number(self->scene, PEER_WHEN) * TICK_NS;
}

static void answer(struct self *self)
{
    char question;

    if (recv(self->control, &question, 1, 0) != 1)
        _exit(0);
    if (question == ASK_MEET)
        meet(self);
    else if (question == ASK_BEGIN)
        begin(self);
    else if (question == ASK_ACT)
        act(self);
    else if (question == ASK_HAS)
        note_now(self);
    else if (question == ASK_GO)
        go(self);
    else
        see_end(self);
    if (question != ASK_GO)
        (void) send(self->control, &question, 1, MSG_NOSIGNAL);
    if (question == ASK_FINAL)
        _exit(0);
}

/* ---- its life ---- */

static bool ticks(const struct self *self)
{
    return self->met && self->fd >= 0
        && (self->scene->v[PEER_CHATS] || self->scene->v[PEER_READS] == READS_SLOWLY)
        && self->view->end == VIEW_OPEN;
}

static int until_next(const struct self *self)
{
    uint64_t now = view_clock(), at = self->act_at;

    if (ticks(self) && (!at || self->tick < at))
        at = self->tick;
    if (!at)
        return -1;
    return at > now ? (int) ((at - now + TICK_NS - 1) / TICK_NS) : 0;
}

static void tick(struct self *self)
{
    if (!ticks(self) || view_clock() < self->tick)
        return;
    self->tick = view_clock() + TICK_NS;
    if (self->scene->v[PEER_READS] == READS_SLOWLY)
        (void) read_some(self, self->scene->v[KIND] == UNIX_SEQPACKET ? BUFFER : SLOW_BYTES);
    if (self->scene->v[PEER_CHATS] && !self->view->acted_ns && !self->view->send_error)
        send_some(self, CHAT_BYTES, 0);
}

static void live(struct self *self)
{
    bool reads = self->scene->v[PEER_READS] == READS_ALL && !scene_is_listener(self->scene)
        && self->scene->v[KIND] < UNCONNECTED && self->scene->v[KIND] != PIPE_READ;

    for (;;) {
        bool listens = reads && self->fd >= 0 && self->view->end == VIEW_OPEN && self->met;
        struct pollfd entries[] = { { self->control, POLLIN, 0 },
                                    { listens ? self->fd : -1, POLLIN, 0 } };

        (void) poll(entries, 2, until_next(self));
        if (entries[1].revents)
            (void) read_some(self, BUFFER);
        if (self->act_at && view_clock() >= self->act_at)
            act(self);
        tick(self);
        if (self->view->end == VIEW_EOF && self->fd >= 0 && self->scene->v[PEER_ACT] == ACT_AT_EOF
            && !self->view->acted_ns)
            act(self);
        if (entries[0].revents)
            answer(self);
    }
}

void peer_start(struct peer *peer, const struct scene *scene, struct view *view, uint64_t host,
                struct network *net)
{
    struct self self = { .scene = scene, .view = view };
    int fds[2];

    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    address_make(scene, host, &view->theirs, &view->theirs_size);
    peer->pid = fork_mortal();
    if (peer->pid == 0) {
        (void) close(fds[0]);
        self.control = fds[1];
        if (net->saboteur)
            network_join(self.control);
        introduce(&self);
        live(&self);
    }
    (void) close(fds[1]);
    peer->control = fds[0];
    if (net->saboteur)
        network_connect(net, peer->pid, peer->control);
    peer->fd = receive_descriptor(peer->control);
}

void peer_begin(struct peer *peer, enum peer_question question)
{
    char byte = (char) question;

    (void) send(peer->control, &byte, 1, MSG_NOSIGNAL);
}

bool peer_answered(struct peer *peer)
{
    struct pollfd entry = { peer->control, POLLIN, 0 };
    char byte;

    return poll(&entry, 1, 4000) == 1 && recv(peer->control, &byte, 1, 0) == 1;
}

bool peer_ask(struct peer *peer, enum peer_question question)
{
    peer_begin(peer, question);
    return question == ASK_GO || peer_answered(peer);
}

void peer_end(struct peer *peer)
{
    (void) close(peer->control);
    (void) kill(peer->pid, SIGKILL);
    (void) waitpid(peer->pid, NULL, 0);
}
