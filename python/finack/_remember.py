# SPDX-License-Identifier: MIT
"""Closing twice gives the same receipt."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary, ref

from finack._receipt import Receipt

receipts: dict[ref[object], Receipt] = {}  # by weak references: a WeakKeyDictionary is slow
_turns: WeakKeyDictionary[object, threading.RLock] = WeakKeyDictionary()


def recall(closed: object) -> Receipt | None:
    """The receipt of a socket or transport that was closed before."""
    return receipts.get(ref(closed))


def remember(closed: object, receipt: Receipt) -> None:
    """Keep a receipt for as long as there is what was closed."""
    receipts[ref(closed, receipts.pop)] = receipt


@contextmanager
def turn(closed: object) -> Iterator[None]:
    """One thread at a time closes an object; another one waits, and finds the receipt.

    A signal handler in the same thread doesn't wait.
    """
    with _turns.setdefault(closed, threading.RLock()):
        yield


# A thread that is closing a socket isn't there in a forked child.
os.register_at_fork(after_in_child=_turns.clear)
