# SPDX-License-Identifier: MIT
"""What a socket is called in messages."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

from finack._receipt import _printable

_KINDS = {
    (socket.AF_INET, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET6, socket.SOCK_STREAM): "tcp",
    (socket.AF_INET, socket.SOCK_DGRAM): "udp",
    (socket.AF_INET6, socket.SOCK_DGRAM): "udp",
}
_UNIX = getattr(socket, "AF_UNIX", None)  # there is none on Windows


def address(name: Any) -> str:
    """As people write it; what has no name, like most Unix sockets, is "-"."""
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if isinstance(name, bytes):
        name = "@" + name[1:].decode(errors="surrogateescape")
    return _printable(str(name)) or "-"


@contextlib.contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """The descriptor as a socket object, which leaves it open. OSError: it isn't a socket."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def name_of(fd: int) -> str:
    """Kind and addresses, such as "tcp 127.0.0.1:4711 -> 127.0.0.1:80".

    OSError: it isn't a socket.
    """
    with borrowed(fd) as sock:
        return name_of_socket(sock)


def name_of_any(fd: int) -> str:
    """The same; what is no socket is called as in /proc, such as "pipe:[4711]". OSError: closed."""
    try:
        return name_of(fd)
    except OSError as error:
        if error.errno != errno.ENOTSOCK:
            raise
    with contextlib.suppress(Exception):  # a program may forbid calls that could block
        return _printable(os.readlink(f"/proc/self/fd/{fd}"))
    return f"pipe:[{os.fstat(fd).st_ino}]"


def name_of_socket(sock: socket.socket) -> str:
    """The same, whatever a subclass makes of it."""
    kind = _KINDS.get((sock.family, sock.type), "unix" if sock.family == _UNIX else "")
    name = f"{kind or sock.family.name} {address(socket.socket.getsockname(sock))}"
    try:
        return f"{name} -> {address(socket.socket.getpeername(sock))}"
    except OSError:
        return name
