/* SPDX-License-Identifier: MIT */

#include "attach/report.h"

#include "common/procfs.h"
#include "common/say.h"
#include "common/units.h"
#include "ps/json.h"
#include "ps/text.h"
#include "sockets/judge.h"

#include <string.h>

enum {
    TEXT = 512
};

/* ---- the join ---- */

static const struct socket *find(const struct snapshot *snapshot, json_int_t inode)
{
    for (size_t i = 0; i < snapshot->dump.sockets.count; i++)
        if (snapshot->dump.sockets.at[i].inode == (uint64_t) inode && inode > 0)
            return &snapshot->dump.sockets.at[i];
    return NULL;
}

/* How long it has been as it is said to be, if that is known. */
static json_t *age(const struct socket *s)
{
    uint32_t least;

    return s && finding_age(s, &least) ? json_integer(least) : json_null();
}

static json_t *address(const struct snapshot *snapshot, const struct socket *s)
{
    char local[TEXT], remote[TEXT], text[2 * TEXT + 16];

    format_local(snapshot, s, local, sizeof local);
    format_remote(s, remote, sizeof remote);
    snprintf(text, sizeof text, "%s %s%s%s", socket_protocol_name(s->protocol), local,
             s->state == STATE_LISTEN ? "" : " -> ", s->state == STATE_LISTEN ? "" : remote);
    return json_string(text);
}

/* Adds to `entry`, which has the inode. 1: it is a ghost. */
static int join_one(json_t *entry, const struct snapshot *snapshot)
{
    const struct socket *s = find(snapshot, json_integer_value(json_object_get(entry, "inode")));
    int result = 0;

    result |= json_object_set_new(entry, "address", s ? address(snapshot, s) : json_null());
    result |= json_object_set_new(entry, "age_ms", age(s));
    result |= json_object_set_new(entry, "socket", s ? ps_json_socket(snapshot, s) : json_null());
    return result < 0 ? -ENOMEM : s && is_ghost(s->verdict);
}

static int join_list(json_t *list, const struct snapshot *snapshot)
{
    int ghosts = 0, one = 0;
    json_t *entry;
    size_t i;

    json_array_foreach(list, i, entry)
    {
        one = join_one(entry, snapshot);
        if (one < 0)
            return one;
        ghosts += one;
    }
    return ghosts;
}

int report_join(json_t *said, const struct snapshot *snapshot, int32_t pid)
{
    int ghosts = join_list(json_object_get(said, "connections"), snapshot), more;
    char name[64];
    json_t *server;
    size_t i;

    json_array_foreach(json_object_get(said, "servers"), i, server)
    {
        more = join_list(json_object_get(server, "sockets"), snapshot);
        ghosts = ghosts < 0 || more < 0 ? -ENOMEM : ghosts + more;
    }
    process_name(pid, name, sizeof name);
    if (json_object_set_new(said, "pid", json_integer(pid)) < 0
        || json_object_set_new(said, "command", json_string(name)) < 0)
        return -ENOMEM;
    return ghosts;
}

/* ---- for a person ---- */

static const char *string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

static void print_escaped(FILE *out, const char *text)
{
    char safe[4 * TEXT];

    escape(text, safe, sizeof safe);
    fputs(safe, out);
}

/* ", held by task serve (Task-7) at app.py:41" */
static void print_tasks(FILE *out, const json_t *said, const json_t *entry)
{
    const json_t *uses = json_object_get(entry, "tasks"), *use;
    const char *before = NULL;
    size_t i;

    if (json_array_size(uses) == 0)
        fputs(", no task has it", out);
    json_array_foreach(uses, i, use)
    {
        size_t at = (size_t) json_integer_value(json_object_get(use, "task"));
        const json_t *task = json_array_get(json_object_get(said, "tasks"), at);
        const char *how = string(use, "how"), *line = string(task, "at");

        fputs(before ? " and " : strcmp(how, "waits") == 0 ? ", awaited by" : ", held by", out);
        fputs(before ? "" : " ", out);
        fputs("task ", out);
        print_escaped(out, string(task, "coroutine"));
        fputs(" (", out);
        print_escaped(out, string(task, "name"));
        fputs(*line ? ") at " : ")", out);
        print_escaped(out, line);
        before = how;
    }
}

