/* SPDX-License-Identifier: MIT */

#ifndef TOOL_TARGET_H
#define TOOL_TARGET_H

#include <stdbool.h>
#include <stddef.h>

/* Splits "HOST:PORT" or "[ADDRESS]:PORT". Returns 0, or EXIT_TROUBLE after one line on stderr. */
int parse_target(const char *text, char *host, size_t host_size, char *port, size_t port_size);

/* Not empty, not too long for a name, and nothing but printable ASCII. */
bool is_host_name(const char *text);

/* True for an IPv4 or IPv6 address. */
bool is_address(const char *text);

/* "HOST:PORT" or "[ADDRESS]:PORT". */
void format_target(const char *host, const char *port, char *buf, size_t size);

#endif
