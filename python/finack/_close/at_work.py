# SPDX-License-Identifier: MIT
"""Closes that are at work, and who waits for them."""

import asyncio
import os
import weakref
from typing import Any, Protocol

from finack._close.owners import extra
from finack._receipt import Receipt

MANY = 256  # closed subprocesses of one protocol that are remembered on uvloop


class Work(Protocol):
    """A close of one thing."""

    async def run(self) -> Receipt: ...

    def cut(self) -> None: ...

    def receipt(self) -> Receipt: ...


class Shared:
    """A close that several may wait for; the first of them drives it."""

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        # EventLoop lets these get to their ends, and cuts them if they don't.
        self._at_work: set[Work] = getattr(loop, "_closes", set())
        self.done: asyncio.Future[Receipt] = loop.create_future()

    async def drive(self) -> Receipt:
        self._at_work.add(self._work)
        try:
            receipt = await self._work.run()
        except BaseException:
            receipt = self._work.receipt()
            raise
        finally:
            self._at_work.discard(self._work)
            self.done.set_result(receipt)
        return receipt

    async def join(self) -> Receipt:
        """Wait for it too; who is cancelled meanwhile cuts it."""
        try:
            return await asyncio.shield(self.done)
        except asyncio.CancelledError:
            self.cut()
            raise

    def cut(self) -> None:
        self._work.cut()


class Pending:
    """The closes that are under way in this process, by what stands for the thing (key_of())."""

    def __init__(self) -> None:
        # Weak: a close whose loop was closed under it ends with the task that ran it.
        self.closes: dict[Any, weakref.ref[Shared]] = {}
        os.register_at_fork(after_in_child=self.closes.clear)

    def __len__(self) -> int:
        return len(self.closes)

    def __contains__(self, key: Any) -> bool:
        return key in self.closes

    def get(self, key: Any) -> Shared | None:
        found = self.closes.get(key)
        return found() if found else None

    def enter(self, key: Any, close: Shared) -> None:
        self.closes[key] = weakref.ref(close)

    def leave(self, key: Any) -> None:
        self.closes.pop(key, None)


pending = Pending()


class _StandIn:
    """For one transport of a protocol, which may have several."""

    __slots__ = ("__weakref__",)


class _StandIns:
    """Those of all protocols, as long as these are there."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Any, dict[Any, _StandIn]] = (
            weakref.WeakKeyDictionary()
        )

    def get(self, x: Any, protocol: Any) -> _StandIn:
        """No other subprocess that is there at the same time has its number."""
        number = (id(x), x.get_pid() if hasattr(x, "get_pid") else 0)
        known = self._known.setdefault(protocol, {})
        if (found := known.get(number)) is None:
            for old in list(known)[: max(0, len(known) + 1 - MANY)]:
                if known.get(old) not in pending:
                    known.pop(old, None)
            found = known[number] = _StandIn()
        return found


_stand_ins = _StandIns()


def key_of(x: Any) -> Any:
    """What stands for it where only a weak reference will do, which some of uvloop's don't take.

    A protocol is the program's, and may not do either: then the thing stands for itself.
    """
    if _takes_weak_references(x):
        return x
    if tls := extra(x, "ssl_object"):
        return tls
    protocol = x.get_protocol()
    how: Any = type(protocol).__hash__
    alone = how is object.__hash__  # else another may be equal to it
    return _stand_ins.get(x, protocol) if alone and _takes_weak_references(protocol) else x


def _takes_weak_references(x: Any) -> bool:
    try:
        weakref.ref(x)
    except TypeError:
        return False
    return True


def is_at_work(x: Any) -> bool:
    """Whether a close of finack's is under way for this transport."""
    return key_of(x) in pending
