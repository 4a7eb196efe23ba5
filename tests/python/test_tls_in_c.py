# SPDX-License-Identifier: MIT
"""TLS of EventLoop, in C and by asyncio's sslproto: both do the same for the program."""

import asyncio
import contextlib
import ctypes
import os
import pathlib
import platform
import re
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from blocking import no_descriptors
from peers import Certificate, Peers

import finack
from finack import _core, _openssl, _private

BOUND = 20.0
LARGE = bytes(range(256)) * 4096


@pytest.fixture
def way(certificate: Certificate) -> str:
    return os.environ["FINACK_TLS"]


def is_in_c(transport: Any) -> bool:
    return isinstance(transport, _core.Transport) and transport._is_tls


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def served(
    context: ssl.SSLContext, serve: Callable[..., Any] = echo, **options: Any
) -> AsyncIterator[Any]:
    """A way to connect to a server."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, **options)
    host, port = server.sockets[0].getsockname()

    async def connect(client: ssl.SSLContext, **more: Any) -> Any:
        options = {"server_hostname": "localhost", **more}
        return await asyncio.open_connection(host, port, ssl=client, **options)

    yield connect
    server.close()
    await server.wait_closed()


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    async def write() -> None:
        writer.write(data)
        await writer.drain()

    task = asyncio.create_task(write())
    assert await asyncio.wait_for(reader.readexactly(len(data)), BOUND) == data
    await task


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await asyncio.wait_for(writer.wait_closed(), BOUND)


# ---- which way ----


def test_the_way_is_told(way: str, certificate: Certificate) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, finack.EventLoop)
        assert loop.tls == way
        async with served(certificate.server_context()) as connect:
            _, writer = await connect(certificate.client_context())
            assert is_in_c(writer.transport) == (way == "c")
            await hang_up(writer)

    finack.run(main())


class Counting(ssl.SSLObject):
    reads = 0

    def read(self, *args: Any) -> Any:
        Counting.reads += 1
        return super().read(*args)


class OwnContext(ssl.SSLContext):
    """A subclass that changes nothing of importance."""


def test_classes_of_the_program(way: str, certificate: Certificate) -> None:
    """A context may be; a session that reads by itself is asyncio's to use."""

    async def main() -> None:
        client = OwnContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(certificate.authority)
        async with served(certificate.server_context()) as connect:
            reader, writer = await connect(client)
            assert is_in_c(writer.transport) == (way == "c")
            await hang_up(writer)
            client.sslobject_class = Counting
            reader, writer = await connect(client)
            assert not is_in_c(writer.transport)
            await talk(reader, writer, b"hello")
            assert Counting.reads > 0
            await hang_up(writer)

    finack.run(main())


def test_what_is_raised_by_who_is_told_of_messages(certificate: Certificate) -> None:
    """It ends the connection."""
    told: list[bool] = []
    losses: list[object] = []

    def on_message(*_: object) -> None:
        if told:
            raise ValueError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, what: losses.append(what.get("exception")))
        client: Any = certificate.client_context()
        client._msg_callback = on_message
        async with served(certificate.server_context()) as connect:
            reader, writer = await connect(client)
            assert not is_in_c(writer.transport)
            writer.write(b"hello")
            told.append(True)
            with pytest.raises(ValueError):
                await asyncio.wait_for(reader.read(), BOUND)
        assert isinstance(losses[0], ValueError)

    finack.run(main())


def test_the_guard(certificate: Certificate) -> None:
    """What is no session on memory BIOs is refused, and so is a library that isn't _ssl."""
    find_openssl()
    context = certificate.client_context()
    one: Any = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    for known in (_core.is_known_layout, _core.is_known_session):
        assert known(one._sslobj)
        for other in (one, context, None, object(), type(one._sslobj), b"x" * 100):
            assert not known(other)
        assert _core.is_half_written(other) is None
    assert _core.is_half_written(one._sslobj) is None
    with finack_socket(context) as sock:
        assert not _core.is_known_session(sock._sslobj)
        assert _core.is_half_written(sock._sslobj) is False


