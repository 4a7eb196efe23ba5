/* SPDX-License-Identifier: MIT */

#include "network.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUTE "route add default via 10.9.1.2 dev us\n"
#define ADDRESS "addr add 10.9.2.2/24 dev them\nroute add default via 10.9.2.1 dev them\n"

struct saboteur {
    const struct scene *scene;
    struct view *view;
    int control;
    int ours, router, theirs; /* namespaces */
    uint64_t at;              /* when to break it, 0: not yet, or done */
};

/* ---- programs ---- */

static bool run(const char *program, const char *input)
{
    FILE *pipe = popen(program, "we");

    if (!pipe)
        return false;
    (void) fputs(input, pipe);
    return pclose(pipe) == 0;
}

static void ip(const char *commands)
{
    must(run("exec ip -batch -", commands), commands);
}

static void in(int namespace)
{
    must(setns(namespace, CLONE_NEWNET) == 0, "setns");
}

static int namespace_of(pid_t pid)
{
    char path[64];
    int fd;

    (void) snprintf(path, sizeof path, "/proc/%d/ns/net", (int) pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    must(fd >= 0, path);
    return fd;
}

/* ---- breaking and healing ---- */

static void rule(const char *rule)
{
    char text[256];

    (void) snprintf(text, sizeof text,
                    "table inet t { chain f { type filter hook forward priority 0; %s; }; }\n",
                    rule);
    must(run("exec nft -f -", text), "nft");
}

static void sabotage(struct saboteur *s)
{
    static const char *const rules[] = {
        [FAULT_DROP] = "drop",
        [FAULT_DROP_OURS] = "iifname r1 drop",
        [FAULT_DROP_THEIRS] = "iifname r2 drop",
        [FAULT_RESET] = "meta l4proto tcp reject with tcp reset",
        [FAULT_UNREACHABLE] = "reject with icmp type host-unreachable",
        [FAULT_LOSSY] = "numgen random mod 2 == 0 drop",
    };
    enum fault fault = (enum fault) s->scene->v[FAULT];

    s->at = 0;
    s->view->fault_ns = view_clock();
    if (fault <= FAULT_LOSSY) {
        rule(rules[fault]);
    } else if (fault == FAULT_ADDRESS_GONE) {
        in(s->theirs);
        ip("addr del 10.9.2.2/24 dev them\n");
    } else {
        in(s->ours);
        if (fault == FAULT_ROUTE_GONE)
            ip("route del default\n");
        else
            must(run("exec ss -Kt dst 10.9.2.2 >/dev/null", ""), "ss -K");
    }
    in(s->router);
}

static void heal(struct saboteur *s)
{
    enum fault fault = (enum fault) s->scene->v[FAULT];

    if (!s->view->fault_ns)
        return;
    if (fault <= FAULT_LOSSY) {
        must(run("exec nft flush ruleset", ""), "nft");
    } else if (fault == FAULT_ADDRESS_GONE) {
        in(s->theirs);
        ip(ADDRESS);
    } else if (fault == FAULT_ROUTE_GONE) {
        in(s->ours);
        ip(ROUTE);
    }
    in(s->router);
}

/* ---- the saboteur ---- */

static void connect_all(struct saboteur *s, pid_t peer)
{
    char text[512];

    s->theirs = namespace_of(peer);
    (void) snprintf(text, sizeof text,
                    "link add r1 type veth peer name us netns %d\n"
                    "link add r2 type veth peer name them netns %d\n"
                    "link set lo up\nlink set r1 up\nlink set r2 up\n"
                    "addr add 10.9.1.2/24 dev r1\naddr add 10.9.2.1/24 dev r2\n",
                    (int) getppid(), (int) peer);
    ip(text);
    must(run("exec sh", "echo 1 > /proc/sys/net/ipv4/ip_forward\n"), "forwarding");
    in(s->ours);
    ip("link set lo up\nlink set us up\naddr add 10.9.1.1/24 dev us\n" ROUTE);
    in(s->theirs);
    ip("link set lo up\nlink set them up\n" ADDRESS);
    in(s->router);
}

static int until(uint64_t at)
{
    uint64_t now = view_clock();

    if (!at)
        return -1;
    return at > now ? (int) ((at - now + 999999) / 1000000) : 0;
}

static void obey(struct saboteur *s)
{
    struct {
        char command;
        pid_t peer;
    } order;

    if (recv(s->control, &order, sizeof order, 0) != (ssize_t) sizeof order)
        _exit(0);
    if (order.command == 'c')
        connect_all(s, order.peer);
    else if (order.command == 'f')
        sabotage(s);
    else if (order.command == 'h')
        heal(s);
    else
        s->at = view_clock() + (uint64_t) scene_number(s->scene, FAULT_WHEN) * 1000000;
    (void) send(s->control, &order.command, 1, MSG_NOSIGNAL);
}

static _Noreturn void lurk(struct saboteur *s)
{
    for (;;) {
        struct pollfd entry = { s->control, POLLIN, 0 };

        (void) poll(&entry, 1, until(s->at));
        if (s->at && view_clock() >= s->at)
            sabotage(s);
        if (entry.revents)
            obey(s);
    }
}

static void order(const struct network *net, char command, pid_t peer)
{
    struct {
        char command;
        pid_t peer;
    } order = { command, peer };
    char answer;

    must(send(net->control, &order, sizeof order, MSG_NOSIGNAL) == (ssize_t) sizeof order
             && recv(net->control, &answer, 1, 0) == 1,
         "the saboteur");
}

void network_begin(struct network *net, const struct scene *scene, struct view *view)
{
    struct saboteur s = { .scene = scene, .view = view };
    int fds[2];

    memset(net, 0, sizeof *net);
    if (!scene->v[FAULT])
        return;
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    must(unshare(CLONE_NEWNET) == 0, "a network namespace");
    net->saboteur = fork_mortal();
    if (net->saboteur == 0) {
        (void) close(fds[0]);
        s.control = fds[1];
        s.ours = namespace_of(getpid());
        must(unshare(CLONE_NEWNET) == 0, "a network namespace");
        s.router = namespace_of(getpid());
        lurk(&s);
    }
    (void) close(fds[1]);
    net->control = fds[0];
}

void network_of_fast_open(void)
{
    must(unshare(CLONE_NEWNET) == 0, "a network namespace");
    ip("link set lo up\n");
    must(run("exec sh", "echo 5 > /proc/sys/net/ipv4/tcp_fastopen\n"), "tcp_fastopen");
}

void network_join(int control)
{
    char byte = 'u';

    must(unshare(CLONE_NEWNET) == 0, "a network namespace");
    must(send(control, &byte, 1, 0) == 1 && recv(control, &byte, 1, 0) == 1, "to be connected");
}

void network_connect(struct network *net, pid_t peer, int control)
{
    char byte;

    must(recv(control, &byte, 1, 0) == 1, "the peer");
    order(net, 'c', peer);
    must(send(control, &byte, 1, MSG_NOSIGNAL) == 1, "the peer");
}

void network_break_before(struct network *net, const struct scene *scene)
{
    if (net->saboteur && scene->v[FAULT_WHEN] == 0)
        order(net, 'f', 0);
}

void network_go(struct network *net, const struct scene *scene)
{
    if (net->saboteur && scene->v[FAULT_WHEN])
        order(net, 'g', 0);
}

void network_heal(struct network *net)
{
    if (net->saboteur)
        order(net, 'h', 0);
}

void network_end(struct network *net)
{
    if (!net->saboteur)
        return;
    (void) close(net->control);
    (void) kill(net->saboteur, SIGKILL);
    (void) waitpid(net->saboteur, NULL, 0);
}
