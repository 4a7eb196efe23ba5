/* SPDX-License-Identifier: MIT */

#include "trace/ghosts.h"

#include "common/say.h"
#include "common/units.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

/* What ends this soon after the close is none: the policy's usual times (FIN_POLICY_INIT). */
#define PROOF_NS 100000000ull
#define LINGER_NS 2000000000ull

#define WORD 16

/* False if it lasted no longer than `grace`. */
static bool lasts(const struct trace *trace, uint64_t since, uint64_t until, uint64_t grace,
                  char text[8])
{
    uint64_t end = until == NEVER ? trace->end_ns : until;

    if (since == NEVER || end < since || end - since <= grace)
        return false;
    format_time((int64_t) (end - since), text, 8);
    return true;
}

/* A busy tracer notices the end late: what counts is when it saw it. */
static bool was_seen_held(const struct thing *socket, uint64_t since, uint64_t until)
{
    uint64_t seen = socket->stage_ns[FIN_STAGE_RELEASED];

    if (seen == NEVER || seen < socket->seen_held_ns)
        seen = socket->seen_held_ns;
    return until == NEVER || (seen > since && seen - since > PROOF_NS);
}

static bool is_ours(const struct thing *socket)
{
    return socket->origin == ORIGIN_MADE || socket->origin == ORIGIN_ACCEPTED;
}

static void who(const struct place *place, char *buf, size_t size)
{
    char name[64];

    escape(place->command, name, sizeof name);
    snprintf(buf, size, "%d %s", (int) place->pid, name);
}

static bool descriptor(const struct thing *socket, struct ghost *ghost)
{
    char closer[96];

    if (!socket->left_open || socket->killed || socket->first_closed.call)
        return false;
    who(&socket->closed, closer, sizeof closer);
    *ghost = (struct ghost) { GHOST_DESCRIPTOR, socket->made.ns, socket->closed.ns, "" };
    snprintf(ghost->text, sizeof ghost->text, "never closed: descriptor %d was open when %s ended",
             socket->closed.fd, closer);
    return true;
}

/* The program closed the last number: somebody else has the socket. */
static bool is_held_outside(const struct thing *socket)
{
    return socket->refs == 0 && !socket->left_open && socket->stage_ns[FIN_STAGE_RELEASED] != NEVER;
}

static bool description(const struct trace *trace, const struct thing *socket, struct ghost *ghost)
{
    uint64_t until = socket->stage_ns[FIN_STAGE_UNREFERENCED];
    bool outside = is_held_outside(socket);
    uint64_t since = outside ? socket->stage_ns[FIN_STAGE_RELEASED] : socket->first_closed.ns;
    char time[8];
    char closer[96];

    if ((!outside && !socket->left_open) || socket->killed || !socket->first_closed.call
        || !lasts(trace, since, until, PROOF_NS, time)
        || (outside && !was_seen_held(socket, since, until)))
        return false;
    who(&socket->closed, closer, sizeof closer);
    *ghost = (struct ghost) { GHOST_DESCRIPTION, since, until, "" };
    if (outside)
        snprintf(ghost->text, sizeof ghost->text, "closed by %s, and held elsewhere for %s%s",
                 closer, time, until == NEVER ? " so far" : "");
    else
        snprintf(
            ghost->text, sizeof ghost->text,
            "closed, and held for %s more by %s, which ended without closing it (descriptor %d)",
            time, closer, socket->closed.fd);
    return true;
}

static bool registration(const struct trace *trace, const struct thing *socket, struct ghost *ghost)
{
    const struct registration *r = socket->registrations;
    char time[8];

    if (!lasts(trace, socket->stale_ns, socket->stale_until_ns, PROOF_NS, time)
        || !was_seen_held(socket, socket->stale_ns, socket->stale_until_ns))
        return false;
    while (r && r->stale_ns != socket->stale_ns)
        r = r->next;
    *ghost = (struct ghost) { GHOST_REGISTRATION, socket->stale_ns, socket->stale_until_ns, "" };
    snprintf(
        ghost->text, sizeof ghost->text,
        "closed while epoll set %d had it under descriptor %d, and held elsewhere: the entry stayed for %s",
        r ? r->set_fd : -1, r ? r->fd : -1, time);
    return true;
}

static bool connection(const struct trace *trace, const struct thing *socket, struct ghost *ghost)
{
    uint64_t since = socket->stage_ns[FIN_STAGE_UNREFERENCED];
    uint64_t until = socket->stage_ns[FIN_STAGE_FINISHED];
    char time[8];

    if (!socket->confirmed || !lasts(trace, since, until, LINGER_NS, time))
        return false;
    *ghost = (struct ghost) { GHOST_CONNECTION, since, until, "" };
    snprintf(ghost->text, sizeof ghost->text,
             "released, and the kernel's connection went on for %s%s (%" PRIu64
             " bytes were not acknowledged)",
             time, until == NEVER ? " so far" : "", socket->unacked);
    return true;
}

/* Whoever made it: what was there before us may be what we were started for. */
static bool leak(const struct thing *socket, struct ghost *ghost)
{
    char owner[96], ago[WORD], unread[WORD + 24] = "", size[WORD];

    if (!socket->open.call)
        return false;
    who(&socket->open, owner, sizeof owner);
    format_time((int64_t) socket->peer_ended_ago_ns, ago, sizeof ago);
    if (socket->unread) {
        format_size(socket->unread, size, sizeof size);
        snprintf(unread, sizeof unread, "; %s bytes were not read", size);
    }
    *ghost = (struct ghost) { GHOST_LEAK, socket->peer_ended_ns, NEVER, "" };
    snprintf(ghost->text, sizeof ghost->text,
             "open as descriptor %d of %s: the peer closed%s%s%s%s", socket->open.fd, owner,
             socket->peer_ended_ago_ns ? " " : "", socket->peer_ended_ago_ns ? ago : "",
             socket->peer_ended_ago_ns ? " ago" : "", unread);
    return true;
}

unsigned ghosts_of(const struct trace *trace, const struct thing *socket,
                   struct ghost ghosts[GHOSTS])
{
    unsigned count = 0;

    count += leak(socket, &ghosts[count]);
    if (!is_ours(socket))
        return count;
    count += descriptor(socket, &ghosts[count]);
    count += description(trace, socket, &ghosts[count]);
    count += registration(trace, socket, &ghosts[count]);
    count += connection(trace, socket, &ghosts[count]);
    return count;
}

unsigned ghosts_of_all(const struct trace *trace)
{
    struct ghost ghosts[GHOSTS];
    unsigned count = 0;
    size_t i;

    for (i = 0; i < trace->book.sockets.count; i++)
        count += ghosts_of(trace, trace->book.sockets.at[i], ghosts);
    return count;
}

const char *ghost_name(enum ghost_kind kind)
{
    static const char *const names[] = { "descriptor", "description", "registration", "connection",
                                         "leak" };

    return names[kind];
}
