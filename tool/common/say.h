/* SPDX-License-Identifier: MIT */

/* What the command says, on stderr and on stdout, and what it asks. */

#ifndef TOOL_SAY_H
#define TOOL_SAY_H

#include <stdbool.h>
#include <stddef.h>

/* Exit statuses that all subcommands share. */
enum {
    EXIT_FINE = 0,
    EXIT_FOUND = 1,
    EXIT_TROUBLE = 2
};

/* Names the subcommand that speaks; kept, not copied. */
void speak_as(const char *command);
const char *speaks_as(void);

/* One line on stderr, "finack probe: ..."; control characters in it are escaped. Returns
 * EXIT_TROUBLE, so that it can be returned. */
__attribute__((format(printf, 1, 2))) int complain(const char *format, ...);

/* Copies `text` with everything but printable ASCII as \xNN; cut to fit, always terminated. */
void escape(const char *text, char *buf, size_t size);

/* Writes all of it, waiting where the descriptor is nonblocking. Returns 0 or a negative errno. */
int write_all(int fd, const char *text, size_t size);

/* Writes to stdout. A reader that went away is no trouble; anything else gives one line on stderr
 * and EXIT_TROUBLE. */
int put_out(const char *text, size_t size);

/* The same for what was written elsewhere, with that result: 0 or a negative errno. */
int put_status(int result);

/* put_out() of the version line. */
int put_version(void);

/* Asks on the terminal, and waits for a line: true for one that begins with y. False without a
 * terminal, after one line on stderr. */
bool ask(const char *question);

/* The name of an error ("ECONNRESET"), "unknown" for one without; NULL for 0. */
const char *error_name(int error);

#endif
