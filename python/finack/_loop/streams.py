# SPDX-License-Identifier: MIT
"""Sockets of the loop whose transports are in C, and what of them is easier said in Python.

They are used on the loop's own selector; on another one, and for pipes, asyncio's.
"""

import asyncio
import socket
from asyncio import selector_events, trsock
from typing import Any

from finack import _core, _private
from finack._loop.turning import Turning
from finack._report.ended import receipt_of
from finack._report.recent import recent
from finack._sockets.places import places

_events: Any = selector_events
_BLOCK = 16384
_DATAGRAMS = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_WAYS = frozenset({"sock_connect", "_ensure_resolved", "_make_socket_transport"})


class Streams(Turning):
    """A loop whose TCP, UDP and Unix transports are in C."""

    _transports: Any

    _in_c = True
    _plain = True

    def __init_subclass__(cls, **options: Any) -> None:
        """Note whether a subclass makes asyncio's own way to connect anew."""
        super().__init_subclass__(**options)
        cls._plain = all(getattr(cls, way) is getattr(Streams, way) for way in _WAYS)

    # ---- making ----

    def _make_socket_transport(
        self,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: Any = None,
        server: Any = None,
        **more: Any,
    ) -> Any:
        if not self._takes(sock):
            return super()._make_socket_transport(  # type: ignore[misc]
                sock, protocol, waiter, extra=extra, server=server, **more
            )
        self._prepare(sock)
        make = in_context(more.get("context"), self._make_transport)
        return make(sock, protocol, waiter, extra, server)

    def _make_datagram_transport(
        self, sock: Any, protocol: Any, address: Any = None, waiter: Any = None, extra: Any = None
    ) -> Any:
        known = self._takes(sock) and sock.type == socket.SOCK_DGRAM and sock.family in _DATAGRAMS
        if not known:
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra)  # type: ignore[misc]
        self._prepare(sock)
        return self._make_datagram(sock, protocol, address, waiter, extra)

    def _takes(self, sock: Any) -> bool:
        return self._native and self._in_c and issubclass(type(sock), socket.socket)

    def _prepare(self, sock: Any) -> None:
        self._ensure_fd_no_transport(sock)
        if places.in_use:
            places.settle()  # the socket object may have no descriptor when somebody asks

    @_private.pass_for_coroutine  # it gives back a coroutine
    def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """As in asyncio; to an address, without options, in a shorter way."""
        quick = None if options else self._connect(protocol_factory, host, port)
        if quick is not None:
            return quick
        return super().create_connection(protocol_factory, host, port, **options)

    def _accepts_in_c(self, sock: Any) -> bool:
        return self._plain and self.__dict__.keys().isdisjoint(_WAYS) and self._takes(sock)

    def _stop_serving(self, sock: Any) -> None:
        if self._native and sock.fileno() >= 0:
            self._unserve(sock.fileno())
        super()._stop_serving(sock)  # type: ignore[misc]

    # ---- looking ----

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        super()._ensure_fd_no_transport(fd)  # type: ignore[misc]
        number = fd if isinstance(fd, int) else int(fd.fileno())
        transport = self._transport_of(number) if number >= 0 else None
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    # ---- files ----

    async def _sendfile_native(self, transp: Any, file: Any, offset: Any, count: Any) -> Any:
        if not isinstance(transp, _core.Transport):
            return await super()._sendfile_native(transp, file, offset, count)  # type: ignore[misc]
        was_reading = transp.is_reading()
        transp.pause_reading()
        await transp._make_empty_waiter()
        transp._lend()
        try:
            sock = _private.own_socket(transp)
            return await self.sock_sendfile(sock, file, offset, count, fallback=False)
        finally:
            transp._reset_empty_waiter()
            transp._take_back()
            if was_reading:
                transp.resume_reading()

    async def _sendfile_fallback(self, transp: Any, file: Any, offset: int, count: Any) -> int:
        """As asyncio does, whose own way is for its own transports alone."""
        if not isinstance(transp, _core.Transport):
            return await super()._sendfile_fallback(transp, file, offset, count)  # type: ignore[misc,no-any-return]
        if hasattr(file, "seek"):
            file.seek(offset)
        total, sending = 0, _Sending(transp)
        try:
            while count is None or total < count:
                room = _BLOCK if count is None else min(count - total, _BLOCK)
                block = await self.run_in_executor(None, file.read, room)
                if not block:
                    break
                await sending.drain()
                transp.write(block)
                total += len(block)
            return total
        finally:
            if total > 0 and hasattr(file, "seek"):
                file.seek(offset + total)
            sending.restore()

    # ---- closes by the engine ----

    def _closed_one(self, ending: Any) -> None:
        """A close that somebody wants to hear of is complete."""
        receipt = receipt_of(ending)
        recent.note(receipt, ending.identity, prompt=ending.prompt and ending.noted)
        if self._on_closed is not None:
            self.call_soon(self._on_closed, receipt)

    # ---- what is told ----

    def _transport_failed(self, transport: Any, message: str, error: BaseException) -> None:
        self.call_exception_handler(
            {
                "message": message,
                "exception": error,
                "transport": transport,
                "protocol": transport.get_protocol(),
            }
        )

    def _accept_failed(self, sock: Any, message: str, error: BaseException) -> None:
        """As in asyncio, an error of a new connection is told in debug mode alone."""
        if isinstance(error, OSError) or self._debug:
            shown = trsock.TransportSocket(sock)
            self.call_exception_handler({"message": message, "exception": error, "socket": shown})


def tell_of_lost_write(secure: bool) -> None:
    """As asyncio tells it."""
    if secure:
        _private.tls_logger().warning("SSL connection is closed")
    else:
        _events.logger.warning("socket.send() raised exception.")


class _Sending(asyncio.Protocol):
    """In place of a transport's protocol while a file is sent, as asyncio has it."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._resume = transport.is_reading()
        self._room: asyncio.Future[None] | None = None
        transport.pause_reading()
        transport.set_protocol(self)
        if _private.is_write_paused(transport):
            self.pause_writing()

    async def drain(self) -> None:
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._room is not None:
            await self._room

    def restore(self) -> None:
        self._transport.set_protocol(self._protocol)
        if self._resume:
            self._transport.resume_reading()
        if self._room is not None:
            self._protocol.pause_writing()  # it has not heard of it

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def connection_lost(self, error: Exception | None) -> None:
        if self._room is not None:
            self._room.set_exception(ConnectionError("Connection is closed by peer"))
            self._room = None
        self._protocol.connection_lost(error)


def in_context(context: Any, function: Any) -> Any:
    """Have it called in a copy of the context; None: as it is."""
    if context is None:
        return function
    return lambda *args: context.copy().run(function, *args)  # it may be entered
