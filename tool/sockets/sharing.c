/* SPDX-License-Identifier: MIT */

#include "sockets/sharing.h"

#include <string.h>

enum {
    ANCESTORS = 4 /* how far up: a shell or two may be between */
};

const struct reference *socket_reference(const struct snapshot *snapshot, const struct socket *s,
                                         size_t i)
{
    return &snapshot->held.at[s->first_reference + i];
}

struct process *socket_holder(const struct snapshot *snapshot, const struct socket *s, size_t i)
{
    return &snapshot->scan.processes.at[socket_reference(snapshot, s, i)->process];
}

bool is_connection(const struct socket *s)
{
    return s->protocol == PROTOCOL_TCP && s->state != STATE_LISTEN && s->remote_port;
}

/* The first reference of a process, whose references lie side by side, sorted; or NULL. */
static const struct reference *find_reference(const struct snapshot *snapshot,
                                              const struct socket *s, int32_t pid)
{
    size_t low = 0;

    for (size_t high = s->references; low < high;) {
        size_t middle = low + (high - low) / 2;

        if (socket_holder(snapshot, s, middle)->pid < pid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->references && socket_holder(snapshot, s, low)->pid == pid
        ? socket_reference(snapshot, s, low)
        : NULL;
}

bool shares_process(const struct snapshot *snapshot, const struct socket *a, const struct socket *b)
{
    const struct socket *few = a->references < b->references ? a : b, *many = few == a ? b : a;

    for (size_t i = 0; i < few->references; i++)
        if (find_reference(snapshot, many, socket_holder(snapshot, few, i)->pid))
            return true;
    return false;
}

/* ---- several holders ---- */

/* Standard input, output and error are there to be inherited: all holders but one have it as
 * such. */
static bool is_standard_stream(const struct snapshot *snapshot, const struct socket *s)
{
    const struct process *other = NULL;

    for (size_t i = 0; i < s->references; i++) {
        const struct process *p = socket_holder(snapshot, s, i);

        if (socket_reference(snapshot, s, i)->fd <= 2)
            continue;
        if (other && other->pid != p->pid)
            return false;
        other = p;
    }
    return true;
}

static bool has_same_name(struct process *a, struct process *b)
{
    return strcmp(a->command, b->command) == 0;
}

/* The first process (pid 1) opens sockets for others. */
static bool is_one_program(const struct snapshot *snapshot, const struct socket *s,
                           bool (*is_same)(struct process *a, struct process *b))
{
    struct process *first = NULL;

    for (size_t i = 0; i < s->references; i++) {
        struct process *p = socket_holder(snapshot, s, i);

        if (p->pid == 1)
            continue;
        if (first && !is_same(first, p))
            return false;
        first = first ? first : p;
    }
    return true;
}

static bool has_several(const struct snapshot *snapshot, const struct socket *s)
{
    for (size_t i = 1; i < s->references; i++)
        if (socket_holder(snapshot, s, i)->pid != socket_holder(snapshot, s, 0)->pid)
            return true;
    return false;
}

bool is_held(const struct snapshot *snapshot, const struct socket *s)
{
    return has_several(snapshot, s) && !is_standard_stream(snapshot, s)
        && !is_one_program(snapshot, s, is_connection(s) ? is_same_image : has_same_name);
}

bool is_shared(const struct snapshot *snapshot, const struct socket *s)
{
    return is_connection(s) && has_several(snapshot, s) && !is_standard_stream(snapshot, s);
}

/* ---- left to a child ---- */

static struct process *find_process(const struct snapshot *snapshot, const struct socket *s,
                                    int32_t pid)
{
    const struct reference *found = find_reference(snapshot, s, pid);

    return found ? &snapshot->scan.processes.at[found->process] : NULL;
}

static int32_t parent_of(int32_t pid)
{
    struct process process = { .pid = pid };

    process_look(&process);
    return process.parent;
}

uint32_t find_closer(const struct snapshot *snapshot, const struct socket *s,
                     const struct socket *other)
{
    struct process *child = socket_holder(snapshot, s, 0), *found = NULL;
    int32_t pid = child->pid;

    for (int i = 0; i < ANCESTORS && pid > 1 && !found; i++) {
        pid = parent_of(pid);
        found = pid > 1 ? find_process(snapshot, other, pid) : NULL;
    }
    if (!found || is_same_image(child, found))
        return 0;
    return (uint32_t) (found - snapshot->scan.processes.at) + 1;
}
