/* SPDX-License-Identifier: MIT */

#include "selfcheck.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MAX_ACTS 10

/* What a driver was asked for, and its answer. Times count from the start. */
struct act {
    enum fin__action action;
    enum fin__event_kind kind;
    unsigned facts, interest;
    uint64_t bytes, at, deadline, left;
    int error;
};

typedef void tamper_fn(struct fin_receipt *before, struct fin_receipt *after);

struct script {
    enum rule breaks;
    tamper_fn *tamper; /* NULL: the acts alone break it */
    struct config config;
    struct act acts[MAX_ACTS];
};

#define TCP (FIN__STREAM | FIN__SOCKET)
#define POLICY(c, p)                                                                               \
    .courtesy = FIN_COURTESY_##c, .proof = FIN_STAGE_##p, .total = 4, .proof_wait = 3, .drain = 2, \
    .orphan_ms = FIN_ORPHAN_LEAVE, .backoff = 1, .backoff_max = 1
#define ORDERLY(kind)                                                                              \
    {                                                                                              \
        .plan = { POLICY(ORDERLY, UNREFERENCED) }, .traits = (kind)                                \
    }
#define WITH(kind, ...)                                                                            \
    {                                                                                              \
        .plan = { __VA_ARGS__ }, .traits = (kind)                                                  \
    }

#define DO(asked, ...)                                                                             \
    {                                                                                              \
        .action = FIN__##asked, .kind = __VA_ARGS__                                                \
    }
#define DID(asked) DO(asked, FIN__DONE)
#define END_OF_LIST DO(FINISH, FIN__FAILED)
#define WAY_OUT DID(UNWATCH), DID(WITNESS), DID(RELEASE)

/* A plain close that keeps to the rules, and one that drops bytes and keeps to them too. */
#define GOOD                                                                                       \
    {                                                                                              \
        DID(SHUT), DO(WAIT, FIN__READY, .interest = FIN__READ | FIN__ACK),                         \
            DO(DRAIN, FIN__END, .facts = FIN__IS_FIN | FIN__IS_ACKED), WAY_OUT,                    \
            DO(CHECK, FIN__NO), DID(FINISH), END_OF_LIST                                           \
    }
#define DROPPING                                                                                   \
    {                                                                                              \
        DO(FLUSH, FIN__BROKEN, .error = -EPROTO), DID(RESET), WAY_OUT, DO(CHECK, FIN__NO),         \
            DID(FINISH), END_OF_LIST                                                               \
    }

static void set_stages(struct fin_receipt *r, unsigned stages)
{
    for (unsigned i = 0; i < FIN_STAGES; i++)
        r->stage_ns[i] = stages & 1u << i ? 0 : -1;
}

#define STAGE(name) (1u << FIN_STAGE_##name)

static void good_receipt(struct fin_receipt *r)
{
    *r = (struct fin_receipt) FIN_RECEIPT_INIT;
    r->end = FIN_END_FIN;
    r->held = FIN_NO;
    set_stages(r,
               STAGE(REQUESTED) | STAGE(FLUSHED) | STAGE(SHUT) | STAGE(ACKED) | STAGE(EOF)
                   | STAGE(UNWATCHED) | STAGE(RELEASED) | STAGE(UNREFERENCED));
}

static void none(struct fin_receipt *before, struct fin_receipt *after)
{
    (void) before;
    (void) after;
}

static void flushed_late(struct fin_receipt *before, struct fin_receipt *after)
{
    (void) after;
    before->stage_ns[FIN_STAGE_FLUSHED] = -1;
}

static void shut_anew(struct fin_receipt *before, struct fin_receipt *after)
{
    (void) before;
    after->stage_ns[FIN_STAGE_SHUT] = 5;
}

static void answered(struct fin_receipt *before, struct fin_receipt *after)
{
    (void) before;
    after->stage_ns[FIN_STAGE_ANSWERED] = 0;
}

static void no_eof(struct fin_receipt *before, struct fin_receipt *after)
{
    before->stage_ns[FIN_STAGE_EOF] = after->stage_ns[FIN_STAGE_EOF] = -1;
}

static void acked_and_not(struct fin_receipt *before, struct fin_receipt *after)
{
    (void) before;
    after->unverifiable = STAGE(ACKED);
}

static void gone_unasked(struct fin_receipt *before, struct fin_receipt *after)
{
    before->unverifiable = after->unverifiable = STAGE(GONE);
}

#define TAMPER(name, field, value)                                                                 \
    static void name(struct fin_receipt *before, struct fin_receipt *after)                        \
    {                                                                                              \
        (void) before;                                                                             \
        after->field = value;                                                                      \
    }

