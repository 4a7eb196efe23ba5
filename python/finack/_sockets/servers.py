# SPDX-License-Identifier: MIT
"""Servers whose connections are known, on loops too that don't list theirs."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from finack import _private
from finack._sockets.transports import Told

_Connected: TypeAlias = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None
]
_LIMIT = 65536  # as in asyncio.streams


class _Follower:
    """Makes the protocols of one server's connections; the server is known a moment later."""

    server: asyncio.Server | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop, connected: _Connected, limit: int) -> None:
        self.loop, self.connected, self.limit = loop, connected, limit
        self.told = Told.of(loop)

    def __call__(self) -> "_Protocol":
        return _Protocol(self)


class _Protocol(asyncio.StreamReaderProtocol):
    def __init__(self, follower: _Follower) -> None:
        loop = follower.loop
        reader = asyncio.StreamReader(limit=follower.limit, loop=loop)
        super().__init__(reader, follower.connected, loop=loop)
        self._follower = follower
        self._followed: asyncio.BaseTransport | None = None
        follower.told.expected[self] = follower

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._followed = transport
        self._follower.told.expected.pop(self, None)
        self._follower.told.transports[transport] = self._follower
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._follower.told.transports.pop(self._followed, None)
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
    follower = _Follower(loop, client_connected_cb, limit)
    follower.server = await loop.create_server(follower, host, port, **options)
    return follower.server


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
    follower = _Follower(loop, client_connected_cb, limit)
    follower.server = await loop.create_unix_server(follower, path, **options)
    return follower.server
