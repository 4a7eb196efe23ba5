/* SPDX-License-Identifier: MIT */

#include "trace/filter.h"

#include "trace/calls.h"

#include <errno.h>
#include <seccomp.h>

static int add_call(scmp_filter_ctx filter, const struct call *call)
{
    int number = call_number(call), result = 0;
    size_t i;

    if (number < 0)
        return 0; /* a newer architecture does without the older calls */
    if (call->argument < 0)
        return seccomp_rule_add(filter, SCMP_ACT_TRACE(1), number, 0);
    for (i = 0; i < CALL_VALUES && result == 0; i++)
        if (i == 0 || call->values[i] != call->values[0])
            result = seccomp_rule_add(filter, SCMP_ACT_TRACE(1), number, 1,
                                      SCMP_CMP((unsigned) call->argument, SCMP_CMP_MASKED_EQ,
                                               call->mask, call->values[i]));
    return result;
}

/* Programs for another instruction set pass, unseen; without SSB the kernel would slow all of the
 * command down for a danger that only a sandbox has. */
static int filter_fill(scmp_filter_ctx filter)
{
    size_t i;
    int result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW);

    (void) seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    (void) seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
    for (i = 0; i < call_count && result == 0; i++)
        result = add_call(filter, &calls[i]);
    return result;
}

/* Who may load a filter without no_new_privs keeps setuid programs as they are. */
static int load(scmp_filter_ctx filter)
{
    int result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);

    if (result == 0)
        result = seccomp_load(filter);
    if (result != -EACCES && result != -EPERM)
        return result;
    result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 1);
    return result == 0 ? seccomp_load(filter) : result;
}

int filter_load(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int result = filter ? filter_fill(filter) : -ENOMEM;

    if (result == 0)
        result = load(filter);
    if (filter)
        seccomp_release(filter);
    return result;
}
