/* SPDX-License-Identifier: MIT */

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

struct fin__allocator fin__allocator = { malloc, free };

void *fin__alloc(size_t size)
{
    void *block = fin__allocator.alloc(size);

    return block ? memset(block, 0, size) : NULL;
}

void fin__free(void *block)
{
    if (block)
        fin__allocator.free(block);
}
