# SPDX-License-Identifier: MIT
"""Where in the program a socket was made.

The audit event socket.__new__ comes before there is a descriptor: what is remembered then is the
place and the object, and which socket that became is looked up with the next.
"""

import contextlib
import functools
import os
import socket
import sysconfig
import weakref
from types import CodeType, FrameType
from typing import Any, NamedTuple

from finack import _private
from finack._sockets import descriptors
from finack._sockets.audit import audit

EVENT = "socket.__new__"
_PRUNE_AT_LEAST = 1024
_HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_STDLIB = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})


@functools.cache
def _kind(filename: str) -> str:
    """Whose code it is: "program", "library", or "inner": nothing to show to anybody."""
    if filename.startswith((_HERE, "<frozen")):
        return "inner"
    if filename.startswith(_LIBRARIES) or f"{os.sep}dist-packages{os.sep}" in filename:
        return "library"
    return "inner" if filename.startswith(_STDLIB) else "program"


def _relative(path: str) -> str:
    """To the working directory, if it is below that; which may be gone, or not to be asked for."""
    try:
        relative = os.path.relpath(path)
    except Exception:
        return path
    return path if relative.startswith("..") else relative


class _Line(NamedTuple):
    code: CodeType
    number: int

    def __str__(self) -> str:
        path = _relative(self.code.co_filename)
        for folder in _LIBRARIES + _STDLIB:
            path = path.removeprefix(folder + os.sep)
        return f"{path}:{self.number} in {self.code.co_qualname}"


class Place(NamedTuple):
    """A place in the program; it becomes text when somebody reads it, which asks the system."""

    program: _Line | None
    library: _Line | None
    inner: _Line | None  # where no other is
    by_server: bool = False  # it is that of the server which accepted the connection

    def __str__(self) -> str:
        """Such as "app.py:12 in main"."""
        by = " (the server that accepted it)" * self.by_server
        if self.program and self.library:
            return f"{self.program}, through {self.library}{by}"
        return f"{self.program or self.library or self.inner}{by}"


def _line(frame: FrameType | None) -> _Line | None:
    return _Line(frame.f_code, frame.f_lineno) if frame else None


def look(frame: FrameType | None) -> Place:
    """The line of the program that led here, and the line of the library that it called."""
    inner = library = None
    while frame and frame.f_code not in places.loop_code:
        kind = _kind(frame.f_code.co_filename)
        if kind == "program":
            return Place(_line(frame), _line(library), None)
        if kind == "library" and not library:
            library = frame
        inner, frame = frame, frame.f_back
    return Place(None, _line(library), _line(inner))


_ACCEPT = socket.socket.accept.__code__


def _listener(frame: FrameType) -> int | None:
    """The inode of the listening socket if it is accept() that makes one."""
    caller = frame.f_back  # of socket.socket.__init__()
    if caller is None or caller.f_code is not _ACCEPT:
        return None
    return os.fstat(caller.f_locals["self"].fileno()).st_ino


def _is_borrowing(frame: FrameType) -> bool:
    """finack makes objects for sockets that there are already."""
    caller = frame.f_back  # of socket.socket.__init__()
    return caller is not None and caller.f_code.co_filename.startswith(_HERE)


class _New(NamedTuple):
    sock: "weakref.ref[socket.socket]"
    place: Place
    again: bool


class Places:
    """The places of this process's sockets; kept while a socket is open, and a little longer."""

    def __init__(self) -> None:
        """Nothing is remembered until start()."""
        self.users: list[None] = []  # EventLoop's C looks whether there are any
        self._new: list[_New] = []
        self._found: dict[int, Place] = {}
        self._prune_at = _PRUNE_AT_LEAST
        self._of_objects: weakref.WeakKeyDictionary[Any, Place] = weakref.WeakKeyDictionary()
        # A callback that the loop runs: what called the loop has nothing to do with it.
        self.loop_code: set[CodeType] = {_private.RUN_CODE}

    def start(self) -> None:
        """Begin to remember, unless somebody has."""
        self.users.append(None)
        if len(self.users) == 1:
            audit.listen(EVENT, self._made)

    def stop(self) -> None:
        """One user less; the last one forgets everything."""
        self.users.pop()
        if not self.users:
            audit.unlisten(EVENT, self._made)
            self._new.clear()
            self._found.clear()

    @property
    def in_use(self) -> bool:
        """Whether anybody has called start()."""
        return bool(self.users)

    def _made(self, args: tuple[Any, ...]) -> None:
        self.settle()
        frame = _private.frame_at(2)  # this method, the hook
        if not _is_borrowing(frame):
            self._new.append(_New(weakref.ref(args[0]), self._place(frame), False))

    def _place(self, frame: FrameType) -> Place:
        """What a loop accepts was made where its server was."""
        place = look(frame)
        if place.program is None and (listener := _listener(frame)) is not None:
            server = self._found.get(listener)
            if server and server.program:
                return server._replace(by_server=True)
        return place

    def settle(self) -> None:
        """Look up the inodes of those that were made since, while they are open."""
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
        alive = descriptors.sockets()
        self._found = {inode: place for inode, place in self._found.items() if inode in alive}
        self._prune_at = max(_PRUNE_AT_LEAST, 2 * len(self._found))

    def at(self, fd: int) -> Place | None:
        """That of an open socket; None: not known."""
        return self.of(os.fstat(fd).st_ino) if self.users else None

    def of(self, inode: int) -> Place | None:
        """The same by the socket's inode."""
        if not self.users:
            return None
        self.settle()
        return self._found.get(inode)

    def place_of(self, inode: int) -> str | None:
        """Such as "app.py:12 in main"; None: not known."""
        place = self.of(inode)
        return str(place) if place else None

    def note(self, made: Any, place: Place) -> None:
        """Note where in the program a transport or a server was made."""
        with contextlib.suppress(TypeError):  # of a sort that can't be referred to weakly
            self._of_objects[made] = place

    def made_at(self, made: Any) -> Place | None:
        """Where in the program it was made, if that was noted."""
        try:
            return self._of_objects.get(made)
        except TypeError:
            return None


places = Places()
