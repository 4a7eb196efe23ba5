# SPDX-License-Identifier: MIT
"""How a loop ends: closes in progress come to their end, and nothing is left.

What is private to asyncio's loops and used here is the same in CPython 3.11 to 3.13: `_ready` is
the queue, `_transports` the list of transports, `_ssock` the loop's own pipe; a transport owns
`_sock` until `_call_connection_lost`, which comes at the end of its close, and `_conn_lost` says
that this is queued.
"""

import contextlib
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finack._aclose import is_at_work
from finack._closing import Closing
from finack._names import name_of
from finack._policy import Policy
from finack._receipt import Straggler
from finack._tls import cut, is_closing, unsent
from finack._transports import connection, layers, made_at, uppermost

if TYPE_CHECKING:
    from finack._loop import EventLoop

_TURNS = 16
_TURNS_AFTER = 4  # so that the news of a cut goes up through two layers of TLS
_LOOK_AGAIN = 0.05  # seconds
_STILL_CLOSING = "still closing"


@dataclass(slots=True)
class _Closing:
    """A transport whose close is in progress."""

    lower: Any
    unsent: int
    since: float  # when there was progress, or the wait for the peer began

    def is_late(self, policy: Policy, now: float) -> bool:
        if is_at_work(uppermost(self.lower)):
            return False  # aclose() has a policy of its own
        left = unsent(self.lower)
        if left != self.unsent:
            self.unsent, self.since = left, now
        if left:
            return now - self.since >= policy.flush
        return bool(layers(self.lower)) and now - self.since >= policy.farewell


class Ending:
    """The end of one loop."""

    def __init__(self, loop: "EventLoop", policy: Policy) -> None:
        self._loop = loop
        self._policy = policy
        self._deadline = time.monotonic() + policy.total
        self._closing: list[_Closing] = []
        self._works: list[Any] = []  # the closes that were cut
        self._leaving: BaseException | None = None
        self._told: list[str] = []
        self._category: type[Warning] = RuntimeWarning

    def run(self) -> None:
        """Let closes in progress end and what is queued run; then cut what is left.

        Blocks up to the policy's total time.
        """
        try:
            self._stop_servers()
            if self._policy.courtesy != "abort":
                self._turns(_TURNS)
            if self._cut_all():
                self._turns(_TURNS_AFTER)
        finally:
            self.cut_now()

    def cut_now(self) -> None:
        """Cut all without running the loop."""
        self._stop_servers()
        self._cut_all()
        self._release_all()
        self._unwatch()
        if self._leaving:
            raise self._leaving

    def warn(self, stacklevel: int) -> None:
        """Name what was left or cut, if anything was."""
        if self._told:
            text = f"left when the loop was closed: {'; '.join(self._told)}"
            warnings.warn(text, self._category, stacklevel=stacklevel + 1)

    # ---- what may end by itself ----

    def _turns(self, most: int) -> None:
        """Until nothing closes and nothing is queued; some things queue themselves for ever."""
        self._wait()
        for _ in range(most):
            if not self._loop._ready:
                return
            self._loop.stop()
            self._loop.run_forever()
            self._wait()

    def _wait(self) -> None:
        """Until no transport is closing and nothing is held."""
        while self._is_closing() and time.monotonic() < self._deadline:
            timer = self._loop.call_later(_LOOK_AGAIN, self._loop.stop)
            try:
                self._loop._run_until(lambda: not self._is_closing())
            finally:
                timer.cancel()
            self._cut_late()

    def _is_closing(self) -> bool:
        """Asked in every turn, so that it must not look at all transports each time."""
        while self._closing and not is_open(self._closing[-1].lower):
            self._closing.pop()
        if not self._closing:
            now = time.monotonic()
            found = filter(is_closing, self._transports())
            self._closing = [_Closing(lower, unsent(lower), now) for lower in found]
        return bool(self._closing or self._loop._held or self._loop._closes)

    def _cut_late(self) -> None:
        now = time.monotonic()
        for closing in self._closing:
            if is_open(closing.lower) and closing.is_late(self._policy, now):
                self._cut(closing.lower)

    # ---- what must not stay ----

    def _transports(self) -> list[Any]:
        return [lower for lower in self._loop._transports.values() if is_open(lower)]

    def _stop_servers(self) -> None:
        for server in list(self._loop._servers):
            for sock in server.sockets:
                self._tell(sock.fileno(), made_at(server), "listening")
            self._guard(server.close)
        self._loop._servers.clear()

    def _cut_all(self) -> bool:
        """Whether there was anything."""
        found = bool(self._loop._closes or self._loop._held)
        for work in list(self._loop._closes):
            self._told.append(f"{work.receipt().socket}, {_STILL_CLOSING}")
            work.cut()
            self._works.append(work)
        self._loop._closes.clear()
        transports = self._transports()
        for lower in transports:
            self._cut(lower)
        for future in self._loop._held:
            self._told.append(f"held by {future!r}")
            future.cancel()
        self._loop._held.clear()
        return found or bool(transports)

    def _cut(self, lower: Any) -> None:
        if lower._conn_lost:
            return  # it is released in the next turn
        found, left = connection(lower, lower._server), unsent(lower)
        if found:
            state = _STILL_CLOSING if is_closing(lower) else "never closed"
            self._tell(found.fd, found.made, state, f", {left} bytes unsent" if left else "")
        cut(lower)

    def _release_all(self) -> None:
        """In place of the turn that won't come. A TLS layer queues the news for its program."""
        queue = self._loop._ready
        before = len(queue)
        for work in self._works:
            if isinstance(work, Closing):
                self._guard(work.finish)
        for lower in self._transports():
            self._guard(lower._call_connection_lost, None)
        while len(queue) > before:
            handle = queue.pop()
            if getattr(handle._callback, "__name__", "") == "connection_lost":
                self._guard(handle._run)

    def _guard(self, call: Any, *arguments: Any) -> None:
        """As the loop calls a program; to leave must wait until all is released."""
        try:
            call(*arguments)
        except (SystemExit, KeyboardInterrupt) as error:
            self._leaving = self._leaving or error
        except BaseException as error:
            self._loop.call_exception_handler({"message": "at the loop's end", "exception": error})

    def _unwatch(self) -> None:
        own = self._loop._ssock.fileno()
        keys = [key for key in self._loop._selector.get_map().values() if key.fd != own]
        for key in keys:
            self._loop._selector.unregister(key.fd)
            self._tell(key.fd, None, "still watched; it stays its owner's")

    def _tell(self, fd: int, made: str | None, state: str, more: str = "") -> None:
        with contextlib.suppress(OSError, ValueError):  # not a socket, or closed
            self._told.append(f"{Straggler(name_of(fd), fd, made)}, {state}{more}")
            if state != _STILL_CLOSING:
                self._category = ResourceWarning


def is_open(lower: Any) -> bool:
    """Whether it owns its socket yet."""
    return lower._sock is not None
