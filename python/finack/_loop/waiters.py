# SPDX-License-Identifier: MIT
"""Who waits for which socket of a loop."""

import asyncio
import weakref
from selectors import SelectorKey
from typing import Any

from finack import _core, _private

_LOOK_AGAIN = 0.05
"""Seconds: how often all waiters are looked at, since another thread may have closed a socket."""


class Waiters:
    """False while nobody waits."""

    def __init__(self, loop: Any) -> None:
        self._loop = weakref.proxy(loop)  # which has us
        self._of: dict[int, list[tuple[_core.Identity, asyncio.Future[None]]]] = {}
        self._unwatched: set[int] = set()  # those of them that the selector doesn't watch
        self._timer = False

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, fd: int, identity: "_core.Identity", future: asyncio.Future[None]) -> None:
        """Have the future done when the socket is released."""
        if not self._of:
            self._begin()
        self._of.setdefault(fd, []).append((identity, future))
        if fd not in _private.selector(self._loop).get_map():
            self._unwatched.add(fd)
        self._loop._watch()

    def _begin(self) -> None:
        if isinstance(_private.selector(self._loop), _core.ProxySelector):
            _private.selector(self._loop).add_observer(self._observe)
        if not self._timer:
            self._timer = True
            self._loop.call_later(_LOOK_AGAIN, self._look_at_all)

    def _end(self) -> None:
        if isinstance(_private.selector(self._loop), _core.ProxySelector):
            _private.selector(self._loop).remove_observer(self._observe)
        self._loop._watch()

    def _observe(self, event: str, key: SelectorKey) -> None:
        if key.fd in self._of:
            (self._unwatched.add if event == "unregister" else self._unwatched.discard)(key.fd)

    def look(self) -> None:
        """At those that may have been released in this turn."""
        selector = _private.selector(self._loop)
        if not isinstance(selector, _core.ProxySelector):
            watched = selector.get_map()
            self._unwatched = {fd for fd in self._of if fd not in watched}
        for fd in list(self._unwatched):
            self._look_at(fd)

    def _look_at_all(self) -> None:
        """The timer outlives the last waiter, which is cheaper than a new one for each."""
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
