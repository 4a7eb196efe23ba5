/* SPDX-License-Identifier: MIT */

#include "ps_json.h"

#include "judge.h"
#include "ps_text.h"
#include "say.h"

#include <arpa/inet.h>
#include <finack.h>
#include <jansson.h>
#include <string.h>
#include <sys/socket.h>

enum {
    TEXT = 512
};

/* ---- a socket ---- */

static json_t *inet_end(const struct socket *s, const uint8_t *address, uint16_t port)
{
    char text[INET6_ADDRSTRLEN] = "";

    inet_ntop(s->family, address, text, sizeof text);
    return json_pack("{s:s, s:i}", "address", text, "port", port);
}

static json_t *local_end(const struct look *look, const struct socket *s)
{
    char name[TEXT];

    if (s->protocol != PROTOCOL_UNIX)
        return inet_end(s, s->local, s->local_port);
    escape(look_name(look, s), name, sizeof name);
    return json_pack("{s:s}", "name", name);
}

static json_t *remote_end(const struct socket *s)
{
    if (s->protocol != PROTOCOL_UNIX)
        return inet_end(s, s->remote, s->remote_port);
    return json_pack("{s:I}", "inode", (json_int_t) s->peer);
}

static json_t *holders(const struct look *look, const struct socket *s)
{
    json_t *array = json_array();
    char name[64];

    for (size_t i = 0; i < s->references; i++) {
        const struct reference *r = &look->held.at[s->first_reference + i];
        const struct process *p = &look->scan.processes.at[r->process];

        escape(p->command, name, sizeof name);
        json_array_append_new(
            array, json_pack("{s:i, s:i, s:s}", "pid", p->pid, "fd", r->fd, "command", name));
    }
    return array;
}

static json_t *stale(const struct look *look, const struct socket *s)
{
    json_t *array = json_array();
    char name[64], data[32];

    for (size_t i = 0; i < s->stales; i++) {
        const struct stale_entry *e = &look->scan.stales.at[s->first_stale + i];
        const struct epoll_set *set = &look->scan.sets.at[e->set];
        const struct process *p = &look->scan.processes.at[set->process];

        escape(p->command, name, sizeof name);
        snprintf(data, sizeof data, "0x%llx", (unsigned long long) e->data);
        json_array_append_new(array,
                              json_pack("{s:i, s:s, s:i, s:i, s:b, s:I, s:s}", "pid", p->pid,
                                        "command", name, "epoll_fd", set->fd, "fd", e->fd, "reused",
                                        e->reused, "events", (json_int_t) e->events, "data", data));
    }
    return array;
}

static json_t *findings(const struct socket *s)
{
    json_t *array = json_array();

    for (int f = 0; f < FOUND_NOTHING; f++)
        if (s->findings & (1u << f))
            json_array_append_new(array, json_string(finding_name(f)));
    return array;
}

static json_t *timer(const struct socket *s)
{
    static const char *const names[] = { NULL, "retransmit", "keepalive", "time-wait", "probe" };

    if (s->timer == 0 || s->timer >= sizeof names / sizeof *names)
        return json_null();
    return json_pack("{s:s, s:I, s:i}", "name", names[s->timer], "ms", (json_int_t) s->timer_ms,
                     "tried", s->retries);
}

static json_t *age(const struct socket *s)
{
    uint32_t least, most;

    if (!end_age(s, &least, &most))
        return json_null();
    return json_pack("{s:I, s:I}", "least", (json_int_t) least, "most", (json_int_t) most);
}

static json_t *tcp(const struct socket *s)
{
    const struct tcp_facts *t = &s->tcp;

    if (!t->known)
        return json_null();
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "last_data_sent_ms", (json_int_t) t->last_sent,
                     "last_data_received_ms", (json_int_t) t->last_received, "last_ack_received_ms",
                     (json_int_t) t->last_acked, "bytes_received", (json_int_t) t->received,
                     "bytes_acked", (json_int_t) t->acked);
}

