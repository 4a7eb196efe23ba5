# SPDX-License-Identifier: MIT
"""What is closed, and what outlives its close."""

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

from finack import _core, _recent
from finack._aclose import aclose_anyhow
from finack._describe import STATES, describe
from finack._leftovers import event_loops, objects
from finack._places import places
from finack._policy import Policy, _check_time
from finack._receipt import Holder, Receipt, Straggler
from finack._recent import Closed
from finack._transports import connections, located

Kind: TypeAlias = Literal["descriptor", "description", "registration", "connection"]

_CUT = ("timed_out", "aborted")
_STILL_AT_WORK = ("FIN_WAIT1", "FIN_WAIT2", "LAST_ACK", "CLOSING")


@dataclass(frozen=True, slots=True, eq=False)
class Ghost:
    """What is logically closed and still there.

    kind
        "descriptor": the number is open; "description": another process, a message or a thread
        inside a call holds it; "registration": an epoll set reports it still; "connection": the
        kernel is still sending, or waiting for the peer.
    socket
        Its name, such as "tcp 127.0.0.1:4711 -> 127.0.0.1:80".
    detail
        What is known of why.
    fd
        The number that it has, or had; None: not known.
    made
        The place in the program where it was made, if that is known.
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
            "holders": [
                {"pid": holder.pid, "fd": holder.fd, "command": holder.command}
                for holder in self.holders
            ],
        }


# ---- ghosts ----


def ghosts() -> list[Ghost]:
    """All that this process has closed and that is still there.

    Looks at all objects of the interpreter, the epoll sets and the last 256 closes that ended
    before everything was known to be over; some 10 ms, more if the processes of the machine must be
    searched for holders. Any thread.

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
        if getattr(sock, "_closed", False) and (where := located(sock)):
            fd, identity = where
            detail = "close() was called, and a file of makefile() is open"
            yield Ghost("descriptor", describe(fd), detail, fd, places.place_of(identity[2]))


def _registrations() -> Iterator[Ghost]:
    for epoll, fd, _, inode, pid, holder_fd in _core.stale_registrations():
        mine = pid == os.getpid()
        name = describe(holder_fd) if mine else f"inode {inode}"
        detail = f"closed, and still registered with epoll fd {epoll}"
        if pid:
            detail += f"; fd {holder_fd} of {'this process' if mine else pid} keeps it alive"
        yield Ghost("registration", name, detail, fd, places.place_of(inode))


def _left_by_closes() -> Iterator[Ghost]:
    """What is over once is over for ever, and forgotten."""
    for closed in list(_recent.closes):
        ghost = _left_by(Closed(*closed))
        if ghost:
            yield ghost
        else:
            with contextlib.suppress(ValueError):  # another thread was faster
                _recent.closes.remove(closed)


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
    return Ghost(kind, closed.receipt.socket, detail, None, closed.made, age, holders)


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


# ---- closing all ----


@dataclass(frozen=True, slots=True, eq=False)
class CloseReport:
    """What close_all() came to: str() is one line, as_dict() is for json.dumps().

    receipts
        One for every connection and server.
    stragglers
        Connections that had not ended in time, and were cut.
    elapsed
        Seconds that it took.

    >>> print(CloseReport((Receipt(outcome="graceful"), Receipt(outcome="reset")), (), 0.25))
    2 closed in 0.250 s: 1 graceful, 1 reset
    """

    receipts: tuple[Receipt, ...]
    stragglers: tuple[Straggler, ...]
    elapsed: float

    @property
    def outcomes(self) -> dict[str, int]:
        """How many there were of each outcome, the most frequent first."""
        return dict(Counter(receipt.outcome for receipt in self.receipts).most_common())

    @property
    def lost(self) -> int:
        """Bytes that the program wrote and that may not have arrived."""
        return sum(receipt.lost for receipt in self.receipts)

    def __str__(self) -> str:
        """One line for a person."""
        line = f"{len(self.receipts)} closed in {self.elapsed:.3f} s"
        if self.receipts:
            line += ": " + ", ".join(f"{many} {name}" for name, many in self.outcomes.items())
        if self.stragglers:
            line += f"; stragglers: {len(self.stragglers)}: " + ", ".join(map(str, self.stragglers))
        return line

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, with outcomes and lost."""
        return {
            "elapsed": self.elapsed,
            "outcomes": self.outcomes,
            "lost": self.lost,
            "receipts": [receipt.as_dict() for receipt in self.receipts],
            "stragglers": [straggler.as_dict() for straggler in self.stragglers],
        }


async def close_all(timeout: float = 10.0, policy: Policy | None = None) -> CloseReport:
    """Close every connection of the running loop at once, and the servers that listen on it.

    The loop is asyncio's, finack's or uvloop, where only the connections that finack has started
    are known. What a server accepts while it is being closed is closed too.

    timeout
        Seconds for everything up to the release of the last; what has not ended then is cut (RST if
        bytes are unsent) and is a straggler. 0: cut everything now.
    policy
        How to close, by default Policy(); its `total` is at most the timeout.

    If it is cancelled all is cut within two turns of the loop.

    TypeError, ValueError: timeout or policy isn't as above. RuntimeError: no loop is running.

    >>> async def main() -> None:
    ...     server = await asyncio.start_server(print, "127.0.0.1", 0)
    ...     reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    ...     report = await close_all(timeout=5)
    ...     print(len(report.receipts), report.stragglers)
    >>> asyncio.run(main(), debug=False)  # doctest: +SKIP
    3 ()
    """
    begun = time.monotonic()
    policy = _checked(policy, timeout)
    loop = asyncio.get_running_loop()
    receipts: list[Receipt] = []
    stragglers: list[Straggler] = []
    known: dict[int, Any] = {}  # by id(); kept, so that no other gets one
    while found := [target for target in _targets(loop) if id(target.thing) not in known]:
        known.update((id(target.thing), target.thing) for target in found)
        left = max(0.0, begun + timeout - time.monotonic())
        now = replace(policy, total=min(policy.total, left))
        closed = await asyncio.gather(*(aclose_anyhow(target.thing, now) for target in found))
        for target, receipt in zip(found, closed, strict=True):
            receipts.append(receipt)
            if receipt.outcome in _CUT:
                name = receipt.socket
                stragglers.append(Straggler(name, target.fd, target.made, receipt))
    return CloseReport(tuple(receipts), tuple(stragglers), time.monotonic() - begun)


class _Target(NamedTuple):
    thing: Any
    fd: int
    made: str | None


def _checked(policy: Policy | None, timeout: float) -> Policy:
    if not isinstance(policy, Policy | None):
        raise TypeError(f"policy must be a finack.Policy or None, not {type(policy).__name__}")
    _check_time("timeout", timeout)
    return policy or Policy()


def _targets(loop: asyncio.AbstractEventLoop) -> list[_Target]:
    """Servers first, so that nothing comes after."""
    servers = [
        _Target(server, server.sockets[0].fileno(), None)
        for server in objects(*_server_types())
        if server.get_loop() is loop and server.sockets
    ]
    return servers + [
        _Target(c.transport, c.fd, places.place_of(c.identity[2]) or c.made)
        for c in connections(loop)
    ]


def _server_types() -> list[type[Any]]:
    uvloop = sys.modules.get("uvloop.loop")
    return [asyncio.Server, *([uvloop.Server] if uvloop else [])]
