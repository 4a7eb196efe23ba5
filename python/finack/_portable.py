# SPDX-License-Identifier: MIT
"""What finack can do without its extension: over the sockets and the asyncio that are everywhere.

For macOS, BSD and Windows, so that a library can depend on finack; on Linux with FINACK_PURE=1.
Deadlines hold, input is drained, who lacks bytes is reset; what only Linux tells is unverifiable.
"""

import asyncio
import contextlib
import errno
import select
import socket
import struct
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from finack import _private
from finack._policy import Policy, checked
from finack._receipt import CloseReport, Outcome, Phase, Receipt, Stage, Straggler
from finack._sockets.names import name_of
from finack._tls import is_half_written, ssl

_T = TypeVar("_T")
_KNOWN = ("outcome", "phase", "stages", "unsent", "discarded", "error", "socket")
_OUTCOMES: dict[str, Outcome] = {"abort": "aborted", "prompt": "prompt"}
_PAUSE = 0.01  # seconds between looks at what nothing tells of


def __getattr__(name: str) -> Any:
    """In place of what needs the extension: it can be imported, and says so when it is used."""
    if name.startswith("_"):
        raise AttributeError(name)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"finack.{name} needs Linux and finack's extension: not in use here")

    return type(name, (), {"__init__": refuse}) if name[0].isupper() else refuse


def _check(x: Any, kinds: Any, wanted: str) -> None:
    if not isinstance(x, kinds):
        raise TypeError(f"{wanted}, not {type(x).__name__}")


class _Course:
    """How one close goes: its deadlines, and what becomes its receipt."""

    receipts: ClassVar[weakref.WeakKeyDictionary[Any, Receipt]] = weakref.WeakKeyDictionary()

    def __init__(self, policy: Any, sock: Any) -> None:
        self.policy, self.begun = checked(policy), time.monotonic()
        self.stages: dict[Stage, float] = {"requested": 0.0}
        self.outcome = _OUTCOMES.get(self.policy.courtesy, "graceful")
        self.is_reset, self.waits = self.outcome == "aborted", self.outcome == "graceful"
        self.phase: Phase | None = None
        self.error: OSError | None = None
        self.unsent = self.discarded = 0
        self.socket, self.stream = _name(sock)

    def reach(self, stage: Stage) -> None:
        self.stages.setdefault(stage, time.monotonic() - self.begun)

    def left(self, since: float, span: float) -> float:
        return max(min(since + span, self.begun + self.policy.total) - time.monotonic(), 0)

    def lacks(self) -> bool:
        return "eof" not in self.stages and self.discarded < self.policy.drain

    def cut(self, phase: Phase) -> None:
        if self.outcome in ("graceful", "prompt"):
            bounded = phase == "linger" and self.discarded >= self.policy.drain
            self.outcome, self.phase = "bounded" if bounded else "timed_out", phase

    def fail(self, error: OSError) -> None:
        self.outcome = "reset" if isinstance(error, ConnectionError) else "error"
        self.error = error

    def over(self, closed: Any) -> Receipt:
        self.reach("released")
        known: dict[str, Any] = {name: getattr(self, name) for name in _KNOWN}
        known["unverifiable"] = frozenset({"acked", "unwatched", "unreferenced"})
        if self.stream:
            known["end"] = "reset" if self.is_reset or self.outcome == "reset" else "kernel"
        return self.receipts.setdefault(closed, Receipt(**known))


def _name(sock: Any) -> tuple[str, bool]:
    name = ""  # of none, and of one that is closed
    with contextlib.suppress(OSError, ValueError, AttributeError):
        name = name_of(sock.fileno())
    return name, " -> " in name and sock.type == socket.SOCK_STREAM


def _reset_at_close(sock: Any) -> None:
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close(sock: socket.socket, policy: Policy | None = None) -> Receipt:
    """Close a socket in bounded time: as on Linux, but for threads inside a call on it."""
    _check(sock, socket.socket, "a socket.socket is needed, or await finack.aclose() for asyncio's")
    course = _Course(policy, sock)
    if sock in _Course.receipts:
        return _Course.receipts[sock]
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, "the socket is closed already, and there is no receipt of it")
    try:
        if course.stream and not course.is_reset:
            _say_farewell(sock, course)
    except OSError as error:
        course.fail(error)
    if course.is_reset:
        _reset_at_close(sock)
    sock.close()
    return course.over(sock)


def _say_farewell(sock: socket.socket, course: _Course) -> None:
    if isinstance(sock, ssl.SSLSocket) and is_half_written(sock):
        course.is_reset = True
        raise OSError(errno.EBADMSG, "half a TLS record is missing")
    if isinstance(sock, ssl.SSLSocket) and sock.version() is not None:
        full = course.policy.courtesy == "full"
        sock.settimeout(course.left(course.begun, course.policy.farewell) * full)
        try:
            sock.unwrap()
            course.reach("answered")
        except (ssl.SSLError, ValueError, TimeoutError) as error:
            course.is_reset = isinstance(error, ssl.SSLWantWriteError)  # half a record is missing
            if full or course.is_reset:
                course.cut("farewell")
        course.reach("notified")
    if not course.is_reset:
        sock.shutdown(socket.SHUT_WR)
        course.reach("shut")
        _linger(sock, course)


def _linger(sock: socket.socket, course: _Course) -> None:
    begun = time.monotonic()
    sock.settimeout(0)
    while course.lacks():
        span = course.left(begun, course.policy.linger) if course.waits else 0
        if not select.select([sock], [], [], span)[0]:
            break
        with contextlib.suppress(BlockingIOError):
            data = socket.socket.recv(sock, min(65536, course.policy.drain - course.discarded))
            course.discarded += len(data)
            if not data:
                course.reach("eof")
    if course.waits and "eof" not in course.stages:
        course.cut("linger")


