/* SPDX-License-Identifier: MIT */

#include "trace/json.h"

#include "common/say.h"
#include "trace/ghosts.h"
#include "trace/names.h"
#include "trace/receipt.h"

#include <string.h>
#include <sys/wait.h>

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t) value);
}

static json_t *time_or_null(uint64_t ns)
{
    return ns == NEVER ? json_null() : number(ns);
}

/* Text of the traced may hold any byte. */
static json_t *printable(const char *text)
{
    char escaped[4096];

    if (!text)
        return json_null();
    escape(text, escaped, sizeof escaped);
    return json_string(escaped);
}

static json_t *stack(const char *text)
{
    json_t *frames = json_array();
    const char *end;

    for (; *text; text = *end ? end + 1 : end) {
        end = strchrnul(text, '\n');
        json_array_append_new(frames, json_stringn_nocheck(text, (size_t) (end - text)));
    }
    return frames;
}

static void set_place(json_t *object, const struct place *place)
{
    json_object_set_new(object, "pid", json_integer(place->pid));
    json_object_set_new(object, "tid", json_integer(place->tid));
    json_object_set_new(object, "command", printable(place->command));
    json_object_set_new(object, "call", json_string(place->call));
    json_object_set_new(object, "fd", json_integer(place->fd));
    if (place->stack)
        json_object_set_new(object, "stack", stack(place->stack));
}

static json_t *place_or_null(const struct place *place)
{
    json_t *object;

    if (!place->call)
        return json_null();
    object = json_pack("{s:o}", "time", number(place->ns));
    set_place(object, place);
    return object;
}

