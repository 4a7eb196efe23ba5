# SPDX-License-Identifier: MIT
"""Connections with TLS, ended in one way again and again; no object may stay, and no reference.

usage: leaks_tls.py WAY

Run alone in a process. Each round is a connection in one loop, both ends with TLS in C.
"""

import asyncio
import contextlib
import functools
import gc
import os
import pathlib
import socket
import ssl
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

from peers import Certificate

import finack
from finack import _core

ROUNDS = 12
WINDOWS = 6
FIRST = 260  # rounds that fill what is kept of closes: 128 by the loop, 256 for the report
BOUND = 30.0
LARGE = bytes(1 << 20)


class End(asyncio.Protocol):
    """Of a connection; answers nothing."""

    def __init__(self, ends: "Ends") -> None:
        self.ends = ends
        self.lost = asyncio.Event()
        self.read = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.ends.came += len(data)
        self.read.set()

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.set()


class Raising(End):
    """It raises in every call, which the loop's handler hears of."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        raise ValueError(self)

    def eof_received(self) -> bool:
        raise ValueError(self)

    def connection_lost(self, error: BaseException | None) -> None:
        super().connection_lost(error)
        raise ValueError(self)


class Asked(End, asyncio.BufferedProtocol):
    """Read into a buffer of its own."""

    def get_buffer(self, hint: int) -> bytearray:
        self.buffer = bytearray(1000)
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.data_received(bytes(self.buffer[:count]))


class Ends:
    """Both ends of connections, and what must be gone when they are."""

    def __init__(self, certificate: Certificate) -> None:
        self.server, self.client = certificate.server_context(), certificate.client_context()
        self.stranger = ssl.create_default_context()  # to which the certificate means nothing
        self.watched: list[weakref.ref[Any]] = []
        self.came = 0

    def connecting(
        self, kind: type[End] = End, client: ssl.SSLContext | None = None, **more: Any
    ) -> Awaitable[Any]:
        """To wait for: (transport, protocol) of either end."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        factory = functools.partial(kind, self)
        context = client or self.client
        return asyncio.gather(
            loop.create_connection(
                factory, sock=ours, ssl=context, server_hostname="localhost", **more
            ),
            loop.connect_accepted_socket(factory, theirs, ssl=self.server, **more),
            return_exceptions=True,
        )

    async def open(self, kind: type[End] = End) -> tuple[End, End]:
        """Both have sent a byte and got one."""
        made = [protocol for _, protocol in await self.connecting(kind, ssl_shutdown_timeout=0.1)]
        for end in made:
            assert isinstance(end.transport, _core.Transport) and end.transport._is_tls
            session = end.transport.get_extra_info("ssl_object")
            self.watched += map(weakref.ref, (end, end.transport, session))
            end.transport.write(b"x")
        for end in made:
            await asyncio.wait_for(end.read.wait(), BOUND)
        return made[0], made[1]


async def over(*ends: End) -> None:
    for end in ends:
        await asyncio.wait_for(end.lost.wait(), BOUND)


# ---- ways to end ----


async def close(ends: Ends, kind: type[End] = End) -> None:
    client, server = await ends.open(kind)
    client.transport.close()
    await over(client, server)


async def close_both(ends: Ends) -> None:
    both = await ends.open()
    for end in both:
        end.transport.close()
    await over(*both)


async def close_with_much_to_send(ends: Ends) -> None:
    client, server = await ends.open()
    client.transport.write(LARGE)
    client.transport.writelines([b"x", LARGE])
    client.transport.close()
    await over(client, server)


async def abort(ends: Ends) -> None:
    client, server = await ends.open()
    server.transport.write(LARGE)
    server.transport.abort()
    await over(client, server)


async def abort_a_close(ends: Ends) -> None:
    client, server = await ends.open()
    server.transport.pause_reading()
    client.transport.write(LARGE)
    client.transport.close()
    await asyncio.sleep(0)
    client.transport.abort()
    await over(client)
    server.transport.resume_reading()
    await over(server)


async def aclose(ends: Ends) -> None:
    client, server = await ends.open()
    await asyncio.gather(*(finack.aclose(end.transport) for end in (client, server)))
    await over(client, server)


async def aclose_given_up(ends: Ends) -> None:
    client, server = await ends.open()
    task = asyncio.create_task(finack.aclose(client.transport))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await over(client, server)


async def raising(ends: Ends) -> None:
    await close(ends, Raising)


async def buffered(ends: Ends) -> None:
    await close(ends, Asked)