static const char *type_name(const struct socket *s)
{
    switch (s->type) {
    case SOCK_STREAM:
        return "stream";
    case SOCK_DGRAM:
        return "dgram";
    case SOCK_SEQPACKET:
        return "seqpacket";
    default:
        return "other";
    }
}

static const char *family_name(const struct socket *s)
{
    return s->family == AF_INET6 ? "inet6" : s->family == AF_INET ? "inet" : "unix";
}

static json_t *identity(const struct look *look, const struct socket *s)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:I}", "proto",
                     socket_protocol_name(s->protocol), "family", family_name(s), "type",
                     type_name(s), "state", socket_state_name(s->state), "local",
                     local_end(look, s), "remote", remote_end(s), "inode", (json_int_t) s->inode,
                     "cookie", (json_int_t) s->cookie, "netns", (json_int_t) s->netns, "uid",
                     (json_int_t) s->uid);
}

static json_t *socket_object(const struct look *look, const struct socket *s)
{
    char why[TEXT];
    json_t *object = identity(look, s), *rest;

    explain(look, s, why, sizeof why);
    rest = json_pack("{s:s, s:o, s:s, s:b, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "verdict",
                     finding_name(s->verdict), "findings", findings(s), "why", why, "listed",
                     s->listed, "receive_queue", (json_int_t) s->receive_queue, "send_queue",
                     (json_int_t) s->send_queue, "timer", timer(s), "end_age_ms", age(s), "tcp",
                     tcp(s), "holders", holders(look, s), "registrations", stale(look, s));
    if (object && rest && s->rated)
        json_object_set_new(rest, "rates",
                            json_pack("{s:I, s:I}", "received", (json_int_t) s->received_rate,
                                      "acked", (json_int_t) s->acked_rate));
    if (object && rest)
        json_object_update_missing(object, rest);
    json_decref(rest);
    return object;
}

/* ---- all ---- */

static json_t *counts(const struct ps_rows *rows)
{
    json_t *object = json_object();

    for (int f = 0; f < FINDINGS; f++)
        json_object_set_new(object, finding_name(f), json_integer((json_int_t) rows->count[f]));
    return object;
}

static json_t *blind(const struct blind *b)
{
    json_t *refused = json_array();

    for (int p = 0; p < PROTOCOLS; p++)
        if (b->refused & (1u << p))
            json_array_append_new(refused, json_string(socket_protocol_name(p)));
    return json_pack("{s:I, s:b, s:o, s:I, s:I, s:I, s:I}", "processes", (json_int_t) b->processes,
                     "hidden_processes", b->hidden, "protocols", refused, "namespaces",
                     (json_int_t) b->namespaces, "namespaces_of_processes", (json_int_t) b->homes,
                     "sockets_elsewhere", (json_int_t) b->elsewhere, "unidentified",
                     (json_int_t) b->unidentified);
}

/* Takes the value over. */
static int print_value(FILE *out, json_t *value)
{
    int result = value ? json_dumpf(value, out, JSON_COMPACT) : -1;

    json_decref(value);
    return result;
}

/* One object at a time, since all of them would take 3 KiB a socket. */
int ps_json_print(FILE *out, const struct look *look, const struct ps_rows *rows, bool compact)
{
    const char *gap = compact ? "" : "\n";
    int result = 0;

    fprintf(out, "{\"sockets\":[");
    for (size_t i = 0; i < rows->rows.count && result == 0; i++) {
        fprintf(out, "%s%s", i ? "," : "", gap);
        result = print_value(out, socket_object(look, rows->rows.at[i]));
    }
    fprintf(out, "%s],%s\"counts\":", gap, gap);
    if (result == 0)
        result = print_value(out, counts(rows));
    fprintf(out, ",%s\"not_looked_at\":", gap);
    if (result == 0)
        result = print_value(out, blind(&look->blind));
    fprintf(out, "}\n");
    return result < 0 ? -ENOMEM : 0;
}
