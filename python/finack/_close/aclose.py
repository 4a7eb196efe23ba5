# SPDX-License-Identifier: MIT
"""Closing what asyncio programs have: transports, stream writers, servers, sockets."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from finack import _core, _private
from finack._close import by_engine
from finack._close.at_work import Shared, Work, is_at_work, key_of, pending
from finack._close.closing import Closing
from finack._close.groups import ServerWork, SubprocessWork, break_off
from finack._close.owners import SocketOwner, extra, number_of, turn
from finack._close.remembered import remembered
from finack._close.tls_layers import was_cut
from finack._close.transport_owners import owner_of
from finack._close.unseen import Kind, heard, kind_of, unseen
from finack._close.watch import Watch
from finack._policy import Policy, checked
from finack._receipt import End, Receipt
from finack._report.ended import receipt_of
from finack._sockets.names import name_of_any
from finack._sockets.transports import connections, transport_with

__all__ = ["aclose", "aclose_anyhow", "aclosing", "closed", "is_at_work"]

_ACCEPTED = (
    "a transport (of a socket, a pipe or a subprocess), an asyncio.StreamWriter, an asyncio.Server"
    " or a socket.socket"
)

_T = TypeVar("_T")


# ---- what may be closed ----


def _has(x: Any, *names: str) -> bool:
    return not isinstance(x, type) and all(hasattr(x, name) for name in names)


def _is_server(x: Any) -> bool:
    return _has(x, "get_loop", "is_serving", "sockets")


def _is_transport(x: Any) -> bool:
    """Once a TLS transport is closed there is no socket to be seen in it."""
    return _has(x, "close", "get_extra_info", "is_closing")


def _is_subprocess(x: Any) -> bool:
    return _has(x, "close", "get_pid", "get_pipe_transport", "get_returncode")


def _target(x: Any, loop: asyncio.AbstractEventLoop) -> Any:
    """What is to be closed: a transport, a server or a socket. TypeError, RuntimeError."""
    if isinstance(x, asyncio.StreamWriter):
        x = x.transport
    if isinstance(x, socket.socket) and not hasattr(x, "do_handshake"):
        transport = transport_with(loop, x.fileno())
        # asyncio lists a closed one until it is collected, under a number that another may have.
        return transport if transport and number_of(transport) == x.fileno() else x
    if not _is_server(x) and not _is_transport(x):
        hint = " (a socket that blocks: finack.close())" if isinstance(x, socket.socket) else ""
        raise TypeError(f"expected {_ACCEPTED}, got {type(x).__name__}{hint}")
    _check_loop(x, loop)
    return x


def _check_loop(x: Any, loop: asyncio.AbstractEventLoop) -> None:
    if _is_server(x):
        other = x.get_loop()
    else:
        other = _private.loop_of(x)  # a closed transport has none, that of uvloop hides it
        if other is None and (x.is_closing() or _owns(loop, number_of(x))):
            return
    if other is loop:
        return
    kind = "closed loop" if other is not None and other.is_closed() else "loop"
    raise RuntimeError(f"{x!r} belongs to another {kind}: it must be closed there")


def _owns(loop: asyncio.AbstractEventLoop, fd: int) -> bool:
    """Whether a transport of the loop has this number: it says so, and does nothing."""
    if fd < 0:
        return True  # a subprocess has none
    try:
        loop.remove_reader(fd)
    except RuntimeError:
        return True
    return False


def _below(x: Any, loop: asyncio.AbstractEventLoop) -> Any:
    """The transport that owns the socket, if `x` can't be asked for it any more, else `x`.

    After two calls of close() stock TLS has forgotten what is below it, and abort() does nothing.
    """
    if isinstance(x, socket.socket) or extra(x, "socket") is not None:
        return x
    return next((c.lower for c in connections(loop) if c.transport is x), x)


# ---- aclose ----


async def aclose(x: Any, policy: Policy | None = None) -> Receipt:
    """Close it, and return a receipt once its descriptor is free.

    Accepts a transport (TCP, TLS, Unix, UDP, of a pipe, of a subprocess) of asyncio's loop,
    finack's or uvloop, a StreamWriter, an asyncio.Server, and a socket that the program uses with
    loop.sock_recv() and the like. The program gets no more data: input is thrown away, so that the
    peer sees the end of the stream and no reset. `connection_lost` is called before aclose()
    returns. It is bounded by the policy's `total` and `proof_wait`, whatever the peer does; if
    bytes can't be sent in time the stream ends in a reset, so that the peer knows.

    A server stops listening, and the connections that it has accepted are closed with it, under the
    same deadline; those that had to be cut are in the receipt's `stragglers`, and its outcome is
    the worst of all of them.

    A subprocess gets the end of its stdin first. Under "orderly" and "full" it then has
    policy.linger seconds to end by itself, and is killed after that, as by the transport's own
    close().

    A loop.sock_sendall() that waits on the socket goes on until the flush deadline. A sock_recv()
    or sock_accept() fails with OSError; on uvloop sock_recv() of a connection returns b"".

    It works without a free descriptor too: stages that need one are unverifiable then, and scope
    "connection" of a listening socket is like "descriptor".

    Closing again, also at the same time, returns the same receipt. If aclose() is cancelled the
    connection is reset, everything is released within two turns of the loop, and CancelledError is
    raised; other tasks that wait for this close get a receipt with outcome "aborted".

    TypeError: it is something else. RuntimeError: it belongs to another loop, or to a closed one.
    OSError: EOPNOTSUPP, a pipe's transport on a terminal or another device. In these cases nothing
    has changed.

    >>> async def hang_up(writer: asyncio.StreamWriter) -> None:
    ...     receipt = await finack.aclose(writer, finack.Policy(linger=0.5))
    ...     print(receipt)
    """
    policy = checked(policy)
    loop = asyncio.get_running_loop()
    asked = x
    if type(x) is asyncio.StreamWriter:
        x = x.transport
    if isinstance(x, _core.SocketTransport) and (ending := x._close_by(policy._as_tuple(), loop)):
        await ending  # who is cancelled meanwhile resets the connection
        return receipt_of(ending)
    requested = time.monotonic()
    target = _target(x, loop)
    key = key_of(target)
    if (receipt := remembered.recall(key)) is not None:
        return receipt
    if shared := pending.get(key):
        return await shared.join()
    shared = Shared(_begin(target, policy, loop, requested, asked), loop)
    pending.enter(key, shared)
    try:
        return await shared.drive()
    finally:
        pending.leave(key)
        remembered.remember(key, shared.done.result())
        if isinstance(x, socket.socket):
            remembered.remember(x, shared.done.result())


def _begin(
    x: Any, policy: Policy, loop: asyncio.AbstractEventLoop, requested: float, asked: Any
) -> Work:
    if _is_server(x):
        return ServerWork(x, policy, loop, requested, aclose_anyhow)
    if _is_subprocess(x):
        return SubprocessWork(x, policy, loop, requested, aclose_anyhow)
    x = _below(x, loop)
    fd = number_of(x)
    if fd < 0:
        return _Gone(policy, x, requested, asked)
    owner = SocketOwner(x, loop) if isinstance(x, socket.socket) else owner_of(x, fd)
    if owner.blind and policy.courtesy == "full":
        policy = replace(policy, courtesy="orderly")  # its answer can't be seen
    return Closing(owner, policy, loop, requested, name_of_any(fd))


class _Gone:
    """It was closed before anybody looked."""

    def __init__(self, policy: Policy, x: Any, requested: float, asked: Any) -> None:
        now, why = time.monotonic(), heard(asked)
        cut = why is None and was_cut(x)
        self._receipt = unseen(
            policy, kind_of(x), requested, now, before=True, why=why, truncated=cut
        )

    async def run(self) -> Receipt:
        return self._receipt

    def cut(self) -> None:
        pass

    def receipt(self) -> Receipt:
        return self._receipt


async def aclose_anyhow(x: Any, policy: Policy) -> Receipt:
    """As aclose(); what can't be closed so is aborted."""
    try:
        return await aclose(x, policy)
    except OSError as error:
        name = ""
        with contextlib.suppress(OSError):
            name = name_of_any(number_of(x))
        left = break_off(x, reset=False)
        await turn()
        end: End = "reset" if left else "kernel"
        return Receipt(outcome="error", error=error, end=end, unsent=left, socket=name)


