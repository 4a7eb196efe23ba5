/* SPDX-License-Identifier: MIT */

/*
 * The stage for referee.py: peers, networks and rules of scenes whose program is Python. Requests
 * come as messages on standard input, a Unix socket, and each is answered by one:
 *
 *     draw SEED INDEX [PART]   a scene
 *     all SCENE                the scene with its plain fields
 *     play HOST SCENE          starts the peer: its address and port, or "fd" with a descriptor
 *     meet HOST PORT           our address; the peer accepts. `met` waits for that
 *     begin, act, has, go      as the peer is asked
 *     took                     how many bytes the peer has, read by its program or not
 *     final                    heals the network, and ends the peer
 *     judge NAME=NUMBER... the rule that is broken ("fine": none), whether it is of the clock, and
 *                              what was seen
 */

#include "rules.h"
#include "session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MESSAGE 8192

static struct play p;

static void reply(const char *text, int fd)
{
    char room[CMSG_SPACE(sizeof fd)] = { 0 };
    struct iovec part = { (void *) text, strlen(text) };
    struct msghdr message = { NULL, 0, &part, 1, room, sizeof room, 0 };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (fd < 0)
        message.msg_controllen = 0;
    if (sendmsg(STDIN_FILENO, &message, MSG_NOSIGNAL) < 0)
        exit(0);
}

/* ---- scenes ---- */

static void draw(const char *text)
{
    unsigned long long seed, index;
    char part[MESSAGE] = "", line[MESSAGE];
    struct scene scene;

    must(sscanf(text, "%llu %llu %8191[^\n]", &seed, &index, part) >= 2, text);
    scene = scene_make(seed, index, true);
    must(scene_change(&scene, part), part);
    reply(scene_format(&scene, false, line, sizeof line), -1);
}

static void show_all(const char *text)
{
    struct scene scene = { { 0 } };
    char line[MESSAGE];

    must(scene_change(&scene, text), text);
    reply(scene_format(&scene, true, line, sizeof line), -1);
}

/* ---- the play ---- */

static void begin_play(const char *text)
{
    struct scene scene = { { 0 } };
    struct sockaddr_storage *address;
    char line[128], name[INET6_ADDRSTRLEN];
    char *rest;
    uint64_t host = strtoull(text, &rest, 10);

    must(scene_change(&scene, rest), rest);
    if (p.view)
        (void) munmap(p.view, sizeof *p.view);
    play_begin(&p, &scene, host);
    if (p.peer.fd >= 0) {
        reply("fd", p.peer.fd);
        (void) close(p.peer.fd);
        return;
    }
    p.view->clients = (unsigned) host % CLIENTS_MAX;
    address = &p.view->theirs;
    if (address->ss_family == AF_INET6)
        (void) inet_ntop(AF_INET6, &((struct sockaddr_in6 *) address)->sin6_addr, name,
                         sizeof name);
    else
        (void) inet_ntop(AF_INET, &((struct sockaddr_in *) address)->sin_addr, name, sizeof name);
    (void) snprintf(line, sizeof line, "%s %u", name,
                    (unsigned) ntohs(((struct sockaddr_in *) address)->sin_port));
    reply(line, -1);
}

static void meet(const char *text)
{
    char name[64] = "";
    unsigned port = 0;
    struct sockaddr_in *v4 = (struct sockaddr_in *) &p.view->ours;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) &p.view->ours;

    if (sscanf(text, "%63s %u", name, &port) == 2) {
        p.view->ours.ss_family = p.view->theirs.ss_family;
        p.view->ours_size = sizeof *v4;
        v4->sin_port = htons((uint16_t) port);
        if (v6->sin6_family == AF_INET6)
            (void) inet_pton(AF_INET6, name, &v6->sin6_addr);
        else
            (void) inet_pton(AF_INET, name, &v4->sin_addr);
    }
    peer_begin(&p.peer, ASK_MEET);
    reply("ok", -1);
}

static void ask(enum peer_question question)
{
    reply(peer_ask(&p.peer, question) ? "ok" : "gone", -1);
}

static void go(void)
{
    network_break_before(&p.net, &p.scene);
    (void) peer_ask(&p.peer, ASK_GO);
    network_go(&p.net, &p.scene);
    reply("ok", -1);
}

static void has(void)
{
    p.tcp_state = scene_is_tcp(&p.scene) ? diag_state(&p.view->ours, &p.view->theirs) : -1;
    ask(ASK_HAS);
}

static void took(void)
{
    char line[32] = "gone";

    if (peer_ask(&p.peer, ASK_HAS))
        (void) snprintf(line, sizeof line, "%" PRIu64, p.view->now_read + p.view->now_queued);
    reply(line, -1);
}

