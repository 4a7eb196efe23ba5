/* SPDX-License-Identifier: MIT */

#include "scene.h"

#include <finack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_MAX 16

struct field_info {
    const char *name;
    unsigned plain; /* of 100 scenes so many have the plain value beyond its equal share */
    const char *values[VALUES_MAX];
};

/* clang-format off */
static const struct field_info infos[FIELDS] = {
    [KIND] = { "kind", 20, { "tcp", "tcp6", "mptcp", "unix", "seqpacket", "dgram", "udp", "pipe_write", "pipe_read", "listener", "listener_unix", "listener_mptcp", "unconnected", "connecting", "fast_open" } },
    [DRIVER] = { "driver", 0, { "close", "close_kernel", "closer", "handle", "layered", "closer_layered", "tls", "closer_tls", "py_close", "py_close_tls", "py_aclose", "py_aclose_tls", "py_stream", "py_stream_tls", "py_server", "py_socket" } },
    [PEER_READS] = { "peer_reads", 30, { "all", "none", "slowly" } },
    [PEER_ACT] = { "peer_act", 15, { "at_eof", "never", "close", "shut", "reset", "die" } },
    [PEER_WHEN] = { "peer_when", 10, { "before", "0", "1", "3", "10", "30" } },
    [PEER_SENDS] = { "peer_sends", 40, { "0", "1", "1000", "100000" } },
    [PEER_CHATS] = { "peer_chats", 85, { "no", "yes" } },
    [EMPTY] = { "empty", 60, { "no", "yes" } },
    [URGENT] = { "urgent", 90, { "no", "yes" } },
    [SENT] = { "sent", 20, { "0", "1", "1000", "100000", "fill" } },
    [SETTLED] = { "settled", 0, { "yes", "no" } },
    [LAYER] = { "layer", 0, { "0", "1000", "300000", "4000000" } },
    [TLS_VERSION] = { "tls", 50, { "1.3", "1.2" } },
    [UNFINISHED] = { "unfinished", 60, { "passed", "kept" } },
    [PEER_ANSWERS] = { "peer_answers", 50, { "yes", "no" } },
    [PEER_UPDATES] = { "peer_updates", 60, { "no", "yes" } },
    [INPUT] = { "input", 60, { "left", "read" } },
    [ERROR] = { "error", 30, { "left", "send", "recv", "so_error" } },
    [SHUT] = { "shut", 70, { "no", "rd", "wr", "rdwr" } },
    [LINGER] = { "linger", 80, { "no", "zero", "time" } },
    [USER_TIMEOUT] = { "user_timeout", 85, { "0", "20" } },
    [LINGER2] = { "linger2", 90, { "no", "negative" } },
    [HOLDER] = { "holder", 60, { "none", "dup", "child", "child_reads", "in_flight" } },
    [WORKERS] = { "workers", 40, { "none", "recv", "entered" } },
    [COURTESY] = { "courtesy", 35, { "orderly", "prompt", "abort", "full" } },
    [SCOPE] = { "scope", 60, { "default", "connection", "descriptor" } },
    [PROOF] = { "proof", 40, { "unreferenced", "released", "finished", "gone" } },
    [DRAIN] = { "drain", 50, { "1048576", "0", "1", "1000" } },
    [LINGER_MS] = { "linger_ms", 40, { "40", "0", "8", "80" } },
    [TOTAL_MS] = { "total_ms", 50, { "200", "0", "20", "60" } },
    [PROOF_MS] = { "proof_ms", 50, { "20", "0", "5" } },
    [FLUSH_MS] = { "flush_ms", 50, { "40", "0", "5" } },
    [FAREWELL_MS] = { "farewell_ms", 50, { "30", "0", "5" } },
    [ORPHAN] = { "orphan_ms", 40, { "-1", "0", "10" } },
    [SEARCH] = { "search", 50, { "no", "yes" } },
    [REBINDABLE] = { "rebindable", 80, { "no", "yes" } },
    [FAULT] = { "fault", 99, { "none", "drop", "drop_ours", "drop_theirs", "reset", "unreachable", "lossy", "address_gone", "route_gone", "killed" } },
    [FAULT_WHEN] = { "fault_when", 0, { "before", "5", "20" } },
    [CAP] = { "cap", 75, { "no", "forced" } },
    [CANCEL_MS] = { "cancel_ms", 75, { "-1", "0", "1", "5", "15" } },
    [ABORT_MS] = { "abort_ms", 60, { "-1", "0", "1", "5", "15" } },
};
/* clang-format on */

unsigned scene_values(enum field field)
{
    unsigned count = 0;

    while (count < VALUES_MAX && infos[field].values[count])
        count++;
    return count;
}

