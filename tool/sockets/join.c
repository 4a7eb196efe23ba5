/* SPDX-License-Identifier: MIT */

#include "sockets/join.h"

#include "common/deadline.h"
#include "common/jobs.h"
#include "common/say.h"
#include "sockets/judge.h"
#include "sockets/scan.h"
#include "sockets/unlisted.h"

#include <assert.h>
#include <errno.h>
#include <finack.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the dumps ---- */

static uint64_t read_cookie(void)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return 0;
    if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) < 0)
        cookie = 0;
    close(fd);
    return cookie;
}

static int dump_space(struct snapshot *snapshot, const struct netns_list *spaces,
                      struct netns *space)
{
    int result = netns_enter(space);

    if (result < 0) {
        snapshot->blind.namespaces++;
        return spaces->spaces.count == 1 ? complain("--netns: %s", strerror(-result)) : 0;
    }
    if (space->cookie == 0)
        space->cookie = read_cookie();
    snapshot->dump.netns = (uint32_t) space->inode;
    result = dump_sockets(&snapshot->dump);
    if (netns_leave(spaces, space) < 0)
        return complain("--netns: cannot go back to our own namespace");
    return result < 0 ? complain("cannot list sockets: %s", strerror(-result)) : 0;
}

/* ---- the join ---- */

#define FREE 0u
#define STRANGER (1u << 31) /* an inode that is no concern of ours: its index in a list of such */

/* A hash of inodes, which are where the slots point. */
struct index {
    uint32_t *slot; /* FREE, 1 + the index of a socket, or STRANGER */
    size_t mask, used;
    const struct snapshot *snapshot;
    LIST(uint32_t) strangers;
};

static uint32_t inode_in(const struct index *index, uint32_t slot)
{
    if (!(slot & STRANGER))
        return index->snapshot->dump.sockets.at[slot - 1].inode;
    assert(index->strangers.at);
    return index->strangers.at[slot & ~STRANGER];
}

/* The slot of that inode, or the free one where it belongs. */
static uint32_t *join_find(const struct index *index, uint64_t inode)
{
    size_t at = (size_t) (inode * 0x9e3779b97f4a7c15ull >> 32) & index->mask;

    while (index->slot[at] != FREE && inode_in(index, index->slot[at]) != inode)
        at = (at + 1) & index->mask;
    return &index->slot[at];
}

static int index_grow(struct index *index)
{
    struct index larger = *index;

    larger.mask = 2 * index->mask + 1;
    larger.slot = calloc(larger.mask + 1, sizeof *larger.slot);
    if (!larger.slot)
        return -ENOMEM;
    for (size_t i = 0; i <= index->mask; i++)
        if (index->slot[i] != FREE)
            *join_find(&larger, inode_in(index, index->slot[i])) = index->slot[i];
    free(index->slot);
    *index = larger;
    return 0;
}

/* Of several sockets with one inode (MPTCP) the first counts. */
static int index_put(struct index *index, uint32_t inode, uint32_t what)
{
    uint32_t *slot;

    if (2 * (index->used + 1) > index->mask && index_grow(index) < 0)
        return -ENOMEM;
    slot = join_find(index, inode);
    if (*slot == FREE) {
        *slot = what;
        index->used++;
    }
    return 0;
}

static int index_make(struct index *index, const struct snapshot *snapshot)
{
    const struct dump *dump = &snapshot->dump;
    size_t size = 64;
    int result = 0;

    while (size < 2 * dump->sockets.count)
        size *= 2;
    *index = (struct index) { .mask = size - 1, .snapshot = snapshot };
    index->slot = calloc(size, sizeof *index->slot);
    if (!index->slot)
        return -ENOMEM;
    for (size_t i = 0; i < dump->sockets.count && result == 0; i++)
        if (dump->sockets.at[i].inode)
            result = index_put(index, dump->sockets.at[i].inode, (uint32_t) i + 1);
    return result;
}

static int index_put_stranger(struct index *index, uint32_t inode)
{
    if (list_add(&index->strangers, inode) < 0)
        return -ENOMEM;
    return index_put(index, inode, STRANGER | (uint32_t) (index->strangers.count - 1));
}

