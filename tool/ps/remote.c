/* SPDX-License-Identifier: MIT */

#include "ps/remote.h"

#include "common/units.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Cuts the port off: behind the only colon, or behind a bracket. */
static int take_port(char *text, uint16_t *port)
{
    char *colon = *text == '[' ? strstr(text, "]:") : strchr(text, ':');
    uint64_t number;

    if (!colon || (*text != '[' && strchr(colon + 1, ':')))
        return 0;
    if (parse_number(colon + 1 + (*text == '['), 1, UINT16_MAX, &number) < 0)
        return -EINVAL;
    *port = (uint16_t) number;
    colon[*text == '['] = '\0';
    return 0;
}

static int take_bits(char *text, struct ps_remote *ret)
{
    char *slash = strchr(text, '/');
    uint64_t bits = UINT64_MAX;

    if (slash && parse_number(slash + 1, 0, 128, &bits) < 0)
        return -EINVAL;
    if (slash)
        *slash = '\0';
    ret->family = inet_pton(AF_INET, text, ret->address) == 1 ? AF_INET
        : inet_pton(AF_INET6, text, ret->address) == 1        ? AF_INET6
                                                              : 0;
    if (!ret->family || (slash && ret->family == AF_INET && bits > 32))
        return -EINVAL;
    ret->bits = slash ? (unsigned) bits : ret->family == AF_INET ? 32 : 128;
    return 0;
}

int remote_parse(const char *text, struct ps_remote *ret)
{
    char copy[64], *address = copy;
    size_t length;

    *ret = (struct ps_remote) { .family = 0 };
    snprintf(copy, sizeof copy, "%s", text);
    if (take_port(copy, &ret->port) < 0)
        return -EINVAL;
    length = strlen(copy);
    if (*copy == '[' && copy[length - 1] == ']') {
        copy[length - 1] = '\0';
        address++;
    }
    if (!*address)
        return ret->port ? 0 : -EINVAL;
    return take_bits(address, ret);
}

static bool has_prefix(const uint8_t *address, const struct ps_remote *remote)
{
    unsigned whole = remote->bits / 8, rest = remote->bits % 8;

    if (memcmp(address, remote->address, whole) != 0)
        return false;
    return rest == 0 || (address[whole] ^ remote->address[whole]) >> (8 - rest) == 0;
}

/* A v4 address may be that of a v6 socket. */
bool remote_fits(const struct ps_remote *remote, const struct socket *s)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    const uint8_t *address = s->remote;

    if (s->protocol == PROTOCOL_UNIX || !s->remote_port
        || (remote->port && remote->port != s->remote_port))
        return false;
    if (!remote->family)
        return true;
    if (remote->family == AF_INET && s->family == AF_INET6) {
        if (memcmp(address, mapped, sizeof mapped) != 0)
            return false;
        return has_prefix(address + sizeof mapped, remote);
    }
    return remote->family == s->family && has_prefix(address, remote);
}
