# SPDX-License-Identifier: MIT
"""What a loop had to release at its end, and who wants to hear of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from finack._sockets.places import Place

STILL_CLOSING = "still closing"
NEVER_CLOSED = "never closed"
WATCHED = "still watched; it stays its owner's"


@dataclass(frozen=True, slots=True)
class Left:
    """One socket or pipe, and what was wrong with it.

    `server` is the name of the listening socket that accepted it, `unsent` how many bytes the
    kernel was not given.
    """

    name: str
    fd: int
    state: str
    place: Place | None = None
    server: str | None = None
    unsent: int = 0

    def __str__(self) -> str:
        """As in the warning of EventLoop.close()."""
        made = f", made at {self.place}" if self.place else ""
        return f"{self.name} fd {self.fd}{made}, {', '.join(self.facts())}"

    def facts(self) -> list[str]:
        """What was wrong, in a few words each."""
        facts = [self.state]
        if self.server:
            facts.append(f"accepted by {self.server}")
        if self.unsent:
            facts.append(f"{self.unsent} bytes unsent")
        return facts


Listener: TypeAlias = Callable[[list[Left]], None]


class LoopEnd:
    """The ends of this process's loops."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener(found)` at the end of every loop that had to release something."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """No more."""
        self._listeners.remove(listener)

    def note(self, found: list[Left]) -> None:
        """A loop has ended."""
        for listener in list(self._listeners):
            listener(found)


loop_end = LoopEnd()
