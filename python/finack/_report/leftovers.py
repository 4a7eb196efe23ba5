# SPDX-License-Identifier: MIT
"""What a piece of a program leaves behind: sockets open, registered or held.

The truth is the descriptor table before and after, by inode, and the kernel's epoll sets.
"""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from finack import _core, _private
from finack._receipt import Holder
from finack._report.loop_end import NEVER_CLOSED, Left, loop_end
from finack._report.recent import HandedOver, recent
from finack._sockets import descriptors, pipes
from finack._sockets.audit import audit
from finack._sockets.describe import describe, is_listening, state
from finack._sockets.names import borrowed
from finack._sockets.places import Place, places

Kind: TypeAlias = Literal["open", "registered", "held", "released"]

_T = TypeVar("_T")

# Whatever gives a socket away: a forked child, one made by exec, a message, a thread inside a call.
_GIVES_AWAY = (
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "subprocess.Popen",
)
_NEW_THREAD = ("_thread.start_new_thread", "_thread.start_joinable_thread")
_NEW_THREADS_ARE_AUDITED = sys.version_info >= (3, 12)
_SENDMSG = "socket.sendmsg"
# For threads that close in their own time, and children that are about to end.
_GRACE = 1.0
_PAUSE = 0.01
_PRUNE_AT_LEAST = 256


@dataclass
class Leftover:
    """One socket that was left, `facts` about it, and where it was `made`, if that is known."""

    kind: Kind
    socket: str
    fd: int
    facts: list[str] = field(default_factory=list)
    made: Place | None = None

    def __str__(self) -> str:
        """A line, and one for the place."""
        lines = [f"{self.kind}: {self.socket}" + "".join(f", {fact}" for fact in self.facts)]
        if self.made:
            lines.append(f"    made at {self.made}")
        return "\n".join(lines)


class _Watched(NamedTuple):
    token: int
    identity: "_core.Identity"
    socket: str
    fd: int
    made: Place | None