def test_a_lack_of_descriptors_is_not_remembered() -> None:
    """The first look is by a pipe."""
    _openssl._reason.cache_clear()
    with no_descriptors():
        assert "Too many open files" in (_openssl.why_not() or "")
    assert _openssl.why_not() is None


def find_openssl() -> None:
    loop = finack.EventLoop()
    assert loop.tls == os.environ["FINACK_TLS"]
    loop.close()


def word(place: int) -> Any:
    """In memory."""
    return ctypes.c_void_p.from_address(place)


@contextlib.contextmanager
def written(place: int, value: int) -> Iterator[None]:
    before = word(place).value
    word(place).value = value
    try:
        yield
    finally:
        word(place).value = before


@pytest.mark.parametrize("member", ["sock", "ssl", "context"])
def test_another_layout(certificate: Certificate, member: str) -> None:
    """Something else is where the session is looked for: not even what belongs to another."""
    find_openssl()
    contexts = certificate.client_context(), certificate.client_context()
    sessions: list[Any] = [
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="x")._sslobj  # type: ignore[attr-defined]
        for context in contexts
    ]
    ours, theirs = (id(one) + object.__basicsize__ for one in sessions)
    size = ctypes.sizeof(ctypes.c_void_p)
    place = {"sock": 0, "ssl": size, "context": 2 * size}[member]
    wrong = [id(contexts[1]), id(sessions[1]), id(size)]
    if member == "ssl":
        wrong += [0, 1, 8, word(theirs + size).value, word(theirs + size).value + 1]
    for value in wrong:
        with written(ours + place, value):
            assert not _core.is_known_layout(sessions[0])
    assert all(map(_core.is_known_layout, sessions))


def finack_socket(context: ssl.SSLContext) -> Any:
    """A session on a socket, not a memory BIO."""
    ours, theirs = socket.socketpair()
    theirs.close()
    return context.wrap_socket(ours, server_hostname="localhost", do_handshake_on_connect=False)


def python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("path", ["", "/nowhere", "{libc}"])
def test_another_library(path: str) -> None:
    """A static libssl, or one that is not there."""
    program = """
        from finack import _core, EventLoop
        import ctypes, ssl
        EventLoop
        path = {path!r}.replace("{{libc}}", "libc.so.6")
        reason = _core.find_openssl(path)
        assert reason, reason
        print(reason)
    """
    assert python(program.format(path=path))


STATIC = [f"/usr/lib/{platform.machine()}-linux-gnu/lib{name}.a" for name in ("ssl", "crypto")]


@pytest.mark.only_if(all(map(os.path.exists, STATIC)) and shutil.which("cc") is not None)
def test_a_static_library(tmp_path: pathlib.Path) -> None:
    """Everything is found there, but in _ssl itself."""
    library = tmp_path / "_ssl.so"
    whole = ["-Wl,--whole-archive", *STATIC, "-Wl,--no-whole-archive", "-Wl,-Bsymbolic", "-lz"]
    subprocess.run(["cc", "-shared", "-o", library, *whole], check=True)
    program = f"""
        import ctypes
        from finack import _core
        ctypes.CDLL({str(library)!r})
        print(_core.find_openssl({str(library)!r}))
    """
    assert python(program) == "libssl is no shared library"


