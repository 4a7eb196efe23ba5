/* SPDX-License-Identifier: MIT */

#include "ps_rows.h"

#include "judge.h"

#include <stdlib.h>

/* ---- which ---- */

static bool has_number(const struct ps_numbers *numbers, uint32_t number)
{
    for (size_t i = 0; i < numbers->count; i++)
        if (numbers->at[i] == number)
            return true;
    return false;
}

static bool is_process_of(const struct look *look, const struct ps_numbers *pids, uint32_t process)
{
    return has_number(pids, (uint32_t) look->scan.processes.at[process].pid);
}

/* Its own descriptors, and what its epoll sets still have. */
static bool has_pid(const struct look *look, const struct socket *s, const struct ps_numbers *pids)
{
    for (size_t i = 0; i < s->references; i++)
        if (is_process_of(look, pids, look->held.at[s->first_reference + i].process))
            return true;
    for (size_t i = 0; i < s->stales; i++)
        if (is_process_of(look, pids,
                          look->scan.sets.at[look->scan.stales.at[s->first_stale + i].set].process))
            return true;
    return false;
}

static bool has_port(const struct socket *s, const struct ps_numbers *ports)
{
    return s->protocol != PROTOCOL_UNIX
        && (has_number(ports, s->local_port) || has_number(ports, s->remote_port));
}

static bool is_wanted(const struct look *look, const struct socket *s, const struct ps_options *o)
{
    return !s->gone && !(o->ghosts && s->verdict == FOUND_NOTHING)
        && o->protocols & (1u << s->protocol) && o->states & (1u << s->state)
        && (o->ports.count == 0 || has_port(s, &o->ports))
        && (o->pids.count == 0 || has_pid(look, s, &o->pids));
}

/* ---- in which order ---- */

/* What is sorted by, so that the least comes first. */
static int64_t key_of(const struct look *look, const struct socket *s, enum ps_sort sort)
{
    uint32_t least, most;

    switch (sort) {
    case SORT_PROTO:
        return s->protocol;
    case SORT_STATE:
        return s->state;
    case SORT_PORT:
        return s->local_port;
    case SORT_PID:
        return s->references
            ? look->scan.processes.at[look->held.at[s->first_reference].process].pid
            : INT64_MAX;
    case SORT_RECEIVE:
        return -(int64_t) s->receive_queue;
    case SORT_SEND:
        return -(int64_t) s->send_queue;
    case SORT_AGE:
        return end_age(s, &least, &most) ? -(int64_t) least : 1;
    case SORT_RATE:
        return -(int64_t) (s->received_rate + s->acked_rate);
    default:
        return s->verdict;
    }
}

/* Made once for each row, since a key is compared many times. */
struct sorted {
    int64_t key;
    uint64_t then; /* verdict, protocol, state, port */
    const struct socket *socket;
};

static int compare(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->then != y->then)
        return x->then < y->then ? -1 : 1;
    return x->socket < y->socket ? -1 : x->socket > y->socket;
}

static int sort(const struct look *look, struct ps_rows *rows, enum ps_sort by)
{
    size_t count = rows->rows.count;
    struct sorted *sorted = malloc((count + 1) * sizeof *sorted);

    if (!sorted)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        const struct socket *s = rows->rows.at[i];

        sorted[i] = (struct sorted) {
            .key = key_of(look, s, by),
            .then = (uint64_t) s->verdict << 48 | (uint64_t) s->protocol << 32
                | (uint64_t) s->state << 16 | s->local_port,
            .socket = s,
        };
    }
    qsort(sorted, count, sizeof *sorted, compare);
    for (size_t i = 0; i < count; i++)
        rows->rows.at[i] = sorted[i].socket;
    free(sorted);
    return 0;
}

int ps_rows_pick(const struct look *look, const struct ps_options *o, struct ps_rows *rows)
{
    *rows = (struct ps_rows) { .rows.at = NULL };
    for (size_t i = 0; i < look->dump.sockets.count; i++) {
        const struct socket *s = &look->dump.sockets.at[i];

        if (!is_wanted(look, s, o))
            continue;
        if (list_need(&rows->rows, 1) < 0)
            return -ENOMEM;
        rows->rows.at[rows->rows.count++] = s;
        rows->count[s->verdict]++;
    }
    return sort(look, rows, o->sort);
}

void ps_rows_free(struct ps_rows *rows)
{
    free(rows->rows.at);
    *rows = (struct ps_rows) { .rows.at = NULL };
}
