# SPDX-License-Identifier: MIT
"""The closes that ended a while ago, of which something may be left."""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from finack import _core
from finack._places import places
from finack._receipt import Receipt

Listener: TypeAlias = Callable[[Receipt, str | None], None]

_MANY = 256


class Closed(NamedTuple):
    """A close after which something may be left."""

    receipt: Receipt
    identity: "_core.Identity"
    made: str | None
    at: float


# Closed takes these; that is left to those who look, who are few.
closes: "deque[tuple[Receipt, _core.Identity, str | None, float]]" = deque(maxlen=_MANY)
_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Call `listener(receipt, made)` for every close, from the thread in which it ends."""
    _listeners.append(listener)


def unlisten(listener: Listener) -> None:
    """No more."""
    _listeners.remove(listener)


def note(receipt: Receipt, identity: "_core.Identity") -> None:
    """A close is over."""
    loose = _may_be_left(receipt)
    if not loose and not _listeners:
        return
    made = places.place_of(identity[2])
    if loose:
        closes.append((receipt, identity, made, time.monotonic()))
    for listener in _listeners:
        listener(receipt, made)


def note_prompt(receipt: Receipt, identity: "_core.Identity", made: str | None) -> None:
    """A close that did not wait for the peer is over; its receipt needn't be looked at."""
    closes.append((receipt, identity, made, time.monotonic()))
    for listener in _listeners:
        listener(receipt, made)


def _may_be_left(receipt: Receipt) -> bool:
    if receipt.held:
        return True
    over = "acked" in receipt.stages and "eof" in receipt.stages
    connected = receipt.socket.startswith("tcp ") and " -> " in receipt.socket
    return connected and not over and receipt.end != "reset"
