/* SPDX-License-Identifier: MIT */

#include "trace/text.h"

#include "common/say.h"
#include "common/units.h"
#include "trace/ghosts.h"
#include "trace/names.h"
#include "trace/receipt.h"

#include <inttypes.h>
#include <string.h>
#include <sys/wait.h>

static void put_time(FILE *out, uint64_t ns)
{
    fprintf(out, "%4" PRIu64 ".%06" PRIu64, ns / 1000000000, ns / 1000 % 1000000);
}

static void put_who(FILE *out, const struct place *place)
{
    char name[64];

    escape(place->command, name, sizeof name);
    fprintf(out, "[%d %s]", (int) place->tid, name);
}

static void put_stack(FILE *out, const char *stack)
{
    const char *end;

    for (; stack && *stack; stack = *end ? end + 1 : end) {
        end = strchrnul(stack, '\n');
        fprintf(out, "                at %.*s\n", (int) (end - stack), stack);
    }
}

/* ---- events ---- */

static void put_socket(FILE *out, const struct thing *socket)
{
    char text[1024];

    socket_format(socket, text, sizeof text);
    fprintf(out, ": %s", text);
}

static void put_error(FILE *out, const struct event *event)
{
    if (event->error)
        fprintf(out, ": %s", error_name(event->error));
}

static void put_details(FILE *out, const struct event *event)
{
    switch (event->kind) {
    case EVENT_REGISTERED:
        fprintf(out, " in epoll %d", event->other);
        break;
    case EVENT_UNREGISTERED:
        fprintf(out, " from epoll %d", event->other);
        break;
    case EVENT_SHUT:
        fprintf(out, " (%s)", shut_name(event->other));
        put_error(out, event);
        break;
    case EVENT_DUPLICATED:
        fprintf(out, " from %d", event->other);
        break;
    case EVENT_CLOSED:
        if (strcmp(event->place->call, "close") != 0)
            fprintf(out, " by %s", event->place->call);
        put_error(out, event);
        break;
    default:
        put_socket(out, event->socket);
        put_error(out, event);
        break;
    }
}

void text_event(FILE *out, const struct event *event)
{
    const struct place *place = event->place;

    put_time(out, place->ns);
    fputc(' ', out);
    if (place->pid)
        put_who(out, place);
    else
        fputs("[kernel]", out);
    fprintf(out, " #%" PRIu32 " %s", event->socket->id, event_name(event->kind));
    if (place->fd >= 0)
        fprintf(out, " %d", place->fd);
    if (place->pid)
        put_details(out, event);
    fputc('\n', out);
    put_stack(out, place->stack);
}

/* ---- receipts ---- */

static void put_stage(FILE *out, const char *name, uint64_t ns, uint64_t since)
{
    char text[16];

    if (ns == NEVER)
        return;
    format_time(ns < since ? 0 : (int64_t) (ns - since), text, sizeof text);
    fprintf(out, " %s=%s", name, text);
}

static void put_stages(FILE *out, const struct thing *socket)
{
    uint64_t requested = socket->stage_ns[FIN_STAGE_REQUESTED];
    int stage;

    if (requested == NEVER)
        requested = socket->stage_ns[FIN_STAGE_RELEASED];
    for (stage = FIN_STAGE_SHUT; stage < FIN_STAGES; stage++)
        put_stage(out, fin_stage_name(stage), socket->stage_ns[stage], requested);
}

static void put_birth(FILE *out, const struct thing *socket)
{
    fprintf(out, "    %s by ", origin_name(socket->origin));
    put_who(out, &socket->made);
    put_stage(out, "at", socket->made.ns, 0);
    put_stage(out, "connected", socket->connected_ns, socket->made.ns);
    fputc('\n', out);
    put_stack(out, socket->made.stack);
}