/* "leaked CLOSE_WAIT since 3.00h" */
static void print_state(FILE *out, const json_t *entry)
{
    const json_t *socket = json_object_get(entry, "socket"), *ms = json_object_get(entry, "age_ms");
    char time[32];

    if (!json_is_object(socket)) {
        fputs("not listed", out);
        return;
    }
    fprintf(out, "%s %s", string(socket, "verdict"), string(socket, "state"));
    if (!json_is_integer(ms))
        return;
    format_time(json_integer_value(ms) * 1000000, time, sizeof time);
    fprintf(out, " since %s", time);
}

static void print_number(FILE *out, const json_t *entry, const char *key, const char *word)
{
    fprintf(out, ", %s %lld", word, (long long) json_integer_value(json_object_get(entry, key)));
}

static void print_what(FILE *out, const json_t *entry, const json_t *owner)
{
    const char *where = string(entry, "address"), *protocol = string(owner, "protocol");

    fputs(": ", out);
    if (*where)
        print_escaped(out, where);
    fputs(*where ? ", " : "", out);
    fprintf(out, "fd %lld", (long long) json_integer_value(json_object_get(entry, "fd")));
    if (json_integer_value(json_object_get(entry, "unsent")))
        print_number(out, entry, "unsent", "bytes unsent");
    if (json_is_true(json_object_get(entry, "closing")))
        fputs(", closing", out);
    if (json_is_true(json_object_get(entry, "tls")))
        fputs(", TLS", out);
    if (*protocol) {
        fputs(", ", out);
        print_escaped(out, protocol);
    }
    fputs("\n", out);
}

static bool is_odd(const json_t *entry)
{
    const char *verdict = string(json_object_get(entry, "socket"), "verdict");

    return *verdict && strcmp(verdict, finding_name(FOUND_NOTHING)) != 0
        && strcmp(verdict, finding_name(FOUND_PARKED)) != 0;
}

static void print_entry(FILE *out, const json_t *said, const json_t *entry, const json_t *owner)
{
    const char *why = string(json_object_get(entry, "socket"), "why");

    print_state(out, entry);
    print_tasks(out, said, owner);
    print_what(out, entry, owner);
    if (is_odd(entry) && *why) {
        fputs("    ", out);
        print_escaped(out, why);
        fputs("\n", out);
    }
}

static void print_sockets(FILE *out, const json_t *said, bool odd)
{
    const json_t *entry, *server;
    size_t i, j;

    json_array_foreach(json_object_get(said, "connections"), i, entry) if (is_odd(entry) == odd)
        print_entry(out, said, entry, entry);
    json_array_foreach(json_object_get(said, "servers"), i, server)
        json_array_foreach(json_object_get(server, "sockets"), j, entry) if (is_odd(entry) == odd)
            print_entry(out, said, entry, server);
}

static void print_pipes(FILE *out, const json_t *said)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(said, "pipes"), i, entry)
    {
        fputs("pipe", out);
        print_tasks(out, said, entry);
        print_what(out, entry, entry);
    }
}

static void print_count(FILE *out, const json_t *said, const char *key, const char *before)
{
    size_t count = json_array_size(json_object_get(said, key));

    fprintf(out, "%s%zu %.*s", before, count, (int) strlen(key) - (count == 1), key);
}

static void print_loops(FILE *out, const json_t *said)
{
    const json_t *loop;
    size_t i;

    json_array_foreach(json_object_get(said, "loops"), i, loop)
    {
        fputs("loop ", out);
        print_escaped(out, string(loop, "kind"));
        fputs(json_is_true(json_object_get(loop, "running")) ? ", running" : ", not running", out);
        if (*string(loop, "thread")) {
            fputs(" in ", out);
            print_escaped(out, string(loop, "thread"));
        }
        fputs("\n", out);
    }
}

void report_print(FILE *out, const json_t *said)
{
    fprintf(out, "%s[%lld], Python %s: ", string(said, "command"),
            (long long) json_integer_value(json_object_get(said, "pid")), string(said, "python"));
    print_count(out, said, "loops", "");
    print_count(out, said, "connections", ", ");
    print_count(out, said, "servers", ", ");
    print_count(out, said, "pipes", ", ");
    print_count(out, said, "tasks", ", ");
    fputs(json_is_true(json_object_get(said, "cut")) ? ", and more\n" : "\n", out);
    print_loops(out, said);
    print_sockets(out, said, true);
    print_sockets(out, said, false);
    print_pipes(out, said);
}