long scene_number(const struct scene *scene, enum field field)
{
    return strtol(infos[field].values[scene->v[field]], NULL, 10);
}

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators). */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

struct scene scene_make(uint64_t seed, uint64_t index, bool python)
{
    const uint64_t drivers = scene_values(DRIVER);
    uint64_t state = seed;
    struct scene scene;

    state = next(&state) + index;
    for (unsigned i = 0; i < FIELDS; i++) {
        bool plain = next(&state) % 100 < infos[i].plain;

        scene.v[i] = plain ? 0 : (uint8_t) (next(&state) % scene_values((enum field) i));
    }
    scene.v[DRIVER] = (uint8_t) (python ? PY_CLOSE + next(&state) % (drivers - PY_CLOSE)
                                        : next(&state) % PY_CLOSE);
    scene_settle(&scene);
    return scene;
}

/* ---- kinds ---- */

bool scene_is_tcp(const struct scene *scene)
{
    return scene->v[KIND] == TCP || scene->v[KIND] == TCP6;
}

bool scene_is_stream(const struct scene *scene)
{
    return scene->v[KIND] <= UNIX_SEQPACKET;
}

bool scene_is_unix(const struct scene *scene)
{
    return scene->v[KIND] >= UNIX_STREAM && scene->v[KIND] <= UNIX_DGRAM;
}

bool scene_is_listener(const struct scene *scene)
{
    return scene->v[KIND] >= LISTENER && scene->v[KIND] <= LISTENER_MPTCP;
}

bool scene_is_layered(const struct scene *scene)
{
    return scene->v[DRIVER] == LAYERED || scene->v[DRIVER] == CLOSER_LAYERED;
}

bool scene_is_tls(const struct scene *scene)
{
    return scene->v[DRIVER] == TLS || scene->v[DRIVER] == CLOSER_TLS
        || scene->v[DRIVER] == PY_CLOSE_TLS || scene->v[DRIVER] == PY_ACLOSE_TLS
        || scene->v[DRIVER] == PY_STREAM_TLS;
}

bool scene_is_python(const struct scene *scene)
{
    return scene->v[DRIVER] >= PY_CLOSE;
}

bool scene_is_closer(const struct scene *scene)
{
    return scene->v[DRIVER] == CLOSER || scene->v[DRIVER] == CLOSER_LAYERED
        || scene->v[DRIVER] == CLOSER_TLS;
}

bool scene_of_descriptor(const struct scene *scene)
{
    return scene->v[SCOPE] == FIN_SCOPE_DESCRIPTOR
        || (scene->v[SCOPE] == FIN_SCOPE_DEFAULT && scene_is_listener(scene));
}

/* ---- what goes together ---- */

static void plain(struct scene *scene, enum field field, bool condition)
{
    if (condition)
        scene->v[field] = 0;
}

static void settle_peer(struct scene *scene)
{
    bool tcp = scene_is_tcp(scene), stream = scene_is_stream(scene);

    plain(scene, PEER_READS, !stream && scene->v[KIND] != PIPE_WRITE);
    plain(scene, PEER_ACT, scene->v[KIND] > PIPE_READ);
    plain(scene, PEER_WHEN, scene->v[PEER_ACT] < ACT_CLOSE);
    plain(scene, PEER_SENDS, scene->v[KIND] > UDP && scene->v[KIND] != PIPE_READ);
    plain(scene, PEER_CHATS, !stream);
    plain(scene, URGENT, !tcp);
    plain(scene, EMPTY, scene->v[KIND] != UNIX_SEQPACKET || scene_is_layered(scene));
    if (scene->v[KIND] >= UNIX_SEQPACKET && scene->v[SENT] > 3)
        scene->v[SENT] = 3;
}

static void settle_program(struct scene *scene)
{
    bool tcp = scene_is_tcp(scene), stream = scene_is_stream(scene);

    plain(scene, SENT, scene->v[KIND] > PIPE_WRITE && scene->v[KIND] != FAST_OPEN);
    plain(scene, INPUT, !stream);
    plain(scene, ERROR, !stream);
    plain(scene, SHUT, !stream);
    plain(scene, LINGER, !tcp && scene->v[KIND] != MPTCP);
    plain(scene, LINGER2, !tcp);
    plain(scene, USER_TIMEOUT, !tcp);
    plain(scene, HOLDER, scene->v[KIND] == CONNECTING);
    if (!stream && scene->v[HOLDER] == HELD_CHILD_READS)
        scene->v[HOLDER] = HELD_CHILD;
}

