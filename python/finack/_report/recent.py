# SPDX-License-Identifier: MIT
"""The closes that ended a while ago, of which something may be left."""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from finack import _core
from finack._receipt import Receipt
from finack._sockets.places import Place, places

Listener: TypeAlias = Callable[[Receipt, Place | None], None]

_MANY = 256
_HANDED_MANY = 4096


class Closed(NamedTuple):
    """A close after which something may be left."""

    receipt: Receipt
    identity: "_core.Identity"
    made: Place | None
    at: float


class HandedOver(NamedTuple):
    """What a close with scope descriptor left to others: they go on with it, and that is meant."""

    socket: str
    place: Place | None


class Recent:
    """Those of this process, and who wants to hear of them."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        # What Closed is made of; that is left to those who look, who are few. EventLoop's C puts
        # its closes here by itself.
        self.closes: deque[tuple[Receipt, _core.Identity, Place | None, float] | _core.Ending] = (
            deque(maxlen=_MANY)
        )
        self.listeners: list[Listener] = []
        self.handed_over: dict[int, HandedOver] = {}  # the last ones, by cookie
        self._who_ask = 0

    def listen(self, listener: Listener) -> None:
        """Call `listener(receipt, made)` for every close, from the thread in which it ends."""
        self.listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """No more."""
        self.listeners.remove(listener)

    def ask_for_handed_over(self) -> None:
        """Note what is handed over, until nobody_asks()."""
        self._who_ask += 1

    def nobody_asks(self) -> None:
        """One less who asked for it; the last one forgets all."""
        self._who_ask -= 1
        if not self._who_ask:
            self.handed_over.clear()

    def _hand_over(self, receipt: Receipt, identity: "_core.Identity") -> None:
        while len(self.handed_over) >= _HANDED_MANY:
            self.handed_over.pop(next(iter(self.handed_over)), None)
        self.handed_over[identity[0]] = HandedOver(receipt.socket, places.of(identity[2]))

    def note(
        self,
        receipt: Receipt,
        identity: "_core.Identity",
        *,
        shared: bool = False,
        prompt: bool = False,
    ) -> None:
        """A close is over; `shared`: it was one with scope descriptor.

        `prompt`: it did not wait for the peer, which is known without a look at the receipt.
        """
        if shared and self._who_ask and receipt.held is not False and identity[0]:
            self._hand_over(receipt, identity)
        loose = prompt or (not shared and _may_be_left(receipt))
        if not loose and not self.listeners:
            return
        made = places.of(identity[2])
        if loose:
            self.closes.append((receipt, identity, made, time.monotonic()))
        for listener in self.listeners:
            listener(receipt, made)


def _may_be_left(receipt: Receipt) -> bool:
    if receipt.held:
        return True
    over = "acked" in receipt.stages and "eof" in receipt.stages
    connected = receipt.socket.startswith("tcp ") and " -> " in receipt.socket
    return connected and not over and receipt.end != "reset"


recent = Recent()
