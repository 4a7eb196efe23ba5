# SPDX-License-Identifier: MIT
"""Whom a socket belongs to while it is open: a transport, a socket object, a server.

An owner has bytes of its own to send, and a number of its own for the socket. It is told to let the
socket go once the close has a descriptor of its own, a dup, which keeps the connection as it is.
"""

import asyncio
import contextlib
import errno
import gc
import os
import select
import selectors
import socket
from typing import Any

from finack import _core, _private
from finack._close.tls_wire import Read, Said
from finack._tls import ssl

LONG_TURNS = (0.0,) * 16


def pause_after(looks: int) -> float:
    """Seconds until the next look at what nothing tells of, after so many: 1 ms to 50 ms."""
    return min(0.001 * (1 << min(looks, 6)), 0.05)


class Owner:
    """What uses the socket above the kernel. As it is: it has no bytes and no farewell."""

    blind = False  # its farewell's answer can't be read

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.identity = _core.identify(fd)

    def begin(self) -> None:
        """The close has begun: nobody reads for the program any more."""

    def unsent(self) -> int:
        """Bytes buffered that can be counted."""
        return 0

    def may_hide_bytes(self) -> bool:
        """Whether there may be more than those."""
        return False

    def has_dropped(self) -> bool:
        """Whether bytes were buffered, and are not any more without having been sent."""
        return False

    def send(self, fd: int) -> Said:
        """Send what nobody else will, by the close's own descriptor. OSError: as send(2)."""
        return "done"

    def failure(self) -> int:
        """The errno with which the connection broke, as its user heard; 0: it didn't."""
        return 0

    async def say_farewell(self, fd: int) -> Said:
        """Send what ends the protocol above TCP; send() has the rest of it."""
        return "skip"

    def read(self, fd: int, most: int) -> Read:
        """Read through that protocol, and throw it away: not much more than `most` bytes."""
        return Read("end")

    def is_closing(self) -> bool:
        """Whether it is ending by itself."""
        return True

    def is_gone(self) -> bool:
        """Whether its number is closed, so that it can send no more."""
        return not _core.is_same(self.fd, self.identity)

    async def let_go(self) -> None:
        """Let the socket go."""

    async def leave(self, close: _core.Close, *, shared: bool) -> None:
        """The number is free, or a tombstone, on return."""

    async def _see_it_go(self, close: _core.Close, pauses: tuple[float, ...]) -> bool:
        """Whether it is gone after these; else there is a tombstone now, for its user to close."""
        for pause in pauses:
            if self.is_gone():
                return True
            await asyncio.sleep(pause)
        if self.is_gone():
            return True
        close.entomb(self.fd)
        return False

    def leave_now(self, close: _core.Close, *, shared: bool) -> None:
        """The same within two turns, but not on return."""

    def finish(self, close: _core.Close) -> None:
        """After leave_now(), in place of the turns that won't come."""


class InPlace:
    """In place of a transport's protocol: what isn't here is the protocol's."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """As a loop asks for it, with isinstance()."""
        return type(self._protocol)


async def turn() -> None:
    """One whole turn of the loop: a look at all descriptors, and the callbacks that follow."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def is_writable(fd: int) -> bool:
    """Whether the kernel would take bytes now."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


async def is_quiet(fd: int) -> bool:
    """Whether nobody above the kernel has anything to send.

    If anybody had, the loop would have called it by now, and the bytes would be sent.
    """
    room, before = is_writable(fd), _core.taken(fd)
    await turn()
    return room and _core.taken(fd) == before


def extra(transport: Any, name: str) -> Any:
    """What get_extra_info() says; stock TLS that was closed twice has nobody to ask."""
    with contextlib.suppress(AttributeError):
        return transport.get_extra_info(name)
    return None


def number_of(x: Any) -> int:
    """Of a socket, or of what a transport is on; -1: it is closed."""
    if not isinstance(x, socket.socket):
        x = extra(x, "socket") or extra(x, "pipe")
    with contextlib.suppress(OSError, ValueError, AttributeError):
        fd = int(x.fileno())
        os.fstat(fd)
        return fd
    return -1


_NUMBERS = {  # of errors that loops raise without one
    ConnectionResetError: errno.ECONNRESET,
    BrokenPipeError: errno.EPIPE,
    ConnectionAbortedError: errno.ECONNABORTED,
}


def errno_of(why: BaseException | None) -> int:
    """With which the connection broke; 0: it didn't, or it can't be told."""
    # Those of ssl have numbers of their own, and are no end of the socket.
    if not isinstance(why, OSError) or isinstance(why, ssl.SSLError):
        return 0
    return why.errno or next((n for kind, n in _NUMBERS.items() if isinstance(why, kind)), 0)


def _run(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        _private.run_handle(handle)


class SocketOwner(Owner):
    """A socket object that a program uses with loop.sock_recv() and the like, or not at all."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(sock.fileno())
        self.sock = sock
        self.loop = loop
        self._mine = False  # the number is ours
        self._waiting: list[asyncio.Future[Any]] = []

    def may_hide_bytes(self) -> bool:
        """A sock_sendall() waits, and how much it has left nobody knows."""
        if self.sock.type != socket.SOCK_STREAM:
            return False
        selector = _private.selector(self.loop)
        if selector is None:
            return any("Reader" not in type(future).__name__ for future in waiting_on(self.sock))
        key = selector.get_map().get(self.fd)
        return key is not None and bool(key.events & selectors.EVENT_WRITE)

    def is_closing(self) -> bool:
        return self.sock.fileno() != self.fd

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
        for future in self._waiting:
            if not future.done():
                future.set_exception(OSError(errno.EBADF, os.strerror(errno.EBADF)))
        if not self.loop.is_closed():
            self.loop.remove_reader(self.fd)
            self.loop.remove_writer(self.fd)
        close.release(self.fd)

    async def let_go(self) -> None:
        # uvloop's callbacks fail when they find the socket detached.
        if _private.selector(self.loop) is not None:
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
        if _private.selector(self.loop) is not None:
            self._take()
        self._wake(close, shared=shared)
        self.loop.call_soon(self.loop.call_soon, self.finish, close)

    def _wake(self, close: _core.Close, *, shared: bool) -> None:
        """A loop.sock_recv() that waits finds the socket detached, or at its end."""
        self._waiting = waiting_on(self.sock)
        if close.stream and not shared:
            close.wake()
        selector = _private.selector(self.loop)
        key = selector.get_map().get(self.fd) if selector else None
        for handle in key.data if key else ():
            if isinstance(handle, asyncio.Handle):
                self.loop.call_soon(_run, handle)


def waiting_on(sock: socket.socket) -> "list[asyncio.Future[Any]]":
    """uvloop's futures of sock_recv() and the like: the socket has one more user for each.

    The callback that it has for the socket refers to both, as the garbage collector tells.
    """
    if not _private.uses(sock):
        return []
    callbacks = [x for x in gc.get_referrers(sock) if type(x).__module__ == "uvloop.loop"]
    found = {id(x): x for x in gc.get_referents(*callbacks) if _is_waiting(x)}
    return list(found.values())


def _is_waiting(x: Any) -> bool:
    return type(x).__name__.startswith("_SyncSocket") and not x.done()


class ListenerOwner(Owner):
    """A listening socket of a server that was closed a moment ago."""

    async def leave(self, close: _core.Close, *, shared: bool) -> None:
        await self._see_it_go(close, LONG_TURNS)
