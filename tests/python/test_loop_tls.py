# SPDX-License-Identifier: MIT
"""ssl_shutdown_timeout bounds a TLS close from close() to release, whatever the peer does."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import sys
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from peers import Certificate, Peer, Peers, Seen, Temper

import finack

TIMEOUT = 0.3
BOUND = 20.0
MANY = bytes(32 << 20)


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.eof = False

    def connection_lost(self, exc: Exception | None) -> None:
        assert not self.lost.done()
        self.lost.set_result(exc)

    def eof_received(self) -> bool:
        self.eof = True
        return False


Dial = Callable[..., Coroutine[Any, Any, tuple[asyncio.Transport, Client]]]


async def opened(peer: Peer) -> None:
    """Its part of the handshake is over: it sends nothing more by itself."""
    assert await asyncio.to_thread(peer.opened, 1) == 1


async def dial(
    peer: Peer, certificate: Certificate, timeout: float = TIMEOUT
) -> tuple[asyncio.Transport, Client]:
    transport, client = await asyncio.get_running_loop().create_connection(
        Client,
        peer.address[0],
        int(peer.address[1]),
        ssl=certificate.client_context(),
        server_hostname="localhost",
        ssl_shutdown_timeout=timeout,
    )
    await opened(peer)
    return transport, client


async def upgrade(
    peer: Peer, certificate: Certificate, timeout: float = TIMEOUT
) -> tuple[asyncio.Transport, Client]:
    loop = asyncio.get_running_loop()
    plain, _ = await loop.create_connection(asyncio.Protocol, peer.address[0], int(peer.address[1]))
    client = Client()
    secure = await loop.start_tls(
        plain,
        client,
        certificate.client_context(),
        server_hostname="localhost",
        ssl_shutdown_timeout=timeout,
    )
    assert isinstance(secure, asyncio.Transport)
    await opened(peer)
    return secure, client


both_ways = pytest.mark.parametrize("connect", [dial, upgrade])


async def close(
    transport: asyncio.Transport, client: Client, times: int = 1
) -> tuple[Exception | None, float]:
    """What connection_lost was given, and the seconds until release."""
    sock = transport.get_extra_info("socket")
    number = sock.fileno()
    begin = time.monotonic()
    for _ in range(times):
        transport.close()
    await asyncio.wait_for(finack.await_fd_close(sock), BOUND)
    with pytest.raises(OSError):
        os.fstat(number)
    return await client.lost, time.monotonic() - begin


@both_ways
@pytest.mark.parametrize("times", [1, 2])
def test_never_answers(peers: Peers, certificate: Certificate, connect: Dial, times: int) -> None:
    """All was sent: the peer sees a whole stream."""
    peer = peers.listen("mute", tls=certificate)

    async def main() -> None:
        transport, client = await connect(peer, certificate)
        transport.write(b"hello")
        error, seconds = await close(transport, client, times)
        assert isinstance(error, TimeoutError)
        assert seconds >= TIMEOUT

    finack.run(main())
    assert peer.seen(1) == [Seen(5, True, "eof", False)]


@both_ways
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("notified", ["before", "after"])
def test_notifies_and_reads_no_more(
    peers: Peers, certificate: Certificate, connect: Dial, times: int, notified: str
) -> None:
    """asyncio's own timer is gone by then. Bytes are lost: the peer gets a reset."""
    peer = peers.listen("deaf", tls=certificate)

    async def main() -> None:
        transport, client = await connect(peer, certificate)
        transport.write(MANY)
        if notified == "before":
            await asyncio.to_thread(peer.act, "notify")
            while not client.eof:
                await asyncio.sleep(0.01)
        else:
            asyncio.get_running_loop().call_soon(peer.act, "notify")
        error, _ = await close(transport, client, times)
        assert isinstance(error, TimeoutError)

    finack.run(main())
    seen = peer.seen(1)[0]
    assert seen.end == "reset" and seen.received < len(MANY)


@both_ways
def test_deaf(peers: Peers, certificate: Certificate, connect: Dial) -> None:
    peer = peers.listen("deaf", tls=certificate)

    async def main() -> None:
        transport, client = await connect(peer, certificate)
        transport.write(MANY)
        error, _ = await close(transport, client)
        assert isinstance(error, TimeoutError)

    finack.run(main())
    assert peer.seen(1)[0].end == "reset"


@both_ways
def test_ended_while_paused(peers: Peers, certificate: Certificate, connect: Dial) -> None:
    """The peer's FIN came without close_notify while nobody read: stock close() does nothing."""
    peer = peers.listen("mute", tls=certificate)

    async def main() -> None:
        transport, client = await connect(peer, certificate)
        transport.pause_reading()
        await asyncio.to_thread(peer.act, "fin")
        await asyncio.sleep(0.1)
        await close(transport, client)

    finack.run(main())
    assert len(peer.seen(1)) == 1


