/* SPDX-License-Identifier: MIT */

#include "sockets/socket.h"

static const char *name_in(const char *const *names, int count, int i)
{
    return i >= 0 && i < count ? names[i] : "?";
}

const char *socket_protocol_name(int protocol)
{
    static const char *const names[PROTOCOLS] = { "tcp", "udp", "unix" };

    return name_in(names, PROTOCOLS, protocol);
}

const char *finding_name(int finding)
{
    static const char *const names[FINDINGS] = {
        [FOUND_STALE] = "stale-registration",
        [FOUND_INVISIBLE] = "invisible-holder",
        [FOUND_DEAD] = "dead",
        [FOUND_STALLED] = "stalled",
        [FOUND_LEAKED] = "leaked",
        [FOUND_UNSERVED] = "unserved",
        [FOUND_HALF_CLOSED] = "half-closed",
        [FOUND_ORPHAN] = "orphan",
        [FOUND_HELD] = "held",
        [FOUND_NOTHING] = "fine",
        [FOUND_PARKED] = "parked",
    };

    return name_in(names, FINDINGS, finding);
}

const char *socket_state_name(int state)
{
    static const char *const names[STATES] = {
        "UNKNOWN",   "ESTABLISHED", "SYN_SENT",     "SYN_RECV",       "FIN_WAIT1",
        "FIN_WAIT2", "TIME_WAIT",   "CLOSE",        "CLOSE_WAIT",     "LAST_ACK",
        "LISTEN",    "CLOSING",     "NEW_SYN_RECV", "BOUND_INACTIVE",
    };

    return name_in(names, STATES, state);
}

uint8_t socket_state(int kernel)
{
    return kernel > 0 && kernel < STATES ? (uint8_t) kernel : STATE_UNKNOWN;
}
