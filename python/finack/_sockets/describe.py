# SPDX-License-Identifier: MIT
"""What a person wants to know of a socket, by its number."""

import socket

from finack._sockets.names import borrowed, name_of

# As in the kernel's tcp_states.h.
STATES = (
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
)
_TCP = (socket.IPPROTO_TCP, 262)  # and MPTCP


def is_listening(sock: socket.socket) -> bool:
    """Whether it accepts connections."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def describe(fd: int) -> str:
    """A socket's kind and addresses. Never fails: what is no open socket is called by number.

    >>> with socket.create_server(("127.0.0.1", 0)) as server:
    ...     describe(server.fileno())  # doctest: +ELLIPSIS
    'tcp 127.0.0.1:... listening'
    """
    try:
        with borrowed(fd) as sock:
            return name_of(fd) + " listening" * is_listening(sock)
    except OSError:
        return f"descriptor {fd}"


def state(fd: int) -> str:
    """The state of a TCP connection, such as "CLOSE_WAIT"; empty: it has none."""
    try:
        with borrowed(fd) as sock:
            if sock.family == socket.AF_UNIX or sock.proto not in _TCP:
                return ""
            number = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            return STATES[number] if number < len(STATES) else ""
    except OSError:
        return ""
