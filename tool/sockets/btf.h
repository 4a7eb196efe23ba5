/* SPDX-License-Identifier: MIT */

/* The offsets of members in the running kernel's structures, from its own description of them
 * (BTF). */

#ifndef TOOL_SOCKETS_BTF_H
#define TOOL_SOCKETS_BTF_H

#include <stddef.h>
#include <stdint.h>

struct btf_member_wanted {
    const char *structure, *member;
    int32_t offset; /* in bytes; -1: not found */
};

/* Fills in the offsets, and the number of a function's type. Errors: -ENOENT (not told, or one is
 * not found), -ENOMEM, -EPROTO, those of open(2). */
int btf_find(struct btf_member_wanted *wanted, size_t count, const char *function, uint32_t *id);

#endif