static void settle_driver(struct scene *scene)
{
    bool pipe = scene->v[KIND] == PIPE_WRITE || scene->v[KIND] == PIPE_READ;

    if (!scene_is_stream(scene) && scene_is_layered(scene))
        scene->v[DRIVER] = scene->v[DRIVER] == LAYERED ? CLOSE : CLOSER;
    if (scene_is_tls(scene) && scene->v[KIND] > UNIX_STREAM && !scene_is_python(scene))
        scene->v[DRIVER] = scene->v[DRIVER] == TLS ? CLOSE : CLOSER;
    if (pipe && scene->v[DRIVER] == HANDLE)
        scene->v[DRIVER] = CLOSE_KERNEL;
    if (scene->v[WORKERS] && !scene_is_stream(scene))
        scene->v[WORKERS] = WORKERS_NONE;
    plain(scene, WORKERS, scene->v[DRIVER] != HANDLE);
    plain(scene, LAYER, !scene_is_layered(scene) || scene->v[SHUT] >= SHUT_WRITING);
    plain(scene, FAULT, scene->v[KIND] != TCP && scene->v[KIND] != MPTCP);
    plain(scene, FAULT_WHEN, !scene->v[FAULT]);
    plain(scene, CANCEL_MS, scene->v[DRIVER] < PY_ACLOSE);
    plain(scene, CAP, !scene_is_closer(scene));
    plain(scene, ABORT_MS, !scene_is_closer(scene));
}

/* A program leaves the socket under TLS alone. */
static void settle_tls(struct scene *scene)
{
    bool tls = scene_is_tls(scene);

    plain(scene, URGENT, tls);
    plain(scene, ERROR, tls);
    plain(scene, SHUT, tls);
    plain(scene, TLS_VERSION, !tls);
    plain(scene, UNFINISHED, !tls || scene->v[SENT] != 4);
    plain(scene, PEER_ANSWERS, !tls);
    plain(scene, PEER_UPDATES, !tls || scene->v[TLS_VERSION]);
    if (tls && scene->v[HOLDER] == HELD_CHILD_READS)
        scene->v[HOLDER] = HELD_CHILD;
}

/* What referee.py plays: streams of the kinds that transports take, and TLS over TCP. */
static void settle_python(struct scene *scene)
{
    bool transport = scene->v[DRIVER] >= PY_ACLOSE && scene->v[DRIVER] != PY_SOCKET;

    if (!scene_is_python(scene))
        return;
    if (scene->v[HOLDER] > HELD_CHILD)
        scene->v[HOLDER] = HELD_CHILD;
    if (scene->v[DRIVER] == PY_SERVER) {
        scene->v[KIND] = LISTENER;
        return;
    }
    plain(scene, KIND, scene->v[KIND] > (scene_is_tls(scene) ? TCP6 : UNIX_STREAM));
    plain(scene, KIND, scene->v[KIND] == MPTCP);
    plain(scene, SHUT, transport && scene->v[SHUT] != SHUT_WRITING);
    plain(scene, LINGER2, true);
    plain(scene, USER_TIMEOUT, true);
    plain(scene, WORKERS, true);
    plain(scene, UNFINISHED, true);
    plain(scene, ERROR, transport && scene->v[ERROR] == TAKEN_RECV);
}

void scene_settle(struct scene *scene)
{
    settle_python(scene);
    settle_peer(scene);
    settle_program(scene);
    settle_driver(scene);
    settle_tls(scene);
}

/* ---- text ---- */

const char *scene_format(const struct scene *scene, bool all, char *buf, size_t size)
{
    size_t length = 0;

    buf[0] = '\0';
    for (unsigned i = 0; i < FIELDS && length < size; i++) {
        if (all || scene->v[i] || i == KIND || i == DRIVER)
            length += (size_t) snprintf(buf + length, size - length, "%s%s=%s", length ? " " : "",
                                        infos[i].name, infos[i].values[scene->v[i]]);
    }
    return buf;
}

static bool set(struct scene *scene, const char *name, const char *value)
{
    for (unsigned i = 0; i < FIELDS; i++) {
        if (strcmp(infos[i].name, name) != 0)
            continue;
        for (unsigned j = 0; j < scene_values((enum field) i); j++) {
            if (strcmp(infos[i].values[j], value) == 0) {
                scene->v[i] = (uint8_t) j;
                return true;
            }
        }
    }
    return false;
}

bool scene_change(struct scene *scene, const char *text)
{
    char copy[2048], *rest = copy;
    bool fine = true;

    (void) snprintf(copy, sizeof copy, "%s", text);
    for (char *word = strtok_r(copy, " ", &rest); word && fine; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');

        if (equals)
            *equals = '\0';
        fine = equals && set(scene, word, equals + 1);
        if (!fine)
            (void) fprintf(stderr, "referee: no such part of a scene: %s\n", word);
    }
    scene_settle(scene);
    return fine;
}
