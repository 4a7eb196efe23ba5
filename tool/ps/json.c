/* SPDX-License-Identifier: MIT */

#include "ps/json.h"

#include "common/procfs.h"
#include "common/say.h"
#include "ps/groups.h"
#include "ps/text.h"
#include "sockets/container.h"
#include "sockets/judge.h"
#include "sockets/sharing.h"

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

static json_t *local_end(const struct snapshot *snapshot, const struct socket *s)
{
    char name[TEXT];

    if (s->protocol != PROTOCOL_UNIX)
        return inet_end(s, s->local, s->local_port);
    escape(snapshot_name(snapshot, s), name, sizeof name);
    return json_pack("{s:s}", "name", name);
}

static json_t *remote_end(const struct socket *s)
{
    if (s->protocol != PROTOCOL_UNIX)
        return inet_end(s, s->remote, s->remote_port);
    return json_pack("{s:I}", "inode", (json_int_t) s->peer);
}

/* Kept for the last process: mostly it has many sockets. */
struct container_cache {
    int32_t pid;
    struct container container;
};

static json_t *container(int32_t pid, struct container_cache *cache)
{
    const struct container *c = &cache->container;
    char cgroup[1024], host[300];

    if (cache->pid != pid)
        container_read(pid, &cache->container);
    cache->pid = pid;
    escape(c->cgroup, cgroup, sizeof cgroup);
    escape(c->host, host, sizeof host);
    return json_pack("{s:s, s:s?, s:s?, s:s?}", "cgroup", cgroup, "id", *c->id ? c->id : NULL,
                     "pod", *c->pod ? c->pod : NULL, "host", *host ? host : NULL);
}

static json_t *ps_json_holders(const struct snapshot *snapshot, const struct socket *s,
                               struct container_cache *cache)
{
    json_t *array = json_array();
    char name[64];

    for (size_t i = 0; i < s->references; i++) {
        const struct process *p = socket_holder(snapshot, s, i);

        escape(p->command, name, sizeof name);
        json_array_append_new(array,
                              json_pack("{s:i, s:i, s:s, s:o}", "pid", p->pid, "fd",
                                        socket_reference(snapshot, s, i)->fd, "command", name,
                                        "container", container(p->pid, cache)));
    }
    return array;
}

static json_t *stale(const struct snapshot *snapshot, const struct socket *s)
{
    json_t *array = json_array();
    char name[64], data[32];
    size_t count;
    const struct stale_entry *e = snapshot_stales(snapshot, s, &count);

    for (; count > 0; count--, e++) {
        const struct epoll_set *set = &snapshot->scan.sets.at[e->set];
        const struct process *p = &snapshot->scan.processes.at[set->process];

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

    for (int f = 0; f < FINDINGS; f++)
        if (s->findings & (1u << f))
            json_array_append_new(array, json_string(finding_name(f)));
    return array;
}

static json_t *timer(const struct socket *s)
{
    static const char *const names[] = { NULL, "retransmit", "keepalive", "time-wait", "probe" };

    if (s->timer == 0 || s->timer >= sizeof names / sizeof *names)
        return json_null();
    return json_pack("{s:s, s:I, s:i}", "name", names[s->timer], "ms", (json_int_t) s->tcp.timer_ms,
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

    if (!s->has_tcp)
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

static json_t *identity(const struct snapshot *snapshot, const struct socket *s)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:I}", "proto",
                     socket_protocol_name(s->protocol), "family", family_name(s), "type",
                     type_name(s), "state", socket_state_name(s->state), "local",
                     local_end(snapshot, s), "remote", remote_end(s), "inode",
                     (json_int_t) s->inode, "cookie", (json_int_t) s->cookie, "netns",
                     (json_int_t) s->netns, "uid", (json_int_t) s->uid);
}

static json_t *ps_json_queue(const struct socket *s, uint32_t bytes)
{
    return s->queues_unknown ? json_null() : json_integer((json_int_t) bytes);
}

static json_t *socket_object(const struct snapshot *snapshot, const struct socket *s,
                             struct container_cache *cache)
{
    char why[TEXT];
    json_t *object = identity(snapshot, s), *rest;
    const struct socket_rate *rate = snapshot_rate(snapshot, s);

