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

_listeners: dict[str, tuple[Listener, ...]] = {}
_installed = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    for listener in _listeners.get(event, ()):
        # What a hook raises would forbid the program to go on.
        with contextlib.suppress(Exception):
            listener(args)


def _install() -> None:
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)
        os.register_at_fork(after_in_child=_listeners.clear)


def listen(event: str, listener: Listener) -> None:
    """Call `listener(args)` at every event of that name, in this process alone."""
    _install()
    _listeners[event] = (*_listeners.get(event, ()), listener)


def unlisten(event: str, listener: Listener) -> None:
    """No more; nothing happens if it doesn't listen."""
    left = tuple(other for other in _listeners.get(event, ()) if other != listener)
    if left:
        _listeners[event] = left
    else:
        _listeners.pop(event, None)
