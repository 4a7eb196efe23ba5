/* SPDX-License-Identifier: MIT */

#ifndef FINACK_TOOL_TRACE_RUST_NAMES_H
#define FINACK_TOOL_TRACE_RUST_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* Writes the path that a name in Rust's v0 mangling (RFC 2603) stands for, without the hashes of
 * crates. False if it is none, or is longer than `size`. The name may be anybody's: the work is
 * bounded. */
bool rust_demangle(const char *name, char *out, size_t size);

/* ... and in the mangling before that, which is still the compiler's default mostly. */
bool rust_demangle_legacy(const char *name, char *out, size_t size);

#endif
