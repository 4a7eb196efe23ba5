/* SPDX-License-Identifier: MIT */

/* Addresses and remarks in words. */

#include "ps/text.h"

#include "base/line.h"
#include "common/procfs.h"
#include "common/say.h"
#include "common/units.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Of the processes that could not be looked at. */
#define WHO_TOLD 4

enum {
    INET_TEXT = INET6_ADDRSTRLEN + 32
};

static char *put_address(const struct socket *s, const uint8_t *address, char *at)
{
    static const uint8_t any[16];

    if (memcmp(address, any, sizeof any) == 0) {
        *at++ = '*';
    } else if (s->family == AF_INET) {
        for (int i = 0; i < 4; i++) {
            if (i)
                *at++ = '.';
            at = put_decimal(at, address[i]);
        }
    } else {
        *at++ = '[';
        inet_ntop(AF_INET6, address, at, INET6_ADDRSTRLEN);
        at += strlen(at);
        *at++ = ']';
    }
    return at;
}

/* There may be very many: without printf(3). */
static void format_inet(const struct socket *s, const uint8_t *address, uint16_t port, char *buf,
                        size_t size)
{
    char text[INET_TEXT], *at = put_address(s, address, text);
    size_t length;

    *at++ = ':';
    if (port)
        at = put_decimal(at, port);
    else
        *at++ = '*';
    length = (size_t) (at - text) < size ? (size_t) (at - text) : size - 1;
    memcpy(buf, text, length);
    buf[length] = '\0';
}

const char *format_local(const struct snapshot *snapshot, const struct socket *s, char *buf,
                         size_t size)
{
    char name[450];

    if (s->protocol != PROTOCOL_UNIX) {
        format_inet(s, s->local, s->local_port, buf, size);
        return buf;
    }
    escape(snapshot_name(snapshot, s), name, sizeof name);
    snprintf(buf, size, "%s %" PRIu32, *name ? name : "*", s->inode);
    return buf;
}

const char *format_remote(const struct socket *s, char *buf, size_t size)
{
    if (s->protocol != PROTOCOL_UNIX)
        format_inet(s, s->remote, s->remote_port, buf, size);
    else if (s->peer)
        snprintf(buf, size, "* %" PRIu32, s->peer);
    else
        snprintf(buf, size, "*");
    return buf;
}

struct remarks {
    FILE *out;
    size_t width;
};

__attribute__((format(printf, 2, 3))) static void remark(const struct remarks *r,
                                                         const char *format, ...)
{
    char text[700] = "not looked at: ";
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + used, sizeof text - used, format, args);
    va_end(args);
    ps_text_line(r->out, text, r->width);
}

static const char *plural(uint32_t count, const char *one, const char *more)
{
    return count == 1 ? one : more;
}

static void remark_processes(const struct remarks *r, const struct blind *blind)
{
    char who[400] = "", name[64];
    struct fin__line line = { who, sizeof who, 0 };
    uint32_t told = blind->processes < WHO_TOLD ? blind->processes : WHO_TOLD;

    for (uint32_t i = 0; i < told; i++) {
        process_name(blind->process[i], name, sizeof name);
        fin__put(&line, "%s%s[%d]", i ? ", " : "", name, blind->process[i]);
    }
    remark(r, "the descriptors of %u process%s: no permission (%s%s)", blind->processes,
           plural(blind->processes, "", "es"), who, blind->processes > told ? ", ..." : "");
}

void ps_text_blind(FILE *out, const struct blind *blind, size_t width)
{
    const struct remarks r = { out, width };

    if (blind->processes)
        remark_processes(&r, blind);
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