    explain(snapshot, s, why, sizeof why);
    rest = json_pack("{s:s, s:o, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "verdict",
                     finding_name(s->verdict), "findings", findings(s), "why", why, "listed",
                     s->listed, "receive_queue", ps_json_queue(s, s->receive_queue), "send_queue",
                     ps_json_queue(s, s->send_queue), "timer", timer(s), "end_age_ms", age(s),
                     "tcp", tcp(s), "holders", ps_json_holders(snapshot, s, cache), "registrations",
                     stale(snapshot, s));
    if (object && rest && rate)
        json_object_set_new(rest, "rates",
                            json_pack("{s:I, s:I}", "received", (json_int_t) rate->received,
                                      "acked", (json_int_t) rate->acked));
    if (object && rest)
        json_object_update_missing(object, rest);
    json_decref(rest);
    return object;
}

json_t *ps_json_socket(const struct snapshot *snapshot, const struct socket *s)
{
    struct container_cache cache = { 0 };

    return socket_object(snapshot, s, &cache);
}

/* ---- all ---- */

static json_t *counts(const struct ps_rows *rows)
{
    json_t *object = json_object();

    for (int f = 0; f < FINDINGS; f++)
        json_object_set_new(object, finding_name(f), json_integer((json_int_t) rows->count[f]));
    return object;
}

static json_t *not_looked_into(const struct blind *b)
{
    json_t *array = json_array();
    char name[64];

    for (uint32_t i = 0; i < b->processes && i < UNREADABLE_TOLD; i++) {
        process_name(b->process[i], name, sizeof name);
        json_array_append_new(array,
                              json_pack("{s:i, s:s}", "pid", b->process[i], "command", name));
    }
    return array;
}

static json_t *blind(const struct blind *b)
{
    json_t *refused = json_array();

    for (int p = 0; p < PROTOCOLS; p++)
        if (b->refused & (1u << p))
            json_array_append_new(refused, json_string(socket_protocol_name(p)));
    return json_pack("{s:I, s:o, s:b, s:o, s:I, s:I, s:I, s:I}", "processes",
                     (json_int_t) b->processes, "who", not_looked_into(b), "hidden_processes",
                     b->hidden, "protocols", refused, "namespaces", (json_int_t) b->namespaces,
                     "namespaces_of_processes", (json_int_t) b->homes, "sockets_elsewhere",
                     (json_int_t) b->elsewhere, "unidentified", (json_int_t) b->unidentified);
}

/* Takes the value over. */
static int print_value(FILE *out, json_t *value)
{
    int result = value ? json_dumpf(value, out, JSON_COMPACT) : -1;

    json_decref(value);
    return result;
}

/* One object at a time, since all of them would take 3 KiB a socket. */
static int print_sockets(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                         const char *gap)
{
    struct container_cache cache = { 0 };
    int result = 0;

    fprintf(out, "[");
    for (size_t i = 0; i < rows->rows.count && result == 0; i++) {
        fprintf(out, "%s%s", i ? "," : "", gap);
        result = print_value(out, socket_object(snapshot, rows->rows.at[i], &cache));
    }
    fprintf(out, "%s]", gap);
    return result;
}

static json_t *changes(const struct ps_changes *c)
{
    return json_pack("{s:I, s:I, s:I}", "came", (json_int_t) c->came, "changed",
                     (json_int_t) c->changed, "went", (json_int_t) c->went);
}

int ps_json_print(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                  enum ps_group by, bool compact)
{
    const char *gap = compact ? "" : "\n";
    int result;

    fprintf(out, "{\"%s\":", by ? "groups" : "sockets");
    result = by ? ps_groups_json(out, snapshot, rows, by) : print_sockets(out, snapshot, rows, gap);
    fprintf(out, ",%s\"counts\":", gap);
    if (result == 0)
        result = print_value(out, counts(rows));
    if (result == 0 && rows->compared) {
        fprintf(out, ",%s\"since\":", gap);
        result = print_value(out, changes(&rows->changes));
    }
    fprintf(out, ",%s\"not_looked_at\":", gap);
    if (result == 0)
        result = print_value(out, blind(&snapshot->blind));
    fprintf(out, "}\n");
    return result < 0 ? -ENOMEM : 0;
}
