/* SPDX-License-Identifier: MIT */

#include "close/proof.h"

#include "base/clock.h"
#include "base/descriptor.h"

#include <errno.h>
#include <netinet/tcp.h>

void fin__proof_release(int fd, struct fin__event *ev)
{
    ev->error = fin__release(fd);
    ev->kind = ev->error < 0 ? FIN__FAILED : FIN__DONE;
}

void fin__proof_confirm(struct fin_kernel *kernel, int fd, struct fin_identity *id)
{
    struct fin_state state = FIN_STATE_INIT;

    id->size = sizeof *id;
    if (fin_identify(fd, id) == 0)
        (void) fin_inspect(kernel, id, &state);
}

uint64_t fin__proof_prepare(struct fin_kernel *kernel, int fd, bool confirmed, bool sole,
                            struct fin__event *ev)
{
    struct fin__witness *witness = &kernel->witness;
    uint64_t token = ++kernel->serial;
    int result = fin__kernel_need_witness(kernel);

    if (confirmed)
        ev->facts |= FIN__IS_ASKED;
    if (sole)
        fin__witness_renew(witness);
    if (result == 0)
        result = fin__witness_add(witness, fd, token);
    if (result == -EEXIST && sole) /* of an earlier close, which has ended */
        result = fin__witness_take_over(witness, fd, token);
    ev->kind = result < 0 ? FIN__FAILED : FIN__DONE;
    ev->error = result;
    return token;
}

void fin__proof_check(struct fin_kernel *kernel, uint64_t token, uint64_t *inode,
                      struct fin__event *ev)
{
    switch (fin__witness_check(&kernel->witness, token, inode)) {
    case FIN_NO:
        ev->kind = FIN__NO;
        break;
    case FIN_YES:
        ev->kind = FIN__YES;
        break;
    default:
        ev->kind = FIN__FAILED;
        break;
    }
}

static void take_state(const struct fin_state *state, struct fin__event *ev)
{
    ev->kind = FIN__STATE;
    if (state->exists == FIN_NO)
        ev->facts |= FIN__IS_FINISHED | FIN__IS_GONE;
    else if (state->tcp_state == TCP_TIME_WAIT)
        ev->facts |= FIN__IS_FINISHED;
    if (state->tcp_state == TCP_TIME_WAIT && state->timer_ms > 0)
        ev->wait = (uint64_t) state->timer_ms * FIN__NS_PER_MS;
}

void fin__proof_inspect(struct fin_kernel *kernel, struct fin_identity *id, struct fin__event *ev)
{
    struct fin_state state = FIN_STATE_INIT;

    if (fin_inspect(kernel, id, &state) < 0 || state.exists == FIN_UNVERIFIABLE)
        ev->kind = FIN__FAILED;
    else
        take_state(&state, ev);
}
