# SPDX-License-Identifier: MIT
"""One close in an asyncio loop: what the engine asks for, done with what loops offer."""

import asyncio
import errno
import os
from typing import ClassVar

from finack import _core
from finack._close.owners import Owner, is_quiet, is_writable, pause_after, turn
from finack._policy import Policy
from finack._receipt import Receipt
from finack._report.recent import recent
from finack._sockets.descriptors import is_lack


class Hub:
    """What the closes of one loop share while there are any."""

    _at_work: ClassVar[dict[asyncio.AbstractEventLoop, "Hub"]] = {}

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "Hub":
        """The loop's, with one more close that is to leave it."""
        hub = cls._at_work.get(loop)
        if hub is None:
            hub = cls._at_work[loop] = cls(loop)
        hub._count += 1
        return hub

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.set = _core.CloseSet()
        self.pid = os.getpid()
        self._count = 0
        self._watched: int | None = None  # the set's descriptor

    def watch(self) -> None:
        """Have the loop look after the set, which has another descriptor if it lost its own."""
        if self._watched != (fd := self.set.fileno()):
            self._watched = fd
            self.loop.add_reader(fd, self._news)

    def _news(self) -> None:
        try:
            news = self.set.poll()
        except OSError:  # a stray close() in the program took the set's descriptor
            if self._watched is not None:
                self.loop.remove_reader(self._watched)
            self.watch()
            return
        for closing in news:
            closing.wake()

    def leave(self) -> None:
        self._count -= 1
        if self._count:
            return
        self._at_work.pop(self.loop, None)
        if self._watched is not None and not self.loop.is_closed() and self.pid == os.getpid():
            self.loop.remove_reader(self._watched)
        self.set.close()


os.register_at_fork(after_in_child=Hub._at_work.clear)


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
        self._hub = Hub.of(loop)
        self.lent = False  # there is no descriptor left: it is done on the owner's
        self._mark = (owner.unsent(), 0)  # and what the kernel was given
        try:
            self._core = self._begin(policy._as_tuple(), requested)
        except BaseException:
            self._hub.leave()
            raise
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._cut = False
        self._drain = policy.drain  # what may be thrown away yet
        self._said = False  # the farewell, to the layer
        self._retries: int | None = None  # of the step that waits, None: only news matter
        self._moved = False  # bytes went to the kernel since the last look
        handed = _core.handed(self._core.fileno()) if self._mark[0] else None
        self._expected = None if handed is None else handed + self._mark[0]

    def _begin(self, policy: "_core.PolicyTuple", requested: float) -> _core.Close:
        dup = -1
        try:
            dup = os.dup(self.owner.fd)
            return self._make(dup, policy, requested)
        except BaseException as error:
            if dup >= 0:
                os.close(dup)
            if not is_lack(error):
                raise
        self.lent = True
        return self._make(self.owner.fd, policy, requested)

    def _make(self, fd: int, policy: "_core.PolicyTuple", requested: float) -> _core.Close:
        unsent, hub, blind = self._mark[0], self._hub.set, self.owner.blind
        left = None if not unsent and self.owner.may_hide_bytes() else unsent
        return _core.Close(hub, fd, policy, self, True, blind, requested, self.lent, left)

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
            recent.note(receipt, self.owner.identity, shared=self._core.spares)
        return receipt

    def receipt(self) -> Receipt:
        return Receipt._from_core(self._core.receipt(), socket=self.name)

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
                return self._read()
            case "detach":
                if not self.lent:  # it would end the connection
                    await self.owner.let_go()
            case _:
                await self.owner.leave(self._core, shared=self._shared)
        return self._tell("done")

    def _tell(self, event: str, *, bytes: int = 0, error: int = 0, progress: bool = False) -> str:
        if self._cut:
            return "finish"
        self._is_lost()
        return self._core.tell(event, bytes, error, progress, True)

    def _is_lost(self) -> bool:
        """Whether the number was lent, and its owner has closed it: its end was not seen."""
        if not self.lent or not self.owner.is_gone():
            return False
        self._core.lose()
        return True

    # ---- what is buffered above the kernel ----

    async def _flush(self) -> str:
        fd, owner = self._core.fileno(), self.owner
        if owner.is_closing():
            await turn()  # to hear why
        if failure := owner.failure() or (errno.EBADF if self._is_lost() else 0):
            return self._flushed(owner.unsent(), failure)
        try:
            owner.send(fd)
        except OSError as error:
            return self._flushed(owner.unsent(), error.errno or errno.EIO)
        unsent = owner.unsent()
        if unsent == 0 and owner.may_hide_bytes() and not await is_quiet(fd):
            unsent = max(owner.unsent(), 1)
            if owner.is_gone():
                return self._flushed(0 if is_writable(fd) else 1)
        if unsent == 0:
            return self._flushed(max(self._mark[0], 1) if owner.has_dropped() else 0)
        mark = unsent, _core.taken(fd)
        self._moved = mark != self._mark
        self._mark = mark
        return self._again(unsent)

    def _left(self) -> int:
        """Bytes that are still buffered, while that is waited for."""
        if self._retries is None:
            return 0
        return max(self.owner.unsent(), int(self.owner.may_hide_bytes()))

    def _flushed(self, lost: int, failure: int = 0) -> str:
        """Nothing is buffered any more; but was it sent?"""
        self._retries = None
        if failure and self._expected is None:
            lost = max(lost, self._mark[0])  # nobody counts what the kernel was given
        lost = max(lost, self._missing())
        if not lost and not failure:
            return self._tell("done")
        # By an abort of the program's, or the transport's own, at an error.
        return self._tell(
            "failed", bytes=lost, error=failure or self._core.error() or errno.ECANCELED
        )

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
        if self._is_lost():
            return self._tell("failed", error=errno.EBADF)
        try:
            said = self.owner.send(fd) if self._said else await self.owner.say_farewell(fd)
        except OSError as error:
            return self._tell("failed", error=error.errno or errno.EIO)
        self._said = True
        return self._tell(said)

    def _read(self) -> str:
        if self._is_lost():
            return self._tell("failed", error=errno.EBADF)
        found = self.owner.read(self._core.fileno(), self._drain)
        self._drain -= found.bytes
        return self._tell(found.event, bytes=found.bytes, error=found.error)

    # ---- waiting ----

    def wake(self) -> None:
        """Something may have happened."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> str:
        """Until there is news, or the deadline has come, or it is time to look again.

        The kernel does not tell what happens above it.
        """
        span = self._core.left
        if self.lent:
            self._retries = (self._retries or 0) + 1
        else:
            self._hub.watch()
        if self._retries is not None:
            span = min(span, pause_after(self._retries))
        self._waiter = self.loop.create_future()
        timer = self.loop.call_later(span, self.wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
        if self._cut or self._core.left > 0:
            return self._tell("ready", progress=self._moved)
        return self._tell("deadline", bytes=self._left())
