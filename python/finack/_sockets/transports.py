# SPDX-License-Identifier: MIT
"""Which connections a loop has.

A loop that lists no transports, like that of uvloop, has only those connections that finack was
told of.
"""

import asyncio
import gc
import socket
import weakref
from asyncio import sslproto
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from finack import _core, _private
from finack._sockets.places import Place, places

_core.prepare()  # Loop and Transport, which derive from asyncio's


class Told:
    """What a loop's connections are, as finack was told; each with who knows its `server`."""

    _of: ClassVar[weakref.WeakKeyDictionary[Any, "Told"]] = weakref.WeakKeyDictionary()

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "Told":
        """Nothing, at first."""
        found = cls._of.get(loop)
        if found is None:
            found = cls._of[loop] = cls()
        return found

    def __init__(self) -> None:
        """Of one loop."""
        self.transports: dict[Any, Any] = {}
        # Protocols whose transports are not made known to them yet: in a handshake of TLS.
        self.expected: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection of a loop, with the socket open.

    `transport` is the uppermost, which the program has; `lower` owns the socket. `server` is the
    asyncio.Server that accepted it, `place` where it was made, each None if not known.
    """

    transport: Any
    lower: Any
    fd: int
    identity: "_core.Identity"
    server: Any
    place: Place | None

    @property
    def made(self) -> str | None:
        """The place as text."""
        return str(self.place) if self.place else None


def connections(loop: asyncio.AbstractEventLoop) -> list[Connection]:
    """Those that are open, closing ones too."""
    told = Told.of(loop).transports.items()
    known = [*((lower, follower.server) for lower, follower in told), *_beginning(loop)]
    known += [(lower, _private.server_of(lower)) for lower in listed(loop)]
    return [found for lower, server in known if (found := connection(lower, server))]


def _beginning(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[Any, Any]]:
    """Transports of uvloop that have not called connection_made() yet, and their servers.

    Their protocol is all that finack has of them; who has that is known to the garbage collector.
    """
    expected = dict(Told.of(loop).expected)
    for layer in gc.get_referrers(*expected) if expected else ():
        if type(layer).__module__ != "uvloop.loop":
            continue
        members = gc.get_referents(layer)
        below = [m for m in members if hasattr(type(m), "get_write_buffer_size")]
        found = below[0] if below else layer
        followers = [one for protocol, one in expected.items() if _is_in(protocol, members)]
        if followers and hasattr(found, "get_extra_info"):
            yield found, followers[0].server


def _is_in(thing: Any, things: list[Any]) -> bool:
    return any(other is thing for other in things)


def accepting(loop: asyncio.AbstractEventLoop, server: Any) -> list[socket.socket]:
    """Take over what a server has accepted, and for which there is no transport yet.

    asyncio makes one in the next turn, in a task of its own. If the server is closed by then, that
    fails half-way, and the socket stays open until the garbage collector finds it.
    """
    found = []
    for task in asyncio.all_tasks(loop):
        values = _private.accepted_by(task)
        if values and values["server"] is server and values.get("transport") is None:
            task.cancel()
            found.append(values["conn"])
    return found


def half_made(loop: asyncio.AbstractEventLoop, server: Any) -> list[socket.socket]:
    """Take over those of a server that the program closed while they were accepted."""
    known = _private.transports(loop) or {}
    found = []
    for thing in gc.get_referrers(server):
        if isinstance(thing, dict):
            thing = _private.of_attributes(thing)
        if not isinstance(thing, _private.SelectorTransport) or not _private.own_socket(thing):
            continue
        if known.get(_private.own_fd(thing)) is not thing:
            found.append(_private.disown(thing))
    return found


def listed(loop: asyncio.AbstractEventLoop) -> list[Any]:
    """The transports that the loop itself lists: EventLoop, and asyncio's own."""
    found = [*(_private.transports(loop) or {}).values()]
    if isinstance(loop, _core.Loop):
        found += loop._own_transports()
    return found


def transport_with(loop: asyncio.AbstractEventLoop, fd: int) -> Any:
    """The one on this descriptor; None: the loop lists none."""
    found = loop._transport_of(fd) if isinstance(loop, _core.Loop) and fd >= 0 else None
    return (_private.transports(loop) or {}).get(fd) if found is None else found


def connection(lower: Any, server: Any) -> Connection | None:
    """That of the transport which owns the socket; None if the socket is closed."""
    where = socket_of(lower)
    if where is None:
        return None
    upper = uppermost(lower)
    place = places.made_at(upper) or places.made_at(lower)
    if place is None and (of_server := places.made_at(server)):
        place = of_server._replace(by_server=True)
    return Connection(upper, lower, *where, server, place)


def layers(lower: Any) -> list[Any]:
    """The TLS layers on the transport that owns the socket, the lowest first."""
    found = []
    protocol = lower.get_protocol()
    while isinstance(protocol, sslproto.SSLProtocol):
        found.append(protocol)
        protocol = _private.protocol_above(protocol)
    return found


def uppermost(lower: Any) -> Any:
    """The transport which the program has; a TLS layer has none until it is connected."""
    for protocol in reversed(layers(lower)):
        if (above := _private.above(protocol)) is not None:
            return above
    return lower


def socket_of(transport: Any) -> "tuple[int, _core.Identity] | None":
    """Number and identity of its socket; None if it is closed, or there never was one."""
    sock = transport.get_extra_info("socket")
    return None if sock is None else located(sock)


def located(sock: Any) -> "tuple[int, _core.Identity] | None":
    """The same of a socket object."""
    fd = sock.fileno()
    if fd < 0:
        return None
    try:
        return fd, _core.identify(fd)
    except OSError:
        return None  # closed behind its back, and the number is free
