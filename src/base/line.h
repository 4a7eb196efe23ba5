/* SPDX-License-Identifier: MIT */

#ifndef FIN_LINE_H
#define FIN_LINE_H

#include <stddef.h>
#include <stdint.h>

/* A text that grows in a caller's buffer: `length` counts on when that is full, as snprintf(3)
 * does. */
struct fin__line {
    char *buf;
    size_t size;
    size_t length;
};

__attribute__((format(printf, 2, 3))) void fin__put(struct fin__line *line, const char *format,
                                                    ...);

/* A text that somebody else chose, such as the name of a process, at most `size` bytes: it must
 * not control a terminal. Bytes that are not printable ASCII, and the backslash, become \x and
 * two digits; with `quoted`, as JSON has it inside a string. */
void fin__put_foreign(struct fin__line *line, const char *text, size_t size, int quoted);

/* 127.0.0.1:80, [::1]:80. `family` is AF_INET or AF_INET6, the address in network order. */
void fin__put_address(struct fin__line *line, int family, const uint8_t address[16], uint16_t port);

#endif
