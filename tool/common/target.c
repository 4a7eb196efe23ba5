/* SPDX-License-Identifier: MIT */

#include "common/target.h"

#include "common/say.h"
#include "common/units.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    NAME_MAX_LENGTH = 253
};

bool is_host_name(const char *text)
{
    size_t length = strlen(text), i;

    for (i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] >= 0x7f)
            return false;
    return length > 0 && length <= NAME_MAX_LENGTH;
}

bool is_address(const char *text)
{
    unsigned char address[16];

    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

/* Where the host begins and ends and the port begins; NULL, or what is wrong with it. */
static const char *split(const char *text, const char **host, size_t *length, const char **port)
{
    bool bracket = *text == '[';
    const char *end = bracket ? strchr(text, ']') : strrchr(text, ':');

    *host = text + bracket;
    *port = end ? end + 1 + bracket : text;
    *length = end ? (size_t) (end - *host) : 0;
    if (bracket)
        return end && end[1] == ':' ? NULL : "is not [ADDRESS]:PORT";
    if (!end)
        return "has no port; write HOST:PORT";
    return strchr(text, ':') == end ? NULL : "is ambiguous; write an IPv6 address as [::1]:443";
}

int parse_target(const char *text, char *host, size_t host_size, char *port, size_t port_size)
{
    const char *name, *number, *wrong;
    size_t length;
    uint64_t value;

    wrong = split(text, &name, &length, &number);
    if (wrong)
        return complain("'%s' %s", text, wrong);
    if (parse_number(number, 1, 65535, &value) < 0)
        return complain("port '%s' is not a number from 1 to 65535", number);
    if (length >= host_size)
        return complain("the host name in '%.60s...' is too long", text);
    memcpy(host, name, length);
    host[length] = '\0';
    if (!is_host_name(host))
        return complain("'%s' is no host name", host);
    snprintf(port, port_size, "%u", (unsigned) value);
    return 0;
}

void format_target(const char *host, const char *port, char *buf, size_t size)
{
    snprintf(buf, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}