static void put_end(FILE *out, const struct thing *socket)
{
    const char *state = receipt_state(socket);

    if (!socket->closed.call) {
        fputs("    never closed\n", out);
        return;
    }
    fputs(socket->refs > 0 ? "    one descriptor closed by " : "    closed by ", out);
    put_who(out, &socket->closed);
    put_stage(out, "at", socket->stage_ns[FIN_STAGE_REQUESTED], 0);
    fputc(':', out);
    put_stages(out, socket);
    fprintf(out, " end=%s", fin_end_name(receipt_end(socket)));
    if (socket->unread)
        fprintf(out, " unread=%" PRIu64, socket->unread);
    if (socket->unacked)
        fprintf(out, " unacked=%" PRIu64, socket->unacked);
    if (state)
        fprintf(out, " now=%s", state);
    fputc('\n', out);
    put_stack(out, socket->closed.stack);
}

static void put_holders(FILE *out, const struct thing *socket)
{
    const struct holders *holders = socket->holders;
    unsigned i;

    for (i = 0; holders && i < holders->count; i++) {
        const struct fin_holder *holder = &holders->at[i];
        char name[64];

        escape(holder->command, name, sizeof name);
        fprintf(out, "    held by %d %s as %d\n", holder->pid, name, holder->fd);
    }
}

static void put_title(FILE *out, const struct thing *socket)
{
    char text[1024];

    socket_format(socket, text, sizeof text);
    fprintf(out, "#%" PRIu32 " %s\n", socket->id, text);
}

static void put_receipt(FILE *out, const struct thing *socket)
{
    put_title(out, socket);
    put_birth(out, socket);
    put_end(out, socket);
    put_holders(out, socket);
}

/* ---- the end ---- */

static void put_place(FILE *out, const char *what, const struct place *place)
{
    if (!place->call)
        return;
    fprintf(out, "    %s by ", *place->call ? what : "found");
    put_who(out, place);
    put_stage(out, "at", place->ns, 0);
    fprintf(out, ": %s%sdescriptor %d\n", place->call, *place->call ? ", " : "", place->fd);
    put_stack(out, place->stack);
}

static void put_ghost_lines(FILE *out, const struct ghost *ghosts, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        fprintf(out, "    ghost %s: %s\n", ghost_name(ghosts[i].kind), ghosts[i].text);
}

static void put_ghosts(FILE *out, const struct trace *trace)
{
    struct ghost ghosts[GHOSTS];

    for (size_t i = 0; i < trace->book.sockets.count; i++) {
        const struct thing *socket = trace->book.sockets.at[i];
        unsigned count = ghosts_of(trace, socket, ghosts);

        if (count == 0)
            continue;
        put_title(out, socket);
        put_ghost_lines(out, ghosts, count);
        put_place(out, "made", &socket->made);
        put_place(out, "closed", &socket->first_closed);
    }
}

static void put_ending(FILE *out, const struct trace *trace)
{
    const char *what = trace->options->pid ? "process" : "command";

    if (trace->ended < 0)
        fprintf(out, "the %s goes on\n", what);
    else if (WIFSIGNALED(trace->ended))
        fprintf(out, "the %s was killed by SIG%s\n", what,
                sigabbrev_np(WTERMSIG(trace->ended)) ? sigabbrev_np(WTERMSIG(trace->ended)) : "?");
    else
        fprintf(out, "the %s exited with status %d\n", what, WEXITSTATUS(trace->ended));
}

void text_receipt(FILE *out, const struct trace *trace, const struct thing *socket)
{
    struct ghost ghosts[GHOSTS];

    put_receipt(out, socket);
    put_ghost_lines(out, ghosts, ghosts_of(trace, socket, ghosts));
}

void text_end(FILE *out, const struct trace *trace, const char *picture)
{
    unsigned ghosts = ghosts_of_all(trace);
    size_t i;

    fprintf(out, "\n%zu socket%s (times since the close was asked for):\n",
            trace->book.sockets.count, trace->book.sockets.count == 1 ? "" : "s");
    for (i = 0; i < trace->book.sockets.count; i++)
        put_receipt(out, trace->book.sockets.at[i]);
    fprintf(out, "%s%s\n%u ghost%s%s\n", *picture ? "\n" : "", picture, ghosts,
            ghosts == 1 ? "" : "s", ghosts ? ":" : "");
    put_ghosts(out, trace);
    put_ending(out, trace);
}