@contextlib.contextmanager
def closing(sock: Any, policy: Policy | None = None) -> Iterator[Any]:
    """Close a socket at the end of a with block: see finack.closing() on Linux."""
    try:
        yield sock
    finally:
        if sock.fileno() >= 0:
            close(sock, policy)


class _Discard(asyncio.Protocol):
    def __init__(self, course: _Course, theirs: Any) -> None:
        self.course, self.theirs = course, theirs

    def data_received(self, data: bytes) -> None:
        self.course.discarded += len(data)

    def eof_received(self) -> bool:
        self.course.reach("eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, OSError) and not self.course.is_reset:
            self.course.fail(exc)
        self.theirs.connection_lost(exc)


async def aclose(x: Any, policy: Policy | None = None) -> Receipt:
    """Close a transport, StreamWriter or socket, or the listening sockets of a server."""
    x = getattr(x, "transport", x)
    if isinstance(x, socket.socket):
        return await asyncio.get_running_loop().run_in_executor(None, close, x, policy)
    _check(x, asyncio.BaseTransport | asyncio.AbstractServer, "a transport or server is needed")
    sock = None if isinstance(x, asyncio.AbstractServer) else x.get_extra_info("socket")
    course = _Course(policy, sock)
    if x in _Course.receipts:
        return _Course.receipts[x]
    try:
        await (_end(x, sock, course) if sock else asyncio.sleep(0, x.close()))
    except BaseException:
        if sock:
            _abort(x, sock, course)
        raise
    return course.over(x)


def _abort(transport: Any, sock: Any, course: _Course) -> None:
    course.unsent = transport.get_write_buffer_size() if course.stream else 0
    course.is_reset |= course.unsent > 0
    if course.is_reset:
        _reset_at_close(sock)
    transport.abort()


async def _end(transport: Any, sock: Any, course: _Course) -> None:
    if course.is_reset:
        _abort(transport, sock, course)
    elif course.stream and not transport.is_closing() and transport.can_write_eof():
        transport.set_protocol(_Discard(course, transport.get_protocol()))
        with contextlib.suppress(RuntimeError, OSError):  # it may be reading, or lost
            transport.write_eof()
            transport.resume_reading()
        await _flush(transport, sock, course)
        course.reach("shut")
        await _wait(course.lacks, sock, course, course.policy.linger * course.waits)
        if course.waits and "eof" not in course.stages:
            course.cut("linger")
    transport.close()
    if course.stream:
        await _flush(transport, sock, course)
    if not await _wait(sock.fileno, sock, course, course.policy.farewell):
        course.cut("farewell")
        _abort(transport, sock, course)
        await _wait(sock.fileno, sock, course, _PAUSE)


async def _flush(transport: Any, sock: Any, course: _Course) -> None:
    if not await _wait(transport.get_write_buffer_size, sock, course, course.policy.flush):
        course.cut("flush")
        _abort(transport, sock, course)  # the peer must not take what it has for all


async def _wait(ask: Callable[[], int], sock: Any, course: _Course, span: float) -> bool:
    """Until that is 0, or the release. False: in so much time nothing changed."""
    size, since = ask(), time.monotonic()
    while size and sock.fileno() >= 0:
        if not course.left(since, span):
            return False
        await asyncio.sleep(min(_PAUSE, span))
        if (left := ask()) != size:
            size, since = left, time.monotonic()
    return True


async def closed(x: Any) -> Receipt:
    """Return once others have closed it: see finack.closed() on Linux."""
    x = getattr(x, "transport", x)
    sock = x if isinstance(x, socket.socket) else x.get_extra_info("socket")
    course = _Course(Policy(courtesy="prompt"), sock)
    while sock.fileno() >= 0:
        await asyncio.sleep(_PAUSE)
    return course.over(x)


@contextlib.asynccontextmanager
async def aclosing(x: _T, policy: Policy | None = None) -> AsyncIterator[_T]:
    """Close at the end of an async with block: see finack.aclosing() on Linux."""
    try:
        yield x
    finally:
        await aclose(x, policy)


async def close_all(timeout: float = 10.0, policy: Policy | None = None) -> CloseReport:
    """Close every connection of a loop that lists them, as all but uvloop and that of Windows."""
    course = _Course(policy, None)
    bounded = replace(course.policy, total=min(timeout, course.policy.total))
    listed = _private.transports(asyncio.get_running_loop())
    if listed is None:
        raise RuntimeError("finack.close_all() needs a loop that lists its connections, or Linux")
    above = [_private.above(one.get_protocol()) or one for one in listed.values()]
    receipts = tuple(await asyncio.gather(*(aclose(one, bounded) for one in above)))
    late = [Straggler(one.socket, -1, None, one) for one in receipts if one.outcome == "timed_out"]
    return CloseReport(receipts, tuple(late), time.monotonic() - course.begun)


def run(main: Coroutine[Any, Any, _T], *, debug: Any = None, policy: Policy | None = None) -> _T:
    """asyncio.run(), and the connections that the loop lists are closed at its end."""
    _Course(policy, None)  # checks it
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")

    async def and_close() -> _T:
        try:
            return await main
        finally:
            if _private.transports(asyncio.get_running_loop()) is not None:
                await close_all(86400, policy)

    return asyncio.run(and_close(), debug=debug)