static void dump(FILE *out, json_t *value)
{
    json_dumpf(value, out, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(value);
}

/* ---- the beginning ---- */

void json_begin(FILE *out, const struct trace_options *options, pid_t pid)
{
    char *const *word = options->command;
    json_t *command = options->pid ? json_null() : json_array();

    for (; !options->pid && *word; word++)
        json_array_append_new(command, printable(*word));
    fputs("{\"command\":", out);
    dump(out, command);
    fprintf(out, ",\"pid\":%d,\n\"events\":[", (int) pid);
}

/* ---- events ---- */

static void set_details(json_t *object, const struct event *event)
{
    const struct thing *socket = event->socket;

    switch (event->kind) {
    case EVENT_REGISTERED:
    case EVENT_UNREGISTERED:
        json_object_set_new(object, "epoll", json_integer(event->other));
        break;
    case EVENT_SHUT:
        json_object_set_new(object, "how", json_string(shut_name(event->other)));
        break;
    case EVENT_DUPLICATED:
        json_object_set_new(object, "from", json_integer(event->other));
        break;
    case EVENT_CONNECTING:
    case EVENT_CONNECTED:
    case EVENT_ACCEPTED:
        if (socket->remote)
            json_object_set_new(object, "address", json_string(socket->remote));
        break;
    default:
        break;
    }
    if (event->error)
        json_object_set_new(object, "error", json_string(error_name(event->error)));
}

void json_event(FILE *out, const struct event *event, bool first)
{
    json_t *object = json_pack("{s:o, s:s, s:i}", "time", number(event->place->ns), "kind",
                               event_name(event->kind), "socket", (int) event->socket->id);

    if (event->place->pid)
        set_place(object, event->place);
    set_details(object, event);
    fputs(first ? "\n" : ",\n", out);
    dump(out, object);
}

/* ---- receipts ---- */

static json_t *trace_json_stages(const struct thing *socket)
{
    static const int shown[] = { FIN_STAGE_REQUESTED, FIN_STAGE_SHUT,         FIN_STAGE_UNWATCHED,
                                 FIN_STAGE_RELEASED,  FIN_STAGE_UNREFERENCED, FIN_STAGE_FINISHED,
                                 FIN_STAGE_GONE };
    json_t *object = json_object();
    size_t i;

    for (i = 0; i < sizeof shown / sizeof *shown; i++)
        json_object_set_new(object, fin_stage_name(shown[i]),
                            time_or_null(socket->stage_ns[shown[i]]));
    return object;
}

static json_t *trace_json_holders(const struct thing *socket)
{
    const struct holders *holders = socket->holders;
    json_t *array = json_array();
    unsigned i;

    for (i = 0; holders && i < holders->count; i++) {
        const struct fin_holder *holder = &holders->at[i];

        json_array_append_new(array,
                              json_pack("{s:i, s:i, s:o}", "pid", holder->pid, "fd", holder->fd,
                                        "command", printable(holder->command)));
    }
    return array;
}

static json_t *ghosts(const struct trace *trace, const struct thing *socket)
{
    struct ghost found[GHOSTS];
    unsigned count = ghosts_of(trace, socket, found), i;
    json_t *array = json_array();

    for (i = 0; i < count; i++)
        json_array_append_new(array,
                              json_pack("{s:s, s:o, s:o, s:s}", "kind", ghost_name(found[i].kind),
                                        "since", number(found[i].since_ns), "until",
                                        time_or_null(found[i].until_ns), "text", found[i].text));
    return array;
}

static void set_identity(json_t *object, const struct thing *socket)
{
    uint64_t cookie = socket->known ? socket->identity.cookie : 0;
    char buf[16];

    json_object_set_new(object, "id", json_integer(socket->id));
    json_object_set_new(object, "inode", number(socket->inode));
    json_object_set_new(object, "cookie", cookie ? number(cookie) : json_null());
    json_object_set_new(object, "family",
                        json_string(family_name(socket->family, buf, sizeof buf)));
    json_object_set_new(object, "type", json_string(type_name(socket->type, buf, sizeof buf)));
    json_object_set_new(object, "protocol", json_string(protocol_name(socket, buf, sizeof buf)));
    json_object_set_new(object, "local", printable(socket->local));
    json_object_set_new(object, "remote", printable(socket->remote));
}

static json_t *proof(const struct thing *socket)
{
    if (socket->proof == PROOF_NONE)
        return json_null();
    return json_string(socket->proof == PROOF_WITNESS ? "witness" : "count");
}

static json_t *state(const struct thing *socket)
{
    const char *name = receipt_state(socket);

    return name ? json_string(name) : json_null();
}

json_t *json_socket(const struct trace *trace, const struct thing *socket)
{
    json_t *object = json_object();

    if (!object)
        return NULL;
    set_identity(object, socket);
    json_object_set_new(object, "origin", json_string(origin_name(socket->origin)));
    json_object_set_new(object, "made", place_or_null(&socket->made));
    json_object_set_new(object, "connected", time_or_null(socket->connected_ns));
    json_object_set_new(object, "stages", trace_json_stages(socket));
    json_object_set_new(object, "first_closed", place_or_null(&socket->first_closed));
    json_object_set_new(object, "closed", place_or_null(&socket->closed));
    json_object_set_new(object, "end", json_string(fin_end_name(receipt_end(socket))));
    json_object_set_new(object, "unread", socket->looked ? number(socket->unread) : json_null());
    json_object_set_new(object, "unacked", socket->looked ? number(socket->unacked) : json_null());
    json_object_set_new(object, "held", json_string(fin_answer_name(receipt_held(socket))));
    json_object_set_new(object, "proof", proof(socket));
    json_object_set_new(object, "state", state(socket));
    json_object_set_new(object, "holders", trace_json_holders(socket));
    json_object_set_new(object, "ghosts", ghosts(trace, socket));
    return object;
}

/* ---- the end ---- */

static json_t *ending(const struct trace *trace)
{
    char name[16];

    if (trace->ended < 0)
        return json_null();
    if (!WIFSIGNALED(trace->ended))
        return json_pack("{s:i, s:n}", "status", WEXITSTATUS(trace->ended), "signal");
    snprintf(name, sizeof name, "SIG%s",
             sigabbrev_np(WTERMSIG(trace->ended)) ? sigabbrev_np(WTERMSIG(trace->ended)) : "?");
    return json_pack("{s:n, s:s}", "status", "signal", name);
}

static json_t *notes(const struct trace *trace)
{
    json_t *array = json_array();
    size_t i;

    for (i = 0; i < trace->note_count; i++)
        json_array_append_new(array, json_string(trace->notes[i]));
    return array;
}

void json_end(FILE *out, const struct trace *trace)
{
    size_t i;

    fputs("\n],\n\"sockets\":[", out);
    for (i = 0; i < trace->book.sockets.count; i++) {
        fputs(i ? ",\n" : "\n", out);
        dump(out, json_socket(trace, trace->book.sockets.at[i]));
    }
    fprintf(out,
            "\n],\n\"ghosts\":%u,\"duration\":%llu,\"detached\":%s,\"exit\":", ghosts_of_all(trace),
            (unsigned long long) trace->end_ns, trace->detached ? "true" : "false");
    dump(out, ending(trace));
    fputs(",\"notes\":", out);
    dump(out, notes(trace));
    fputs("}\n", out);
}
