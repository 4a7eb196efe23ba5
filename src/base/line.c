/* SPDX-License-Identifier: MIT */

#include "base/line.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

void fin__put(struct fin__line *line, const char *format, ...)
{
    size_t room = line->length < line->size ? line->size - line->length : 0;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(room ? line->buf + line->length : NULL, room, format, args);
    va_end(args);
    if (n > 0)
        line->length += (size_t) n;
}

void fin__put_foreign(struct fin__line *line, const char *text, size_t size, int quoted)
{
    for (size_t i = 0; i < size && text[i]; i++) {
        unsigned char byte = (unsigned char) text[i];

        if (byte < ' ' || byte > '~' || byte == '\\')
            fin__put(line, quoted ? "\\\\x%02x" : "\\x%02x", (unsigned) byte);
        else
            fin__put(line, quoted && byte == '"' ? "\\%c" : "%c", byte);
    }
}

void fin__put_address(struct fin__line *line, int family, const uint8_t address[16], uint16_t port)
{
    char text[INET6_ADDRSTRLEN] = "?";

    (void) inet_ntop(family, address, text, sizeof text);
    fin__put(line, family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, (unsigned) port);
}
