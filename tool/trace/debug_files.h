/* SPDX-License-Identifier: MIT */

/* The files that stacks are named by. Those of a program that is traced may be anything: a FIFO
 * that nobody writes to, or a file without end. Only regular files of a bounded size are opened. */

#ifndef TOOL_TRACE_DEBUG_FILES_H
#define TOOL_TRACE_DEBUG_FILES_H

#include <elfutils/libdwfl.h>

/* Each for Dwfl_Callbacks; a descriptor, or -1. */
int debug_find_elf(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
                   char **file_name, Elf **elf);

/* By the build ID below /usr/lib/debug, or by the program's .gnu_debuglink: a file beside it, which
 * must have the build ID. */
int debug_find_info(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
                    const char *file_name, const char *link, GElf_Word crc, char **debug_name);

#endif
