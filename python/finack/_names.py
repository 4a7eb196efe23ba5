# SPDX-License-Identifier: MIT
"""What a socket is called in messages."""

import socket
from typing import Any

from finack._receipt import _printable

_KINDS = {
    (socket.AF_INET, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET6, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET, socket.SOCK_DGRAM): "udp",
    (socket.AF_INET6, socket.SOCK_DGRAM): "udp",
}


def address(name: Any) -> str:
    """As people write it; what has no name, like most Unix sockets, is "-"."""
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if isinstance(name, bytes):
        name = "@" + name[1:].decode(errors="surrogateescape")
    return _printable(str(name)) or "-"


def name_of(fd: int) -> str:
    """Kind and addresses, such as "tcp 127.0.0.1:4711 -> 127.0.0.1:80".

    OSError: it isn't a socket.
    """
    with socket.socket(fileno=fd) as sock:
        try:
            return _name_of(sock)
        finally:
            sock.detach()


def _name_of(sock: socket.socket) -> str:
    kind = _KINDS.get((sock.family, sock.type), "unix" if sock.family == socket.AF_UNIX else "")
    name = f"{kind or sock.family.name} {address(sock.getsockname())}"
    try:
        return f"{name} -> {address(sock.getpeername())}"
    except OSError:
        return name