static void note_finding(struct socket *s, enum finding finding)
{
    s->findings |= 1u << finding;
}

/* A socket that the dumps do not have. Adds it if they could not have it; 1 then. */
static int add_unlisted(struct snapshot *snapshot, const struct reference *reference,
                        const struct netns_list *spaces)
{
    struct process *process = &snapshot->scan.processes.at[reference->process];
    struct socket s;
    enum unlisted what = unlisted_identify(reference, process, spaces, &s);

    snapshot->blind.elsewhere += what == UNLISTED_ELSEWHERE;
    snapshot->blind.unidentified += what == UNLISTED_UNKNOWN;
    if (what == UNLISTED_OTHER || what == UNLISTED_ELSEWHERE)
        return 0;
    if (what == UNLISTED_DEAD)
        note_finding(&s, FOUND_DEAD);
    if (what == UNLISTED_UNKNOWN)
        s.state = STATE_UNKNOWN;
    s.queues_unknown = what == UNLISTED_UNKNOWN;
    return list_add(&snapshot->dump.sockets, s) < 0 ? -ENOMEM : 1;
}

static int add_all_unlisted(struct snapshot *snapshot, struct index *index,
                            const struct netns_list *spaces)
{
    for (size_t i = 0; i < snapshot->scan.references.count; i++) {
        const struct reference *r = &snapshot->scan.references.at[i];
        int result;

        if (*join_find(index, r->inode) != FREE)
            continue;
        result = add_unlisted(snapshot, r, spaces);
        if (result == 0)
            result = index_put_stranger(index, r->inode);
        else if (result > 0)
            result = index_put(index, r->inode, (uint32_t) snapshot->dump.sockets.count);
        if (result < 0)
            return result;
    }
    return 0;
}

/* NULL for what is no concern of ours. */
static struct socket *socket_of(const struct snapshot *snapshot, const struct index *index,
                                uint64_t inode)
{
    uint32_t slot = *join_find(index, inode);

    return slot == FREE || slot & STRANGER ? NULL : &snapshot->dump.sockets.at[slot - 1];
}

static int by_holder(const void *a, const void *b, void *arg)
{
    const struct reference *x = a, *y = b;
    const struct process *processes = arg;
    int32_t left = processes[x->process].pid, right = processes[y->process].pid;

    if (left != right)
        return left < right ? -1 : 1;
    return x->fd < y->fd ? -1 : x->fd > y->fd;
}

static void sort_holders(struct snapshot *snapshot)
{
    const struct socket *s = snapshot->dump.sockets.at;

    for (size_t i = 0; s && i < snapshot->dump.sockets.count; i++, s++)
        if (s->references > 1)
            qsort_r(&snapshot->held.at[s->first_reference], s->references,
                    sizeof *snapshot->held.at, by_holder, snapshot->scan.processes.at);
}

/* Lays the references out socket by socket. Those of the scan are given up: there may be very
 * many. */
static int lay_out(struct snapshot *snapshot, const struct index *index)
{
    struct scan *scan = &snapshot->scan;
    struct socket *sockets = snapshot->dump.sockets.at, *s;
    uint32_t first = 0;

    if (list_need(&snapshot->held, scan->references.count + 1) < 0)
        return -ENOMEM;
    for (size_t i = 0; sockets && i < snapshot->dump.sockets.count; i++)
        sockets[i].references = 0;
    for (size_t i = 0; i < scan->references.count; i++)
        if ((s = socket_of(snapshot, index, scan->references.at[i].inode)))
            s->references++;
    for (size_t i = 0; sockets && i < snapshot->dump.sockets.count; i++) {
        sockets[i].first_reference = first;
        first += sockets[i].references;
        sockets[i].references = 0;
    }
    for (size_t i = 0; i < scan->references.count; i++)
        if ((s = socket_of(snapshot, index, scan->references.at[i].inode)))
            snapshot->held.at[s->first_reference + s->references++] = scan->references.at[i];
    snapshot->held.count = first;
    sort_holders(snapshot);
    list_free(&scan->references);
    return 0;
}

