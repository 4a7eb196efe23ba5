/* SPDX-License-Identifier: MIT */

#include "sockets/ending.h"

#include "base/line.h"
#include "common/procfs.h"
#include "common/say.h"
#include "sockets/socket.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LINGER_MS = 2000,
    TOTAL_MS = 5000
};

void ending_describe(struct ending *e, int32_t pid, int32_t fd, int state)
{
    const struct fin_identity *id = &e->identity;
    struct fin__line line = { e->text, sizeof e->text, 0 };
    char name[64];

    process_name(pid, name, sizeof name);
    fin__put(&line, "descriptor %d of %s[%d]: ", fd, name, pid);
    if (id->family == AF_UNIX) {
        fin__put(&line, "unix stream");
    } else {
        fin__put(&line, "tcp ");
        fin__put_address(&line, id->family, id->local, id->local_port);
        fin__put(&line, " -> ");
        fin__put_address(&line, id->family, id->remote, id->remote_port);
        fin__put(&line, ", %s", socket_state_name(state));
    }
    fin__put(&line, ", socket %" PRIu64, id->cookie);
}

/* A connection, with two ends. */
static int look_at(struct ending *e, int *state)
{
    struct fin_identity *id = &e->identity;
    struct tcp_info info = { 0 };
    socklen_t size = sizeof info;

    *id = (struct fin_identity) FIN_IDENTITY_INIT;
    if (fin_identify(e->copy, id) < 0)
        return -ENOTSOCK;
    if (id->type != SOCK_STREAM && id->type != SOCK_SEQPACKET)
        return -EOPNOTSUPP;
    if (id->family == AF_UNIX) {
        int listens = 0;

        size = sizeof listens;
        if (getsockopt(e->copy, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || listens)
            return -EOPNOTSUPP;
        return 0;
    }
    if (id->protocol != IPPROTO_TCP || getsockopt(e->copy, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return -EOPNOTSUPP;
    *state = info.tcpi_state;
    return *state == STATE_LISTEN || *state == STATE_CLOSE ? -EOPNOTSUPP : 0;
}

int ending_open(struct ending *e, int32_t pid, int32_t fd, uint64_t socket)
{
    int result, state = 0;

    *e = (struct ending) { .copy = copy_descriptor(pid, fd) };
    if (e->copy < 0)
        return e->copy;
    result = look_at(e, &state);
    if (socket && result != -ENOTSOCK && e->identity.cookie != socket)
        result = -ESTALE;
    if (result < 0)
        ending_drop(e);
    else
        ending_describe(e, pid, fd, state);
    return result;
}

void ending_drop(struct ending *e)
{
    close(e->copy);
    e->copy = -1;
}

/* The process has it still, so that it is not waited for to be unreferenced. */
int ending_finish(struct ending *e, bool reset, struct fin_receipt *receipt)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    int fd = e->copy;

    policy.courtesy = reset ? FIN_COURTESY_ABORT : FIN_COURTESY_ORDERLY;
    policy.scope = FIN_SCOPE_CONNECTION;
    policy.proof = FIN_STAGE_RELEASED;
    policy.linger_ms = LINGER_MS;
    policy.total_ms = TOTAL_MS;
    policy.find_holders = 0;
    e->copy = -1;
    return fin_close(NULL, fd, &policy, receipt);
}

int ending_complain(int32_t pid, int32_t fd, int error)
{
    switch (error) {
    case -ESRCH:
        return complain("there is no process %d", pid);
    case -EBADF:
        return complain("process %d has no descriptor %d", pid, fd);
    case -ESTALE:
        return complain("descriptor %d of process %d is another socket by now", fd, pid);
    case -ENOTSOCK:
        return complain("descriptor %d of process %d is no socket", fd, pid);
    case -EOPNOTSUPP:
        return complain("descriptor %d of process %d has no connection to end", fd, pid);
    case -EPERM:
        return complain("no permission to touch process %d: that needs the right to trace it", pid);
    default:
        return complain("cannot get at descriptor %d of process %d: %s", fd, pid, strerror(-error));
    }
}
