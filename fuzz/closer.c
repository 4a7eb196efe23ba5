/* SPDX-License-Identifier: MIT */

/* The closer's bookkeeping over the kernel of tests/model that only pretends: any kinds of closes,
 * any order of what the program, the kernel and the peers do. */

#include "../tests/model/pretend.h"
#include "base/clock.h"
#include "bytes.h"

#include <stdio.h>

#define COUNT_MAX 12

static struct config take_config(struct bytes *bytes)
{
    struct config c = { .cap = take_below(bytes, 8), .count = 1 + take_below(bytes, COUNT_MAX) };

    for (unsigned i = 0; i < 4; i++) {
        c.kind[i] = (uint8_t) take_below(bytes, KINDS);
        c.reaction[i] = (uint8_t) take_below(bytes, REACTIONS);
    }
    return c;
}

static void step_on(struct bytes *bytes)
{
    static const char letters[] = "snmtdaeow";
    uint8_t byte = take_byte(bytes);
    struct step step = { letters[byte % (sizeof letters - 1)], byte / (sizeof letters - 1) };

    if (step.letter == 'w') /* some time passes */
        (void) world_sleep(world.now + step.close * FIN__NS_PER_MS);
    else if (world_can(step))
        world_take(step);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = { data, size };
    struct config config = take_config(&bytes);
    unsigned how = take_byte(&bytes);

    world_count_memory();
    world_begin(&config);
    while (bytes.left > 0 && !world.gone)
        step_on(&bytes);
    world_finish(how);
    (void) fflush(stdout); /* which tells of the first that was broken */
    must(world.broken == 0, "the rules of tests/model");
    return 0;
}
