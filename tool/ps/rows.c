/* SPDX-License-Identifier: MIT */

#include "ps/rows.h"

#include "ps/remote.h"
#include "sockets/judge.h"
#include "sockets/sharing.h"

#include <fnmatch.h>
#include <stdlib.h>

/* ---- which ---- */

static bool has_number(const struct ps_numbers *numbers, uint32_t number)
{
    for (size_t i = 0; i < numbers->count; i++)
        if (numbers->at[i] == number)
            return true;
    return false;
}

static bool is_process_of(const struct snapshot *snapshot, const struct ps_numbers *pids,
                          uint32_t process)
{
    return has_number(pids, (uint32_t) snapshot->scan.processes.at[process].pid);
}

/* Its own descriptors, and what its epoll sets still have. */
static bool has_pid(const struct snapshot *snapshot, const struct socket *s,
                    const struct ps_numbers *pids)
{
    const struct stale_entry *entry;
    size_t count;

    for (size_t i = 0; i < s->references; i++)
        if (is_process_of(snapshot, pids, socket_reference(snapshot, s, i)->process))
            return true;
    for (entry = snapshot_stales(snapshot, s, &count); count > 0; count--, entry++)
        if (is_process_of(snapshot, pids, snapshot->scan.sets.at[entry->set].process))
            return true;
    return false;
}

static bool has_port(const struct socket *s, const struct ps_numbers *ports)
{
    return s->protocol != PROTOCOL_UNIX
        && (has_number(ports, s->local_port) || has_number(ports, s->remote_port));
}

static bool has_command(const struct snapshot *snapshot, const struct socket *s,
                        const struct ps_words *commands)
{
    for (size_t i = 0; i < s->references; i++)
        for (size_t k = 0; k < commands->count; k++)
            if (fnmatch(commands->at[k], socket_holder(snapshot, s, i)->command, 0) == 0)
                return true;
    return false;
}

static bool has_remote(const struct socket *s, const struct ps_remotes *remotes)
{
    for (size_t i = 0; i < remotes->count; i++)
        if (remote_fits(&remotes->at[i], s))
            return true;
    return false;
}

static bool is_picked(const struct snapshot *snapshot, const struct socket *s,
                      const struct ps_options *o)
{
    uint32_t age;

    return (o->commands.count == 0 || has_command(snapshot, s, &o->commands))
        && (o->remotes.count == 0 || has_remote(s, &o->remotes))
        && (o->users.count == 0 || has_number(&o->users, s->uid))
        && (o->older_ms == 0 || (finding_age(s, &age) && age >= (uint32_t) o->older_ms));
}

static bool is_wanted(const struct snapshot *snapshot, const struct socket *s,
                      const struct ps_options *o)
{
    return !s->gone && !(o->ghosts && !is_ghost(s->verdict)) && o->protocols & (1u << s->protocol)
        && o->states & (1u << s->state) && (o->ports.count == 0 || has_port(s, &o->ports))
        && (o->pids.count == 0 || has_pid(snapshot, s, &o->pids)) && is_picked(snapshot, s, o);
}

/* ---- in which order ---- */

/* What can't end by itself, and what a program has to be mended for, comes first. */
static int64_t badness(const struct socket *s)
{
    static const int64_t order[FINDINGS] = {
        [FOUND_LEAKED] = 0,      [FOUND_UNSERVED] = 1, [FOUND_DEAD] = 2,    [FOUND_STALE] = 3,
        [FOUND_INVISIBLE] = 4,   [FOUND_HELD] = 5,     [FOUND_STALLED] = 6, [FOUND_ORPHAN] = 7,
        [FOUND_HALF_CLOSED] = 8, [FOUND_NOTHING] = 10, [FOUND_PARKED] = 9,
    };
    uint32_t least, most;
    int64_t older = s->verdict == FOUND_LEAKED && end_age(s, &least, &most) ? least : 0;

    return (order[s->verdict] << 40) - older;
}

/* What is sorted by, so that the least comes first. */
static int64_t key_of(const struct snapshot *snapshot, const struct socket *s, enum ps_sort sort)
{
    const struct socket_rate *rate = snapshot_rate(snapshot, s);
    uint32_t least, most;

    switch (sort) {
    case SORT_PROTO:
        return s->protocol;
    case SORT_STATE:
        return s->state;
    case SORT_PORT:
        return s->local_port;
    case SORT_PID:
        return s->references ? socket_holder(snapshot, s, 0)->pid : INT64_MAX;
    case SORT_RECEIVE:
        return -(int64_t) s->receive_queue;
    case SORT_SEND:
        return -(int64_t) s->send_queue;
    case SORT_AGE:
        return end_age(s, &least, &most) ? -(int64_t) least : 1;
    case SORT_RATE:
        return rate ? -(int64_t) (rate->received + rate->acked) : 0;
    default:
        return badness(s);
    }
}

/* Made once for each row, since a key is compared many times. */
struct sorted {
    int64_t key;
    uint32_t then; /* verdict, protocol, state, port */
    uint32_t socket;
};

static int rows_compare(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->then != y->then)
        return x->then < y->then ? -1 : 1;
    return x->socket < y->socket ? -1 : x->socket > y->socket;
}

typedef LIST(struct sorted) sorted_list;

static int pick(const struct snapshot *snapshot, const struct ps_options *o, sorted_list *list)
{
    for (size_t i = 0; i < snapshot->dump.sockets.count; i++) {
        const struct socket *s = &snapshot->dump.sockets.at[i];
        struct sorted one = { .socket = (uint32_t) i };

        if (!is_wanted(snapshot, s, o))
            continue;
        one.key = key_of(snapshot, s, o->sort);
        one.then = (uint32_t) s->verdict << 28 | (uint32_t) s->protocol << 24
            | (uint32_t) s->state << 16 | s->local_port;
        if (list_add(list, one) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int take(const struct snapshot *snapshot, const sorted_list *list, struct ps_rows *rows)
{
    if (list_need(&rows->rows, list->count + 1) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < list->count; i++) {
        const struct socket *s = &snapshot->dump.sockets.at[list->at[i].socket];

        rows->rows.at[rows->rows.count++] = s;
        rows->count[s->verdict]++;
        rows->ghosts += is_ghost(s->verdict);
    }
    return 0;
}

int ps_rows_pick(const struct snapshot *snapshot, const struct ps_options *o, struct ps_rows *rows)
{
    sorted_list list = { .at = NULL };
    int result = pick(snapshot, o, &list);

    *rows = (struct ps_rows) { .rows.at = NULL };
    if (result == 0) {
        list_sort(&list, rows_compare);
        result = take(snapshot, &list, rows);
    }
    free(list.at);
    return result;
}

void ps_rows_free(struct ps_rows *rows)
{
    free(rows->rows.at);
    *rows = (struct ps_rows) { .rows.at = NULL };
}
