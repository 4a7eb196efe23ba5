# SPDX-License-Identifier: MIT
"""Which connections a loop has.

The transports of asyncio's own selector loop are listed by the loop: `loop._transports` maps each
number to its transport, weakly, in CPython 3.11 to 3.13, and the TLS layer is
`asyncio.sslproto.SSLProtocol` in all of them. A loop without such a list, like that of uvloop, has
only those connections that were told to remember().
"""

import asyncio
import contextlib
import weakref
from asyncio import sslproto
from dataclasses import dataclass
from typing import Any

from finack import _core

_remembered: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()
_places: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection of a loop, with the socket open.

    `transport` is the uppermost, which the program has; `lower` owns the socket. `server` is the
    asyncio.Server that accepted it, `made` the place in the program, each None if not known.
    """

    transport: Any
    lower: Any
    fd: int
    identity: "_core.Identity"
    server: Any
    made: str | None


def connections(loop: asyncio.AbstractEventLoop) -> list[Connection]:
    """Those that are open, closing ones too."""
    known = list(_remembered.get(loop, {}).items())
    listed = getattr(loop, "_transports", None)
    if listed is not None:
        known += [(lower, lower._server) for lower in listed.values()]
    return [found for lower, server in known if (found := connection(lower, server))]


def connection(lower: Any, server: Any) -> Connection | None:
    """That of the transport which owns the socket; None if the socket is closed."""
    where = socket_of(lower)
    if where is None:
        return None
    upper = uppermost(lower)
    made = made_at(upper) or made_at(lower) or made_at(server)
    return Connection(upper, lower, *where, server, made)


def layers(lower: Any) -> list[Any]:
    """The TLS layers on the transport that owns the socket, the lowest first."""
    found = []
    protocol = lower.get_protocol()
    while isinstance(protocol, sslproto.SSLProtocol):
        found.append(protocol)
        protocol = protocol._app_protocol
    return found


def uppermost(lower: Any) -> Any:
    """The transport which the program has; a TLS layer has none until it is connected."""
    for protocol in reversed(layers(lower)):
        if protocol._app_transport is not None:
            return protocol._app_transport
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


def remember(loop: asyncio.AbstractEventLoop, transport: Any, server: Any = None) -> None:
    """List a connection of a loop that doesn't list its own, until forget()."""
    _remembered.setdefault(loop, {})[transport] = server


def forget(loop: asyncio.AbstractEventLoop, transport: Any) -> None:
    """List it no more; it may be that it never was."""
    _remembered.get(loop, {}).pop(transport, None)


def note_place(made: Any, place: str) -> None:
    """Note where in the program a transport or a server was made."""
    with contextlib.suppress(TypeError):  # of a sort that can't be referred to weakly
        _places[made] = place


def made_at(made: Any) -> str | None:
    """Where in the program it was made, if that was noted."""
    try:
        return _places.get(made)
    except TypeError:
        return None
