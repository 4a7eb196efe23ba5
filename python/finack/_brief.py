# SPDX-License-Identifier: MIT
"""The close that waits for nobody: a TCP transport of asyncio's with nothing to send, "prompt".

The same engine as in _closing.py, without what only other closes need: this one is what programs
do thousands of times a second.

What is private to asyncio's loops and used here is the same in CPython 3.11 to 3.13: the class of
TCP transports, its `_loop`, that abort() calls connection_lost() and closes the socket in the next
turn, and the names of what it calls when the socket is ready.
"""

import asyncio
import os
from asyncio import selector_events
from collections.abc import Generator
from types import coroutine
from typing import Any

from finack import _core, _recent
from finack._closing import hub_of
from finack._names import address
from finack._owners import TransportOwner
from finack._places import places
from finack._policy import Policy
from finack._receipt import Receipt

_Transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]


def fits(x: Any, policy: Policy, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is such a close."""
    return (
        type(x) is _Transport
        and policy.courtesy == "prompt"
        and policy.scope != "descriptor"
        and x._loop is loop
        and not x.is_closing()
        and not x.get_write_buffer_size()
        and type(x.get_extra_info("peername")) is tuple
    )


class Brief:
    """One such close. On failure to begin, the socket is as it was (OSError)."""

    __slots__ = (
        "__weakref__",
        "_core",
        "_done",
        "_hub",
        "_loop",
        "_made",
        "_over",
        "_socket",
        "_transport",
        "result",
    )

    result: Receipt

    def __init__(self, transport: Any, policy: Policy, requested: float) -> None:
        self._done: asyncio.Future[Receipt] | None = None
        self._over = False
        self._transport = transport
        self._loop = transport._loop
        self._socket = transport.get_extra_info("socket")
        fd = self._socket.fileno()
        self._made = places.place_at(fd)
        self._hub = hub = hub_of(self._loop)
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
                    yield from asyncio.sleep(core.left).__await__()
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

    async def _insist(self) -> None:
        """A file made of the socket holds it."""
        owner = TransportOwner(self._transport, self._socket.fileno(), listen=False)
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

    def receipt(self) -> Receipt:
        core, extra = self._core, self._transport.get_extra_info
        # Who holds it must be looked for now; all else can be asked later.
        values = core.receipt() if core.held else core
        return Receipt._from_core(values, _name, extra("sockname"), extra("peername"))

    def _end(self) -> None:
        self._over = True
        self._hub.leave()
        # As its own close() does since 3.12: without this cycle it is freed at once.
        self._transport._read_ready_cb = self._transport._write_ready = None
        self.result = self.receipt()
        _recent.note_prompt(self.result, self._core.identity, self._made)
        if self._done:
            self._done.set_result(self.result)

    # ---- for others who wait for it ----

    @property
    def done(self) -> asyncio.Future[Receipt]:
        if not self._done:
            self._done = self._loop.create_future()
        return self._done

    async def join(self) -> Receipt:
        try:
            return await asyncio.shield(self.done)
        except asyncio.CancelledError:
            self.cut()
            raise


def _name(ours: Any, theirs: Any) -> str:
    return f"tcp {address(ours)} -> {address(theirs)}"
