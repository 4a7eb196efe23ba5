/* SPDX-License-Identifier: MIT */

#include "sockets/snapshot.h"

#include <stdlib.h>

void snapshot_free(struct snapshot *snapshot)
{
    dump_free(&snapshot->dump);
    holders_free(&snapshot->scan);
    free(snapshot->held.at);
    free(snapshot->rates);
    *snapshot = (struct snapshot) { .at_ns = 0 };
}

static int by_socket(const void *key, const void *element)
{
    uint64_t inode = ((const struct socket *) key)->inode;
    const struct stale_entry *entry = element;

    return inode < entry->inode ? -1 : inode > entry->inode;
}

/* They are sorted by inode. */
const struct stale_entry *snapshot_stales(const struct snapshot *snapshot, const struct socket *s,
                                          size_t *count)
{
    const struct stale_entry *at = snapshot->scan.stales.at,
                             *end = at + snapshot->scan.stales.count;
    const struct stale_entry *first, *last;

    *count = 0;
    if (!(s->findings & (1u << FOUND_STALE)))
        return NULL;
    first = bsearch(s, at, snapshot->scan.stales.count, sizeof *at, by_socket);
    if (!first)
        return NULL;
    while (first > at && first[-1].inode == s->inode)
        first--;
    for (last = first; last < end && last->inode == s->inode; last++)
        ;
    *count = (size_t) (last - first);
    return first;
}

const struct socket_rate *snapshot_rate(const struct snapshot *snapshot, const struct socket *s)
{
    const struct socket_rate *rate =
        snapshot->rates ? &snapshot->rates[s - snapshot->dump.sockets.at] : NULL;

    return rate && rate->known ? rate : NULL;
}

const char *snapshot_name(const struct snapshot *snapshot, const struct socket *s)
{
    return s->protocol == PROTOCOL_UNIX && s->name ? snapshot->dump.names.at + s->name : "";
}
