/* SPDX-License-Identifier: MIT */

/* Addresses and remarks in words. */

#include "ps_text.h"

#include "say.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void format_inet(const struct socket *s, const uint8_t *address, uint16_t port, char *buf,
                        size_t size)
{
    static const uint8_t any[16];
    char text[INET6_ADDRSTRLEN], number[8] = "*";

    if (port)
        snprintf(number, sizeof number, "%u", port);
    if (memcmp(address, any, sizeof any) == 0) {
        snprintf(buf, size, "*:%s", number);
    } else if (s->family == AF_INET) {
        snprintf(buf, size, "%u.%u.%u.%u:%s", address[0], address[1], address[2], address[3],
                 number);
    } else {
        inet_ntop(AF_INET6, address, text, sizeof text);
        snprintf(buf, size, "[%s]:%s", text, number);
    }
}

void format_local(const struct look *look, const struct socket *s, char *buf, size_t size)
{
    char name[450];

    if (s->protocol != PROTOCOL_UNIX) {
        format_inet(s, s->local, s->local_port, buf, size);
        return;
    }
    escape(look_name(look, s), name, sizeof name);
    snprintf(buf, size, "%s %" PRIu64, *name ? name : "*", s->inode);
}

void format_remote(const struct look *look, const struct socket *s, char *buf, size_t size)
{
    (void) look;
    if (s->protocol != PROTOCOL_UNIX)
        format_inet(s, s->remote, s->remote_port, buf, size);
    else if (s->peer)
        snprintf(buf, size, "* %" PRIu64, s->peer);
    else
        snprintf(buf, size, "*");
}

struct remark {
    void (*put)(const char *text, void *arg);
    void *arg;
};

__attribute__((format(printf, 2, 3))) static void remark(const struct remark *r, const char *format,
                                                         ...)
{
    char text[200];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->put(text, r->arg);
}

static const char *plural(uint32_t count, const char *one, const char *more)
{
    return count == 1 ? one : more;
}

void blind_describe(const struct blind *blind, void (*put)(const char *text, void *arg), void *arg)
{
    const struct remark r = { put, arg };

    if (blind->processes)
        remark(&r, "the descriptors of %u process%s: no permission", blind->processes,
               plural(blind->processes, "", "es"));
    if (blind->hidden)
        remark(&r, "processes that /proc hides (hidepid)");
    for (int p = 0; p < PROTOCOLS; p++)
        if (blind->refused & (1u << p))
            remark(&r, "%s: the kernel would not list it", socket_protocol_name(p));
    if (blind->namespaces)
        remark(&r, "%u network namespace%s: no permission", blind->namespaces,
               plural(blind->namespaces, "", "s"));
    if (blind->homes)
        remark(&r, "the network namespace%s of %u process%s: no permission",
               plural(blind->homes, "", "s"), blind->homes, plural(blind->homes, "", "es"));
    if (blind->elsewhere)
        remark(&r, "%u socket%s of other network namespaces (--netns all)", blind->elsewhere,
               plural(blind->elsewhere, "", "s"));
    if (blind->unidentified)
        remark(&r, "%u TCP socket%s that may be dead: no permission", blind->unidentified,
               plural(blind->unidentified, "", "s"));
}
