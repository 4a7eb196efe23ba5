/* SPDX-License-Identifier: MIT */

#include "ps/groups.h"

#include "common/say.h"
#include "common/units.h"
#include "ps/text.h"
#include "sockets/container.h"
#include "sockets/judge.h"
#include "sockets/sharing.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY = 512,
    WORD = 32
};

/* A row under one of its names: of a socket that several processes have there are several. */
struct named {
    size_t name; /* where it is in the text */
    const struct socket *socket;
};

struct group {
    const char *name;
    size_t count, counts[FINDINGS];
    uint64_t unread;
    bool aged;
    uint32_t oldest; /* ms */
    size_t remote;   /* where the most frequent one is in the text, if there is one */
    size_t votes, same;
};

struct groups {
    const struct snapshot *snapshot;
    enum ps_group by;
    bool served[65536]; /* ports that somebody listens on */
    LIST(char) text;
    LIST(struct named) named;
    LIST(struct group) groups;
};

/* ---- names ---- */

static int add_text(struct groups *g, const char *text, size_t *at)
{
    size_t length = strlen(text) + 1;

    if (list_need(&g->text, length) < 0)
        return -ENOMEM;
    *at = g->text.count;
    memcpy(g->text.at + g->text.count, text, length);
    g->text.count += length;
    return 0;
}

/* Many that come one after the other have the same name, mostly. */
static bool is_last_name(const struct groups *g, const char *name)
{
    return g->named.count && strcmp(g->text.at + g->named.at[g->named.count - 1].name, name) == 0;
}

static int add_named(struct groups *g, const struct socket *s, const char *name)
{
    struct named named = { 0, s };

    if (is_last_name(g, name))
        named.name = g->named.at[g->named.count - 1].name;
    else if (add_text(g, name, &named.name) < 0)
        return -ENOMEM;
    return list_add(&g->named, named);
}

static void name_process(const struct groups *g, const struct process *p, char name[KEY])
{
    struct container container;
    char command[64];

    escape(p->command, command, sizeof command);
    if (g->by == GROUP_COMMAND) {
        snprintf(name, KEY, "%s", command);
    } else if (g->by == GROUP_PROCESS) {
        snprintf(name, KEY, "%s[%d]", command, p->pid);
    } else {
        container_read(p->pid, &container);
        if (!*container.id)
            snprintf(name, KEY, "(no container)");
        else
            snprintf(name, KEY, "%.*s%s", CONTAINER_SHORT, container.id,
                     *container.host ? " " : "");
        escape(container.host, name + strlen(name), KEY - strlen(name));
    }
}

/* The port of a client means nothing. */
static void name_remote(const struct groups *g, const struct socket *s, char name[KEY])
{
    struct socket client = *s;

    if (s->protocol == PROTOCOL_UNIX) {
        snprintf(name, KEY, "(unix)");
        return;
    }
    if (g->served[s->local_port])
        client.remote_port = 0;
    format_remote(&client, name, KEY);
    if (g->served[s->local_port] && strlen(name) > 2 && strcmp(name + strlen(name) - 2, ":*") == 0)
        name[strlen(name) - 2] = '\0';
}

static bool is_first_of(const struct groups *g, const struct socket *s, size_t i)
{
    return i == 0
        || socket_holder(g->snapshot, s, i)->pid != socket_holder(g->snapshot, s, i - 1)->pid;
}

static int name_row(struct groups *g, const struct socket *s)
{
    char name[KEY];
    int result = 0;

    if (g->by == GROUP_REMOTE) {
        name_remote(g, s, name);
        return add_named(g, s, name);
    }
    if (s->references == 0)
        return add_named(g, s, "(no process)");
    for (size_t i = 0; i < s->references && result == 0; i++) {
        if (!is_first_of(g, s, i))
            continue;
        name_process(g, socket_holder(g->snapshot, s, i), name);
        result = add_named(g, s, name);
    }
    return result;
}

static void find_served(struct groups *g)
{
    for (size_t i = 0; i < g->snapshot->dump.sockets.count; i++) {
        const struct socket *s = &g->snapshot->dump.sockets.at[i];

        if (s->state == STATE_LISTEN && s->protocol == PROTOCOL_TCP)
            g->served[s->local_port] = true;
    }
}

/* ---- sums ---- */

/* The remote that most of a group have, if more than half have it: whoever is left after all others
 * have been crossed out in pairs. */
static int vote(struct groups *g, struct group *group, const struct socket *s)
{
    char name[KEY];

    name_remote(g, s, name);
    if (group->votes && strcmp(g->text.at + group->remote, name) == 0) {
        group->votes++;
        return 0;
    }
    if (group->votes) {
        group->votes--;
        return 0;
    }
    group->votes = 1;
    return add_text(g, name, &group->remote);
}

static int count_in(struct groups *g, struct group *group, const struct socket *s)
{
    uint32_t age;

    group->count++;
    group->counts[s->verdict]++;
    group->unread += s->receive_queue;
    if (s->state == STATE_CLOSE_WAIT && s->receive_queue)
        group->unread--; /* the FIN */
    if (finding_age(s, &age) && (!group->aged || age > group->oldest)) {
        group->aged = true;
        group->oldest = age;
    }
    return vote(g, group, s);
}

static int by_name(const void *a, const void *b, void *arg)
{
    const struct named *x = a, *y = b;
    const char *text = arg;

    return strcmp(text + x->name, text + y->name);
}

