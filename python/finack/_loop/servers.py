# SPDX-License-Identifier: MIT
"""asyncio's Server as it is in the newest CPython, for the releases whose own lacks something.

asyncio makes one in the midst of its create_server(), so it gets its class afterwards, before it
has accepted anything.
"""

import asyncio
from typing import Any

from finack import _private
from finack._sockets.transports import listed


class _Ending(asyncio.Server):
    """A Server that ends its connections when serve_forever() is cancelled, as in CPython 3.14."""

    _serving_forever_fut: "asyncio.Future[None] | None"
    _start_serving: Any
    close_clients: Any

    async def serve_forever(self) -> None:
        """As in asyncio."""
        if self._serving_forever_fut is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if not self.sockets:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        self._serving_forever_fut = self.get_loop().create_future()
        try:
            await self._serving_forever_fut
        except asyncio.CancelledError:
            self.close()
            self.close_clients()
            await self.wait_closed()
            raise
        finally:
            self._serving_forever_fut = None


class _Waiting(_Ending):
    """One that can also end its connections, and waits for them."""

    _waiters: "list[asyncio.Future[None]] | None"

    def close_clients(self) -> None:
        """close() of each connection that it has accepted."""
        for transport in self._accepted():
            transport.close()

    def abort_clients(self) -> None:
        """abort() of each connection that it has accepted."""
        for transport in self._accepted():
            transport.abort()

    def _accepted(self) -> list[Any]:
        return [one for one in listed(self.get_loop()) if _private.server_of(one) is self]

    async def wait_closed(self) -> None:
        """Wait until it is closed, and so are all its connections, as since CPython 3.12.1."""
        if self._waiters is not None:
            waiter = self.get_loop().create_future()
            self._waiters.append(waiter)
            await waiter


def _kind() -> type[asyncio.Server]:
    if not hasattr(asyncio.Server, "close_clients"):
        return _Waiting
    return asyncio.Server if _private.ends_clients() else _Ending


_KIND = _kind()
_Ending.__name__ = _Waiting.__name__ = "Server"  # by which it is shown


def renew(server: Any) -> Any:
    """Make a server of asyncio's own one of the newest kind; it is returned."""
    if type(server) is asyncio.Server:
        server.__class__ = _KIND
    return server
