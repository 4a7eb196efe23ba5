# SPDX-License-Identifier: MIT
"""Closing twice gives the same receipt."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary, ref

from finack._receipt import Receipt


class Remembered:
    """What was closed in this process, as long as it is there, and what is being closed."""

    def __init__(self) -> None:
        self._receipts: dict[ref[object], Receipt] = {}  # a WeakKeyDictionary is slow
        self._turns: WeakKeyDictionary[object, threading.RLock] = WeakKeyDictionary()
        # A thread that is closing a socket isn't there in a forked child.
        os.register_at_fork(after_in_child=self._turns.clear)

    def __len__(self) -> int:
        return len(self._receipts)

    def recall(self, closed: object) -> Receipt | None:
        """The receipt of a socket or transport that was closed before."""
        with suppress(TypeError):
            return self._receipts.get(ref(closed))
        return None

    def remember(self, closed: object, receipt: Receipt) -> None:
        """Keep a receipt for as long as there is what was closed, if that can be known."""
        with suppress(TypeError):
            self._receipts[ref(closed, self._receipts.pop)] = receipt

    @contextmanager
    def turn(self, closed: object) -> Iterator[None]:
        """One thread at a time closes an object; another one waits, and finds the receipt.

        A signal handler in the same thread doesn't wait.
        """
        with self._turns.setdefault(closed, threading.RLock()):
            yield


remembered = Remembered()
