# SPDX-License-Identifier: MIT
"""The close that waits for nobody: a TCP transport of asyncio's with nothing to send, "prompt".

The same engine as in closing.py, without what only other closes need: this one is what programs
do thousands of times a second, and a Closing with an owner that has nothing to say takes 1.8 times
as long.
"""

import asyncio
import os
from collections.abc import Generator
from types import coroutine
from typing import Any

from finack import _core, _private
from finack._close.at_work import AtWork
from finack._close.closing import Hub
from finack._close.transport_owners import TransportOwner
from finack._policy import Policy
from finack._receipt import Receipt
from finack._report.recent import recent
from finack._sockets.names import address
from finack._sockets.places import places

_Transport: Any = _private.SocketTransport


def fits(x: Any, policy: Policy, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is such a close."""
    return (
        type(x) is _Transport
        and policy.courtesy == "prompt"
        and policy.scope != "descriptor"
        and _private.loop_of(x) is loop
        and not x.is_closing()
        and not x.get_write_buffer_size()
        and type(x.get_extra_info("peername")) is tuple
    )


class Brief(AtWork):
    """One such close. On failure to begin, the socket is as it was (OSError)."""

    __slots__ = (
        "_core",
        "_done",
        "_hub",
        "_loop",
        "_made",
        "_over",
        "_socket",
        "_transport",
        "_waiter",
        "result",
    )

    result: Receipt

    def __init__(self, transport: Any, policy: Policy, requested: float) -> None:
        self._done: asyncio.Future[Receipt] | None = None
        self._over = False
        self._waiter: asyncio.Future[None] | None = None
        self._transport = transport
        self._loop = _private.loop_of(transport)
        self._socket = transport.get_extra_info("socket")
        fd = self._socket.fileno()
        self._made = places.at(fd)
        self._hub = hub = Hub.of(self._loop)
        dup = -1
        try:
            dup = os.dup(fd)
            self._core = _core.Close(
                hub.set, dup, policy._as_tuple(), None, False, False, requested
            )
        except BaseException:
            if dup >= 0:
                os.close(dup)
            hub.leave()
            raise

    @coroutine
    def run(self) -> Generator[Any, None, Receipt]:
        at_work = getattr(self._loop, "_closes", None)  # EventLoop lets them get to their ends
        if at_work is not None:
            at_work.add(self)
        core, event = self._core, "done"
        try:
            action = core.run()
            while action != "finish":
                if action == "wait":
                    yield from self._pause(core.left)
                    event = "deadline"
                else:
                    self._transport.abort()
                    yield  # until what is queued now has run
                    if self._socket.fileno() >= 0:
                        yield from self._insist().__await__()
                    event = "done"
                if self._over:
                    break
                action = core.tell(event)
        except BaseException:
            self.cut()
            raise
        finally:
            if at_work is not None:
                at_work.discard(self)
            self._end()
        return self.result

    def _pause(self, span: float) -> Generator[Any, None, None]:
        self._waiter = waiter = self._loop.create_future()
        timer = self._loop.call_later(span, self._wake)
        try:
            yield from waiter
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def _insist(self) -> None:
        """A file made of the socket holds it."""
        owner = TransportOwner(self._transport, self._socket.fileno())
        await owner.leave(self._core, shared=False)

    def cut(self) -> None:
        """Abort; all is released within two turns."""
        if self._over:
            return
        self._over = True
        action = self._core.tell("abort")
        while action != "finish":
            self._transport.abort()
            action = self._core.tell("abort" if action == "wait" else "done")
        self._end()
        self._wake()

    def receipt(self) -> Receipt:
        core, extra = self._core, self._transport.get_extra_info
        # Who holds it must be looked for now; all else can be asked later.
        values = core.receipt() if core.held else core
        return Receipt._from_core(values, _name, extra("sockname"), extra("peername"))

    def _end(self) -> None:
        if hasattr(self, "result"):
            return
        self._over = True
        self._hub.leave()
        if type(self._transport) is _Transport:
            _private.forget_callbacks(self._transport)
        self.result = self.receipt()
        recent.note_prompt(self.result, self._core.identity, self._made)
        if self._done:
            self._done.set_result(self.result)

    # ---- for others who wait for it ----

    @property
    def done(self) -> asyncio.Future[Receipt]:  # type: ignore[override]
        if not self._done:
            self._done = self._loop.create_future()
        return self._done


def _name(ours: Any, theirs: Any) -> str:
    return f"tcp {address(ours)} -> {address(theirs)}"
