# SPDX-License-Identifier: MIT
"""Where in the program a socket was made.

The audit event socket.__new__ comes before there is a descriptor: what is remembered then is the
place and the object, and which socket that became is looked up with the next.
"""

import asyncio.events
import os
import socket
import sys
import sysconfig
import weakref
from types import CodeType, FrameType
from typing import Any, NamedTuple

from finack import _audit, _descriptors

EVENT = "socket.__new__"
_PRUNE_AT_LEAST = 1024
_HERE = os.path.dirname(__file__) + os.sep
_STDLIB = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
# A callback that the loop runs: what called the loop has nothing to do with it.
_LOOP_CODE = asyncio.events.Handle._run.__code__

_kinds: dict[str, str] = {}


def _kind(filename: str) -> str:
    """Whose code it is: "program", "library", or "inner": nothing to show to anybody."""
    kind = _kinds.get(filename)
    if kind is None:
        kind = _kinds[filename] = _judge(filename)
    return kind


def _judge(filename: str) -> str:
    if filename.startswith((_HERE, "<frozen")):
        return "inner"
    if filename.startswith(_LIBRARIES) or f"{os.sep}dist-packages{os.sep}" in filename:
        return "library"
    return "inner" if filename.startswith(_STDLIB) else "program"


class _Line(NamedTuple):
    code: CodeType
    number: int

    def __str__(self) -> str:
        path = os.path.relpath(self.code.co_filename)
        if path.startswith(".."):
            path = self.code.co_filename
        for folder in _LIBRARIES + _STDLIB:
            path = path.removeprefix(folder + os.sep)
        return f"{path}:{self.number} in {self.code.co_qualname}"


class _Place(NamedTuple):
    program: _Line | None
    library: _Line | None
    inner: _Line | None  # where no other is

    def __str__(self) -> str:
        if self.program and self.library:
            return f"{self.program}, through {self.library}"
        return str(self.program or self.library or self.inner)


def _line(frame: FrameType | None) -> _Line | None:
    return _Line(frame.f_code, frame.f_lineno) if frame else None


def _look(frame: FrameType | None) -> _Place:
    """The line of the program that led here, and the line of the library that it called."""
    inner = library = None
    while frame and frame.f_code is not _LOOP_CODE:
        kind = _kind(frame.f_code.co_filename)
        if kind == "program":
            return _Place(_line(frame), _line(library), None)
        if kind == "library" and not library:
            library = frame
        inner, frame = frame, frame.f_back
    return _Place(None, _line(library), _line(inner))


def _is_borrowing(frame: FrameType) -> bool:
    """finack makes objects for sockets that there are already."""
    caller = frame.f_back  # of socket.socket.__init__()
    return caller is not None and caller.f_code.co_filename.startswith(_HERE)


class _New(NamedTuple):
    sock: "weakref.ref[socket.socket]"
    place: _Place
    again: bool


class Places:
    """The places of this process's sockets; kept while a socket is open, and a little longer."""

    def __init__(self) -> None:
        """Nothing is remembered until start()."""
        self._users = 0
        self._new: list[_New] = []
        self._found: dict[int, _Place] = {}
        self._prune_at = _PRUNE_AT_LEAST

    def start(self) -> None:
        """Begin to remember, unless somebody has."""
        self._users += 1
        if self._users == 1:
            _audit.listen(EVENT, self._made)

    def stop(self) -> None:
        """One user less; the last one forgets everything."""
        self._users -= 1
        if self._users == 0:
            _audit.unlisten(EVENT, self._made)
            self._new.clear()
            self._found.clear()

    def _made(self, args: tuple[Any, ...]) -> None:
        self._settle()
        frame = sys._getframe(2)  # this method, the hook
        if not _is_borrowing(frame):
            self._new.append(_New(weakref.ref(args[0]), _look(frame), False))

    def _settle(self) -> None:
        """Look up the inodes of those that were made since."""
        new, self._new = self._new, []
        for sock, place, again in new:
            made = sock()
            fd = made.fileno() if made else -1
            if fd >= 0:
                # A wrapper, as ssl makes one, is not where the socket began.
                self._found.setdefault(os.fstat(fd).st_ino, place)
            elif made and not again:
                self._new.append(_New(sock, place, True))  # another thread is still making it
        if len(self._found) > self._prune_at:
            self._prune()

    def _prune(self) -> None:
        alive = _descriptors.sockets()
        self._found = {inode: place for inode, place in self._found.items() if inode in alive}
        self._prune_at = max(_PRUNE_AT_LEAST, 2 * len(self._found))

    def place_at(self, fd: int) -> str | None:
        """The same for what is open."""
        return self.place_of(os.fstat(fd).st_ino) if self._users else None

    def place_of(self, inode: int) -> str | None:
        """Such as "app.py:12 in main"; None: not known."""
        if not self._users:
            return None
        self._settle()
        place = self._found.get(inode)
        return str(place) if place else None


places = Places()