TAMPER(truncated, outcome, FIN_OUTCOME_TRUNCATED)
TAMPER(in_linger, phase, FIN_PHASE_LINGER)
TAMPER(with_error, error, -EIO)
TAMPER(ended_in_reset, end, FIN_END_RESET)
TAMPER(ended_in_none, end, FIN_END_NONE)
TAMPER(ended_in_kernel, end, FIN_END_KERNEL)
TAMPER(one_unsent, unsent, 1)
TAMPER(one_unacked, unacked, 1)
TAMPER(one_discarded, discarded, 1)
TAMPER(one_accepted, accepted, 1)
TAMPER(held_by_another, held, FIN_YES)
TAMPER(was_forced, forced, 1)

/* clang-format off */
static const struct script scripts[] = {
    { RULE_WAIT_BEYOND_TOTAL, NULL, ORDERLY(TCP),
      { DID(SHUT), DO(WAIT, FIN__READY, .interest = FIN__READ, .deadline = 5), END_OF_LIST } },
    { RULE_LATE_RELEASE, NULL, ORDERLY(TCP),
      { DO(WAIT, FIN__DEADLINE, .interest = FIN__READ, .deadline = 4, .at = 4),
        DO(WAIT, FIN__DEADLINE, .interest = FIN__READ, .deadline = 4, .at = 4),
        DO(WAIT, FIN__DEADLINE, .interest = FIN__READ, .deadline = 4, .at = 4),
        DO(WAIT, FIN__DEADLINE, .interest = FIN__READ, .deadline = 4, .at = 4), END_OF_LIST } },
    { RULE_WAIT_BEYOND_PROOF, NULL, ORDERLY(TCP),
      { DID(SHUT), WAY_OUT, DO(CHECK, FIN__YES), DO(WAIT, FIN__DEADLINE, .deadline = 4),
        END_OF_LIST } },
    { RULE_WAIT_FOR_NOTHING, NULL, ORDERLY(TCP),
      { DID(SHUT), DO(WAIT, FIN__DEADLINE, .deadline = 2), END_OF_LIST } },
    { RULE_EDGE_LOST, NULL, ORDERLY(TCP),
      { DID(SHUT), DO(WAIT, FIN__READY, .interest = FIN__READ, .deadline = 2),
        DO(DRAIN, FIN__BYTES, .bytes = 1), DO(WAIT, FIN__READY, .interest = FIN__READ),
        END_OF_LIST } },
    { RULE_COURTESY_WAITS, NULL, WITH(TCP, POLICY(PROMPT, RELEASED)),
      { DID(SHUT), DO(WAIT, FIN__READY, .interest = FIN__READ), END_OF_LIST } },
    { RULE_COURTESY_WAITS, NULL, WITH(TCP, POLICY(ABORT, RELEASED)),
      { DO(WAIT, FIN__READY, .interest = FIN__READ), END_OF_LIST } },
    { RULE_FORCED_WAITS, NULL, ORDERLY(TCP),
      { DID(SHUT), DO(WAIT, FIN__FORCE, .interest = FIN__READ, .deadline = 2), WAY_OUT,
        DO(CHECK, FIN__YES), DO(WAIT, FIN__DEADLINE, .deadline = 2), END_OF_LIST } },
    { RULE_FAREWELL_TIME, NULL, WITH(TCP | FIN__LAYERED, POLICY(FULL, RELEASED), .farewell = 2),
      { DO(FLUSH, FIN__DONE, .at = 1), DO(NOTIFY, FIN__AGAIN, .interest = FIN__WRITE, .at = 1),
        DO(WAIT, FIN__READY, .interest = FIN__WRITE, .deadline = 2), END_OF_LIST } },
    { RULE_FAREWELL_TIME, NULL, WITH(TCP | FIN__LAYERED, POLICY(FULL, RELEASED), .farewell = 2),
      { DID(FLUSH), DO(NOTIFY, FIN__DONE, .at = 1),
        DO(WAIT, FIN__READY, .interest = FIN__READ, .deadline = 2), END_OF_LIST } },
    { RULE_FAREWELL_TIME, NULL, WITH(TCP | FIN__LAYERED, POLICY(FULL, RELEASED), .flush = 2),
      { DO(FLUSH, FIN__AGAIN, .bytes = 1, .interest = FIN__WRITE),
        DO(MEASURE, FIN__BYTES, .bytes = 1, .at = 1), DO(MEASURE, FIN__BYTES, .at = 1),
        DO(WAIT, FIN__READY, .interest = FIN__WRITE, .deadline = 2), END_OF_LIST } },
    { RULE_FAREWELL_TIME, NULL, WITH(TCP | FIN__LAYERED, POLICY(FULL, RELEASED), .farewell = 2),
      { DID(FLUSH), DO(NOTIFY, FIN__AGAIN, .interest = FIN__WRITE),
        DO(MEASURE, FIN__BYTES, .bytes = 1), DO(MEASURE, FIN__BYTES, .at = 1),
        DO(WAIT, FIN__READY, .interest = FIN__WRITE, .deadline = 2), END_OF_LIST } },
    { RULE_TWO_RELEASES, NULL, ORDERLY(TCP), { WAY_OUT, DID(RELEASE), END_OF_LIST } },
    { RULE_NO_RELEASE, NULL, ORDERLY(TCP), { DID(UNWATCH), DID(FINISH), END_OF_LIST } },
    { RULE_AFTER_RELEASE, NULL, ORDERLY(TCP), { WAY_OUT, DID(SHUT), END_OF_LIST } },
    { RULE_AFTER_FINISH, NULL, ORDERLY(TCP), { WAY_OUT, DID(FINISH), DID(CHECK), END_OF_LIST } },
    { RULE_TWO_UNWATCHES, NULL, ORDERLY(TCP), { DID(UNWATCH), DID(UNWATCH), END_OF_LIST } },
    { RULE_WATCHED_AT_RELEASE, NULL, ORDERLY(TCP), { DID(RELEASE), END_OF_LIST } },
    { RULE_TWO_WITNESSES, NULL, ORDERLY(TCP), { DID(WITNESS), DID(WITNESS), END_OF_LIST } },
    { RULE_PROOF_UNASKED, NULL, WITH(TCP, POLICY(ORDERLY, RELEASED)),
      { DID(UNWATCH), DID(WITNESS), END_OF_LIST } },
    { RULE_EARLY_LOOK, NULL, ORDERLY(TCP), { DO(CHECK, FIN__NO), END_OF_LIST } },
    { RULE_FIN_AFTER_DROP, NULL, ORDERLY(TCP | FIN__LAYERED),
      { DO(FLUSH, FIN__AGAIN, .bytes = 1), DO(WAIT, FIN__ABORT, .interest = FIN__WRITE),
        DID(SHUT), END_OF_LIST } },
    { RULE_FIN_UNFLUSHED, NULL, ORDERLY(TCP | FIN__LAYERED),
      { DO(FLUSH, FIN__AGAIN, .bytes = 1), DID(SHUT), END_OF_LIST } },
    { RULE_DROP_WITHOUT_RESET, NULL, ORDERLY(TCP | FIN__LAYERED),
      { DO(FLUSH, FIN__FAILED, .error = -EIO), WAY_OUT, END_OF_LIST } },
    { RULE_READ_AFTER_RESET, NULL, ORDERLY(TCP),
      { DID(RESET), DO(DRAIN, FIN__AGAIN), END_OF_LIST } },
    { RULE_SEND_AFTER_RESET, NULL, ORDERLY(TCP), { DID(RESET), DID(SHUT), END_OF_LIST } },
    { RULE_SEND_AFTER_FIN, NULL, ORDERLY(TCP | FIN__LAYERED),
      { DID(FLUSH), DID(SHUT), DID(NOTIFY), END_OF_LIST } },
    { RULE_FLUSH_AFTER_FAREWELL, NULL, ORDERLY(TCP | FIN__LAYERED),
      { DID(FLUSH), DID(NOTIFY), DID(FLUSH), END_OF_LIST } },
    { RULE_NOT_TALLIED, NULL, ORDERLY(TCP),
      { DID(SHUT), DO(WAIT, FIN__DEADLINE, .interest = FIN__READ), WAY_OUT, END_OF_LIST } },
    { RULE_SCOPE, NULL, WITH(TCP, POLICY(ORDERLY, RELEASED), .descriptor_only = true),
      { DID(SHUT), END_OF_LIST } },
    { RULE_QUENCH, NULL, ORDERLY(TCP), { DID(SHUT), DID(QUENCH), END_OF_LIST } },
    { RULE_KIND, NULL, ORDERLY(FIN__SOCKET), { DID(SHUT), END_OF_LIST } },
    { RULE_KIND, NULL, ORDERLY(TCP), { DID(FLUSH), END_OF_LIST } },
    { RULE_KIND, NULL, ORDERLY(TCP), { DID(REFUSE), END_OF_LIST } },
    { RULE_KIND, NULL, ORDERLY(TCP), { DID(ABANDON), END_OF_LIST } },
    { RULE_LIMIT, NULL, ORDERLY(TCP), { DID(SHUT), DID(LIMIT), END_OF_LIST } },
    { RULE_DRAIN_BOUND, NULL, ORDERLY(TCP),
      { DID(SHUT), DO(DRAIN, FIN__BYTES, .bytes = 2, .left = 2),
        DO(DRAIN, FIN__BYTES, .bytes = 1, .left = 1), END_OF_LIST } },
    { RULE_STAGE_ORDER, flushed_late, ORDERLY(TCP), GOOD },
    { RULE_STAGE_TIME, shut_anew, ORDERLY(TCP), GOOD },
    { RULE_STAGE_UNSEEN, answered, ORDERLY(TCP), GOOD },
    { RULE_STAGE_MISSED, no_eof, ORDERLY(TCP), GOOD },
    { RULE_REACHED_AND_UNVERIFIABLE, acked_and_not, ORDERLY(TCP), GOOD },
    { RULE_UNVERIFIABLE_UNASKED, gone_unasked, ORDERLY(TCP), GOOD },
    { RULE_GRACEFUL, no_eof, ORDERLY(TCP), GOOD },
    { RULE_LOST_UNTOLD, none, ORDERLY(TCP | FIN__LAYERED), DROPPING },
    { RULE_OUTCOME, truncated, ORDERLY(TCP), GOOD },
    { RULE_PHASE, in_linger, ORDERLY(TCP), GOOD },
    { RULE_ERROR, with_error, ORDERLY(TCP), GOOD },
    { RULE_END_FIN, none, ORDERLY(TCP | FIN__LAYERED), DROPPING },
    { RULE_END_RESET, ended_in_reset, ORDERLY(TCP), GOOD },
    { RULE_END_NONE, ended_in_none, ORDERLY(TCP), GOOD },
    { RULE_END_KERNEL, ended_in_kernel, ORDERLY(TCP), GOOD },
    { RULE_UNSENT, one_unsent, ORDERLY(TCP), GOOD },
    { RULE_UNACKED, one_unacked, ORDERLY(TCP), GOOD },
    { RULE_DISCARDED, one_discarded, ORDERLY(TCP), GOOD },
    { RULE_ACCEPTED, one_accepted, ORDERLY(TCP), GOOD },
    { RULE_HELD, held_by_another, ORDERLY(TCP), GOOD },
    { RULE_FORCED, was_forced, ORDERLY(TCP), GOOD },
};
/* clang-format on */

