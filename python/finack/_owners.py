# SPDX-License-Identifier: MIT
"""Whom a socket belongs to while it is open: a transport, a socket object, a server.

An owner has bytes of its own to send, and a number of its own for the socket. It is told to let the
socket go once the close has a descriptor of its own, a dup, which keeps the connection as it is.
"""

import asyncio
import contextlib
import select
import socket
import ssl
from typing import Any, Literal, Protocol

from finack import _core

_TURNS = 4  # uvloop closes a transport in its second turn
_LONG_TURNS = 16
_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.03)

Farewell = Literal["done", "skip"]


class Owner(Protocol):
    """What uses the socket above the kernel."""

    fd: int
    identity: "_core.Identity"
    blind: bool  # its farewell's answer can't be read once it has let go

    def begin(self) -> None:
        """The close has begun: nobody reads for the program any more."""

    def unsent(self) -> int:
        """Bytes buffered that can be counted."""

    def may_hide_bytes(self) -> bool:
        """Whether there may be more than those."""

    def say_farewell(self) -> Farewell:
        """Send what ends the protocol above TCP; it may be buffered again."""

    def has_answer(self) -> bool:
        """Whether the peer's farewell has come."""

    def is_closing(self) -> bool:
        """Whether it is ending by itself."""

    def is_gone(self) -> bool:
        """Whether its number is closed, so that it can send no more."""

    async def let_go(self) -> None:
        """Let the socket go."""

    async def leave(self, close: _core.Close, *, shared: bool) -> None:
        """The number is free, or a tombstone, on return."""

    def leave_now(self, close: _core.Close, *, shared: bool) -> None:
        """The same within two turns, but not on return."""


async def turn() -> None:
    """One whole turn of the loop: a look at all descriptors, and the callbacks that follow."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def is_writable(fd: int) -> bool:
    """Whether the kernel would take bytes now."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


def taken(fd: int) -> int:
    """A number that changes when bytes are given to the kernel; 0: it is no socket any more."""
    try:
        handed = _core.handed(fd)
        return _core.outstanding(fd) if handed is None else handed
    except OSError:
        return 0


async def is_quiet(fd: int) -> bool:
    """Whether nobody above the kernel has anything to send.

    Whoever had would have been told that there is room, and would have used it.
    """
    room, before = is_writable(fd), taken(fd)
    await turn()
    return room and taken(fd) == before


def extra(transport: Any, name: str) -> Any:
    """What get_extra_info() says; stock TLS that was closed twice has nobody to ask."""
    with contextlib.suppress(AttributeError):
        return transport.get_extra_info(name)
    return None


