# SPDX-License-Identifier: MIT
"""How a loop ends: closes in progress come to their end, and nothing is left."""

import contextlib
import time
import warnings
from dataclasses import dataclass
from selectors import SelectorKey
from typing import Any

from finack import _core, _private
from finack._close.aclose import is_at_work
from finack._close.bounded_tls import cut, is_closing, unsent
from finack._close.by_engine import ending_of
from finack._close.closing import Closing
from finack._policy import Policy
from finack._report.loop_end import NEVER_CLOSED, STILL_CLOSING, WATCHED, Left, loop_end
from finack._sockets import pipes
from finack._sockets.names import name_of
from finack._sockets.places import Place, places
from finack._sockets.transports import (
    Connection,
    accepting,
    connection,
    layers,
    listed,
    uppermost,
)

_TURNS = 16
_TURNS_AFTER = 4  # so that the news of a cut goes up through two layers of TLS
_LOOK_AGAIN = 0.05  # seconds


@dataclass(slots=True)
class _InProgress:
    """A transport whose close is in progress."""

    transport: Any
    mark: tuple[int, int]  # see _mark()
    since: float  # when there was progress, or the wait for the peer began

    def is_late(self, policy: Policy, now: float) -> bool:
        if (ending := ending_of(self.transport)) and ending.driven:
            return False
        if not _private.is_pipe(self.transport) and is_at_work(uppermost(self.transport)):
            return False  # aclose() has a policy of its own
        mark = _mark(self.transport)
        if mark != self.mark:
            self.mark, self.since = mark, now
        if mark[0]:
            return now - self.since >= policy.flush
        return _waits_for_an_answer(self.transport) and now - self.since >= policy.farewell


def _mark(transport: Any) -> tuple[int, int]:
    """Bytes that are left, and those that the kernel has: a change of either is progress."""
    if _private.is_pipe(transport):
        return _private.pipe_buffered(transport), 0
    return unsent(transport), _core.outstanding(_private.own_fd(transport))


def _waits_for_an_answer(transport: Any) -> bool:
    """To TLS's close_notify."""
    if _private.is_pipe(transport):
        return False
    return getattr(transport, "_is_tls", False) or bool(layers(transport))


def _is_closing(transport: Any) -> bool:
    if _private.is_pipe(transport):
        return bool(transport.is_closing())
    return is_closing(transport)