async def truncated(ends: Ends) -> None:
    """An end of the stream without close_notify."""
    client, server = await ends.open()
    with socket.socket(fileno=os.dup(server.transport.get_extra_info("socket").fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
    await over(client, server)


async def another_protocol(ends: Ends) -> None:
    client, server = await ends.open()
    other = End(ends)
    client.transport.set_protocol(other)
    client.transport.close()
    await over(other, server)


async def session_kept(ends: Ends) -> None:
    """By the program, longer than the transport."""
    client, server = await ends.open()
    session = client.transport.get_extra_info("ssl_object")
    client.transport.close()
    await over(client, server)
    with contextlib.suppress(ssl.SSLError):
        session.read()
    session.getpeercert()


async def started_later(ends: Ends) -> None:
    """start_tls() by both, on a connection that was plain."""
    loop = asyncio.get_running_loop()
    pair = socket.socketpair()
    made: list[Any] = [
        await loop.create_connection(functools.partial(End, ends), sock=sock) for sock in pair
    ]
    (one, first), (two, second) = made
    client, server = await asyncio.gather(
        loop.start_tls(one, first, ends.client, server_hostname="localhost"),
        loop.start_tls(two, second, ends.server, server_side=True),
    )
    assert client and server
    ends.watched += map(weakref.ref, (client, server, first, second, one, two))
    client.close()
    await over(first, second)


async def refused(ends: Ends) -> None:
    """The handshake fails at both ends."""
    await ends.connecting(client=ends.stranger)


async def handshake_given_up(ends: Ends) -> None:
    task = asyncio.ensure_future(ends.connecting())
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def handshake_without_an_answer(ends: Ends) -> None:
    """It ends by its timer."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with contextlib.suppress(OSError), theirs:
        await loop.create_connection(
            functools.partial(End, ends),
            sock=ours,
            ssl=ends.client,
            server_hostname="localhost",
            ssl_handshake_timeout=0.01,
        )


WAYS: dict[str, Callable[[Ends], Awaitable[None]]] = {
    way.__name__: way
    for way in (
        close,
        close_both,
        close_with_much_to_send,
        abort,
        abort_a_close,
        aclose,
        aclose_given_up,
        raising,
        buffered,
        truncated,
        another_protocol,
        session_kept,
        started_later,
        refused,
        handshake_given_up,
        handshake_without_an_answer,
    )
}


# ---- what is left ----


def look(ends: Ends) -> Counter[str]:
    """What there is now, of each kind."""
    getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()
    gc.collect()
    alive = [there for one in ends.watched if (there := one()) is not None]
    if alive:
        raise SystemExit(f"still there: {Counter(type(one).__qualname__ for one in alive)}")
    ends.watched.clear()
    blocks = sys.getallocatedblocks()  # before those that hold what is found
    found = Counter(sys.intern(f"{type(one).__qualname__} objects") for one in gc.get_objects())
    for name in ("server", "client", "stranger"):
        context = getattr(ends, name)
        found[sys.intern(f"references of {name}")] = sys.getrefcount(context)
    found["references of End"] = sys.getrefcount(End)
    found["descriptors"] = len(os.listdir("/proc/self/fd"))
    found["blocks"] = blocks
    return found


async def rounds(way: Callable[[Ends], Awaitable[None]], ends: Ends, turns: int) -> None:
    for _ in range(turns):
        await way(ends)
    for _ in range(5):  # closes of which the program has no more news
        await asyncio.sleep(0)


def grown(way: Callable[[Ends], Awaitable[None]], ends: Ends) -> Counter[str]:
    """By how much at the least in one window: what leaks grows in each."""
    least: Counter[str] = Counter()
    with asyncio.Runner(loop_factory=finack.EventLoop) as runner:
        runner.get_loop().set_exception_handler(lambda *_: None)
        runner.run(rounds(way, ends, FIRST))
        before = look(ends)
        for number in range(WINDOWS):
            runner.run(rounds(way, ends, ROUNDS))
            now = look(ends)
            now.subtract(before)
            least = least & now if number else +now
            before.update(now)
            del now
    return least


def main() -> None:
    os.environ["FINACK_TLS"] = "c"
    with tempfile.TemporaryDirectory() as folder:
        least = grown(WAYS[sys.argv[1]], Ends(Certificate.make(pathlib.Path(folder))))
    if any(count > ROUNDS // 2 for count in least.values()):  # a leak is one a round, or two
        raise SystemExit(f"grown by so many in {ROUNDS} rounds: {dict(least)}")


if __name__ == "__main__":
    main()
