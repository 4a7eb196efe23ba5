/* SPDX-License-Identifier: MIT */

#include "close/proof.h"

#include "base/clock.h"

#include <errno.h>
#include <netinet/tcp.h>

void fin__proof_confirm(struct fin_kernel *kernel, int fd, struct fin_identity *id)
{
    struct fin_state state = FIN_STATE_INIT;

    id->size = sizeof *id;
    if (fin_identify(fd, id) == 0)
        (void) fin_inspect(kernel, id, &state);
}

/* If a new set were opened while other closes depend on the old one, it would say that their
 * sockets are gone. */
static int add_to_witness(struct fin__proof *proof, struct fin_kernel *kernel, int fd, bool sole)
{
    struct fin__witness *witness = &kernel->witness;
    int result = sole || witness->set >= 0 ? fin__kernel_need_witness(kernel) : -EBADF;

    if (result == 0)
        result = fin__witness_add(witness, fd, proof->token);
    if (result < 0 && fin__witness_lost(witness) && sole && kernel->on_demand
        && fin__witness_open(witness) == 0)
        result = fin__witness_add(witness, fd, proof->token);
    return result;
}

void fin__proof_prepare(struct fin__proof *proof, struct fin_kernel *kernel, int fd, bool sole,
                        struct fin__event *ev)
{
    struct fin__witness *witness = &kernel->witness;
    int result;

    proof->token = ++kernel->serial;
    if (proof->id.confirmed)
        ev->facts |= FIN__IS_CONFIRMED;
    if (sole)
        fin__witness_renew(witness);
    result = add_to_witness(proof, kernel, fd, sole);
    if (result == -EEXIST && sole) /* of an earlier close, which has ended */
        result = fin__witness_take_over(witness, fd, proof->token);
    ev->kind = result < 0 ? FIN__FAILED : FIN__DONE;
    ev->error = result;
}

void fin__proof_check(struct fin__proof *proof, struct fin_kernel *kernel, struct fin__event *ev)
{
    switch (fin__witness_check(&kernel->witness, proof->token, &proof->inode)) {
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

uint64_t fin__proof_time(const struct fin__machine *m)
{
    return m->start + m->plan->total + m->plan->proof_wait;
}

void fin__proof_holders(const struct fin__machine *m, uint64_t inode, enum fin__kind kind,
                        struct fin_receipt *receipt)
{
    bool wanted = m->plan->find_holders && m->held == FIN_YES;

    fin__receipt_holders(receipt, wanted ? inode : 0, kind, fin__proof_time(m));
}
