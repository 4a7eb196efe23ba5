# SPDX-License-Identifier: MIT
"""One audit hook for all that finack wants to hear of.

An audit hook can't be removed (PEP 578): it is installed when somebody listens for the first time,
and asks a dictionary that is empty when nobody does.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

Listener: TypeAlias = Callable[[tuple[Any, ...]], None]


class Audit:
    """The hook of this process, and who listens."""

    def __init__(self) -> None:
        """No hook is installed until listen()."""
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        self._installed = False

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        for listener in self._listeners.get(event, ()):
            # What a hook raises would forbid the program to go on.
            with contextlib.suppress(Exception):
                listener(args)

    def _install(self) -> None:
        if not self._installed:
            self._installed = True
            sys.addaudithook(self._hook)
            os.register_at_fork(after_in_child=self._listeners.clear)

    def listen(self, event: str, listener: Listener) -> None:
        """Call `listener(args)` at every event of that name, in this process alone."""
        self._install()
        self._listeners[event] = (*self._listeners.get(event, ()), listener)

    def unlisten(self, event: str, listener: Listener) -> None:
        """No more; nothing happens if it doesn't listen."""
        left = tuple(other for other in self._listeners.get(event, ()) if other != listener)
        if left:
            self._listeners[event] = left
        else:
            self._listeners.pop(event, None)


audit = Audit()