static void final(void)
{
    network_heal(&p.net);
    (void) peer_ask(&p.peer, ASK_FINAL);
    peer_end(&p.peer);
    network_end(&p.net);
    reply("ok", -1);
}

/* ---- the judgement ---- */

static void take_stage(const char *name, long long value)
{
    for (int stage = 0; stage < FIN_STAGES; stage++) {
        if (strcmp(name, fin_stage_name(stage)) == 0)
            p.receipt.stage_ns[stage] = value;
    }
}

static void take_fact(const char *name, long long value)
{
    const struct {
        const char *name;
        enum {
            INT,
            BOOL,
            U64
        } type;
        void *where;
    } facts[] = {
        { "result", INT, &p.result },
        { "began", U64, &p.began },
        { "ended", U64, &p.ended },
        { "stolen", U64, &p.stolen },
        { "handed", U64, &p.handed },
        { "buffered", U64, &p.layer_left },
        { "read", U64, &p.program_read },
        { "free", BOOL, &p.number_is_free },
        { "left_open", BOOL, &p.left_open },
        { "closing", BOOL, &p.was_closing },
        { "cancelled", BOOL, &p.cancelled },
        { "pid", INT, &p.pid },
        { "holder", INT, &p.holder_pid },
        { "outcome", INT, &p.receipt.outcome },
        { "phase", INT, &p.receipt.phase },
        { "end", INT, &p.receipt.end },
        { "held", INT, &p.receipt.held },
        { "error", INT, &p.receipt.error },
        { "search", INT, &p.receipt.search },
        { "unverifiable", INT, &p.receipt.unverifiable },
        { "unsent", U64, &p.receipt.unsent },
        { "unacked", U64, &p.receipt.unacked },
        { "discarded", U64, &p.receipt.discarded },
        { "tombstone", INT, &p.receipt.tombstone },
        { "holders", INT, &p.receipt.holders },
        { "holder_pid", INT, &p.receipt.holder[0].pid },
        { "asked", U64, &p.receipt.requested_ns },
    };

    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        if (strcmp(facts[i].name, name) != 0)
            continue;
        if (facts[i].type == INT)
            *(int *) facts[i].where = (int) value;
        else if (facts[i].type == BOOL)
            *(bool *) facts[i].where = value != 0;
        else
            *(uint64_t *) facts[i].where = (uint64_t) value;
        return;
    }
    take_stage(name, value);
}

/* What a transport had buffered is a layer's, and the receipt alone tells what became of it. */
static void account(void)
{
    uint64_t buffered = p.layer_left;

    p.buffered = buffered;
    p.policy = play_policy(&p.scene);
    p.completed = true;
    p.layer_left = p.receipt.unsent < buffered ? p.receipt.unsent : buffered;
    p.layer_sent = buffered - p.layer_left;
}

static void judge(char *text)
{
    char line[MESSAGE], described[MESSAGE / 2], *rest = NULL;
    bool clock = false;
    const char *rule;

    memset(p.receipt.stage_ns, -1, sizeof p.receipt.stage_ns);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');

        must(equals, word);
        *equals = '\0';
        take_fact(word, strtoll(equals + 1, NULL, 10));
    }
    account();
    rule = rules_broken(&p, &clock);
    (void) snprintf(line, sizeof line, "%s %d\n%s", rule ? rule : "fine", clock,
                    rules_describe(&p, described, sizeof described));
    reply(line, -1);
}

static void obey(char *text)
{
    size_t length = strcspn(text, " ");
    char *rest = text[length] ? text + length + 1 : text + length;

    text[length] = '\0';
    if (strcmp(text, "draw") == 0)
        draw(rest);
    else if (strcmp(text, "all") == 0)
        show_all(rest);
    else if (strcmp(text, "play") == 0)
        begin_play(rest);
    else if (strcmp(text, "meet") == 0)
        meet(rest);
    else if (strcmp(text, "met") == 0)
        reply(peer_answered(&p.peer) ? "ok" : "gone", -1);
    else if (strcmp(text, "begin") == 0)
        ask(ASK_BEGIN);
    else if (strcmp(text, "act") == 0)
        ask(ASK_ACT);
    else if (strcmp(text, "has") == 0)
        has();
    else if (strcmp(text, "took") == 0)
        took();
    else if (strcmp(text, "go") == 0)
        go();
    else if (strcmp(text, "final") == 0)
        final();
    else
        judge(rest);
}

int main(void)
{
    static char text[MESSAGE];
    ssize_t n;

    session_setup();
    while ((n = recv(STDIN_FILENO, text, sizeof text - 1, 0)) > 0) {
        text[n] = '\0';
        obey(text);
    }
    return 0;
}
