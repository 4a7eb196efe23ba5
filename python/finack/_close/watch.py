# SPDX-License-Identifier: MIT
"""Sockets that others close, watched until they are."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

from finack import _core
from finack._close.owners import pause_after, turn
from finack._close.unseen import Kind, unseen
from finack._policy import Policy
from finack._receipt import Receipt
from finack._sockets.names import name_of_any

_TURNS = 8
_PROOF_WAIT = 0.1
_WATCH = Policy(courtesy="prompt")  # nobody waits for the peer


async def released(fd: int, identity: "_core.Identity") -> None:
    """Return when the descriptor is: nothing tells, so that it is looked for at growing pauses."""
    looks = -_TURNS
    while _core.is_same(fd, identity):
        await asyncio.sleep(0 if looks < 0 else pause_after(looks))
        looks += 1


class Watch:
    """Until the numbers are free, and the proof or a tenth of a second has come."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, numbers: list[int], kind: Kind, requested: float
    ) -> None:
        self._loop = loop
        self._kind = kind
        self._requested = requested
        self._sockets = [(fd, _core.identify(fd)) for fd in numbers]
        self._name = ", ".join(map(name_of_any, numbers))

    async def run(self) -> Receipt:
        with contextlib.ExitStack() as ends:
            answers = self._witnesses(ends)
            for fd, identity in self._sockets:
                await self._released(fd, identity)
            released = time.monotonic()
            await turn()  # TLS, uvloop: connection_lost() follows
            held = await self._proof(answers)
        return unseen(
            _WATCH,
            self._kind,
            self._requested,
            released,
            held=held,
            unreferenced=time.monotonic() if held is False else None,
            name=self._name,
        )

    async def _released(self, fd: int, identity: "_core.Identity") -> None:
        """On EventLoop the loop tells; elsewhere it is looked for, at growing pauses."""
        add_waiter: Any = getattr(self._loop, "_add_release_waiter", None)
        if add_waiter is not None and _core.is_same(fd, identity):
            future = self._loop.create_future()
            add_waiter(fd, identity, future)
            await future
        await released(fd, identity)

    def _witnesses(self, ends: contextlib.ExitStack) -> list[Callable[[], bool | None]]:
        """What tells of each socket whether it is held; nothing, without a descriptor or /proc."""
        try:
            witness = _core.Witness()
            ends.callback(witness.close)
            tokens = [witness.add(fd) for fd, _ in self._sockets]
        except OSError:
            return []
        return [functools.partial(witness.held, token) for token in tokens]

    async def _proof(self, held: list[Callable[[], bool | None]]) -> bool | None:
        """Whether anything still refers to one of them."""
        end, looks = time.monotonic() + _PROOF_WAIT, 0
        while True:
            answers = [ask() for ask in held]
            if True not in answers:
                return None if None in answers or not answers else False
            if time.monotonic() >= end:
                return True
            await asyncio.sleep(pause_after(looks))
            looks += 1
