/* SPDX-License-Identifier: MIT */

#include "export/metrics.h"

#include "sockets/container.h"
#include "sockets/judge.h"
#include "sockets/sharing.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    LABEL = 160,
    PLACE = 512 /* labels of a container */
};

/* ---- commands ---- */

/* Longer than any command (15 bytes), so that none has such a label. */
static const char NOBODY[] = "(held by nobody)", OTHERS[] = "(other commands)";

struct command {
    const char *name;  /* or NOBODY, OTHERS */
    const char *place; /* labels of its container, "" for none */
    uint32_t sockets, ghosts;
    uint64_t receive, send; /* bytes */
    int64_t leaked_ms;      /* the oldest, -1: none */
};

/* Those with a label value of their own come first; behind them, at `count`, is one for all
 * others. */
struct commands {
    char (*place)[PLACE]; /* of each process; NULL: not asked for */
    struct command *at;
    size_t count;
};

/* Its name and place. */
static struct command command_of(const struct commands *commands, const struct snapshot *snapshot,
                                 const struct socket *s)
{
    const struct process *p;

    if (s->references == 0)
        return (struct command) { .name = NOBODY, .place = "" };
    p = socket_holder(snapshot, s, 0);
    return (struct command) {
        .name = p->command,
        .place = commands->place ? commands->place[p - snapshot->scan.processes.at] : "",
    };
}

static int by_name(const void *a, const void *b)
{
    const struct command *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : strcmp(x->place, y->place);
}

static int by_weight(const void *a, const void *b)
{
    const struct command *x = a, *y = b;

    if (x->ghosts != y->ghosts)
        return x->ghosts > y->ghosts ? -1 : 1;
    if (x->sockets != y->sockets)
        return x->sockets > y->sockets ? -1 : 1;
    return by_name(a, b);
}

static void metrics_add(struct command *to, const struct command *from)
{
    to->sockets += from->sockets;
    to->ghosts += from->ghosts;
    to->receive += from->receive;
    to->send += from->send;
    if (from->leaked_ms > to->leaked_ms)
        to->leaked_ms = from->leaked_ms;
}

/* Sorts, and adds up those of one name. */
static size_t fold(struct command *at, size_t count)
{
    size_t kept = 0;

    if (count)
        qsort(at, count, sizeof *at, by_name);
    for (size_t i = 0; i < count; i++) {
        if (kept && by_name(&at[kept - 1], &at[i]) == 0)
            metrics_add(&at[kept - 1], &at[i]);
        else
            at[kept++] = at[i];
    }
    return kept;
}

static struct command one_socket(const struct commands *commands, const struct snapshot *snapshot,
                                 const struct socket *s)
{
    bool queues = s->protocol != PROTOCOL_TCP || s->state != STATE_LISTEN;
    struct command one = command_of(commands, snapshot, s);
    uint32_t least, most;

    one.sockets = 1;
    one.ghosts = is_ghost(s->verdict);
    one.receive = queues ? s->receive_queue : 0;
    one.send = queues ? s->send_queue : 0;
    one.leaked_ms = end_age(s, &least, &most) && s->inode ? (int64_t) least : -1;
    return one;
}

static int find_commands(const struct snapshot *snapshot, size_t most, struct commands *commands)
{
    struct command other = { .name = OTHERS, .place = "", .leaked_ms = -1 };
    size_t count = 0, all;

    commands->at = malloc((snapshot->dump.sockets.count + 1) * sizeof *commands->at);
    if (!commands->at)
        return -ENOMEM;
    for (size_t i = 0; i < snapshot->dump.sockets.count; i++)
        if (!snapshot->dump.sockets.at[i].gone)
            commands->at[count++] = one_socket(commands, snapshot, &snapshot->dump.sockets.at[i]);
    all = fold(commands->at, count);
    if (all)
        qsort(commands->at, all, sizeof *commands->at, by_weight);
    commands->count = all < most ? all : most;
    for (size_t i = commands->count; i < all; i++)
        metrics_add(&other, &commands->at[i]);
    commands->at[commands->count] = other;
    if (commands->count)
        qsort(commands->at, commands->count, sizeof *commands->at, by_name);
    return 0;
}