@both_ways
def test_ended_first(peers: Peers, certificate: Certificate, connect: Dial) -> None:
    """The peer's FIN came without close_notify: asyncio says none then, and who listens is told."""
    peer = peers.listen("mute", tls=certificate)
    told: list[finack.Receipt] = []

    async def main() -> None:
        transport, client = await connect(peer, certificate)
        transport.write(b"hello")
        await asyncio.to_thread(peer.act, "fin")
        assert await asyncio.wait_for(client.lost, BOUND) is None and client.eof
        while not told:
            await asyncio.sleep(0)

    loop = finack.EventLoop(on_closed=told.append)
    loop.run_until_complete(main())
    loop.close()
    assert peer.seen(1) == [Seen(5, False, "eof", False)]
    if loop.tls == "c":  # of sslproto's the engine knows nothing
        assert told[0].outcome == "truncated" and "notified" not in told[0].stages


@both_ways
def test_answers(peers: Peers, certificate: Certificate, connect: Dial) -> None:
    peer = peers.listen("clean", tls=certificate)

    async def main() -> None:
        transport, client = await connect(peer, certificate, BOUND)
        transport.write(b"hello")
        error, _ = await close(transport, client)
        assert error is None

    finack.run(main())
    assert peer.seen(1) == [Seen(5, True, "eof", False)]


def test_a_server_keeps_no_context(certificate: Certificate) -> None:
    async def main() -> "weakref.ref[Any]":
        context = certificate.server_context()
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        await finack.aclose(server)
        return weakref.ref(context)

    context = finack.run(main())
    gc.collect()
    assert context() is None


async def closed(connect: Dial, peer: Peer, certificate: Certificate) -> list[weakref.ref[Any]]:
    """References to what the connection was made of."""
    transport, client = await connect(peer, certificate)
    session = transport.get_extra_info("ssl_object")
    context = transport.get_extra_info("sslcontext")
    made = [weakref.ref(one) for one in (transport, client, session, context)]
    await close(transport, client)
    return made


@both_ways
@pytest.mark.parametrize("temper", ["clean", "mute"])
def test_leaves_nothing(
    peers: Peers, certificate: Certificate, connect: Dial, temper: Temper
) -> None:
    """A timer that is forgotten holds the connection, its buffers and the context."""
    peer = peers.listen(temper, tls=certificate)

    async def main() -> None:
        made = await closed(connect, peer, certificate)
        await asyncio.sleep(0)
        gc.collect()
        assert [ref() for ref in made] == [None] * len(made)

    finack.run(main())


def test_server(peers: Peers, certificate: Certificate) -> None:
    """On the accepting side too."""

    async def main() -> None:
        accepted: asyncio.Queue[tuple[asyncio.Transport, Client]] = asyncio.Queue()

        class Accepted(Client):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                accepted.put_nowait((transport, self))

        server = await asyncio.get_running_loop().create_server(
            Accepted,
            "127.0.0.1",
            0,
            ssl=certificate.server_context(),
            ssl_shutdown_timeout=TIMEOUT,
        )
        peer = peers.connect("deaf", server.sockets[0].getsockname(), tls=True)
        transport, client = await asyncio.wait_for(accepted.get(), BOUND)
        transport.write(MANY)
        await asyncio.to_thread(peer.act, "notify")
        error, _ = await close(transport, client)
        assert isinstance(error, TimeoutError)
        server.close()
        assert (await asyncio.to_thread(peer.seen, 1))[0].end == "reset"

    finack.run(main())