/* Is there something in it that does not end by itself? The kernel ends orphans. */
static bool needs_somebody(const struct group *group)
{
    for (int f = 0; f < FOUND_NOTHING; f++)
        if (f != FOUND_ORPHAN && group->counts[f])
            return true;
    return false;
}

/* What does not end by itself comes first, then the most. */
static int by_size(const void *a, const void *b)
{
    const struct group *x = a, *y = b;

    if (needs_somebody(x) != needs_somebody(y))
        return needs_somebody(x) ? -1 : 1;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int sum_up(struct groups *g)
{
    size_t last = 0;
    int result = 0;

    if (g->named.count)
        qsort_r(g->named.at, g->named.count, sizeof *g->named.at, by_name, g->text.at);
    for (size_t i = 0; i < g->named.count && result == 0; i++) {
        if (i == 0
            || strcmp(g->text.at + g->named.at[i].name, g->text.at + g->named.at[last].name) != 0) {
            last = i;
            if (list_add(&g->groups, (struct group) { .name = NULL }) < 0)
                return -ENOMEM;
        }
        result = count_in(g, &g->groups.at[g->groups.count - 1], g->named.at[i].socket);
    }
    return result;
}

static size_t count_same(const struct groups *g, const struct group *group, size_t first)
{
    char name[KEY];
    size_t same = 0;

    for (size_t i = first; group->votes && i < first + group->count; i++) {
        name_remote(g, g->named.at[i].socket, name);
        same += strcmp(g->text.at + group->remote, name) == 0;
    }
    return same;
}

/* The text moves while it grows: names are looked up at the end. */
static void name_groups(struct groups *g)
{
    struct group *group = g->groups.at;

    for (size_t i = 0; i < g->named.count; i += group++->count) {
        group->name = g->text.at + g->named.at[i].name;
        group->same = count_same(g, group, i);
    }
    list_sort(&g->groups, by_size);
}

static int groups_make(struct groups *g, const struct snapshot *snapshot,
                       const struct ps_rows *rows, enum ps_group by)
{
    int result = 0;

    *g = (struct groups) { .snapshot = snapshot, .by = by };
    find_served(g);
    for (size_t i = 0; i < rows->rows.count && result == 0; i++)
        result = name_row(g, rows->rows.at[i]);
    if (result == 0)
        result = sum_up(g);
    if (result == 0)
        name_groups(g);
    return result;
}

static void unmake(struct groups *g)
{
    free(g->text.at);
    free(g->named.at);
    free(g->groups.at);
    free(g);
}

/* ---- what is printed ---- */

static const char *remote_of(const struct groups *g, const struct group *group)
{
    if (group->votes == 0 || 2 * group->same <= group->count)
        return "several";
    return g->text.at + group->remote;
}

static void print_counts(FILE *out, const struct group *group)
{
    const char *gap = "";

    for (int f = 0; f < FINDINGS; f++)
        if (group->counts[f]) {
            fprintf(out, "%s%zu %s", gap, group->counts[f], finding_name(f));
            gap = ", ";
        }
}

static void print_group(FILE *out, const struct groups *g, const struct group *group)
{
    char age[WORD], size[WORD];

    print_counts(out, group);
    fprintf(out, ": %s", group->name);
    if (g->by != GROUP_REMOTE)
        fprintf(out, ", to %s", remote_of(g, group));
    if (group->aged) {
        format_time((int64_t) group->oldest * 1000000, age, sizeof age);
        fprintf(out, ", oldest %s", age);
    }
    if (group->unread) {
        format_size(group->unread, size, sizeof size);
        fprintf(out, ", %s bytes not read", size);
    }
    fputc('\n', out);
}

int ps_groups_print(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                    enum ps_group by)
{
    struct groups *g = malloc(sizeof *g);
    int result = g ? groups_make(g, snapshot, rows, by) : -ENOMEM;

    for (size_t i = 0; result == 0 && i < g->groups.count; i++)
        print_group(out, g, &g->groups.at[i]);
    if (g)
        unmake(g);
    return result;
}

static json_t *object_of(const struct groups *g, const struct group *group)
{
    json_t *verdicts = json_object();

    for (int f = 0; f < FINDINGS; f++)
        if (group->counts[f])
            json_object_set_new(verdicts, finding_name(f),
                                json_integer((json_int_t) group->counts[f]));
    return json_pack("{s:s, s:I, s:o, s:s, s:o, s:I}", "name", group->name, "sockets",
                     (json_int_t) group->count, "verdicts", verdicts, "remote", remote_of(g, group),
                     "oldest_ms", group->aged ? json_integer(group->oldest) : json_null(), "unread",
                     (json_int_t) group->unread);
}

int ps_groups_json(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                   enum ps_group by)
{
    struct groups *g = malloc(sizeof *g);
    int result = g ? groups_make(g, snapshot, rows, by) : -ENOMEM;

    fputc('[', out);
    for (size_t i = 0; result == 0 && i < g->groups.count; i++) {
        json_t *object = object_of(g, &g->groups.at[i]);

        fputs(i ? ",\n" : "\n", out);
        result = object ? json_dumpf(object, out, JSON_COMPACT) : -ENOMEM;
        json_decref(object);
    }
    fputs("]", out);
    if (g)
        unmake(g);
    return result < 0 ? -ENOMEM : 0;
}