/* Its index; commands->count for all others. */
static size_t index_of(const struct commands *commands, const struct command *key)
{
    const struct command *found =
        commands->count ? bsearch(key, commands->at, commands->count, sizeof *key, by_name) : NULL;

    return found ? (size_t) (found - commands->at) : commands->count;
}

/* As a label value: all but plain characters as \xNN, so that no two commands have the same. */
static void format_value(const char *text, char *buf, size_t size)
{
    size_t used = 0;

    for (; *text && used + 6 < size; text++) {
        unsigned char c = (unsigned char) *text;

        if (c >= ' ' && c < 0x7f && c != '"' && c != '\\')
            buf[used++] = *text;
        else
            used += (size_t) snprintf(buf + used, 6, "\\\\x%02x", c);
    }
    buf[used] = '\0';
}

/* The label, and those of the container. */
static void format_command(const struct commands *commands, size_t index, char buf[LABEL + PLACE])
{
    const struct command *c = &commands->at[index];
    char name[LABEL];

    format_value(c->name, name, sizeof name);
    snprintf(buf, LABEL + PLACE, "command=\"%s\"%s", name, c->place);
}

/* In a pod the name of the host is the pod's. */
static void format_place(int32_t pid, char place[PLACE])
{
    struct container container;
    char host[400];

    container_read(pid, &container);
    format_value(container.host, host, sizeof host);
    if (*container.id)
        snprintf(place, PLACE, ",container=\"%.*s\",%s=\"%s\"", CONTAINER_SHORT, container.id,
                 *container.pod ? "pod" : "host", host);
}

static int find_places(const struct snapshot *snapshot, struct commands *commands)
{
    size_t count = snapshot->scan.processes.count;

    commands->place = calloc(count + 1, sizeof *commands->place);
    for (size_t i = 0; commands->place && i < count; i++)
        format_place(snapshot->scan.processes.at[i].pid, commands->place[i]);
    return commands->place ? 0 : -ENOMEM;
}

/* ---- text ---- */

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_print_one(FILE *out, const char *name, const char *type, const char *help,
                       const char *labels, double value)
{
    head(out, name, type, help);
    fprintf(out, "%s%s%s%s %.15g\n", name, labels ? "{" : "", labels ? labels : "",
            labels ? "}" : "", value);
}

/* ---- sockets ---- */

struct table {
    const struct commands *commands;
    const struct ps_numbers *ports;
    uint32_t *count; /* by verdict, state, command, port */
};

static size_t place(const struct table *t, size_t verdict, size_t state, size_t command,
                    size_t port)
{
    return ((verdict * STATES + state) * (t->commands->count + 1) + command) * (t->ports->count + 1)
        + port;
}

/* The index of a port of its that was asked for; ports->count for none. */
static size_t port_of(const struct ps_numbers *ports, const struct socket *s)
{
    for (size_t i = 0; i < ports->count && s->protocol != PROTOCOL_UNIX; i++)
        if (ports->at[i] == s->local_port || ports->at[i] == s->remote_port)
            return i;
    return ports->count;
}

static void count_sockets(const struct snapshot *snapshot, struct table *t)
{
    for (size_t i = 0; i < snapshot->dump.sockets.count; i++) {
        const struct socket *s = &snapshot->dump.sockets.at[i];
        struct command key = command_of(t->commands, snapshot, s);
        size_t command = index_of(t->commands, &key);

        if (!s->gone)
            t->count[place(t, s->verdict, s->state, command, port_of(t->ports, s))]++;
    }
}

