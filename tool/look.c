/* SPDX-License-Identifier: MIT */

#include "look.h"

#include "beside.h"
#include "deadline.h"
#include "judge.h"
#include "say.h"
#include "unlisted.h"

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

static int dump_space(struct look *look, const struct netns_list *spaces, struct netns *space)
{
    int result = netns_enter(space);

    if (result < 0) {
        look->blind.namespaces++;
        return spaces->spaces.count == 1 ? complain("--netns: %s", strerror(-result)) : 0;
    }
    if (space->cookie == 0)
        space->cookie = read_cookie();
    look->dump.netns = space->inode;
    result = dump_sockets(&look->dump);
    if (netns_leave(spaces, space) < 0)
        return complain("--netns: cannot go back to our own namespace");
    return result < 0 ? complain("cannot list sockets: %s", strerror(-result)) : 0;
}

/* ---- the join ---- */

enum {
    FREE = 0,
    STRANGER = UINT32_MAX /* an inode that is no concern of ours */
};

/* A hash of inodes. */
struct index {
    struct slot {
        uint64_t inode;
        uint32_t socket; /* 1 + its index, or FREE or STRANGER */
    } * slot;
    size_t mask;
};

/* The slot of that inode, or the free one where it belongs. */
static struct slot *find(const struct index *index, uint64_t inode)
{
    size_t at = (size_t) (inode * 0x9e3779b97f4a7c15ull >> 32) & index->mask;

    while (index->slot[at].socket != FREE && index->slot[at].inode != inode)
        at = (at + 1) & index->mask;
    return &index->slot[at];
}

/* Of several sockets with one inode (MPTCP) the first counts. */
static int index_make(struct index *index, const struct look *look)
{
    size_t size = 64;

    while (size < 2 * (look->dump.sockets.count + look->scan.references.count))
        size *= 2;
    index->mask = size - 1;
    index->slot = calloc(size, sizeof *index->slot);
    if (!index->slot)
        return -ENOMEM;
    for (size_t i = 0; i < look->dump.sockets.count; i++) {
        uint64_t inode = look->dump.sockets.at[i].inode;
        struct slot *slot = find(index, inode);

        if (inode && slot->socket == FREE)
            *slot = (struct slot) { inode, (uint32_t) i + 1 };
    }
    return 0;
}

static void note_finding(struct socket *s, enum finding finding)
{
    s->findings |= 1u << finding;
}

/* A socket that the dumps do not have. Adds it if they could not have it; 1 then. */
static int add_unlisted(struct look *look, const struct reference *reference,
                        const struct netns_list *spaces)
{
    struct process *process = &look->scan.processes.at[reference->process];
    struct socket s;
    enum unlisted what = unlisted_identify(reference, process, spaces, &s);

    look->blind.elsewhere += what == UNLISTED_ELSEWHERE;
    look->blind.unidentified += what == UNLISTED_UNKNOWN;
    if (what == UNLISTED_OTHER || what == UNLISTED_ELSEWHERE)
        return 0;
    if (what == UNLISTED_DEAD)
        note_finding(&s, FOUND_DEAD);
    if (what == UNLISTED_UNKNOWN)
        s.state = STATE_UNKNOWN;
    if (list_need(&look->dump.sockets, 1) < 0)
        return -ENOMEM;
    look->dump.sockets.at[look->dump.sockets.count++] = s;
    return 1;
}

static int add_all_unlisted(struct look *look, struct index *index, const struct netns_list *spaces)
{
    for (size_t i = 0; i < look->scan.references.count; i++) {
        const struct reference *r = &look->scan.references.at[i];
        struct slot *slot = find(index, r->inode);
        int added;

        if (slot->socket != FREE)
            continue;
        added = add_unlisted(look, r, spaces);
        if (added < 0)
            return added;
        *slot = (struct slot) { r->inode, added ? (uint32_t) look->dump.sockets.count : STRANGER };
    }
    return 0;
}

/* NULL for what is no concern of ours. */
static struct socket *socket_of(const struct look *look, const struct index *index, uint64_t inode)
{
    uint32_t socket = find(index, inode)->socket;

    return socket == FREE || socket == STRANGER ? NULL : &look->dump.sockets.at[socket - 1];
}

/* Lays the references out socket by socket. */
static int lay_out(struct look *look, const struct index *index)
{
    const struct scan *scan = &look->scan;
    struct socket *s, *end = look->dump.sockets.at + look->dump.sockets.count;
    size_t first = 0;

    look->held.count = 0;
    if (scan->references.count == 0)
        return 0;
    if (list_need(&look->held, scan->references.count) < 0)
        return -ENOMEM;
    for (s = look->dump.sockets.at; s != end; s++)
        s->references = 0;
    for (size_t i = 0; i < scan->references.count; i++)
        if ((s = socket_of(look, index, scan->references.at[i].inode)))
            s->references++;
    for (s = look->dump.sockets.at; s != end; s++) {
        s->first_reference = first;
        first += s->references;
        s->references = 0;
    }
    for (size_t i = 0; i < scan->references.count; i++)
        if ((s = socket_of(look, index, scan->references.at[i].inode)))
            look->held.at[s->first_reference + s->references++] = scan->references.at[i];
    look->held.count = first;
    return 0;
}

