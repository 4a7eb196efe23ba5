# SPDX-License-Identifier: MIT
"""Closing what asyncio programs have: transports, stream writers, servers, sockets."""

import asyncio
import contextlib
import socket
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from finack import _core
from finack._brief import Brief, fits
from finack._closing import Closing
from finack._names import name_of
from finack._owners import ListenerOwner, Owner, SocketOwner, TransportOwner, extra, turn
from finack._policy import Policy
from finack._receipt import End, Receipt, Straggler
from finack._remember import recall, remember
from finack._tls import lowest, unsent
from finack._transports import Connection, connections
from finack._watch import Watch

_ACCEPTED = "a connected transport, an asyncio.StreamWriter, an asyncio.Server or a socket.socket"

_T = TypeVar("_T")


class _Work(Protocol):
    """A close of one thing."""

    async def run(self) -> Receipt: ...

    def cut(self) -> None: ...

    def receipt(self) -> Receipt: ...


class _Shared:
    """A close that several may wait for; the first of them drives it."""

    def __init__(self, work: _Work, loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        # EventLoop lets these get to their ends, and cuts them if they don't.
        self._at_work: set[_Work] = getattr(loop, "_closes", set())
        self.done: asyncio.Future[Receipt] = loop.create_future()

    async def drive(self) -> Receipt:
        self._at_work.add(self._work)
        try:
            receipt = await self._work.run()
        except BaseException:
            receipt = self._work.receipt()
            raise
        finally:
            self._at_work.discard(self._work)
            self.done.set_result(receipt)
        return receipt

    async def join(self) -> Receipt:
        try:
            return await asyncio.shield(self.done)
        except asyncio.CancelledError:
            self.cut()
            raise

    def cut(self) -> None:
        self._work.cut()


# Weak: a close whose loop was closed under it ends with the task that ran it.
_pending: "dict[Any, weakref.ref[_Shared | Brief]]" = {}


def _at_work(key: Any) -> _Shared | Brief | None:
    found = _pending.get(key)
    return found() if found else None


# ---- what may be closed ----


def _wrong_policy(policy: object) -> TypeError:
    return TypeError(f"policy must be a finack.Policy or None, not {type(policy).__name__}")


def _has(x: Any, *names: str) -> bool:
    return not isinstance(x, type) and all(hasattr(x, name) for name in names)


def _is_server(x: Any) -> bool:
    return _has(x, "get_loop", "is_serving", "sockets")


def _is_transport(x: Any) -> bool:
    """Once a TLS transport is closed there is no socket to be seen in it."""
    return _has(x, "abort", "get_extra_info", "is_closing") and extra(x, "pipe") is None


def _target(x: Any, loop: asyncio.AbstractEventLoop) -> Any:
    """What is to be closed: a transport, a server or a socket. TypeError, RuntimeError."""
    if isinstance(x, asyncio.StreamWriter):
        x = x.transport
    if isinstance(x, socket.socket) and not hasattr(x, "do_handshake"):
        transport = getattr(loop, "_transports", {}).get(x.fileno())
        # asyncio lists a closed one until it is collected, under a number that another may have.
        return transport if transport and _number_of(transport) == x.fileno() else x
    if not _is_server(x) and not _is_transport(x):
        hint = " (a socket that blocks: finack.close())" if isinstance(x, socket.socket) else ""
        raise TypeError(f"{_ACCEPTED} is accepted, not {type(x).__name__}{hint}")
    _check_loop(x, loop)
    return x


def _key(x: Any) -> Any:
    """What stands for it where only weak references will do: uvloop's TLS transports take none."""
    try:
        weakref.ref(x)
    except TypeError:
        return extra(x, "ssl_object")
    return x


def is_at_work(x: Any) -> bool:
    """Whether a close of finack's is under way for this transport."""
    return _key(x) in _pending


def _check_loop(x: Any, loop: asyncio.AbstractEventLoop) -> None:
    if _is_server(x):
        other = x.get_loop()
    else:
        other = getattr(x, "_loop", None)  # a closed transport has none, that of uvloop hides it
        if other is None and (x.is_closing() or _owns(loop, _number_of(x))):
            return
    if other is loop:
        return
    kind = "closed loop" if other is not None and other.is_closed() else "loop"
    raise RuntimeError(f"{x!r} belongs to another {kind}: it must be closed there")


def _owns(loop: asyncio.AbstractEventLoop, fd: int) -> bool:
    """Whether a transport of the loop has this number: it says so, and does nothing."""
    try:
        loop.remove_reader(fd)
    except RuntimeError:
        return True
    return False


def _number_of(x: Any) -> int:
    """-1: it is closed."""
    sock = x if isinstance(x, socket.socket) else extra(x, "socket")
    fd = -1 if sock is None else int(sock.fileno())
    with contextlib.suppress(OSError):
        _core.identify(fd)
        return fd
    return -1


def _below(x: Any, loop: asyncio.AbstractEventLoop) -> Any:
    """The transport that owns the socket, if `x` can't be asked for it any more, else `x`.

    After two calls of close() stock TLS has forgotten what is below it, and abort() does nothing.
    """
    if isinstance(x, socket.socket) or extra(x, "socket") is not None:
        return x
    return next((c.lower for c in connections(loop) if c.transport is x), x)


def _gone(requested: float) -> Receipt:
    """Of what was closed before anybody looked."""
    unknown = {"flushed", "shut", "acked", "eof", "unwatched", "unreferenced"}
    return Receipt(
        outcome="prompt",
        end="kernel",
        stages={"requested": 0.0, "released": time.monotonic() - requested},
        unverifiable=frozenset(unknown),
    )


# ---- aclose ----


async def aclose(x: Any, policy: Policy | None = None) -> Receipt:
    """Close it, and return a receipt once it is closed: not before its number is free.

    Accepts a transport (TCP, TLS, Unix, UDP) of asyncio's loop, finack's or uvloop, a StreamWriter,
    an asyncio.Server, and a socket that the program uses with loop.sock_recv() and the like.
    Nothing is read any more on the program's behalf: input is thrown away, so that the peer sees
    the end of the stream and no reset. `connection_lost` is called before aclose() returns. It is
    bounded by the policy's `total` and `proof_wait`, whatever the peer does; bytes that can't be
    sent in time end in a reset, so that the peer knows.

    A server stops listening, and the connections that it has accepted are closed with it, under the
    same deadline; those that had to be cut are in the receipt's `stragglers`.

    A loop.sock_sendall() that waits on the socket goes on until the flush deadline. A sock_recv()
    or sock_accept() fails with OSError; on uvloop sock_recv() returns b"", and what waits on a
    socket that is no connection isn't woken: cancel it first.

    Closing again, also at the same time, returns the same receipt. If aclose() is cancelled the
    connection is reset, everything is released within two turns of the loop, and CancelledError is
    raised; whoever else waits for this close gets a receipt with outcome "aborted".

    TypeError: it is something else. RuntimeError: it belongs to another loop, or to one that is
    closed. OSError: there is no descriptor left to close it with; nothing has changed then.

    >>> async def hang_up(writer: asyncio.StreamWriter) -> None:
    ...     receipt = await finack.aclose(writer, finack.Policy(linger=0.5))
    ...     print(receipt)
    """
    requested = time.monotonic()
    if policy is None:
        policy = Policy()
    elif not isinstance(policy, Policy):
        raise _wrong_policy(policy)
    loop = asyncio.get_running_loop()
    if type(x) is asyncio.StreamWriter:
        x = x.transport
    if fits(x, policy, loop) and x not in _pending:
        brief = Brief(x, policy, requested)
        _pending[x] = weakref.ref(brief)
        try:
            return await brief.run()
        finally:
            del _pending[x]
            remember(x, brief.result)
    target = _target(x, loop)
    key = _key(target)
    if (receipt := recall(key)) is not None:
        return receipt
    if shared := _at_work(key):
        return await shared.join()
    shared = _Shared(_begin(target, policy, loop, requested), loop)
    _pending[key] = weakref.ref(shared)
    try:
        return await shared.drive()
    finally:
        del _pending[key]
        remember(key, shared.done.result())
        if isinstance(x, socket.socket):
            remember(x, shared.done.result())


def _begin(x: Any, policy: Policy, loop: asyncio.AbstractEventLoop, requested: float) -> _Work:
    if _is_server(x):
        return _ServerWork(x, policy, loop, requested)
    x = _below(x, loop)
    fd = _number_of(x)
    if fd < 0:
        return _Gone(requested)
    owner: Owner
    if isinstance(x, socket.socket):
        owner = SocketOwner(x, loop)
    else:
        owner = TransportOwner(x, fd, listen=policy.courtesy == "full")
    return Closing(owner, policy, loop, requested, name_of(fd))


class _Gone:
    """It was closed before anybody looked."""

    def __init__(self, requested: float) -> None:
        self._receipt = _gone(requested)

    async def run(self) -> Receipt:
        return self._receipt

    def cut(self) -> None:
        pass

    def receipt(self) -> Receipt:
        return self._receipt


# ---- without a descriptor of our own ----


def _break_off(x: Any, *, reset: bool) -> int:
    """Abort a transport; how many bytes are missing. Then, too, the peer gets RST."""
    left, fd = 0, _number_of(x)
    with contextlib.suppress(AttributeError):  # nothing is behind it any more
        left = unsent(lowest(x))
    if left or reset:
        with contextlib.suppress(OSError):  # closed, or no stream
            _core.reset(fd)
    with contextlib.suppress(Exception):
        x.abort()
    return left


async def aclose_anyhow(x: Any, policy: Policy) -> Receipt:
    """As aclose(); a transport for which there is no descriptor left is aborted."""
    try:
        return await aclose(x, policy)
    except OSError as error:
        name, left = "", 0
        if _is_server(x):
            x.close()
        else:
            with contextlib.suppress(OSError):
                name = name_of(_number_of(x))
            left = _break_off(x, reset=False)
        await turn()
        end: End = "reset" if left else "kernel"
        return Receipt(outcome="error", error=error, end=end, unsent=left, socket=name)


# ---- servers ----


class _ServerWork:
    """The listening sockets of a server, and its connections."""

    def __init__(
        self, server: Any, policy: Policy, loop: asyncio.AbstractEventLoop, requested: float
    ) -> None:
        self._server, self._policy, self._loop = server, policy, loop
        self._requested = requested
        self._task: asyncio.Future[Any] | None = None
        self._cut = False
        self._stragglers: list[Straggler] = []
        self._listeners: list[Closing] = []
        try:
            for sock in server.sockets:
                self._listeners.append(self._listener(sock.fileno()))
        except BaseException:
            for listener in self._listeners:
                listener.abandon()
            raise

    def _listener(self, fd: int) -> Closing:
        return Closing(ListenerOwner(fd), self._policy, self._loop, self._requested, name_of(fd))

    async def run(self) -> Receipt:
        try:
            self._server.close()
            self._task = asyncio.gather(
                self._close_connections(), *(listener.run() for listener in self._listeners)
            )
            await asyncio.shield(self._task)
        except BaseException as error:
            was_cut = self._cut
            self.cut()
            if self._task:
                await asyncio.gather(self._task, return_exceptions=True)
            self._cut_connections()  # those that were being accepted
            if not (was_cut and isinstance(error, asyncio.CancelledError)):
                raise
        return self.receipt()

    async def _close_connections(self) -> None:
        """Those too that were accepted a moment ago, and have no transport yet."""
        end = self._requested + self._policy.total
        while True:
            await turn()
            found = [c for c in connections(self._loop) if c.server is self._server]
            if not found or time.monotonic() > end:
                break
            receipts = await asyncio.gather(
                *(aclose_anyhow(c.transport, self._policy) for c in found)
            )
            for connection, receipt in zip(found, receipts, strict=True):
                self._note(connection, receipt)

    def _note(self, connection: Connection, receipt: Receipt) -> None:
        if receipt.outcome in ("timed_out", "aborted", "error"):
            name, fd = receipt.socket, connection.fd
            self._stragglers.append(Straggler(name, fd, connection.made, receipt))

    def cut(self) -> None:
        self._cut = True
        if self._task:
            self._task.cancel()
        # Tasks that have not begun yet never will.
        for listener in self._listeners:
            listener.cut()
        self._cut_connections()

    def _cut_connections(self) -> None:
        for c in connections(self._loop):
            if c.server is self._server:
                closing = _at_work(_key(c.transport))
                if closing:
                    closing.cut()
                else:
                    _break_off(c.transport, reset=True)

    def receipt(self) -> Receipt:
        receipts = [listener.receipt() for listener in self._listeners]
        whole = _together(receipts) if receipts else _gone(self._requested)
        return replace(whole, stragglers=tuple(self._stragglers))


def _together(receipts: list[Receipt]) -> Receipt:
    """One receipt for the listening sockets of a server."""
    worst = max(receipts, key=lambda receipt: _core.OUTCOMES.index(receipt.outcome))
    common = [s for s in _core.STAGES if all(s in receipt.stages for receipt in receipts)]
    return replace(
        worst,
        stages={stage: max(receipt.stages[stage] for receipt in receipts) for stage in common},
        accepted=sum(receipt.accepted for receipt in receipts),
        socket=", ".join(receipt.socket for receipt in receipts),
    )


# ---- closed ----


async def closed(x: Any) -> Receipt:
    """Watch only: return once it is really closed, by whomever.

    The receipt tells when the number was free and when nothing referred to the socket any more (it
    waits for that a tenth of a second at most); how the stream ended was not observed. If finack
    closes it meanwhile, or did so before, it is the receipt of that. Accepts what aclose() does; of
    a server it watches the listening sockets.

    On finack's loop it returns before the loop can block again after the release, elsewhere up to
    50 ms later. Cancelling it changes nothing.

    TypeError, RuntimeError: as aclose().

    >>> async def notice(writer: asyncio.StreamWriter) -> None:
    ...     writer.close()
    ...     print(await finack.closed(writer))
    """
    requested = time.monotonic()
    loop = asyncio.get_running_loop()
    target = _target(x, loop)
    key = _key(target)
    receipt = recall(key)
    if receipt is None and key not in _pending:
        seen = await Watch(loop, _numbers_of(target, loop), requested).run()
        receipt = recall(key) or seen
        remember(key, receipt)
    if shared := _at_work(key):
        receipt = await asyncio.shield(shared.done)
    assert receipt is not None
    return receipt


def _numbers_of(x: Any, loop: asyncio.AbstractEventLoop) -> list[int]:
    if _is_server(x):
        return [sock.fileno() for sock in x.sockets]
    return [fd] if (fd := _number_of(_below(x, loop))) >= 0 else []


# ---- aclosing ----


@asynccontextmanager
async def aclosing(x: _T, policy: Policy | None = None) -> AsyncIterator[_T]:
    """Close at the end of the block, as aclose(); if the block raises, too.

    What can't be closed so is refused before the block begins.

    If the block is cancelled, the close still takes its time: bound it by the policy.

    >>> async def ask(host: str) -> bytes:
    ...     reader, writer = await asyncio.open_connection(host, 80)
    ...     async with finack.aclosing(writer):
    ...         writer.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
    ...         return await reader.read()
    """
    if not isinstance(policy, Policy | None):
        raise _wrong_policy(policy)
    _target(x, asyncio.get_running_loop())
    try:
        yield x
    finally:
        await aclose(x, policy)