static void print_count(FILE *out, const struct table *t, size_t verdict, size_t state,
                        size_t command, size_t port)
{
    uint32_t count = t->count[place(t, verdict, state, command, port)];
    char name[LABEL + PLACE], number[32] = "";

    if (count == 0)
        return;
    format_command(t->commands, command, name);
    if (port < t->ports->count)
        snprintf(number, sizeof number, ",port=\"%u\"", t->ports->at[port]);
    fprintf(out, "finack_sockets{verdict=\"%s\",state=\"%s\",%s%s} %u\n",
            finding_name((int) verdict), socket_state_name((int) state), name, number, count);
}

static void print_counts(FILE *out, const struct table *t)
{
    head(out, "finack_sockets", "gauge",
         "Sockets, by why they are still there, state and the command that holds them.");
    for (size_t verdict = 0; verdict < FINDINGS; verdict++)
        for (size_t state = 0; state < STATES; state++)
            for (size_t command = 0; command <= t->commands->count; command++)
                for (size_t port = 0; port <= t->ports->count; port++)
                    print_count(out, t, verdict, state, command, port);
}

/* ---- by command ---- */

static double receive_bytes(const struct command *c)
{
    return (double) c->receive;
}

static double send_bytes(const struct command *c)
{
    return (double) c->send;
}

static double leaked_seconds(const struct command *c)
{
    return (double) c->leaked_ms / 1000;
}

static void print_by_command(FILE *out, const struct commands *commands, const char *name,
                             const char *help, double (*value)(const struct command *c))
{
    char label[LABEL + PLACE];

    head(out, name, "gauge", help);
    for (size_t i = 0; i <= commands->count; i++) {
        const struct command *c = &commands->at[i];

        if (c->sockets == 0 || value(c) < 0)
            continue;
        format_command(commands, i, label);
        fprintf(out, "%s{%s} %.15g\n", name, label, value(c));
    }
}

/* ---- what was not looked at ---- */

static void print_blind(FILE *out, const struct blind *b)
{
    static const char name[] = "finack_not_looked_at";

    head(out, name, "gauge", "What could not be looked at, so that something may be missing.");
    fprintf(out, "%s{what=\"processes\"} %u\n", name, b->processes);
    fprintf(out, "%s{what=\"hidden_processes\"} %d\n", name, b->hidden);
    fprintf(out, "%s{what=\"protocols\"} %d\n", name, __builtin_popcount(b->refused));
    fprintf(out, "%s{what=\"namespaces\"} %u\n", name, b->namespaces);
    fprintf(out, "%s{what=\"namespaces_of_processes\"} %u\n", name, b->homes);
    fprintf(out, "%s{what=\"sockets_elsewhere\"} %u\n", name, b->elsewhere);
    fprintf(out, "%s{what=\"unidentified\"} %u\n", name, b->unidentified);
}

int metrics_print(FILE *out, const struct snapshot *snapshot, const struct export_options *o)
{
    struct commands commands = { .at = NULL };
    struct table table = { &commands, &o->ports, NULL };
    int result = o->containers ? find_places(snapshot, &commands) : 0;

    if (result == 0)
        result = find_commands(snapshot, o->commands, &commands);

    if (result == 0) {
        table.count = calloc(place(&table, FINDINGS, 0, 0, 0), sizeof *table.count);
        result = table.count ? 0 : -ENOMEM;
    }
    if (result == 0) {
        count_sockets(snapshot, &table);
        print_counts(out, &table);
        print_by_command(out, &commands, "finack_leaked_oldest_seconds",
                         "Least time since the peer of the oldest leaked TCP socket ended.",
                         leaked_seconds);
        print_by_command(out, &commands, "finack_receive_queue_bytes",
                         "What programs have not read.", receive_bytes);
        print_by_command(out, &commands, "finack_send_queue_bytes",
                         "What peers have not acknowledged.", send_bytes);
        print_blind(out, &snapshot->blind);
    }
    free(table.count);
    free(commands.at);
    free(commands.place);
    return result;
}