CHANGES = {
    "a debug build": "sys.gettotalrefcount = lambda: 0",
    "a later release": "sys.version_info = (9, 0, 0, 'final', 0)",
    "no lock of the interpreter": "sysconfig.get_config_var = lambda name: 1",
    "another library": "ssl.OPENSSL_VERSION = 'BoringSSL'",
    "a static library": "ssl._ssl.__file__ = None",
    "the variable": "os.environ['FINACK_TLS'] = 'python'",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_makes_it_fall_back(change: str) -> None:
    program = """
        import asyncio, os, ssl, sys, sysconfig
        import finack
        os.environ.pop("FINACK_TLS", None)
        finack.EventLoop
        CHANGE
        loop = finack.EventLoop()
        print(loop.tls)
        loop.close()
    """
    assert python(program.replace("CHANGE", "")) == "c"
    assert python(program.replace("CHANGE", CHANGES[change])) == "python"


# ---- what is told of a connection ----


def test_extra_info(way: str, certificate: Certificate) -> None:
    names = ("peercert", "cipher", "compression", "ssl_object", "sslcontext", "peername", "socket")

    async def main() -> None:
        client = certificate.client_context()
        async with served(certificate.server_context()) as connect:
            _, writer = await connect(client)
            info = {name: writer.get_extra_info(name) for name in names}
            session = info["ssl_object"]
            assert info["peercert"] == session.getpeercert() and info["peercert"]["subject"]
            assert info["cipher"] == session.cipher() and info["compression"] is None
            assert info["sslcontext"] is client is session.context
            assert info["peername"] and info["socket"].fileno() >= 0
            assert not writer.can_write_eof()
            with pytest.raises(NotImplementedError):
                writer.write_eof()
            await hang_up(writer)
            assert writer.get_extra_info("ssl_object") is session
            assert session.version() == "TLSv1.3"
            with pytest.raises((ssl.SSLError, OSError)):
                session.read(1)

    finack.run(main())


def test_alpn_and_sni(way: str, certificate: Certificate) -> None:
    asked: list[str | None] = []
    other = certificate.server_context()
    other.set_alpn_protocols(["h2", "http/1.1"])

    def choose(session: Any, name: str | None, context: ssl.SSLContext) -> None:
        asked.append(name)
        session.context = other

    async def main() -> None:
        server, client = certificate.server_context(), certificate.client_context()
        server.sni_callback = choose
        client.set_alpn_protocols(["http/1.1"])
        async with served(server) as connect:
            reader, writer = await connect(client)
            session = writer.get_extra_info("ssl_object")
            assert session.selected_alpn_protocol() == "http/1.1"
            await talk(reader, writer, b"hello")
            await hang_up(writer)

    finack.run(main())
    assert asked == ["localhost"]


def test_refused_by_sni(way: str, certificate: Certificate) -> None:
    def refuse(session: Any, name: str | None, context: ssl.SSLContext) -> int:
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    async def main() -> None:
        server = certificate.server_context()
        server.sni_callback = refuse
        async with served(server) as connect:
            with pytest.raises((ssl.SSLError, ConnectionError)) as caught:
                await connect(certificate.client_context())
            if way == "c":  # sslproto sends no alert
                assert "unrecognized" in str(caught.value).lower()

    finack.run(main())


def test_keys_are_logged(way: str, certificate: Certificate, tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        client = certificate.client_context()
        client.keylog_filename = str(tmp_path / "keys")
        async with served(certificate.server_context()) as connect:
            reader, writer = await connect(client)
            await talk(reader, writer, b"hello")
            await hang_up(writer)

    finack.run(main())
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


@pytest.mark.only_if(sys.version_info >= (3, 13))  # CPython has no PSK before
def test_shared_key(way: str) -> None:
    async def main() -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for context in server, client:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("PSK")
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        server.set_psk_server_callback(lambda identity: b"secret")  # type: ignore[attr-defined]
        client.set_psk_client_callback(lambda hint: ("me", b"secret"))  # type: ignore[attr-defined]
        async with served(server) as connect:
            reader, writer = await connect(client)
            assert "PSK" in writer.get_extra_info("cipher")[0]
            await talk(reader, writer, b"hello")
            await hang_up(writer)

    finack.run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tickets(way: str, certificate: Certificate, version: ssl.TLSVersion) -> None:
    """Those of TLS 1.3 come behind the handshake; they are read with what comes behind them."""

    async def main() -> None:
        client = certificate.client_context()
        client.maximum_version = version
        async with served(certificate.server_context()) as connect:
            reader, writer = await connect(client)
            await talk(reader, writer, b"hello")
            assert writer.get_extra_info("ssl_object").session.has_ticket
            await hang_up(writer)

    finack.run(main())


# ---- bytes ----


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_many_bytes(way: str, certificate: Certificate, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        client = certificate.client_context()
        client.maximum_version = version
        async with served(certificate.server_context()) as connect:
            reader, writer = await connect(client)
            for size in (1, 16384, 16385, len(LARGE)):
                await talk(reader, writer, LARGE[:size])
            writer.writelines([b"a", b"b" * 20000, bytearray(b"c")])
            assert await reader.readexactly(20002) == b"a" + b"b" * 20000 + b"c"
            await hang_up(writer)

    finack.run(main())


class Buffered(asyncio.BufferedProtocol):
    """Takes a few bytes at a time."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.room = memoryview(bytearray(1000))
        self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def get_buffer(self, hint: int) -> memoryview:
        return self.room

    def buffer_updated(self, count: int) -> None:
        self.got += self.room[:count]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


def test_a_small_buffer(way: str, certificate: Certificate) -> None:
    """What OpenSSL has read ahead is delivered without an event, and reading can be paused."""

    async def main() -> None:
        async def serve(_: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(LARGE)
            await writer.drain()
            writer.close()

        async with served(certificate.server_context(), serve) as connect:
            loop = asyncio.get_running_loop()
            _, probe = await connect(certificate.client_context())
            probe.transport.abort()
            host, port = probe.get_extra_info("peername")
            transport, protocol = await loop.create_connection(
                Buffered, host, port, ssl=certificate.client_context(), server_hostname="localhost"
            )
            transport.pause_reading()
            seen = len(protocol.got)
            await asyncio.sleep(0.05)
            assert len(protocol.got) == seen
            transport.resume_reading()
            assert await asyncio.wait_for(protocol.lost, BOUND) is None
            assert protocol.got == LARGE

    finack.run(main())


class Paused(asyncio.Protocol):
    """Notes when it may not write."""

    def __init__(self) -> None:
        self.paused: int = 0

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None:
        self.paused -= 1


def test_water_marks(way: str, certificate: Certificate) -> None:
    """They are for what TLS holds back: nothing, before the socket's buffer is full."""
    begin = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await begin.wait()
        while await reader.read(1 << 16):
            pass
        writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=certificate.server_context(), limit=1000
        )
        transport, protocol = await loop.create_connection(
            Paused,
            *server.sockets[0].getsockname(),
            ssl=certificate.client_context(),
            server_hostname="localhost",
        )
        transport.set_write_buffer_limits(1000)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport.write(16 * LARGE)
        seen = [protocol.paused]
        transport.write(LARGE)
        assert [*seen, protocol.paused] == [0, 1]
        begin.set()
        while protocol.paused:
            await asyncio.sleep(0.001)
        transport.close()
        server.close()
        await server.wait_closed()

    finack.run(main())


def test_a_file(way: str, certificate: Certificate, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(LARGE)

    async def main() -> None:
        async with served(certificate.server_context()) as connect:
            reader, writer = await connect(certificate.client_context())
            with (tmp_path / "file").open("rb") as file:
                task = asyncio.create_task(reader.readexactly(len(LARGE)))
                await asyncio.get_running_loop().sendfile(writer.transport, file)
            assert await asyncio.wait_for(task, BOUND) == LARGE
            await hang_up(writer)

    finack.run(main())


# ---- start_tls ----


@pytest.mark.parametrize("protocols", [0, 150])
def test_early_bytes(way: str, certificate: Certificate, protocols: int) -> None:
    """The client's hello, of one record or of more, was read before the server begins."""
    names = [f"{number:0>255}" for number in range(protocols)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"go")
        while len(reader._buffer) < 100 + 256 * protocols:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        await writer.start_tls(certificate.server_context())
        await echo(reader, writer)

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.readexactly(2) == b"go"
        context = certificate.client_context()
        context.set_alpn_protocols(names)
        await asyncio.wait_for(writer.start_tls(context, server_hostname="localhost"), BOUND)
        await talk(reader, writer, b"hello")
        await hang_up(writer)
        server.close()

    if way == "c" or sys.version_info >= (3, 15):
        finack.run(main())


# ---- handshakes that come to nothing ----


def test_handshake_times_out(way: str) -> None:
    async def main() -> None:
        kept: list[Any] = []
        mute = await asyncio.start_server(lambda *pair: kept.append(pair), "127.0.0.1", 0)
        with pytest.raises(ConnectionAbortedError, match="taking longer than"):
            await asyncio.open_connection(
                *mute.sockets[0].getsockname(),
                ssl=True,
                server_hostname="localhost",
                ssl_handshake_timeout=0.05,
            )
        mute.close()
        for _, writer in kept:
            writer.close()

    finack.run(main())


@pytest.mark.parametrize("what", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"])
def test_no_tls_there(way: str, what: bytes) -> None:
    async def main() -> None:
        async def serve(_: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(what)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        with pytest.raises((ConnectionError, ssl.SSLError)) as caught:
            await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=True, server_hostname="localhost"
            )
        if what:
            assert isinstance(caught.value, ssl.SSLError)
            assert caught.value.reason == "WRONG_VERSION_NUMBER" or "RECORD" in str(caught.value)
        server.close()

    finack.run(main())


def test_wrong_name(way: str, certificate: Certificate) -> None:
    async def main() -> None:
        async with served(certificate.server_context()) as connect:
            with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'elsewhere'"):
                await connect(certificate.client_context(), server_hostname="elsewhere")

    finack.run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_closed_by_the_program(way: str, how: str, certificate: Certificate, peers: Peers) -> None:
    """start_tls() says so, and the peer sees an end."""

    async def main() -> None:
        _, writer = await asyncio.open_connection(*peer.address)
        context = certificate.client_context()
        task = asyncio.create_task(writer.start_tls(context, server_hostname="localhost"))
        await asyncio.sleep(0)
        getattr(writer.transport, how)()
        with pytest.raises(ConnectionAbortedError, match="closed during the TLS handshake"):
            await asyncio.wait_for(task, BOUND)

    peer = peers.listen("clean")
    finack.run(main())
    (seen,) = peer.seen(1)
    assert (seen.end, seen.reset_after) == ("eof", False)


def test_closed_in_a_callback_of_openssl(way: str, certificate: Certificate) -> None:
    """The transport is in use there: it ends behind the call."""
    made: list[asyncio.Transport] = []

    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()

        class Server(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                made.append(transport)

            def data_received(self, data: bytes) -> None:
                """The client's hello comes behind this byte, once it is told to go on."""
                context = certificate.server_context()
                context.sni_callback = abort
                task.append(asyncio.ensure_future(upgrade(context)))
                made[0].write(b"go")

        async def upgrade(context: ssl.SSLContext) -> None:
            loop = asyncio.get_running_loop()
            with contextlib.suppress(OSError):
                await loop.start_tls(made[0], asyncio.Protocol(), context, server_side=True)
            ended.set_result(None)

        def abort(*_: Any) -> None:
            made[0].abort()

        task: list[Any] = []
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        assert await reader.readexactly(2) == b"go"
        with contextlib.suppress(OSError):  # the client's part may be over by then
            await writer.start_tls(certificate.client_context(), server_hostname="localhost")
        await asyncio.wait_for(ended, BOUND)
        assert made[0].is_closing()
        server.close()

    finack.run(main())


# ---- later in its life ----


def ask_for_a_certificate(sock: ssl.SSLSocket) -> None:
    """Which is refused. It goes with `x`."""
    sock.verify_client_post_handshake()
    sock.sendall(b"x")


def ask_for_new_keys(sock: ssl.SSLSocket) -> None:
    """A KeyUpdate that wants one in return, for which CPython has no function; it goes with `x`."""
    library: Any = ctypes.CDLL(_private.library_of_tls())  # which is linked with OpenSSL
    library.SSL_key_update.argtypes = ctypes.c_void_p, ctypes.c_int
    session = id(sock._sslobj) + object.__basicsize__  # type: ignore[attr-defined]
    assert library.SSL_key_update(word(session + ctypes.sizeof(ctypes.c_void_p)).value, 1) == 1
    sock.sendall(b"x")


@pytest.mark.parametrize("ask", [ask_for_new_keys, ask_for_a_certificate])
def test_asked_while_bytes_are_stuck(way: str, certificate: Certificate, ask: Any) -> None:
    """The answer has to wait for a record of which the kernel has a part."""
    server, client = certificate.server_context(), certificate.client_context()
    client.post_handshake_auth = server.post_handshake_auth = True
    server.verify_mode = ssl.CERT_OPTIONAL
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    has_read, rest = threading.Event(), bytearray()

    def serve() -> None:
        with server.wrap_socket(listener, server_side=True) as secure:
            sock, _ = secure.accept()
        with sock:
            sock.settimeout(BOUND)
            assert sock.recv(5) == b"hello"
            ask(sock)
            assert has_read.wait(BOUND)
            while len(rest) < 2 * len(LARGE):
                rest.extend(sock.recv(1 << 16))
            ask_for_new_keys(sock)
            assert sock.recv(3) == b"bye"
            with contextlib.suppress(ConnectionError):
                sock.unwrap()

    async def main() -> None:
        thread = asyncio.create_task(asyncio.to_thread(serve))
        reader, writer = await asyncio.open_connection(
            *listener.getsockname(),
            ssl=client,
            server_hostname="localhost",
        )
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        writer.write(b"hello")
        writer.write(LARGE)
        assert await asyncio.wait_for(reader.readexactly(1), BOUND) == b"x"
        assert way == "python" or writer.transport.get_write_buffer_size() > 0
        writer.write(LARGE)
        has_read.set()
        assert await asyncio.wait_for(reader.readexactly(1), BOUND) == b"x"
        writer.write(b"bye")
        await asyncio.wait_for(thread, BOUND)
        await hang_up(writer)

    finack.run(main())
    assert rest == 2 * LARGE


@pytest.mark.parametrize(
    ("command", "version"), [("k", "-tls1_3"), ("K", "-tls1_3"), ("r", "-tls1_2")]
)
def test_keys_change(
    way: str, certificate: Certificate, command: str, version: str, tmp_path: pathlib.Path
) -> None:
    """KeyUpdate, with an answer and without, and a renegotiation, that the peer begins."""

    async def main() -> None:
        chain = str(certificate.chain)
        peer = await asyncio.create_subprocess_exec(
            *("openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", chain, "-key", chain),
            *(version, "-naccept", "1"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert peer.stdin and peer.stdout
        said = b""
        while not (found := re.search(rb"ACCEPT .*:(\d+)\n", said)):
            said += await asyncio.wait_for(peer.stdout.readline(), BOUND)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            int(found[1]),
            ssl=certificate.client_context(),
            server_hostname="localhost",
        )
        peer.stdin.write(b"one\n")
        assert await asyncio.wait_for(reader.readline(), BOUND) == b"one\n"
        peer.stdin.write(command.encode() + b"\n")
        line = asyncio.create_task(reader.readline())
        for _ in range(200):  # what it reads together with a command is lost
            await asyncio.sleep(0.1)
            peer.stdin.write(b"two\n")
            if line.done():
                break
        assert await line == b"two\n"
        writer.write(b"three\n")
        while b"three" not in said:
            said += await asyncio.wait_for(peer.stdout.readline(), BOUND)
        peer.stdin.write(b"Q\n")
        rest = await asyncio.wait_for(reader.read(), BOUND)
        assert not rest.replace(b"two\n", b"")
        await hang_up(writer)
        await asyncio.wait_for(peer.wait(), BOUND)
        peer._transport.close()  # type: ignore[attr-defined]

    finack.run(main())
