/* SPDX-License-Identifier: MIT */

#include "close/listener.h"

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/poll.h"

#include <errno.h>
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/time.h>

#define TCP_FLAGS_OFFSET 13 /* RFC 9293, 3.1 */
#define TCP_SYN 0x02
#define TCP_ACK 0x10

/* close(2) resets the connections in the queue, and those that get there between the last
 * accept(2) and close(2). So new ones are kept out first: pure SYNs are dropped (their senders
 * try again and find no listener), while the ACK that completes a handshake passes. */
static int drop_syns(int fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, TCP_FLAGS_OFFSET),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TCP_SYN | TCP_ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TCP_SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ? -errno : 0;
}

int fin__listener_refuse(int fd, int family)
{
    /* Another holder may take the connection that poll(2) saw: accept(2) must not block then. */
    struct timeval instant = { 0, 1 };

    (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &instant, sizeof instant);
    if (family == AF_UNIX) /* connect(2) is refused from here on (unix_stream_connect()) */
        return shutdown(fd, SHUT_RD) < 0 ? -errno : 0;
    return drop_syns(fd);
}

/* Of the time that the whole close has; the last millisecond is given in full. */
static int32_t ms_left(const struct fin__machine *m)
{
    uint64_t now = fin__now(), end = m->start + m->plan->total;

    return end <= now ? 0 : (int32_t) ((end - now + FIN__NS_PER_MS - 1) / FIN__NS_PER_MS);
}

static void hand_over(struct fin_kernel *kernel, int fd, const struct fin__machine *m)
{
    const struct fin__plan *plan = m->plan;
    struct fin_policy prompt = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    int off = 0;

    (void) setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &off, sizeof off); /* it was inherited */
    if (plan->accepted) {
        plan->accepted(fd, plan->accepted_arg);
        return;
    }
    prompt.courtesy = FIN_COURTESY_PROMPT;
    prompt.total_ms = ms_left(m);
    prompt.proof = FIN_STAGE_RELEASED;
    if (fin_close(kernel, fd, &prompt, &receipt) < 0)
        (void) fin__release(fd);
}

static bool more_may_come(struct fin_kernel *kernel, int fd)
{
    struct fin_identity id = FIN_IDENTITY_INIT;

    if (fin_identify(fd, &id) < 0 || id.family == AF_UNIX)
        return false;
    if (fin__kernel_need_diag(kernel) < 0)
        return true;
    return fin__diag_half_open(&kernel->diag, &id) != 0;
}

static bool is_passing(int error)
{
    /* accept(2): the connection died in the queue; the next one may be fine. */
    return error == EINTR || error == ECONNABORTED || error == EPROTO || error == ENETDOWN
        || error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN;
}

/* The descriptor, or a negative errno. */
static int take(int fd)
{
    int taken;

    if (fin__events(fd, POLLIN) == 0) /* if it can't be known, accept(2) waits for an instant */
        return -EAGAIN;
    taken = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return taken < 0 ? -errno : taken;
}

void fin__listener_accept(struct fin_kernel *kernel, int fd, const struct fin__machine *m,
                          struct fin__event *ev)
{
    int taken = take(fd);
    bool more = taken == -EAGAIN && more_may_come(kernel, fd);

    if (taken == -EAGAIN && !more) /* a handshake was completed between the two looks */
        taken = take(fd);
    if (taken >= 0) {
        hand_over(kernel, taken, m);
        ev->kind = FIN__BYTES;
        ev->bytes = 1;
    } else if (taken == -EAGAIN) {
        ev->kind = more ? FIN__AGAIN : FIN__END;
    } else if (taken == -EINVAL) { /* Unix: shut for reading and empty */
        ev->kind = FIN__END;
    } else if (is_passing(-taken)) {
        ev->kind = FIN__BYTES;
    } else {
        ev->kind = FIN__FAILED;
        ev->error = taken;
    }
}