static void feed(struct monitor *mon, const struct act *act)
{
    struct view view = { act->action, START + act->deadline, act->left, START + act->at,
                         act->interest };
    struct fin__event ev = { .kind = act->kind,
                             .facts = act->facts,
                             .bytes = act->bytes,
                             .error = act->error,
                             .now = START + act->at };

    monitor_action(mon, &view);
    if (act->action != FIN__FINISH)
        monitor_event(mon, act->action, &ev);
}

static bool last(const struct act *act)
{
    return act->action == FIN__FINISH && act->kind == FIN__FAILED;
}

static uint64_t play(const struct script *script)
{
    struct fin__event ev = { .now = START };
    struct fin_receipt before, after;
    struct monitor mon;

    monitor_start(&mon, &script->config, START);
    for (const struct act *act = script->acts; !last(act); act++)
        feed(&mon, act);
    if (!script->tamper)
        return mon.broken;
    good_receipt(&before);
    good_receipt(&after);
    script->tamper(&before, &after);
    monitor_step(&mon, &before, &after, &ev);
    monitor_end(&mon, &after);
    return mon.broken;
}

void every_rule_can_break(void **state)
{
    uint64_t broken = UINT64_C(1) << RULE_LIVELOCK; /* a_livelock_is_found() */

    (void) state;
    for (unsigned i = 0; i < COUNT(scripts); i++) {
        uint64_t rule = UINT64_C(1) << scripts[i].breaks;

        if (!(play(&scripts[i]) & rule))
            fail_msg("script %u did not break it: %s", i, rule_names[scripts[i].breaks]);
        broken |= rule;
    }
    assert_int_equal(broken, (UINT64_C(1) << RULES) - 1);
}

void a_good_close_breaks_none(void **state)
{
    static const struct script good = { RULES, none, ORDERLY(TCP), GOOD };

    (void) state;
    assert_int_equal(play(&good), 0);
}

/* A machine that asks for the same look for ever. */
static enum fin__action look_for_ever(struct fin__machine *m, const struct fin__event *ev)
{
    (void) m;
    (void) ev;
    return FIN__TALLY;
}

/* A machine that ends before it has released anything. */
static enum fin__action give_up(struct fin__machine *m, const struct fin__event *ev)
{
    (void) m;
    (void) ev;
    return FIN__FINISH;
}

static uint64_t violations_of(step_fn *step, enum rule rule)
{
    static const struct config config = ORDERLY(TCP);
    struct explorer *x = explorer_new(step);
    uint64_t count;

    explore(x, &config);
    count = explorer_coverage(x)->violations[rule];
    explorer_free(x);
    return count;
}

void a_livelock_is_found(void **state)
{
    (void) state;
    assert_int_not_equal(violations_of(look_for_ever, RULE_LIVELOCK), 0);
    assert_int_not_equal(violations_of(give_up, RULE_NO_RELEASE), 0);
    assert_int_equal(violations_of(fin__machine_step, RULE_LIVELOCK), 0);
}