class Watch:
    """Looks from its making to left(); what is excused meanwhile doesn't count."""

    def __init__(self, *, threads: bool = True) -> None:
        """Begin. Whether new threads may be given sockets: that is a look at the table for each."""
        places.start()
        self._before = descriptors.sockets()
        self._stale = {_stale_key(entry) for entry in _core.stale_registrations()}
        self._witness: _core.Witness | None = None
        self._own: set[int] = set()  # the witness's epoll set
        self._watched: dict[int, _Watched] = {}
        self._ended: list[Left] = []  # what loops had to release at their ends
        self._pipes = {id(pipe) for pipe in _open_pipes()}
        self.handed_over: list[Leftover] = []  # what left() didn't count
        self._prune_at = _PRUNE_AT_LEAST
        self._events = _GIVES_AWAY + (_NEW_THREAD if threads else ())
        for event in self._events:
            audit.listen(event, self._given_away)
        audit.listen(_SENDMSG, self._sent)
        loop_end.listen(self._ended.extend)
        recent.ask_for_handed_over()
        if threads and not _NEW_THREADS_ARE_AUDITED:
            self._profile = threading.getprofile()
            threading.setprofile(self._thread_started)

    def close(self) -> None:
        """Forget everything."""
        for event in self._events:
            audit.unlisten(event, self._given_away)
        audit.unlisten(_SENDMSG, self._sent)
        loop_end.unlisten(self._ended.extend)
        recent.nobody_asks()
        if threading.getprofile() == self._thread_started:
            threading.setprofile(self._profile)
        if self._witness:
            self._witness.close()
        places.stop()

    @contextlib.contextmanager
    def excused(self) -> Iterator[None]:
        """What is made inside belongs to somebody who lives longer."""
        before = descriptors.sockets()
        try:
            yield
        finally:
            for inode, fds in descriptors.added(before, descriptors.sockets()).items():
                self._before.setdefault(inode, set()).update(fds)

    # ---- what is given away is watched ----

    def _sent(self, args: tuple[Any, ...]) -> None:
        if args[0].family == socket.AF_UNIX:  # it may carry descriptors
            self._given_away(args)

    def _thread_started(self, *call: Any) -> None:
        """The first call in a new thread; what had been asked to profile it goes on."""
        sys.setprofile(self._profile)
        with contextlib.suppress(Exception):
            self._given_away(())
        if self._profile:
            self._profile(*call)

    def _given_away(self, _: tuple[Any, ...]) -> None:
        """Add what is open to the witness: whoever gets it now may keep it when it's closed."""
        for inode, fds in descriptors.added(self._before, descriptors.sockets()).items():
            if inode not in self._watched:
                self._watch(inode, min(fds))
        if len(self._watched) > self._prune_at:
            self._prune()

    def _prune(self) -> None:
        """Forget those that nobody holds any more."""
        table = descriptors.sockets()
        self._watched = {
            inode: watched
            for inode, watched in self._watched.items()
            if inode in table or (self._witness and self._witness.held(watched.token))
        }
        self._prune_at = max(_PRUNE_AT_LEAST, 2 * len(self._watched))

    def _watch(self, inode: int, fd: int) -> None:
        if not self._witness:
            before = descriptors.epolls()
            self._witness = _core.Witness()
            self._own = descriptors.epolls() - before
        token = self._witness.add(fd)
        self._watched[inode] = _Watched(
            token, _core.identify(fd), describe(fd), fd, places.of(inode)
        )

    # ---- what is left ----

    def left(self) -> list[Leftover]:
        """Everything that is left now, or a moment later while other threads are at work."""
        until = time.monotonic() + _GRACE
        while True:
            others = (
                threading.active_count() > 1
            )  # one that ends after the look may have changed it
            left = self._look()
            others = others or any(leftover.kind != "open" for _, leftover in left)
            if not (left and others) or time.monotonic() >= until:
                break
            time.sleep(_PAUSE)
        if left:
            self._mark_collected(left)
        return [leftover for _, leftover in left]

    def _look(self) -> list[tuple[int, Leftover]]:
        table = descriptors.sockets()
        return [
            *self._open(table),
            *self._piped(),
            *self._registered(),
            *self._held(table),
            *self._released(),
        ]

    def _open(self, table: dict[int, set[int]]) -> list[tuple[int, Leftover]]:
        left = descriptors.added(self._before, table)
        if left:
            for inode in _of_loops():
                left.pop(inode, None)
            mine = [fd for inode in self._before for fd in table.get(inode, ())]
            services = {_service(fd, listening=True) for fd in mine} - {None}
            left = {
                inode: fds
                for inode, fds in left.items()
                if _service(min(fds), listening=False) not in services
            }
        return [
            (inode, self._describe_open(inode, fds, copy=inode in self._before))
            for inode, fds in left.items()
        ]

    def _describe_open(self, inode: int, fds: set[int], *, copy: bool) -> Leftover:
        facts = [f"{'copy ' if copy else ''}fd {', '.join(map(str, sorted(fds)))}"]
        if text := state(min(fds)):
            facts.append(text)
        if pollers := descriptors.pollers(fds) - self._own:
            facts.append(f"registered with epoll fd {', '.join(map(str, sorted(pollers)))}")
        fd = min(fds)
        return Leftover("open", describe(fd), fd, facts, places.of(inode))

    def _piped(self) -> list[tuple[int, Leftover]]:
        """Pipes that loops have, those of subprocesses among them."""
        left = []
        for pipe in _open_pipes():
            if id(pipe) not in self._pipes:
                fd = _private.pipe_fd(pipe)
                facts = [f"fd {fd}", *(["closing"] if pipe.is_closing() else [])]
                left.append(
                    (0, Leftover("open", pipes.name_of(pipe), fd, facts, pipes.place_of(pipe)))
                )
        return left

    def _released(self) -> list[tuple[int, Leftover]]:
        return [
            (0, Leftover("released", left.name, left.fd, left.facts(), left.place))
            for left in self._ended
            if left.state == NEVER_CLOSED
        ]

    def _registered(self) -> list[tuple[int, Leftover]]:
        left = []
        for entry in _core.stale_registrations():
            if _stale_key(entry) not in self._stale:
                epoll, fd, _, inode, pid, holder_fd = entry
                facts = [f"closed, and still registered as fd {fd} with epoll fd {epoll}"]
                if pid:
                    facts.append(f"kept alive by fd {holder_fd} of process {pid}")
                watched = self._watched.get(inode)
                name = watched.socket if watched else f"inode {inode}"
                made = watched.made if watched else places.of(inode)
                left.append((inode, Leftover("registered", name, fd, facts, made)))
        return left

    def _held(self, table: dict[int, set[int]]) -> list[tuple[int, Leftover]]:
        left, self.handed_over = [], []
        for inode, watched in self._watched.items():
            if inode not in table and self._witness and self._witness.held(watched.token):
                facts = [f"fd {watched.fd} is closed", f"still held by {_holders(watched)}"]
                leftover = Leftover("held", watched.socket, watched.fd, facts, watched.made)
                if self._is_handed_over(watched):
                    self.handed_over.append(leftover)
                else:
                    left.append((inode, leftover))
        return left

    def _is_handed_over(self, watched: _Watched) -> bool:
        """By a close with scope descriptor; or its other end was, and whoever got that has both."""
        if watched.identity[0] in recent.handed_over:
            return True
        kind, _, ends = watched.socket.partition(" ")
        other = f"{kind} {' -> '.join(reversed(ends.split(' -> ')))}"
        return " -> " in ends and any(
            other == one.socket and _pids(watched.identity) <= _pids(identity)
            for identity, one in self._handed_over_now()
        )

    def _handed_over_now(self) -> Iterator[tuple["_core.Identity", HandedOver]]:
        for watched in self._watched.values():
            if one := recent.handed_over.get(watched.identity[0]):
                yield watched.identity, one

    def _mark_collected(self, left: list[tuple[int, Leftover]]) -> None:
        gc.collect()
        table = descriptors.sockets()
        for inode, leftover in left:
            if leftover.kind == "open" and not descriptors.added(self._before, table).get(inode):
                leftover.facts.append("closed by the garbage collector alone")