def test_layer_on_layer(certificate: Certificate) -> None:
    """TLS in TLS: the upper one's time is up, the lower one has no close of its own."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        served: asyncio.Future[asyncio.StreamWriter] = loop.create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await writer.start_tls(certificate.server_context())
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            served.set_result(writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificate.server_context())
        outer, _ = await loop.create_connection(
            asyncio.Protocol,
            *server.sockets[0].getsockname(),
            ssl=certificate.client_context(),
            server_hostname="localhost",
        )
        client = Client()
        inner = await loop.start_tls(
            outer,
            client,
            certificate.client_context(),
            server_hostname="localhost",
            ssl_shutdown_timeout=TIMEOUT,
        )
        assert isinstance(inner, asyncio.Transport)
        writer = await served
        inner.write(MANY)
        error, _ = await close(inner, client)
        assert isinstance(error, TimeoutError)
        writer.transport.abort()
        server.close()

    finack.run(main())


class Failing(ssl.SSLContext):
    """Makes no session any more, once it was told."""

    fails = False

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        if self.fails:
            raise ValueError("none today")
        return super().wrap_bio(*args, **options)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_server_does_not_wait_for_a_connection_without_a_session(
    certificate: Certificate, at_once: bool
) -> None:
    context = Failing(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain)
    context.fails = at_once

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Client, "127.0.0.1", 0, ssl=context)
        context.fails = True
        waiting = asyncio.ensure_future(server.wait_closed())
        with socket.create_connection(server.sockets[0].getsockname()) as sock:
            sock.setblocking(False)
            sock.send(b"x")
            with contextlib.suppress(ConnectionResetError):  # the byte was not read
                if os.environ["FINACK_TLS"] == "c" and not at_once:
                    assert await asyncio.wait_for(loop.sock_recv(sock, 1), BOUND) == b""
                else:  # asyncio says nothing
                    await asyncio.sleep(0)
        server.close()
        await asyncio.wait_for(waiting, BOUND)

    finack.run(main())


@pytest.mark.parametrize("policy", [None, finack.CLOSE_POLICY, finack.Policy()])
def test_what_comes_behind_the_peers_farewell_resets_nothing(
    files: Certificate, policy: finack.Policy | None
) -> None:
    """A peer that has said close_notify, and sends bytes all the same, gets what it was sent."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = files.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")

    def shake(sock: socket.socket) -> None:
        while True:
            try:
                session.do_handshake()
                return
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(1 << 16))

    def peer(address: tuple[str, int]) -> None:
        with socket.create_connection(address, BOUND) as sock:
            shake(sock)
            with contextlib.suppress(ssl.SSLWantReadError):
                session.unwrap()
            sock.sendall(outgoing.read() + bytes(1 << 16))
            while sock.recv(1 << 16):
                continue

    class Server(Client):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            over.set()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0, ssl=files.server_context())
        await asyncio.to_thread(peer, server.sockets[0].getsockname())
        await over.wait()
        server.close()

    over = asyncio.Event()
    with asyncio.Runner(loop_factory=lambda: finack.EventLoop(close_policy=policy)) as runner:
        runner.run(main())


# ---- a context that changes ----


class Reading(ssl.SSLObject):
    """Reads by itself."""

    reads = 0

    def read(self, *args: Any) -> Any:
        Reading.reads += 1
        return super().read(*args)


async def ask(server: asyncio.Server, files: Certificate) -> bytes:
    """What comes back for five bytes, until the connection ends in one way or another."""
    answer = b""
    address = server.sockets[0].getsockname()
    context = files.client_context()
    reader, writer = await asyncio.open_connection(
        *address, ssl=context, server_hostname="localhost"
    )
    writer.write(b"hello")
    with contextlib.suppress(ConnectionResetError):
        answer = await asyncio.wait_for(reader.read(), BOUND)
        writer.close()
        await writer.wait_closed()
    return answer


def test_a_context_that_changes_behind_a_server(certificate: Certificate) -> None:
    """Each connection is made by what the context is then."""
    context: Any = certificate.server_context()
    ends: list[BaseException] = []
    told: list[bool] = []

    def on_message(*_: object) -> None:
        if told:
            raise ValueError

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.readexactly(5)
        if context._msg_callback:
            told.append(True)
        with contextlib.suppress(ValueError):
            writer.write(said)
            writer.close()
            await writer.wait_closed()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, what: ends.append(what["exception"]))
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        assert await ask(server, certificate) == b"hello"
        context.sslobject_class = Reading
        assert await ask(server, certificate) == b"hello"
        assert Reading.reads > 0
        context.sslobject_class = ssl.SSLObject
        context._msg_callback = on_message
        assert await ask(server, certificate) == b""
        server.close()

    Reading.reads = 0
    finack.run(main())
    assert {type(error) for error in ends} == {ValueError}


RAISED = sys.version_info >= (3, 15)  # before, CPython notes it, and nobody can find it


def test_a_context_that_sni_has_chosen(files: Certificate) -> None:
    """Who is told of its messages is told by a session that is in C already, and may raise."""
    chosen: Any = files.server_context()
    context = files.server_context()
    ends: list[BaseException] = []
    told: list[bool] = []

    def choose(one: Any, name: str, _: ssl.SSLContext) -> None:
        one.context = chosen

    def on_message(*_: object) -> None:
        if told:
            raise ValueError

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.readexactly(5)
        told.append(True)
        with contextlib.suppress(ValueError):
            writer.write(said)
            await writer.drain()
            told.clear()
            writer.close()
            await writer.wait_closed()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, what: ends.append(what["exception"]))
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        await ask(server, files)
        server.close()

    chosen._msg_callback = on_message
    context.sni_callback = choose
    finack.run(main())
    assert any(isinstance(error, ValueError) for error in ends) == RAISED


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("seconds", [0, -1])
def test_times_are_positive(certificate: Certificate, name: str, seconds: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        options: Any = {name: seconds}
        text = f"{name} should be a positive number, got"
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            pytest.raises(ValueError, match=text),
        ):
            await loop.create_connection(
                asyncio.Protocol,
                *server.getsockname(),
                ssl=certificate.client_context(),
                server_hostname="localhost",
                **options,
            )

    finack.run(main())
