/* SPDX-License-Identifier: MIT */

/* Each errno that a header promises of a call is seen once, and changes nothing. The headers are
 * read: an errno without a row fails the test, and so does a row that no header has. */

#ifndef PROMISES_H
#define PROMISES_H

#include "faults.h"
#include "support.h"

#include <finack/loop.h>

#define MEMORY "memory" /* in place of a call: no allocation succeeds */

/* What there is to call on. */
struct lab {
    int us, them; /* a connection; us is -1 once it is closed */
    int other;    /* in `handle` */
    int far;
    struct fin_kernel *kernel;
    struct fin_handle *handle;
    struct fin_closer *closer;
    struct fin_selector *selector;
    struct fin_policy policy;
    struct fin_receipt receipt;
    struct fin_identity id;
    struct fin_stale stale;
    int set, survivor; /* of `stale` */
    int64_t result;    /* of a call made inside a completion */
    const char *fault;
    int error;
    struct fault armed;
};

struct row {
    const char *call;
    int error;
    int64_t (*provoke)(struct lab *lab);
    const char *fault; /* a system call, MEMORY, or NULL: provoke() sees to it by itself */
};

/* From here on to disarm() what the row names fails. */
void arm(struct lab *lab);
void disarm(void);

/* What a call gives in a forked child, which must be -ECHILD. */
int64_t in_child(struct lab *lab, int64_t (*call)(struct lab *lab));

#define IN_CHILD(name, call)                                                                       \
    static int64_t name(struct lab *lab)                                                           \
    {                                                                                              \
        return in_child(lab, call);                                                                \
    }

/* A call in one line; the result is what it returns. */
#define CALL(name, expression)                                                                     \
    static int64_t name(struct lab *lab)                                                           \
    {                                                                                              \
        (void) lab;                                                                                \
        return expression;                                                                         \
    }

/* Runs a test for each row, and one that compares them with the header. */
int promises_main(const struct row *rows, size_t count, const char *header);

#endif
