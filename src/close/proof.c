/* SPDX-License-Identifier: MIT */

#include "close/proof.h"

#include "base/clock.h"
#include "base/descriptor.h"

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
