# SPDX-License-Identifier: MIT
"""The loop: who waits for a close runs before it can block again.

What is private to asyncio's loops and used here is the same in CPython 3.11 to 3.13:
`run_forever` looks `_run_once` up in each turn, and `_selector` is the selector.
"""

import asyncio
from collections.abc import Callable
from selectors import BaseSelector, SelectorKey

from finack import _core

_LOOK_AGAIN = 0.05
"""Seconds: how often all waiters are looked at, since another thread may have closed a socket."""


class EventLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on which a close has an exact end.

    selector
        Any; by default a ProxySelector.

    >>> async def main() -> None:
    ...     assert isinstance(asyncio.get_running_loop(), EventLoop)
    >>> with asyncio.Runner(loop_factory=EventLoop) as runner:
    ...     runner.run(main())
    """

    _selector: BaseSelector
    _run_once: Callable[[], None]

    def __init__(self, selector: BaseSelector | None = None) -> None:
        """Make a loop; the caller closes it."""
        self._waiters = _Waiters(self)
        super().__init__(_core.ProxySelector() if selector is None else selector)

    def _add_release_waiter(
        self, fd: int, identity: "_core.Identity", future: asyncio.Future[None]
    ) -> None:
        """Have the future done before the loop can block again after that socket is released.

        A release by another thread is seen within 50 ms.
        """
        self._waiters.add(fd, identity, future)

    def _run_once_watching(self) -> None:
        """In place of _run_once while anybody waits: nobody waiting costs nothing."""
        super()._run_once()  # type: ignore[misc]
        self._waiters.look()


class _Waiters:
    """Who waits for which socket."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._of: dict[int, list[tuple[_core.Identity, asyncio.Future[None]]]] = {}
        self._unwatched: set[int] = set()  # those of them that the selector doesn't watch
        self._timer = False

    def add(self, fd: int, identity: "_core.Identity", future: asyncio.Future[None]) -> None:
        if not self._of:
            self._begin()
        self._of.setdefault(fd, []).append((identity, future))
        if fd not in self._loop._selector.get_map():
            self._unwatched.add(fd)

    def _begin(self) -> None:
        loop = self._loop
        loop._run_once = loop._run_once_watching
        if isinstance(loop._selector, _core.ProxySelector):
            loop._selector.add_observer(self._observe)
        if not self._timer:
            self._timer = True
            loop.call_later(_LOOK_AGAIN, self._look_at_all)

    def _end(self) -> None:
        loop = self._loop
        del loop._run_once
        if isinstance(loop._selector, _core.ProxySelector):
            loop._selector.remove_observer(self._observe)

    def _observe(self, event: str, key: SelectorKey) -> None:
        if key.fd in self._of:
            (self._unwatched.add if event == "unregister" else self._unwatched.discard)(key.fd)

    def look(self) -> None:
        """At those that may have been released in this turn."""
        selector = self._loop._selector
        if not isinstance(selector, _core.ProxySelector):
            watched = selector.get_map()
            self._unwatched = {fd for fd in self._of if fd not in watched}
        for fd in list(self._unwatched):
            self._look_at(fd)

    def _look_at_all(self) -> None:
        """The timer outlives the last waiter by one turn at most, which is cheaper than a new one
        for each."""
        self._timer = bool(self._of)
        if self._timer:
            self._loop.call_later(_LOOK_AGAIN, self._look_at_all)
        for fd in list(self._of):
            self._look_at(fd)

    def _look_at(self, fd: int) -> None:
        waiting = []
        for identity, future in self._of[fd]:
            if not future.done():
                if _core.is_same(fd, identity):
                    waiting.append((identity, future))
                else:
                    future.set_result(None)
        if waiting:
            self._of[fd] = waiting
            return
        del self._of[fd]
        self._unwatched.discard(fd)
        if not self._of:
            self._end()
