# SPDX-License-Identifier: MIT
"""One close in an asyncio loop: what the engine asks for, done with what loops offer."""

import asyncio
import errno
import os
from dataclasses import replace
from typing import Final

from finack import _core, _recent
from finack._owners import Owner, SocketOwner, is_quiet, is_writable, taken, turn
from finack._policy import Policy
from finack._receipt import Receipt

_PAUSES: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.05)


class Hub:
    """What the closes of one loop share while there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.set = _core.CloseSet()
        self.pid = os.getpid()
        self._count = 0
        self._watched = False

    def enter(self) -> None:
        self._count += 1

    def watch(self) -> None:
        if not self._watched:
            self._watched = True
            self.loop.add_reader(self.set.fileno(), self._news)

    def _news(self) -> None:
        for closing in self.set.poll():
            closing.wake()

    def leave(self) -> None:
        self._count -= 1
        if self._count:
            return
        _hubs.pop(self.loop, None)
        if self._watched and not self.loop.is_closed() and self.pid == os.getpid():
            self.loop.remove_reader(self.set.fileno())
        self.set.close()


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}  # of loops with closes at work


def hub_of(loop: asyncio.AbstractEventLoop) -> Hub:
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = Hub(loop)
    hub.enter()
    return hub


os.register_at_fork(after_in_child=_hubs.clear)


class Closing:
    """A close from request to receipt. On failure to begin, the socket is as it was (OSError)."""

    def __init__(
        self,
        owner: Owner,
        policy: Policy,
        loop: asyncio.AbstractEventLoop,
        requested: float,
        name: str,
    ) -> None:
        self.owner = owner
        self.loop = loop
        self.name = name
        self._shared = policy.scope == "descriptor"
        self._hub = hub_of(loop)
        dup = -1
        try:
            dup = os.dup(owner.fd)
            self._core = _core.Close(
                self._hub.set, dup, policy._as_tuple(), self, True, owner.blind, requested
            )
        except BaseException:
            if dup >= 0:
                os.close(dup)
            self._hub.leave()
            raise
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._cut = False
        self._before: int | None = None  # what the kernel had been given before the farewell
        self._retries: int | None = None  # of the step that waits, None: only news matter
        self._moved = False  # bytes went to the kernel since the last look
        self._mark = (owner.unsent(), 0)
        handed = _core.handed(dup) if self._mark[0] else None
        self._expected = None if handed is None else handed + self._mark[0]

    # ---- from request to receipt ----

    async def run(self) -> Receipt:
        try:
            self.owner.begin()
            action = self._core.run()
            while action != "finish" and not self._cut:
                action = await self._do(action)
        except BaseException:
            self.cut()
            raise
        finally:
            self._end()
            receipt = self.receipt()
            _recent.note(receipt, self.owner.identity)
        return receipt

    def receipt(self) -> Receipt:
        receipt = Receipt._from_core(self._core.receipt(), socket=self.name)
        left = self._mark[0]
        if left and not receipt.unsent and "flushed" not in receipt.stages:
            # What is buffered was not asked for: an abort drops it, and so does scope "descriptor".
            receipt = replace(receipt, unsent=left)
        return receipt

    def cut(self) -> None:
        """Abort, and let everything go within two turns."""
        if self._cut or self._ended:
            return
        self._cut = True
        action = self._core.tell("abort")
        while action != "finish":
            if action == "wait":
                action = self._core.tell("abort")
                continue
            self.owner.leave_now(self._core, shared=self._shared)
            action = self._core.tell("done")
        self._end()
        self.wake()

    def finish(self) -> None:
        """After cut(), in place of the turns that won't come."""
        if isinstance(self.owner, SocketOwner):
            self.owner.finish(self._core)

    def abandon(self) -> None:
        """Instead of run(): leave the socket as it is."""
        del self._core
        self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._hub.leave()

    async def _do(self, action: str) -> str:
        match action:
            case "wait":
                return await self._wait()
            case "flush":
                return await self._flush()
            case "notify":
                return await self._notify()
            case "read":
                return await self._read()
            case "detach":
                await self.owner.let_go()
            case _:
                await self.owner.leave(self._core, shared=self._shared)
        return self._tell("done")

    def _tell(self, event: str, *, bytes: int = 0, error: int = 0, progress: bool = False) -> str:
        if self._cut:
            return "finish"
        return self._core.tell(event, bytes, error, progress, True)

    # ---- what is buffered above the kernel ----

    async def _flush(self) -> str:
        fd, owner = self._core.fileno(), self.owner
        unsent = owner.unsent()
        if unsent == 0 and owner.may_hide_bytes() and not await is_quiet(fd):
            unsent = max(owner.unsent(), 1)
            if owner.is_gone():
                return self._flushed(0 if is_writable(fd) else 1)
        if unsent == 0:
            return self._flushed(0)
        mark = unsent, taken(fd)
        self._moved = mark != self._mark
        self._mark = mark
        return self._again(unsent)

    def _flushed(self, lost: int) -> str:
        """Nothing is buffered any more; but was it sent?"""
        self._retries = None
        lost = max(lost, self._missing())
        if not lost:
            return self._tell("done")
        # By an abort of the program's, or the transport's own, at an error.
        return self._tell("failed", bytes=lost, error=self._core.error() or errno.ECANCELED)

    def _missing(self) -> int:
        """Bytes that were buffered, and that the kernel was never given."""
        if self._expected is None or self._cut:
            return 0
        handed = _core.handed(self._core.fileno())
        return 0 if handed is None else max(0, self._expected - handed)

    def _again(self, left: int = 0) -> str:
        self._retries = (self._retries or 0) + 1
        return self._tell("again", bytes=left)

    # ---- the farewell ----

    async def _notify(self) -> str:
        fd = self._core.fileno()
        if self._before is None:
            self._before = taken(fd)
            if self.owner.say_farewell() == "skip":
                return self._tell("skip")
            if self.owner.has_answer():
                self._core.note_answer()
        if not await is_quiet(fd) and not self.owner.is_gone():
            return self._again()
        self._retries = None
        # A transport that is ending by itself, at an end without a farewell, has kept ours back.
        return self._tell("done" if taken(fd) != self._before else "skip")

    async def _read(self) -> str:
        await turn()  # the transport reads first
        if self.owner.has_answer():
            return self._tell("answer")
        if self.owner.is_closing():
            return self._tell("end")
        return self._again()

    # ---- waiting ----

    def wake(self) -> None:
        """Something may have happened."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> str:
        """Until there is news, or the deadline has come, or it is time to look again.

        The kernel does not tell what happens above it.
        """
        self._hub.watch()
        span = self._core.left
        if self._retries is not None:
            span = min(span, _PAUSES[min(self._retries, len(_PAUSES) - 1)])
        self._waiter = self.loop.create_future()
        timer = self.loop.call_later(span, self.wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
        if self._cut or self._core.left > 0:
            return self._tell("ready", progress=self._moved)
        return self._tell("deadline")
