# SPDX-License-Identifier: MIT
"""Servers whose connections are known, on loops too that don't list theirs."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from finack import _private
from finack._sockets.transports import arrived, expect, forget, remember

_Connected: TypeAlias = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None
]
_LIMIT = 65536  # as in asyncio.streams


class _Follower:
    """The connections of one server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._server: asyncio.Server | None = None
        self._early: list[Any] = []  # accepted before the server was known
        self._expected: list[Any] = []  # the same, without a transport yet

    def follow(self, server: asyncio.Server) -> None:
        self._server = server
        for transport in self._early:
            remember(self.loop, transport, server)
        for protocol in self._expected:
            expect(self.loop, protocol, server)
        self._early.clear()
        self._expected.clear()

    def accepted(self, protocol: Any) -> None:
        if self._server is None:
            self._expected.append(protocol)
        else:
            expect(self.loop, protocol, self._server)

    def made(self, protocol: Any, transport: Any) -> None:
        arrived(self.loop, protocol)
        if self._server is None:
            self._expected.remove(protocol)
            self._early.append(transport)
        else:
            remember(self.loop, transport, self._server)

    def lost(self, transport: Any) -> None:
        forget(self.loop, transport)


class _Protocol(asyncio.StreamReaderProtocol):
    def __init__(self, follower: _Follower, connected: _Connected, limit: int) -> None:
        loop = follower.loop
        super().__init__(asyncio.StreamReader(limit=limit, loop=loop), connected, loop=loop)
        self._follower = follower
        self._followed: asyncio.BaseTransport | None = None
        follower.accepted(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._followed = transport
        self._follower.made(self, transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._follower.lost(self._followed)
        self._followed = None
        super().connection_lost(error)


def _lists_transports(loop: asyncio.AbstractEventLoop) -> bool:
    return _private.transports(loop) is not None


async def start_server(
    client_connected_cb: _Connected,
    host: str | Sequence[str] | None = None,
    port: Any = None,
    *,
    limit: int = _LIMIT,
    **options: Any,
) -> asyncio.Server:
    """asyncio.start_server(), of a server whose connections finack knows.

    Only for uvloop: there `await finack.aclose(server)` closes the connections of a server that was
    started here, and close_all() knows of them; those of other servers it can't find. On other
    loops it is asyncio's own. Arguments, result and errors are the same.

    >>> async def serve() -> None:
    ...     server = await finack.start_server(print, "127.0.0.1", 8080)
    ...     print(await finack.aclose(server))
    """
    loop = asyncio.get_running_loop()
    if _lists_transports(loop):
        return await asyncio.start_server(client_connected_cb, host, port, limit=limit, **options)
    follower = _Follower(loop)
    server = await loop.create_server(
        lambda: _Protocol(follower, client_connected_cb, limit), host, port, **options
    )
    follower.follow(server)
    return server


async def start_unix_server(
    client_connected_cb: _Connected,
    path: str | os.PathLike[str] | None = None,
    *,
    limit: int = _LIMIT,
    **options: Any,
) -> asyncio.Server:
    """asyncio.start_unix_server(), as start_server() is asyncio.start_server().

    >>> async def serve() -> None:
    ...     server = await finack.start_unix_server(print, "/run/user/1000/app")
    ...     print(await finack.aclose(server))
    """
    loop = asyncio.get_running_loop()
    if _lists_transports(loop):
        return await asyncio.start_unix_server(client_connected_cb, path, limit=limit, **options)
    follower = _Follower(loop)
    server = await loop.create_unix_server(
        lambda: _Protocol(follower, client_connected_cb, limit), path, **options
    )
    follower.follow(server)
    return server
