/* SPDX-License-Identifier: MIT */

/* Structures that have grown: a program that was built before that passes the size that it
 * knows. */

#ifndef FIN_GIVEN_H
#define FIN_GIVEN_H

#include <errno.h>
#include <finack.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define FIN__RECEIPT_OLD offsetof(struct fin_receipt, kind)
#define FIN__COUNTERS_OLD                                                                          \
    (sizeof(struct fin_closer_counters) - sizeof(uint64_t)) /* without the last outcome */

static inline bool fin__receipt_fits(const struct fin_receipt *receipt)
{
    return receipt->size == sizeof *receipt || receipt->size == FIN__RECEIPT_OLD;
}

/* Both ways, of as much as both have. */
static inline void fin__receipt_copy(struct fin_receipt *to, const struct fin_receipt *from)
{
    size_t size = to->size;

    memmove(to, from, size < from->size ? size : from->size); /* they may be the same */
    to->size = size;
}

/* A receipt of the caller's that is to be written into `buf`, as a whole one; 0 or -EINVAL. */
static inline int fin__receipt_whole(const struct fin_receipt *receipt, const char *buf,
                                     size_t size, struct fin_receipt *whole)
{
    if (!receipt || !fin__receipt_fits(receipt) || (!buf && size))
        return -EINVAL;
    *whole = (struct fin_receipt) FIN_RECEIPT_INIT;
    fin__receipt_copy(whole, receipt);
    return 0;
}

#endif
