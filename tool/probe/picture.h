/* SPDX-License-Identifier: MIT */

/* The closes of `finack probe` as pictures. */

#ifndef TOOL_PROBE_PICTURE_H
#define TOOL_PROBE_PICTURE_H

#include "picture/picture.h"
#include "probe/options.h"
#include "probe/result.h"

struct probe_picture {
    struct picture picture; /* usable while all that was given to make it is unchanged */
    char title[300];
    const struct probe_result *results; /* those that were closed: */
    size_t *closed;                     /* their indices */
    struct probe_scratch *scratch;
};

/* Returns 0, or -ENOMEM. */
int probe_picture_make(struct probe_picture *p, const struct probe_options *o,
                       const struct probe_result *results, size_t count);

void probe_picture_free(struct probe_picture *p);

#endif
