/* SPDX-License-Identifier: MIT */

/* The subcommands. Each gets its own name as argv[0] and returns the exit status. */

#ifndef TOOL_COMMAND_H
#define TOOL_COMMAND_H

int probe_main(int argc, char **argv);
int trace_main(int argc, char **argv);
int ps_main(int argc, char **argv);
int attach_main(int argc, char **argv);
int end_main(int argc, char **argv);
int heal_main(int argc, char **argv);
int export_main(int argc, char **argv);

#endif
