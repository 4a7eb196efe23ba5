/* SPDX-License-Identifier: MIT */

/*
 * A scene is one close with all that surrounds it, as a row of small values: value 0 of every field
 * is the plain one. It is made from a seed, written as text ("kind=tcp6 peer_act=reset"), read
 * back, and reduced by setting one field after the other to 0.
 */

#ifndef SCENE_H
#define SCENE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field {
    KIND,       /* what is closed */
    DRIVER,     /* what closes it */
    PEER_READS, /* does the peer's program read */
    PEER_ACT,   /* how the peer ends its side */
    PEER_WHEN,  /* ms after the close began; or before it */
    PEER_SENDS, /* bytes that wait for us when the close begins */
    PEER_CHATS, /* the peer goes on sending */
    EMPTY,      /* a message without bytes comes first */
    URGENT,     /* the peer sends a byte out of band */
    SENT,       /* bytes that the program handed to the kernel */
    SETTLED,    /* the peer's kernel has what was sent before anything else happens */
    LAYER,      /* bytes that a layer holds back for the close */
    TLS_VERSION,
    UNFINISHED,   /* what the close is told of a write of the program's that TLS did not finish */
    PEER_ANSWERS, /* does the peer say close_notify before its FIN, and for an answer */
    PEER_UPDATES, /* TLS 1.3: the peer asks for new keys with what it sends */
    INPUT,        /* the program reads what is there, up to the peer's FIN */
    ERROR,        /* which call of the program's takes an error that is there */
    SHUT,         /* shutdown(2) by the program */
    LINGER,       /* SO_LINGER */
    USER_TIMEOUT, /* TCP_USER_TIMEOUT, ms */
    LINGER2,      /* TCP_LINGER2 */
    HOLDER,       /* who else refers to the description, until after the receipt */
    WORKERS,      /* threads inside a handle */
    COURTESY,
    SCOPE,
    PROOF,
    DRAIN,
    LINGER_MS,
    TOTAL_MS,
    PROOF_MS,
    FLUSH_MS,
    FAREWELL_MS,
    ORPHAN,
    SEARCH,
    REBINDABLE,
    FAULT,      /* what becomes of the network, for which the scene has one of its own */
    FAULT_WHEN, /* ms after the close began; or before it */
    CAP,        /* the closer has room for one close, and gets another */
    CANCEL_MS,  /* when aclose() is cancelled */
    ABORT_MS,   /* the closer's: when it is asked to abort */
    FIELDS,
};

enum kind {
    TCP,
    TCP6,
    MPTCP,
    UNIX_STREAM,
    UNIX_SEQPACKET,
    UNIX_DGRAM,
    UDP,
    PIPE_WRITE,
    PIPE_READ,
    LISTENER,
    LISTENER_UNIX,
    LISTENER_MPTCP,
    UNCONNECTED, /* a TCP socket that never was */
    CONNECTING,  /* to a queue that is full */
    FAST_OPEN,   /* the same, with data in the SYN */
};
enum driver {
    CLOSE,
    CLOSE_KERNEL,
    CLOSER,
    HANDLE,
    LAYERED,
    CLOSER_LAYERED,
    TLS,
    CLOSER_TLS,
    PY_CLOSE, /* those of Python begin here: close() of a blocking socket */
    PY_CLOSE_TLS,
    PY_ACLOSE, /* aclose() of a transport */
    PY_ACLOSE_TLS,
    PY_STREAM, /* of a StreamWriter */
    PY_STREAM_TLS,
    PY_SERVER, /* of a server with connections, some of them not accepted yet */
    PY_SOCKET, /* of a socket that a task waits for in loop.sock_recv() */
};
enum peer_reads {
    READS_ALL,
    READS_NONE,
    READS_SLOWLY
};
enum peer_act {
    ACT_AT_EOF,
    ACT_NEVER,
    ACT_CLOSE,
    ACT_SHUT,
    ACT_RESET,
    ACT_DIE
};
enum peer_when {
    WHEN_BEFORE,
    WHEN_0,
    WHEN_1,
    WHEN_3,
    WHEN_10,
    WHEN_30
};
enum taken_by {
    TAKEN_NOT,
    TAKEN_SEND,
    TAKEN_RECV,
    TAKEN_SO_ERROR
};
enum shut {
    SHUT_NOTHING,
    SHUT_READING,
    SHUT_WRITING,
    SHUT_BOTH
};
enum holder {
    HELD_NOT,
    HELD_DUP,
    HELD_CHILD,
    HELD_CHILD_READS,
    HELD_IN_FLIGHT
};
enum fault {
    FAULT_NONE,
    FAULT_DROP, /* all packets */
    FAULT_DROP_OURS,
    FAULT_DROP_THEIRS,
    FAULT_RESET,        /* the router answers each packet by RST */
    FAULT_UNREACHABLE,  /* by ICMP host unreachable */
    FAULT_LOSSY,        /* half of the packets are lost */
    FAULT_ADDRESS_GONE, /* the peer's */
    FAULT_ROUTE_GONE,   /* ours to the peer */
    FAULT_KILLED,       /* our end, by SOCK_DESTROY */
};
enum workers {
    WORKERS_NONE,
    WORKERS_RECV,
    WORKERS_ENTERED
};

struct scene {
    uint8_t v[FIELDS];
};

/* The scene that `seed` and `index` stand for, the same on every machine; for Python's drivers or
 * for those of C. */
struct scene scene_make(uint64_t seed, uint64_t index, bool python);

/* Makes fields plain that mean nothing beside the others. */
void scene_settle(struct scene *scene);

/* Every field that is not plain, as text; returns `buf`. `all`: the plain ones too. */
const char *scene_format(const struct scene *scene, bool all, char *buf, size_t size);

/* Sets the fields that such text names. Returns false, with a message on stderr, if it is none. */
bool scene_change(struct scene *scene, const char *text);

/* What the value of a field stands for, if it is a number. */
long scene_number(const struct scene *scene, enum field field);

/* How many values a field has. */
unsigned scene_values(enum field field);

/* ---- kinds ---- */

bool scene_is_tcp(const struct scene *scene);    /* connected, v4 or v6, not MPTCP */
bool scene_is_stream(const struct scene *scene); /* connected, ends in FIN */
bool scene_is_unix(const struct scene *scene);
bool scene_is_listener(const struct scene *scene);
bool scene_is_layered(const struct scene *scene);
bool scene_is_tls(const struct scene *scene);
bool scene_is_python(const struct scene *scene);
bool scene_is_closer(const struct scene *scene);

/* Under which scope the close runs. */
bool scene_of_descriptor(const struct scene *scene);

#endif
