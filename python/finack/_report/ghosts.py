# SPDX-License-Identifier: MIT
"""What is closed, and what outlives its close."""

import contextlib
import ipaddress
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from finack import _core, _private
from finack._receipt import Holder
from finack._report.ended import receipt_of
from finack._report.leftovers import event_loops, objects
from finack._report.recent import Closed, recent
from finack._sockets.describe import STATES, describe
from finack._sockets.places import places
from finack._sockets.transports import connections, located

Kind: TypeAlias = Literal["descriptor", "description", "registration", "connection"]

_STILL_AT_WORK = ("FIN_WAIT1", "FIN_WAIT2", "LAST_ACK", "CLOSING")


@dataclass(frozen=True, slots=True, eq=False)
class Ghost:
    """What the program has closed and is still there.

    kind
        "descriptor": the number is open; "description": another process, a message or a thread
        inside a call holds it; "registration": an epoll set still reports it; "connection": the
        kernel is still sending, or waiting for the peer.
    socket
        Its name, such as "tcp 127.0.0.1:4711 -> 127.0.0.1:80".
    detail
        Why, as far as that is known.
    fd
        The number that it has, or had; None: not known.
    made
        The line of the program that made it, if that is known.
    age
        Seconds since the close was over; None: not known, or it isn't over.
    holders
        Processes that have it open.

    >>> print(Ghost("descriptor", "udp 127.0.0.1:53", "its loop is closed", fd=7))
    ghost descriptor: udp 127.0.0.1:53, fd 7: its loop is closed
    """

    kind: Kind
    socket: str
    detail: str
    fd: int | None = None
    made: str | None = None
    age: float | None = None
    holders: tuple[Holder, ...] = ()

    def __str__(self) -> str:
        """One line."""
        number = f", fd {self.fd}" if self.fd is not None else ""
        age = f", {self.age:.1f} s after its close" if self.age is not None else ""
        made = f", made at {self.made}" if self.made else ""
        return f"ghost {self.kind}: {self.socket}{number}: {self.detail}{age}{made}"

    def as_dict(self) -> dict[str, Any]:
        """For json.dumps().

        >>> Ghost("connection", "tcp [::1]:1 -> [::1]:2", "LAST_ACK").as_dict()["kind"]
        'connection'
        """
        return {
            "kind": self.kind,
            "socket": self.socket,
            "detail": self.detail,
            "fd": self.fd,
            "made": self.made,
            "age": self.age,
            "holders": [holder.as_dict() for holder in self.holders],
        }


# ---- ghosts ----


def ghosts() -> list[Ghost]:
    """All that this process has closed and that is still there.

    Looks at all objects of the interpreter, the epoll sets and the last 256 closes that may have
    left something. It takes some 10 ms, more if the processes of the machine must be searched for
    holders. Any thread.

    Sockets of uvloop are seen once finack has closed them.

    >>> ours, theirs = socket.socketpair()
    >>> file = ours.makefile("rb")
    >>> ours.close()
    >>> print(ghosts()[0])  # doctest: +ELLIPSIS
    ghost descriptor: unix - -> -, fd ...: close() was called, and a file of makefile() is open
    >>> file.close()
    >>> theirs.close()
    >>> ghosts()
    []
    """
    return [*_transports(), *_files(), *_registrations(), *_left_by_closes()]


def _transports() -> Iterator[Ghost]:
    for loop in event_loops():
        for connection in connections(loop):
            if loop.is_closed():
                detail = "its loop is closed"
            elif connection.lower.is_closing() or connection.transport.is_closing():
                detail = "the transport is closing"
            else:
                continue
            made = places.place_of(connection.identity[2]) or connection.made
            yield Ghost("descriptor", describe(connection.fd), detail, connection.fd, made)


def _files() -> Iterator[Ghost]:
    for sock in objects(socket.socket):
        # Another thread may be making it, or closing it.
        if _private.was_closed(sock) and (where := located(sock)):
            fd, identity = where
            detail = "close() was called, and a file of makefile() is open"
            yield Ghost("descriptor", describe(fd), detail, fd, places.place_of(identity[2]))


def heal() -> list[Ghost]:
    """Remove the epoll entries of this process that outlived their descriptor, and return them.

    EventLoop and ProxySelector don't need this. On other loops: a descriptor was closed while it
    was registered, something else holds the open file, and it wakes the loop again and
    again. Takes some milliseconds. Any thread. ghosts() still lists an entry that could not be
    removed: if only another program holds the file, removing it takes the right to trace that
    program.

    OSError: no /proc, or no descriptor is free.

    >>> heal()
    []
    """
    return [_registration(entry) for entry in _core.heal()]


def _registrations() -> Iterator[Ghost]:
    return map(_registration, _core.stale_registrations())


def _registration(entry: "_core.StaleTuple") -> Ghost:
    epoll, fd, _, inode, pid, holder_fd = entry
    mine = pid == os.getpid()
    name = describe(holder_fd) if mine else f"inode {inode}"
    detail = f"closed, and still registered with epoll fd {epoll}"
    if pid:
        detail += f"; fd {holder_fd} of {'this process' if mine else pid} keeps it alive"
    return Ghost("registration", name, detail, fd, places.place_of(inode))


def _left_by_closes() -> Iterator[Ghost]:
    """What is over once is over for ever, and forgotten."""
    for closed in list(recent.closes):
        ghost = _left_by(_told(closed))
        if ghost:
            yield ghost
        else:
            with contextlib.suppress(ValueError):  # another thread was faster
                recent.closes.remove(closed)


def _told(closed: Any) -> Closed:
    if isinstance(closed, tuple):
        return Closed(*closed)
    return Closed(receipt_of(closed), closed.identity, None, closed.released)


def _left_by(closed: Closed) -> Ghost | None:
    holders: tuple[Holder, ...] = ()
    if closed.receipt.held:
        holders = tuple(Holder(*holder) for holder in _core.holders(closed.identity))
    found = _find(closed)
    kind: Kind = "description"
    if holders:
        detail = "held by " + ", ".join(map(str, holders))
    elif found and found[1]:
        detail = "held by a thread inside a call, a message, or somebody /proc doesn't show"
    elif found and STATES[found[0]] in _STILL_AT_WORK:
        kind = "connection"
        detail = f"{STATES[found[0]]}, {found[2]} bytes not acknowledged"
    else:
        return None
    age = time.monotonic() - closed.at
    made = str(closed.made) if closed.made else None
    return Ghost(kind, closed.receipt.socket, detail, None, made, age, holders)


# "tcp [::1]:4711 -> [::1]:80", "udp 127.0.0.1:53"
_NAME = re.compile(r"(tcp|udp) \[?([^ \]]+)\]?:(\d+)(?: -> \[?([^ \]]+)\]?:(\d+))?")


def _find(closed: Closed) -> tuple[int, int, int] | None:
    """State, inode and bytes to send of a socket that is in the kernel's tables yet."""
    name = closed.receipt.socket
    if name.startswith("unix "):
        kind = (socket.AF_UNIX, socket.SOCK_STREAM, 0)
        return _core.find(closed.identity, kind, b"", 0, b"", 0)
    parts = _NAME.fullmatch(name)
    if not parts:
        return None
    protocol, local, local_port, remote, remote_port = parts.groups()
    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    kind = (
        (family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if protocol == "tcp"
        else (family, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    )
    peer = _packed(remote) if remote else b""
    return _core.find(
        closed.identity, kind, _packed(local), int(local_port), peer, int(remote_port or 0)
    )


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
