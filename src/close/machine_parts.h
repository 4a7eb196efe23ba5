/* SPDX-License-Identifier: MIT */

/* What the parts of the machine share; nobody else includes it. */

#ifndef FIN_MACHINE_PARTS_H
#define FIN_MACHINE_PARTS_H

#include "close/machine.h"

/* Where the close stands: what the present event is about. */
enum place {
    FLUSHING,
    MEASURING,
    OVERDUE, /* does the peer take anything */
    NOTIFYING,
    ANSWERING,
    SHUTTING,
    LINGERING,
    ABANDONING,
    REFUSING,
    ACCEPTING,
    EMPTYING, /* a last drain without waiting */
    TALLYING,
    QUENCHING,
    LIMITING,
    RESETTING,
    UNWATCHING,
    FIRST_WITHOUT_RETURN, /* from here on an abort comes too late */
    WITNESSING = FIRST_WITHOUT_RETURN,
    LAST_LOOK, /* what close(2) will find */
    RELEASING,
    CHECKING,
    INSPECTING,
    PAUSING,
    FINISHED,
};

static inline enum fin__action go(struct fin__machine *m, enum place place, enum fin__action action)
{
    m->place = (uint8_t) place;
    return action;
}

static inline enum fin__action wait_for(struct fin__machine *m, unsigned interest)
{
    m->interest = (uint8_t) interest;
    return FIN__WAIT;
}

static inline void reach(struct fin__machine *m, enum fin_stage stage, uint64_t now)
{
    if (!fin__reached(m, stage))
        m->stage[stage] = now > m->start ? (int64_t) (now - m->start) : 0;
    m->unverifiable &= (uint16_t) ~(1u << stage);
}

static inline void cannot_verify(struct fin__machine *m, enum fin_stage stage)
{
    if (!fin__reached(m, stage))
        m->unverifiable |= (uint16_t) (1u << stage);
}

/* True if `stage` need not be waited for any more. */
static inline bool settled(const struct fin__machine *m, enum fin_stage stage)
{
    return fin__reached(m, stage) || (m->unverifiable & (1u << stage));
}

static inline uint32_t clamp(uint64_t bytes)
{
    return bytes < FIN__UNTALLIED ? (uint32_t) bytes : FIN__UNTALLIED - 1;
}

/* What an event says of both FINs. */
void fin__machine_note(struct fin__machine *m, const struct fin__event *ev);

/* The same, and if the connection is over: how it ended. All that will be seen has been. */
void fin__machine_judge(struct fin__machine *m, const struct fin__event *ev);

/* The descriptor is about to be released, or has been: machine_proof.c. */
enum fin__action fin__machine_unwatch(struct fin__machine *m);

/* Places of machine_proof.c: each takes the event that is about it. */
enum fin__action fin__machine_unwatching(struct fin__machine *m, const struct fin__event *ev);
enum fin__action fin__machine_witnessing(struct fin__machine *m, const struct fin__event *ev);
enum fin__action fin__machine_last_look(struct fin__machine *m, const struct fin__event *ev);
enum fin__action fin__machine_releasing(struct fin__machine *m, const struct fin__event *ev);
enum fin__action fin__machine_checking(struct fin__machine *m, const struct fin__event *ev);
enum fin__action fin__machine_inspecting(struct fin__machine *m, const struct fin__event *ev);
enum fin__action fin__machine_pausing(struct fin__machine *m, const struct fin__event *ev);

/* Takes what a TALLY counted. False if the connection turned out to be over. */
bool fin__machine_tallied(struct fin__machine *m, const struct fin__event *ev);

#endif