static int by_inode(const void *a, const void *b)
{
    const struct stale_entry *x = a, *y = b;

    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static void join_stale(struct look *look, const struct index *index)
{
    struct stale_entry *stale = look->scan.stales.at;
    size_t count = look->scan.stales.count;

    if (count)
        qsort(stale, count, sizeof *stale, by_inode);
    for (size_t i = 0; i < count; i++) {
        struct socket *s = socket_of(look, index, stale[i].inode);

        if (!s)
            continue;
        if (s->stales++ == 0)
            s->first_stale = i;
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
static void ask(struct socket *s, struct fin_kernel *kernel)
{
    struct fin_identity id = identity_of(s);
    struct fin_state state = FIN_STATE_INIT;

    if (fin_inspect(kernel, &id, &state) < 0 || state.exists == FIN_UNVERIFIABLE)
        return;
    s->gone = state.exists == FIN_NO;
    if (state.exists == FIN_YES) {
        s->inode = state.inode;
        s->state = socket_state(state.tcp_state);
        s->timer = (uint8_t) state.timer;
        s->timer_ms = (uint32_t) state.timer_ms;
    }
}

static void ask_in(struct look *look, const struct netns *space, const struct netns_list *spaces)
{
    struct fin_kernel *kernel = NULL;

    if (netns_enter(space) < 0)
        return;
    if (fin_kernel_new(&kernel) == 0)
        for (size_t i = 0; i < look->dump.sockets.count; i++)
            if (is_unseen(&look->dump.sockets.at[i])
                && look->dump.sockets.at[i].netns == space->inode)
                ask(&look->dump.sockets.at[i], kernel);
    fin_kernel_free(kernel);
    netns_leave(spaces, space);
}

static void ask_again(struct look *look, const struct netns_list *spaces)
{
    for (size_t i = 0; i < spaces->spaces.count; i++)
        ask_in(look, &spaces->spaces.at[i], spaces);
}

static size_t count_unseen(const struct look *look)
{
    size_t count = 0;

    for (size_t i = 0; i < look->dump.sockets.count; i++)
        count += is_unseen(&look->dump.sockets.at[i]);
    return count;
}

/* Adds the references of a second reading of /proc that the first one did not see. */
static int add_seen(struct look *look, const struct index *index, const struct scan *again)
{
    uint32_t processes = (uint32_t) look->scan.processes.count;

    if (list_append(&look->scan.processes, &again->processes) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < again->references.count; i++) {
        struct reference r = again->references.at[i];
        const struct socket *s = socket_of(look, index, r.inode);

        if (!s || !is_unseen(s))
            continue;
        r.process += processes;
        if (list_need(&look->scan.references, 1) < 0)
            return -ENOMEM;
        look->scan.references.at[look->scan.references.count++] = r;
    }
    return lay_out(look, index);
}

/* So long as a process is about to end, what it had open is in no table and not closed yet. */
enum {
    DYING_MS = 5,
    DYING_TRIES = 100
};

static void wait_for_the_dying(struct look *look, const struct netns_list *spaces)
{
    for (int i = 0; i < DYING_TRIES && count_unseen(look) > 0; i++) {
        bool dying = scan_any_dying();

        ask_again(look, spaces);
        if (!dying)
            return;
        (void) poll(NULL, 0, DYING_MS);
    }
}

/* A socket may have been handed on while /proc was read, or be in the table of a thread. */
static int look_for_unseen(struct look *look, const struct index *index,
                           const struct netns_list *spaces)
{
    struct scan again;
    int result;

    if (look->scan.unreadable || look->scan.hidden || count_unseen(look) == 0)
        return 0;
    ask_again(look, spaces);
    if (count_unseen(look) == 0)
        return 0;
    result = scan_proc(&again, true);
    if (result == 0) {
        result = add_seen(look, index, &again);
        scan_free(&again);
    }
    if (result == 0)
        wait_for_the_dying(look, spaces);
    for (size_t i = 0; i < look->dump.sockets.count && result == 0; i++)
        if (is_unseen(&look->dump.sockets.at[i]))
            note_finding(&look->dump.sockets.at[i], FOUND_INVISIBLE);
    return result;
}

/* ---- all ---- */

static int join(struct look *look, const struct netns_list *spaces)
{
    struct index index;
    int result = index_make(&index, look);

    if (result == 0)
        result = add_all_unlisted(look, &index, spaces);
    if (result == 0)
        result = lay_out(look, &index);
    if (result == 0)
        result = look_for_unseen(look, &index, spaces);
    if (result == 0)
        join_stale(look, &index);
    free(index.slot);
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
    struct look *look;
    struct netns_list *spaces;
    int status;  /* of the dumps: 0 or EXIT_TROUBLE */
    int scanned; /* 0 or a negative errno */
};

static void take_half(void *arg, size_t index)
{
    struct halves *h = arg;

    if (index == 1)
        h->scanned = scan_proc(&h->look->scan, false);
    for (size_t i = 0; index == 0 && i < h->spaces->spaces.count && h->status == 0; i++)
        h->status = dump_space(h->look, h->spaces, &h->spaces->spaces.at[i]);
}

int look_take(struct look *look, struct netns_list *spaces)
{
    struct halves halves = { look, spaces, 0, 0 };
    int result;

    *look = (struct look) { .at_ns = now_ns() };
    if (netns_list_renew(spaces))
        return EXIT_TROUBLE;
    beside_run(2, take_half, &halves);
    if (halves.status)
        return halves.status;
    if (halves.scanned < 0)
        return complain("cannot read /proc: %s", advice(halves.scanned));
    result = join(look, spaces);
    if (result < 0)
        return complain("cannot join sockets and processes: %s", advice(result));
    look->blind.processes = look->scan.unreadable;
    look->blind.homes = spaces->closed;
    look->blind.hidden = look->scan.hidden;
    look->blind.refused = look->dump.refused;
    judge(look);
    return 0;
}

void look_free(struct look *look)
{
    dump_free(&look->dump);
    scan_free(&look->scan);
    free(look->held.at);
    *look = (struct look) { .at_ns = 0 };
}

const char *look_name(const struct look *look, const struct socket *s)
{
    return s->name ? look->dump.names.at + s->name : "";
}