static int by_inode(const void *a, const void *b)
{
    const struct stale_entry *x = a, *y = b;

    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static void join_stale(struct snapshot *snapshot, const struct index *index)
{
    list_sort(&snapshot->scan.stales, by_inode);
    for (size_t i = 0; i < snapshot->scan.stales.count; i++) {
        struct socket *s = socket_of(snapshot, index, snapshot->scan.stales.at[i].inode);

        if (s)
            note_finding(s, FOUND_STALE);
    }
}

/* ---- open, and in no process ---- */

static bool is_unseen(const struct socket *s)
{
    return s->listed && s->inode && !s->references && !s->gone;
}

static struct fin_identity identity_of(const struct socket *s)
{
    struct fin_identity id = FIN_IDENTITY_INIT;

    id.cookie = s->cookie;
    id.inode = s->inode;
    id.family = s->family;
    id.type = s->type;
    id.protocol = s->protocol == PROTOCOL_TCP ? IPPROTO_TCP
        : s->protocol == PROTOCOL_UDP         ? IPPROTO_UDP
                                              : 0;
    id.interface = s->interface;
    id.local_port = s->local_port;
    id.remote_port = s->remote_port;
    memcpy(id.local, s->local, sizeof id.local);
    memcpy(id.remote, s->remote, sizeof id.remote);
    /* The dump found it. A look-up by addresses may miss one of several that share them, but they
     * are not connected. */
    id.confirmed = s->remote_port || s->protocol == PROTOCOL_UNIX;
    return id;
}

/* It may have been opened or closed while we looked. */
static void join_ask(struct socket *s, struct fin_kernel *kernel)
{
    struct fin_identity id = identity_of(s);
    struct fin_state state = FIN_STATE_INIT;

    if (fin_inspect(kernel, &id, &state) < 0 || state.exists == FIN_UNVERIFIABLE)
        return;
    s->gone = state.exists == FIN_NO;
    if (state.exists == FIN_YES) {
        s->inode = (uint32_t) state.inode;
        s->state = socket_state(state.tcp_state);
        s->timer = (uint8_t) state.timer;
        if (s->protocol == PROTOCOL_TCP)
            s->tcp.timer_ms = (uint32_t) state.timer_ms;
    }
}

static void ask_in(struct snapshot *snapshot, const struct netns *space,
                   const struct netns_list *spaces)
{
    struct fin_kernel *kernel = NULL;

    if (netns_enter(space) < 0)
        return;
    if (fin_kernel_new(&kernel) == 0)
        for (size_t i = 0; i < snapshot->dump.sockets.count; i++)
            if (is_unseen(&snapshot->dump.sockets.at[i])
                && snapshot->dump.sockets.at[i].netns == space->inode)
                join_ask(&snapshot->dump.sockets.at[i], kernel);
    fin_kernel_free(kernel);
    netns_leave(spaces, space);
}

static void ask_again(struct snapshot *snapshot, const struct netns_list *spaces)
{
    for (size_t i = 0; i < spaces->spaces.count; i++)
        ask_in(snapshot, &spaces->spaces.at[i], spaces);
}

static size_t count_unseen(const struct snapshot *snapshot)
{
    size_t count = 0;

    for (size_t i = 0; i < snapshot->dump.sockets.count; i++)
        count += is_unseen(&snapshot->dump.sockets.at[i]);
    return count;
}

/* Adds the references of a second reading of /proc that the first one did not see. */
static int add_seen(struct snapshot *snapshot, const struct index *index, const struct scan *again)
{
    uint32_t processes = (uint32_t) snapshot->scan.processes.count;

    if (list_append(&snapshot->scan.processes, &again->processes) < 0
        || list_append(&snapshot->scan.references, &snapshot->held) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < again->references.count; i++) {
        struct reference r = again->references.at[i];
        const struct socket *s = socket_of(snapshot, index, r.inode);

        if (!s || !is_unseen(s))
            continue;
        r.process = (r.process + processes) & INT32_MAX;
        if (list_add(&snapshot->scan.references, r) < 0)
            return -ENOMEM;
    }
    return lay_out(snapshot, index);
}

/* So long as a process is about to end, what it had open is in no table and not closed yet. */
enum {
    DYING_MS = 5,
    DYING_TRIES = 100
};

static void wait_for_the_dying(struct snapshot *snapshot, const struct netns_list *spaces)
{
    for (int i = 0; i < DYING_TRIES && count_unseen(snapshot) > 0; i++) {
        bool dying = scan_any_dying();

        ask_again(snapshot, spaces);
        if (!dying)
            return;
        (void) poll(NULL, 0, DYING_MS);
    }
}

/* What was not to be seen this time may have what nobody else has. */
static void take_blindness(struct scan *scan, const struct scan *again)
{
    scan->unreadable = again->unreadable;
    memcpy(scan->unreadable_pid, again->unreadable_pid, sizeof scan->unreadable_pid);
    scan->hidden = again->hidden;
}

static bool is_blind(const struct scan *scan)
{
    return scan->unreadable || scan->hidden;
}

/* A socket may have been handed on while /proc was read, or be in the table of a thread. */
static int look_for_unseen(struct snapshot *snapshot, const struct index *index,
                           const struct netns_list *spaces)
{
    struct scan again;
    int result;

    if (is_blind(&snapshot->scan) || count_unseen(snapshot) == 0)
        return 0;
    ask_again(snapshot, spaces);
    if (count_unseen(snapshot) == 0)
        return 0;
    result = scan_proc(&again, true);
    if (result == 0) {
        take_blindness(&snapshot->scan, &again);
        result = add_seen(snapshot, index, &again);
        holders_free(&again);
    }
    if (result < 0 || is_blind(&snapshot->scan))
        return result;
    wait_for_the_dying(snapshot, spaces);
    for (size_t i = 0; i < snapshot->dump.sockets.count; i++)
        if (is_unseen(&snapshot->dump.sockets.at[i]))
            note_finding(&snapshot->dump.sockets.at[i], FOUND_INVISIBLE);
    return 0;
}

/* ---- all ---- */

static int join_sides(struct snapshot *snapshot, const struct netns_list *spaces)
{
    struct index index;
    int result = index_make(&index, snapshot);

    if (result == 0)
        result = add_all_unlisted(snapshot, &index, spaces);
    if (result == 0)
        result = lay_out(snapshot, &index);
    if (result == 0)
        result = look_for_unseen(snapshot, &index, spaces);
    if (result == 0)
        join_stale(snapshot, &index);
    free(index.slot);
    free(index.strangers.at);
    return result;
}

static const char *advice(int result)
{
    if (result == -ENOENT)
        return "there is no /proc";
    return strerror(-result);
}

/* What the two halves of a look come to. */
struct halves {
    struct snapshot *snapshot;
    struct netns_list *spaces;
    int status;  /* of the dumps: 0 or EXIT_TROUBLE */
    int scanned; /* 0 or a negative errno */
};

static int take_half(void *arg, size_t index)
{
    struct halves *h = arg;

    if (index == 1)
        h->scanned = scan_proc(&h->snapshot->scan, false);
    for (size_t i = 0; index == 0 && i < h->spaces->spaces.count && h->status == 0; i++)
        h->status = dump_space(h->snapshot, h->spaces, &h->spaces->spaces.at[i]);
    return 0;
}

int snapshot_take(struct snapshot *snapshot, struct netns_list *spaces)
{
    struct halves halves = { snapshot, spaces, 0, 0 };
    int result;

    *snapshot = (struct snapshot) { .at_ns = fin__now() };
    if (netns_list_renew(spaces))
        return EXIT_TROUBLE;
    jobs_run(2, 2, take_half, &halves);
    if (halves.status)
        return halves.status;
    if (halves.scanned < 0)
        return complain("cannot read /proc: %s", advice(halves.scanned));
    result = join_sides(snapshot, spaces);
    if (result < 0)
        return complain("cannot join sockets and processes: %s", advice(result));
    snapshot->blind.processes = snapshot->scan.unreadable;
    memcpy(snapshot->blind.process, snapshot->scan.unreadable_pid, sizeof snapshot->blind.process);
    snapshot->blind.homes = spaces->closed;
    snapshot->blind.hidden = snapshot->scan.hidden;
    snapshot->blind.refused = snapshot->dump.refused;
    judge(snapshot);
    return 0;
}
