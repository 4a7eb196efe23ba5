/* SPDX-License-Identifier: MIT */

/* `finack ps` for a person. */

#ifndef TOOL_PS_TEXT_H
#define TOOL_PS_TEXT_H

#include "ps/rows.h"

#include <stdio.h>

/* Prints a row for each socket. `width`: of the terminal, 0: as wide as it gets. */
void ps_text_rows(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                  bool rates, size_t width);

/* Prints a line, or as many as it takes. */
void ps_text_line(FILE *out, const char *text, size_t width);

/* Prints how many there are of each verdict. */
void ps_text_counts(FILE *out, const struct ps_rows *rows, size_t width);

/* The same, and what has changed, and what could not be looked at. */
void ps_text_summary(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                     size_t width);

/* Prints what there is to do about the verdicts that were shown, a line for each. */
void ps_text_advice(FILE *out, const struct ps_rows *rows, size_t width);

/* "127.0.0.1:80", "[::1]:80", "*:80", the name or number of a Unix socket; without control
 * characters. Each gives `buf`. */
const char *format_local(const struct snapshot *snapshot, const struct socket *s, char *buf,
                         size_t size);
const char *format_remote(const struct socket *s, char *buf, size_t size);

/* Prints what could not be looked at, a line each. */
void ps_text_blind(FILE *out, const struct blind *blind, size_t width);

#endif