# ---- closed ----


async def closed(x: Any) -> Receipt:
    """Only watch: return once it is really closed, whoever closes it.

    The receipt says when the descriptor was free and when nothing referred to the socket any more
    (it waits for that a tenth of a second at most); how the stream ended was not observed. If
    finack closes it meanwhile, or has closed it before, it is the receipt of that close. Accepts
    what aclose() does; of a server it watches the listening sockets.

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
    key = key_of(target)
    receipt = remembered.recall(key) or await by_engine.follow(target)
    if receipt is None and key not in pending:
        kind: Kind = "listener" if _is_server(target) else kind_of(target)
        seen = await Watch(loop, _numbers_of(target, loop), kind, requested).run()
        receipt = remembered.recall(key) or await by_engine.follow(target) or seen
        remembered.remember(key, receipt)
    if shared := pending.get(key):
        receipt = await asyncio.shield(shared.done)
    assert receipt is not None
    return receipt


def _numbers_of(x: Any, loop: asyncio.AbstractEventLoop) -> list[int]:
    if _is_server(x):
        return [sock.fileno() for sock in x.sockets]
    return [fd] if (fd := number_of(_below(x, loop))) >= 0 else []


# ---- aclosing ----


@asynccontextmanager
async def aclosing(x: _T, policy: Policy | None = None) -> AsyncIterator[_T]:
    """Close at the end of the block, as aclose() does, also if the block raises.

    If it can't be closed, that raises before the block begins.

    If the block is cancelled, the close still takes its time: bound it by the policy.

    >>> async def ask(host: str) -> bytes:
    ...     reader, writer = await asyncio.open_connection(host, 80)
    ...     async with finack.aclosing(writer):
    ...         writer.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
    ...         return await reader.read()
    """
    policy = checked(policy)
    _target(x, asyncio.get_running_loop())
    try:
        yield x
    finally:
        await aclose(x, policy)