class Ending:
    """The end of one loop."""

    def __init__(self, loop: Any, policy: Policy) -> None:
        self._loop = loop
        self._policy = policy
        self._deadline = time.monotonic() + policy.total
        self._in_progress: list[_InProgress] = []
        self._works: list[Any] = []  # the closes that were cut
        self._leaving: BaseException | None = None
        self._left: list[Left] = []
        self._told: list[str] = []  # what is no socket

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
        if self._left:
            loop_end.note(self._left)
        told = [*map(str, self._left), *self._told]
        if not told:
            return
        never_closed = any(left.state != STILL_CLOSING for left in self._left)
        category = ResourceWarning if never_closed else RuntimeWarning
        try:
            text = f"left when the loop was closed: {'; '.join(told)}"
            warnings.warn(text, category, stacklevel=stacklevel + 1)
        except Warning as error:  # the program has made it an error, and isn't to lose its own
            _core.unraisable(error, self._loop)

    # ---- what may end by itself ----

    def _turns(self, most: int) -> None:
        """Until nothing closes and nothing is queued; some things queue themselves for ever."""
        self._wait()
        for _ in range(most):
            if not _private.ready(self._loop) and not self._loop._lingering:
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
        while self._in_progress and not is_open(self._in_progress[-1].transport):
            self._in_progress.pop()
        if not self._in_progress:
            now = time.monotonic()
            found = filter(_is_closing, [*self._transports(), *self._pipes()])
            self._in_progress = [_InProgress(one, _mark(one), now) for one in found]
        left = (
            self._in_progress or self._loop._awaited or self._loop._closes or self._loop._lingering
        )
        return bool(left)

    def _cut_late(self) -> None:
        now = time.monotonic()
        for one in self._in_progress:
            if is_open(one.transport) and one.is_late(self._policy, now):
                self._cut(one.transport)

    # ---- what must not stay ----

    def _transports(self) -> list[Any]:
        return [lower for lower in listed(self._loop) if is_open(lower)]

    def _pipes(self) -> list[Any]:
        return [pipe for pipe in self._loop._pipes if is_open(pipe)]

    def _stop_servers(self) -> None:
        for server in list(self._loop._servers):
            self._cut_accepted(server)
            for sock in server.sockets:
                with contextlib.suppress(OSError):
                    name = f"{name_of(sock.fileno())} listening"
                    place = _place(server, sock.fileno())
                    self._left.append(Left(name, sock.fileno(), NEVER_CLOSED, place))
            self._guard(server.close)
        self._loop._servers.clear()

    def _cut_accepted(self, server: Any) -> None:
        """Those that have no transport yet, and would not get one any more."""
        for sock in accepting(self._loop, server):
            with contextlib.suppress(OSError):
                fd, name = sock.fileno(), name_of(sock.fileno())
                place, by = _place(server, fd), _server_of(fd)
                self._left.append(Left(name, fd, NEVER_CLOSED, place, by))
            sock.close()

    def _cut_all(self) -> bool:
        """Whether there was anything."""
        found = bool(self._loop._closes or self._loop._awaited or self._loop._lingering)
        for work in list(self._loop._closes):
            self._told.append(f"{work.receipt().socket}, {STILL_CLOSING}")
            work.cut()
            self._works.append(work)
        self._loop._closes.clear()
        transports = [*self._transports(), *self._pipes()]
        for transport in transports:
            self._cut(transport)
        for future in self._loop._awaited:
            self._told.append(f"held by {future!r}")
            future.cancel()
        self._loop._awaited.clear()
        self._guard(self._loop._force_closes)  # those too that wait for their proof alone
        return found or bool(transports)

    def _cut(self, transport: Any) -> None:
        if _private.is_pipe(transport):
            self._cut_pipe(transport)
            return
        ending = ending_of(transport)
        lingers = ending is not None and transport.get_protocol() is None
        if _private.is_ending(transport) and not lingers:
            return  # it is released in the next turn
        found, left = connection(transport, _private.server_of(transport)), unsent(transport)
        if found:
            state = STILL_CLOSING if is_closing(transport) else NEVER_CLOSED
            with contextlib.suppress(OSError):
                name, place = name_of(found.fd), found.place or places.at(found.fd)
                self._left.append(Left(name, found.fd, state, place, _server(found), left))
        if ending is None:
            cut(transport)
        elif transport._is_tls and not left and not lingers:
            self._guard(ending.force)  # the peer has all, and its answer alone is missing
        else:
            self._guard(ending.abort)

    def _cut_pipe(self, pipe: Any) -> None:
        closing, left = pipe.is_closing(), _private.pipe_buffered(pipe)
        if closing and not left:
            return  # it is released in the next turn
        state = STILL_CLOSING if closing else NEVER_CLOSED
        name, place = pipes.name_of(pipe), pipes.place_of(pipe)
        self._left.append(Left(name, _private.pipe_fd(pipe), state, place, unsent=left))
        _private.close_pipe(pipe)

    def _release_all(self) -> None:
        """In place of the turn that won't come. A TLS layer queues the news for its program."""
        queue = _private.ready(self._loop)
        before = len(queue)
        for work in self._works:
            if isinstance(work, Closing):
                self._guard(work.finish)
        for lower in self._transports():
            self._guard(_private.call_connection_lost, lower, None)
        for pipe in self._pipes():
            self._guard(_private.call_connection_lost, pipe, None)
        self._guard(self._loop._force_closes)
        with contextlib.suppress(IndexError):  # what is left are steps of the loop's own
            while len(queue) > before:
                handle = queue.pop()
                if getattr(_private.callback_of(handle), "__name__", "") == "connection_lost":
                    self._guard(_private.run_handle, handle)

    def _guard(self, call: Any, *arguments: Any) -> None:
        """As the loop calls a program; to leave must wait until all is released."""
        try:
            call(*arguments)
        except (SystemExit, KeyboardInterrupt) as error:
            self._leaving = self._leaving or error
        except BaseException as error:
            self._loop.call_exception_handler({"message": "at the loop's end", "exception": error})

    def _unwatch(self) -> None:
        own = self._loop._own_descriptors()
        for key in list((_private.selector(self._loop).get_map() or {}).values()):
            if key.fd not in own:
                self._guard(_private.selector(self._loop).unregister, key.fd)
                self._tell_watched(key)

    def _tell_watched(self, key: SelectorKey) -> None:
        if not pipes.release_watcher(key):
            with contextlib.suppress(OSError, ValueError):  # not a socket, or closed
                self._left.append(Left(name_of(key.fd), key.fd, WATCHED))


def _place(made: Any, fd: int) -> Place | None:
    return places.made_at(made) or places.at(fd)


def _server(found: Connection) -> str | None:
    """The listening socket that accepted it, which has the connection's own address."""
    return None if found.server is None else _server_of(found.fd)


def _server_of(fd: int) -> str:
    return "the server of " + name_of(fd).partition(" -> ")[0].partition(" ")[2]


def is_open(lower: Any) -> bool:
    """Whether it owns its socket or pipe yet."""
    if isinstance(lower, _core.SocketTransport):
        return _private.own_fd(lower) >= 0
    if _private.is_pipe(lower):
        return _private.own_pipe(lower) is not None
    return _private.own_socket(lower) is not None
