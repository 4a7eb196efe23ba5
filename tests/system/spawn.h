/* SPDX-License-Identifier: MIT */

/* Programs that the tests run: real servers, and the command. */

#ifndef SPAWN_H
#define SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct program {
    pid_t pid;
    int input;  /* our end of its stdin */
    int output; /* of its stdout and stderr */
};

/* Starts argv[0], looked up in PATH and the folders of administrators. Only its standard streams
 * and `keep` (-1: nothing) are open in it; it gets SIGTERM when this process ends. */
void program_start(struct program *p, char *const argv[], int keep);

/* Reads its output line by line until one begins with `begin`, and keeps that line. */
void program_await_line(struct program *p, const char *begin, char *line, size_t size);

/* Ends it by SIGTERM, and reaps it. */
void program_stop(struct program *p);

/* Runs a program to its end; false unless it exits with 0. */
bool program_run(char *const argv[]);

#endif
