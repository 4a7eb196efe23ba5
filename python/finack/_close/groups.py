# SPDX-License-Identifier: MIT
"""Closes of several things at once: a server with its connections, a subprocess with its pipes."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from finack import _core
from finack._close.at_work import key_of, pending
from finack._close.bounded_tls import drop, lowest
from finack._close.by_engine import follow
from finack._close.closing import Closing
from finack._close.owners import ListenerOwner, number_of, pause_after, turn
from finack._close.remembered import remembered
from finack._close.unseen import heard, unseen
from finack._policy import Policy
from finack._receipt import Outcome, Receipt, Straggler
from finack._sockets.names import name_of
from finack._sockets.transports import Connection, accepting, connections, half_made

_CUT = ("timed_out", "bounded", "aborted", "error")

Close = Callable[[Any, Policy], Awaitable[Receipt]]


def break_off(x: Any, *, reset: bool) -> int:
    """Abort a transport; how many bytes are missing. Then, too, the peer gets RST."""
    left = drop(lowest(x), number_of(x), reset=reset)
    with contextlib.suppress(Exception):
        getattr(x, "abort", x.close)()
    return left


def together(parts: Sequence[Receipt], whole: Sequence[Receipt]) -> Receipt:
    """One receipt: as bad as the worst of all, with the stages that all of `whole` have."""
    everything = [*whole, *parts]
    worst = max(everything, key=lambda receipt: _core.OUTCOMES_FROM_BEST.index(receipt.outcome))
    held = next((r for r in everything if r.held), whole[0])
    common = [s for s in _core.STAGES if all(s in receipt.stages for receipt in whole)]
    return replace(
        whole[0],
        outcome=worst.outcome,
        phase=worst.phase,
        error=worst.error,
        stages={stage: max(receipt.stages[stage] for receipt in whole) for stage in common},
        unverifiable=frozenset().union(*(receipt.unverifiable for receipt in whole)),
        unsent=sum(receipt.unsent for receipt in everything),
        unacked=sum(receipt.unacked for receipt in everything),
        discarded=sum(receipt.discarded for receipt in everything),
        accepted=sum(receipt.accepted for receipt in everything),
        held=held.held,
        search=held.search,
        holders=held.holders,
        holder_count=held.holder_count,
        forced=any(receipt.forced for receipt in everything),
        tombstone=any(receipt.tombstone for receipt in everything),
        socket=", ".join(receipt.socket for receipt in whole),
    )


def _aborted(receipt: Receipt, unsent: int) -> Receipt:
    return replace(receipt, outcome="aborted", phase=None, unsent=receipt.unsent + unsent)


class ServerWork:
    """The listening sockets of a server, and its connections."""

    def __init__(
        self,
        server: Any,
        policy: Policy,
        loop: asyncio.AbstractEventLoop,
        requested: float,
        close: Close,
    ) -> None:
        self._server, self._policy, self._loop = server, policy, loop
        self._requested, self._close = requested, close
        self._task: asyncio.Future[Any] | None = None
        self._closes: list[asyncio.Future[list[Receipt]]] = []  # of connections
        self._cut = False
        self._unsent = 0  # by those that were broken off without a close of their own
        self._receipts: list[Receipt] = []
        self._stragglers: list[Straggler] = []
        self._accepted: list[Any] = []
        self._begun: dict[int, Any] = {}  # transports, by id(): not all can be compared
        self._listeners: list[Closing] = []
        try:
            for sock in server.sockets:
                self._listeners.append(self._listener(sock.fileno(), policy))
        except BaseException:
            for listener in self._listeners:
                listener.abandon()
            raise

    def _listener(self, fd: int, policy: Policy) -> Closing:
        name = name_of(fd)
        closing = Closing(ListenerOwner(fd), policy, self._loop, self._requested, name)
        if closing.lent and policy.scope == "connection":  # its queue can't be taken either
            closing.abandon()
            return self._listener(fd, replace(policy, scope="descriptor"))
        return closing

    async def run(self) -> Receipt:
        known = self._close_these(self._connections())  # before the loop hears more of them
        try:
            self._server.close()
            self._accepted = self._without_transports()
            self._task = asyncio.gather(
                known, self._close_later(), *(listener.run() for listener in self._listeners)
            )
            await asyncio.shield(self._task)
        except BaseException as error:
            was_cut = self._cut
            self.cut()
            if self._task:
                await asyncio.gather(self._task, return_exceptions=True)
            else:
                known.close()  # the server refused to be closed
            await asyncio.gather(*self._closes, return_exceptions=True)
            await self._note_those_cut()
            self.cut()  # those that a server which refused has accepted meanwhile, too
            if not (was_cut and isinstance(error, asyncio.CancelledError)):
                raise
        return self.receipt()

    async def _close_later(self) -> None:
        """Those that have no transport yet, and those that get one meanwhile."""
        end = self._requested + self._policy.total
        self._receipts += await asyncio.gather(
            *(self._close(sock, self._policy) for sock in self._accepted)
        )
        over = False
        while not over:  # once more when the time is over: each has its own end by the policy
            await turn()
            found = [c for c in self._connections() if id(c.transport) not in self._begun]
            over = not found or time.monotonic() > end
            await self._close_these(found)

    def _close_these(self, found: list[Connection]) -> Coroutine[Any, Any, None]:
        """Begun in the next turn, whenever that is awaited."""
        self._begun.update((id(c.transport), c.transport) for c in found)
        closes = asyncio.gather(*(self._close(c.transport, self._policy) for c in found))
        self._closes.append(closes)
        return self._note_all(found, closes)

    async def _note_all(
        self, found: list[Connection], closes: "asyncio.Future[list[Receipt]]"
    ) -> None:
        for connection, receipt in zip(found, await closes, strict=True):
            self._note(connection, receipt)

    async def _note_those_cut(self) -> None:
        """Those whose closes had begun have receipts, which nobody has heard of."""
        for transport in self._begun.values():
            receipt = remembered.recall(key_of(transport)) or await follow(transport)
            if receipt and not any(receipt is known for known in self._receipts):
                self._receipts.append(receipt)

    def _without_transports(self) -> list[Any]:
        found = accepting(self._loop, self._server)
        # Without listening sockets it was closed before, and asyncio had to do with them.
        return found if self._listeners else found + half_made(self._loop, self._server)

    def _connections(self) -> list[Connection]:
        return [c for c in connections(self._loop) if c.server is self._server]

    def _note(self, connection: Connection, receipt: Receipt) -> None:
        self._receipts.append(receipt)
        if receipt.outcome in _CUT:
            name, fd = receipt.socket, connection.fd
            self._stragglers.append(Straggler(name, fd, connection.made, receipt))

    def cut(self) -> None:
        self._cut = True
        for task in [self._task, *self._closes]:
            if task:
                task.cancel()
        # Tasks that have not begun yet never will.
        for listener in self._listeners:
            listener.cut()
        self._accepted += self._without_transports()
        for thing in [*self._accepted, *(c.transport for c in self._connections())]:
            closing = pending.get(key_of(thing))
            if closing:
                closing.cut()
            elif number_of(thing) >= 0:
                left = break_off(thing, reset=True)
                self._unsent += 0 if id(thing) in self._begun else left

    def receipt(self) -> Receipt:
        whole = [listener.receipt() for listener in self._listeners] or [self._closed_before()]
        receipt = replace(together(self._receipts, whole), stragglers=tuple(self._stragglers))
        return _aborted(receipt, self._unsent) if self._cut else receipt

    def _closed_before(self) -> Receipt:
        now = time.monotonic()
        return unseen(self._policy, "listener", self._requested, now, before=True)


class SubprocessWork:
    """A subprocess: its input is ended, then it has the policy's `linger` to end by itself."""

    def __init__(
        self,
        transport: Any,
        policy: Policy,
        loop: asyncio.AbstractEventLoop,
        requested: float,
        close: Close,
    ) -> None:
        self._transport, self._policy, self._loop = transport, policy, loop
        self._requested, self._close = requested, close
        self._receipts: list[Receipt] = []
        self._killed = self._cut = False

    async def run(self) -> Receipt:
        try:
            await self._end_input()
            if self._waits():
                await self._exit(self._policy.linger)
            self._kill()  # its other pipes are closed with it
            await self._exit(self._left())
        except BaseException:
            self.cut()
            raise
        return self.receipt()

    def _waits(self) -> bool:
        return self._policy.courtesy in ("orderly", "full")

    def _left(self) -> float:
        return self._requested + self._policy.total - time.monotonic()

    async def _end_input(self) -> None:
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None and number_of(pipe) >= 0:
            self._receipts.append(await self._close(pipe, self._policy))
        else:
            self._note_what_broke()

    def _note_what_broke(self) -> None:
        """stdin may have ended by itself, with bytes that nobody took."""
        now, why = time.monotonic(), None
        with contextlib.suppress(AttributeError):  # a protocol of the program's own
            why = heard(self._transport.get_protocol().stdin)
        if why is not None:
            self._receipts.append(
                unseen(self._policy, "other", self._requested, now, before=True, why=why)
            )

    async def _exit(self, span: float) -> None:
        """Nothing public tells of it but the transport's protocol, which is the program's."""
        end, looks = time.monotonic() + min(span, self._left()), 0
        while self._transport.get_returncode() is None and time.monotonic() < end:
            await asyncio.sleep(pause_after(looks) if looks else 0)
            looks += 1
        await turn()

    def _kill(self) -> None:
        self._killed = self._transport.get_returncode() is None
        with contextlib.suppress(ProcessLookupError):
            self._transport.close()

    def cut(self) -> None:
        self._cut = True
        with contextlib.suppress(ProcessLookupError):
            self._transport.close()

    def receipt(self) -> Receipt:
        whole = Receipt(
            outcome="graceful",
            stages={"requested": 0.0, "released": time.monotonic() - self._requested},
            socket=f"subprocess {self._transport.get_pid()}",
        )
        if not self._waits():
            outcome: Outcome = "aborted" if self._policy.courtesy == "abort" else "prompt"
            whole = replace(whole, outcome=outcome)
        elif self._killed:
            whole = replace(whole, outcome="timed_out", phase="linger")
        receipt = together(self._receipts, [whole])
        return _aborted(receipt, 0) if self._cut else receipt