def _stale_key(entry: "_core.StaleTuple") -> tuple[int, int, int]:
    epoll, fd, _, inode, _, _ = entry
    return epoll, fd, inode


def _pids(identity: "_core.Identity") -> set[int]:
    return {pid for pid, _, _ in _core.holders(identity)}


def _open_pipes() -> list[Any]:
    """Transports of pipes, of all loops."""
    found: list[Any] = objects(*_private.PIPE_TRANSPORTS)
    return [pipe for pipe in found if _private.own_pipe(pipe) is not None]


def _holders(watched: _Watched) -> str:
    found = [str(Holder(*holder)) for holder in _core.holders(watched.identity)]
    return ", ".join(found) or "a thread inside a call, a message, or somebody /proc doesn't show"


# ---- what belongs to somebody else ----


def objects(*kinds: type[_T]) -> list[_T]:
    """All objects of these types or ones derived from them. Some 10 ms."""
    # isinstance() would ask proxies of all kinds who they are.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), kinds)]


def event_loops() -> list[asyncio.AbstractEventLoop]:
    """Those of this process, closed ones too."""
    return objects(asyncio.AbstractEventLoop)  # type: ignore[type-abstract]


def _of_loops() -> set[int]:
    """The inodes of the sockets by which open loops wake themselves: they are their attributes.

    Those of a loop in C (uvloop) can't be seen but by the garbage collector.
    """
    inodes = set()
    for loop in event_loops():
        if loop.is_closed():
            continue
        for thing in (*gc.get_referents(loop), *getattr(loop, "__dict__", {}).values()):
            if isinstance(thing, socket.socket) and thing.fileno() >= 0:
                inodes.add(os.fstat(thing.fileno()).st_ino)
    return inodes


def _service(fd: int, *, listening: bool) -> object:
    """What a listening socket and the connections that it accepted have in common."""
    try:
        with borrowed(fd) as sock:
            if is_listening(sock) != listening:
                return None
            name = sock.getsockname()
            # One that listens on all addresses has none of the connection's.
            return sock.family, sock.type, name[1] if isinstance(name, tuple) else name
    except OSError:
        return None
