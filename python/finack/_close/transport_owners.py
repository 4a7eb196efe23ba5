# SPDX-License-Identifier: MIT
"""Transports as owners of a socket or a pipe, by what is public of them."""

import asyncio
import contextlib
from typing import Any

from finack import _core, _private
from finack._close.bounded_tls import lowest
from finack._close.owners import (
    LONG_TURNS,
    InPlace,
    Owner,
    errno_of,
    extra,
    is_quiet,
    pause_after,
    turn,
)
from finack._close.tls_layers import Stack, stack_of
from finack._close.tls_wire import Read, Said
from finack._tls import ssl

_TURNS = 4  # uvloop closes a transport in its second turn
_PAUSES = tuple(map(pause_after, range(5)))


class _Listener(InPlace):
    """In place of a transport's protocol: hears why the transport is closed, and hands all on."""

    def __init__(self, protocol: Any, *, drained: bool) -> None:
        super().__init__(protocol)
        self.drained = drained  # else bytes are buffered, or were dropped
        self.why: BaseException | None = None

    def pause_writing(self) -> None:
        self.drained = False
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self.drained = True
        self._protocol.resume_writing()

    def connection_lost(self, why: BaseException | None) -> None:
        self.why = why
        self._protocol.connection_lost(why)


class TransportOwner(Owner):
    """A transport of any loop, on a socket."""

    def __init__(self, transport: Any, fd: int) -> None:
        super().__init__(fd)
        self.transport = transport
        self._listener: _Listener | None = None
        self._saw_it_go = False
        self._dropped = False  # what was buffered, before this close began

    def begin(self) -> None:
        lower = lowest(self.transport)
        if isinstance(lower, _core.SocketTransport):
            lower._close_plainly()  # the connection stays as it is, for the dup
        self._dropped = _private.has_dropped(lower)
        with contextlib.suppress(Exception):  # it is gone, or has no protocol
            protocol = self.transport.get_protocol()
            self._listener = listener = _Listener(protocol, drained=self.unsent() == 0)
            self.transport.set_protocol(listener)
        with contextlib.suppress(Exception):  # UDP has no such thing
            self.transport.pause_reading()
        self._hear_of_the_last_byte()

    def _hear_of_the_last_byte(self) -> None:
        """By resume_writing(), which nobody calls when a buffer is dropped."""
        with contextlib.suppress(Exception):  # it only reads
            self.transport.set_write_buffer_limits(high=0)
        if self._listener and self.unsent() == 0:
            self._listener.drained = True  # TLS pauses where nothing is buffered, too

    def unsent(self) -> int:
        # After a second close() of stock TLS there is nothing left behind it to be asked; a
        # transport that only reads has no answer.
        if isinstance(self.transport, _core.DatagramTransport):
            return self.transport._unsent
        if (datagrams := _private.buffered_datagrams(self.transport)) is not None:
            return datagrams
        with contextlib.suppress(AttributeError, NotImplementedError):
            return int(self.transport.get_write_buffer_size())
        return 0

    def has_dropped(self) -> bool:
        return self._dropped or (self._listener is not None and not self._listener.drained)

    def failure(self) -> int:
        return errno_of(self._listener.why) if self._listener else 0

    def is_closing(self) -> bool:
        with contextlib.suppress(AttributeError):
            return bool(self.transport.is_closing())
        return True

    def _abort(self) -> None:
        # What a program has made of a transport must not keep it open. Those that only read may
        # have no abort().
        for end in ("abort", "close"):
            with contextlib.suppress(Exception):
                getattr(self.transport, end)()
                break

    async def let_go(self) -> None:
        if self._saw_it_go:
            return
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
        pauses: tuple[float, ...] = ()
        if not shared:
            with contextlib.suppress(Exception):  # paused, it would hear nothing
                self._resume()
            close.wake()
            pauses = LONG_TURNS + _PAUSES
        if await self._see_it_go(close, pauses):
            await turn()  # TLS: connection_lost() follows

    def _resume(self) -> None:
        self.transport.resume_reading()

    def leave_now(self, close: _core.Close, *, shared: bool) -> None:
        self._abort()


class TlsOwner(TransportOwner):
    """One with TLS whose layers are known. It is let go before the farewell."""

    def __init__(self, transport: Any, fd: int, stack: Stack) -> None:
        super().__init__(transport, fd)
        self._stack = stack

    def begin(self) -> None:
        super().begin()
        self._stack.hold()

    def _hear_of_the_last_byte(self) -> None:
        """There is more than one buffer; what the kernel was given is counted."""

    def has_dropped(self) -> bool:
        return False

    def _resume(self) -> None:
        self._stack.lower.resume_reading()
        super()._resume()  # stock TLS that was closed twice has nobody to do it

    def unsent(self) -> int:
        return super().unsent() + self._stack.pending()

    def send(self, fd: int) -> Said:
        return self._stack.send(fd)

    async def say_farewell(self, fd: int) -> Said:
        if fd != self.fd:  # else the connection would end here
            await self.let_go()
        if not self._stack.say_farewell():
            return "skip"
        return self._stack.send(fd)

    def read(self, fd: int, most: int) -> Read:
        return self._stack.read(fd, most)


class StrangeTlsOwner(TransportOwner):
    """One with TLS of a kind that is not known: it must say the farewell itself."""

    blind = True

    def _hear_of_the_last_byte(self) -> None:
        """As above."""

    def has_dropped(self) -> bool:
        return False

    def may_hide_bytes(self) -> bool:
        return True

    async def say_farewell(self, fd: int) -> Said:
        before = _core.taken(fd)
        try:
            extra(self.transport, "ssl_object").unwrap()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (OSError, ValueError):
            return "skip"
        with contextlib.suppress(Exception):
            self.transport.writelines([])  # sends what OpenSSL has written
        while not await is_quiet(fd) and not self.is_gone():
            await asyncio.sleep(pause_after(0))
        return "done" if _core.taken(fd) != before else "skip"


def owner_of(transport: Any, fd: int) -> TransportOwner:
    """Of a transport that is open."""
    if isinstance(transport, _core.SocketTransport):
        return TransportOwner(transport, fd)
    if stack := stack_of(transport):
        return TlsOwner(transport, fd, stack)
    if extra(transport, "ssl_object") is not None:
        return StrangeTlsOwner(transport, fd)
    return TransportOwner(transport, fd)
