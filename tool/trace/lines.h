/* SPDX-License-Identifier: MIT */

/* Source lines, and names as they were written. */

#ifndef TOOL_TRACE_LINES_H
#define TOOL_TRACE_LINES_H

#include <elfutils/libdwfl.h>

/* The file and line of an address, NULL if there is none. What clang and Go make has no
 * .debug_aranges: then the compilation units are walked, once for each module. The text lives as
 * long as the module. */
const char *lines_find(Dwfl_Module *module, Dwarf_Addr at, int *line);

/* To be called for each module before its Dwfl is ended. */
void lines_forget(Dwfl_Module *module);

/* The name of a C++ or Rust function; `name` itself if it is none, or nobody here can read it.
 * free(3) *ret. */
const char *lines_demangle(const char *name, char **ret);

#endif