def _run(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()


class TransportOwner:
    """A transport of any loop, by what is public of it."""

    def __init__(self, transport: Any, fd: int, *, listen: bool) -> None:
        self.transport = transport
        self._listen = listen  # for the answer to its farewell
        self.fd = fd
        self.identity = _core.identify(fd)
        self.tls = extra(transport, "ssl_object")
        self.blind = self.tls is not None
        self._answered = False
        self._saw_it_go = False

    def begin(self) -> None:
        # Input is drained by the close, so that the protocol hears no more, as after close().
        if not self._listen or self.tls is None:
            with contextlib.suppress(Exception):  # UDP has no such thing
                self.transport.pause_reading()

    def unsent(self) -> int:
        # After a second close() of stock TLS there is nothing left behind it to be asked.
        with contextlib.suppress(AttributeError):
            return int(self.transport.get_write_buffer_size())
        return 0

    def may_hide_bytes(self) -> bool:
        return self.tls is not None

    def is_closing(self) -> bool:
        with contextlib.suppress(AttributeError):
            return bool(self.transport.is_closing())
        return True

    def _shutdown(self) -> bool:
        """SSL_shutdown(3): True once both farewells have been said."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except ssl.SSLError as error:
            if error.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
                raise
            return False
        return True

    def say_farewell(self) -> Farewell:
        if self.tls is None:
            return "skip"
        try:
            self._answered = self._shutdown()
        except (ssl.SSLError, OSError, ValueError):
            return "skip"  # in the handshake, or after a fatal error
        with contextlib.suppress(Exception):
            self.transport.writelines([])  # sends what OpenSSL has written
        return "done"

    def has_answer(self) -> bool:
        # Asked again while application data waits, SSL_shutdown would fail for good: the transport
        # reads, and closes itself when it has come to the end.
        if not self._answered and self.is_closing():
            with contextlib.suppress(ssl.SSLError, OSError, ValueError):
                self._answered = self._shutdown()
        return self._answered

    def _abort(self) -> None:
        # What a program has made of a transport must not keep it open.
        with contextlib.suppress(Exception):
            self.transport.abort()

    def is_gone(self) -> bool:
        return not _core.is_same(self.fd, self.identity)

    async def let_go(self) -> None:
        self._abort()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if self.is_gone():
                self._saw_it_go = True
                break
        await asyncio.sleep(0)  # TLS, uvloop: connection_lost() follows

    async def leave(self, close: _core.Close, *, shared: bool) -> None:
        if not self.is_gone():
            await self.let_go()
        if self.is_gone():
            if not self._saw_it_go:  # an event of its own ended it at the last moment
                await turn()
            return
        # abort() does nothing in stock TLS after two calls of close(), and in some other cases; an
        # event of the socket's then ends it. Other holders of the socket would notice.
        if not shared:
            with contextlib.suppress(Exception):  # paused, it would hear nothing
                self.transport.resume_reading()
            close.wake()
            await self._await_end()
        if not self.is_gone():
            close.entomb(self.fd)

    def leave_now(self, close: _core.Close, *, shared: bool) -> None:
        self._abort()

    async def _await_end(self) -> None:
        for pause in (0.0,) * _LONG_TURNS + _PAUSES:
            if self.is_gone():
                await turn()  # TLS: connection_lost() follows
                return
            await asyncio.sleep(pause)


class SocketOwner:
    """A socket object that a program uses with loop.sock_recv() and the like, or not at all."""

    blind = False

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.sock = sock
        self.loop = loop
        self.fd = sock.fileno()
        self.identity = _core.identify(self.fd)
        self._mine = False  # the number is ours

    def begin(self) -> None:
        pass

    def unsent(self) -> int:
        return 0

    def may_hide_bytes(self) -> bool:
        return self.sock.type == socket.SOCK_STREAM  # a sock_sendall() may wait

    def say_farewell(self) -> Farewell:
        return "skip"

    def has_answer(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.sock.fileno() != self.fd

    def is_gone(self) -> bool:
        return not _core.is_same(self.fd, self.identity)

    def _take(self) -> bool:
        if self.sock.fileno() == self.fd:
            self.sock.detach()
            self._mine = True
        return self._mine

    def finish(self, close: _core.Close) -> None:
        """Release the number."""
        if not self._take():
            return
        self._mine = False
        if not self.loop.is_closed():
            self.loop.remove_reader(self.fd)
            self.loop.remove_writer(self.fd)
        close.release(self.fd)

    async def let_go(self) -> None:
        # uvloop's callbacks fail when they find the socket detached.
        if hasattr(self.loop, "_selector"):
            self._take()

    async def leave(self, close: _core.Close, *, shared: bool) -> None:
        await self.let_go()
        self._wake(close, shared=shared)
        await turn()
        self.finish(close)

    def leave_now(self, close: _core.Close, *, shared: bool) -> None:
        if self.loop.is_closed():
            self.finish(close)
            return
        if hasattr(self.loop, "_selector"):
            self._take()
        self._wake(close, shared=shared)
        self.loop.call_soon(self.loop.call_soon, self.finish, close)

    def _wake(self, close: _core.Close, *, shared: bool) -> None:
        """A loop.sock_recv() that waits finds the socket detached, or at its end."""
        if close.stream and not shared:
            close.wake()
        selector = getattr(self.loop, "_selector", None)
        key = selector.get_map().get(self.fd) if selector else None
        for handle in key.data if key else ():
            if isinstance(handle, asyncio.Handle):
                self.loop.call_soon(_run, handle)


class ListenerOwner:
    """A listening socket of a server that was closed a moment ago."""

    blind = False

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.identity = _core.identify(fd)

    def begin(self) -> None:
        pass

    def unsent(self) -> int:
        return 0

    def may_hide_bytes(self) -> bool:
        return False

    def say_farewell(self) -> Farewell:
        return "skip"

    def has_answer(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return True

    def is_gone(self) -> bool:
        return not _core.is_same(self.fd, self.identity)

    async def let_go(self) -> None:
        pass

    async def leave(self, close: _core.Close, *, shared: bool) -> None:
        for _ in range(_LONG_TURNS):
            if self.is_gone():
                return
            await asyncio.sleep(0)
        close.entomb(self.fd)

    def leave_now(self, close: _core.Close, *, shared: bool) -> None:
        pass
