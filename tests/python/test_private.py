# SPDX-License-Identifier: MIT
"""Each function over a private name of asyncio's, on what this CPython has."""

import asyncio
import contextlib
import inspect
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from asyncio import sslproto, unix_events
from collections.abc import Coroutine
from typing import Any

import pytest
from peers import Certificate

import finack
from finack import _private

WELL_TRIED = {  # by whom
    "differences": "test_releases",
    "warn_once": "test_releases",
    "accepted_by": "test_aclose_things",  # of a server with clients in its queue
    "disown": "test_aclose_things",
    "of_attributes": "test_aclose_things",
    "make_signal_pipe": "test_loop_life",  # of a forked child
    "pass_for_coroutine": "test_loop_core",
    "ends_clients": "test_loop_servers",
}


def stock(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main)


class Plain(asyncio.Protocol):
    """Without slots."""


async def pair() -> tuple[Any, Any, socket.socket]:
    """A transport of a loop, its protocol, and the other end."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Plain, sock=ours)
    return transport, protocol, theirs


# ---- loops ----


def test_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _, theirs = await pair()
        known = _private.transports(loop)
        assert known is not None and known[_private.own_fd(transport)] is transport
        assert _private.selector(loop).get_map()
        assert _private.transports(object()) is _private.selector(object()) is None
        handle = loop.call_soon(print)
        assert handle in _private.ready(loop)
        handle.cancel()
        transport.abort()
        theirs.close()
        assert _private.running_loop() is loop

    stock(main())
    assert _private.running_loop() is None


def test_running_loop() -> None:
    loop = asyncio.SelectorEventLoop()
    _private.set_running_loop(loop)
    try:
        assert asyncio.get_running_loop() is loop
    finally:
        _private.set_running_loop(None)
        loop.close()


def test_default_loop() -> None:
    program = """
        import asyncio
        from finack import _private
        class Mine(asyncio.SelectorEventLoop): pass
        _private.make_default_loop(Mine)
        for loop in (asyncio.new_event_loop(), asyncio.SelectorEventLoop(), asyncio.EventLoop()
                     if hasattr(asyncio, "EventLoop") else asyncio.new_event_loop()):
            assert type(loop) is Mine, loop
            loop.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


# ---- what a loop runs ----


def test_handle() -> None:
    loop, seen = asyncio.SelectorEventLoop(), list[int]()
    loop.set_debug(True)
    handle = loop.call_soon(seen.append, 1)
    _private.run_handle(handle)
    assert seen == [1]
    assert _private.callback_of(handle) == seen.append and _private.callback_of(None) is None
    assert "append" in _private.source_of(handle, debug=True)
    assert "append" in _private.format_handle(handle)
    assert any(frame.name == "test_handle" for frame in _private.source_traceback(handle))
    assert (
        type(loop.call_soon_threadsafe(print)) is not asyncio.Handle
    ) == _private.HAS_THREADSAFE_HANDLES
    handle.cancel()
    loop.close()


def test_code_that_runs_a_handle() -> None:
    frames = list[Any]()
    loop = asyncio.SelectorEventLoop()
    loop.call_soon(lambda: frames.append(inspect.currentframe()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert frames[0].f_back.f_code is _private.RUN_CODE


def test_task_that_is_not_listed() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(0))
        assert task in asyncio.all_tasks()
        _private.unregister_task(task)
        assert task not in asyncio.all_tasks()
        assert _private.accepted_by(task) is None
        await task

    stock(main())


# ---- transports ----


def test_transport() -> None:
    async def main() -> None:
        lost = asyncio.get_running_loop().create_future()
        transport, protocol, theirs = await pair()
        assert isinstance(transport, _private.SelectorTransport)
        assert _private.loop_of(transport) is asyncio.get_running_loop()
        assert _private.server_of(transport) is None
        fd = transport.get_extra_info("socket").fileno()
        assert _private.own_socket(transport).fileno() == _private.own_fd(transport) == fd
        assert not _private.is_ending(transport) and not _private.is_pipe(transport)
        protocol.connection_lost = lost.set_result
        error = OSError(5, "of ours")
        _private.force_close(transport, error)
        assert _private.is_ending(transport)
        assert await lost is error and _private.own_socket(transport) is None
        assert theirs.recv(1) == b""
        theirs.close()

    stock(main())


def test_dropped() -> None:
    async def main() -> None:
        transport, _, theirs = await pair()
        transport.write(bytes(1 << 24))
        assert not _private.has_dropped(transport)
        transport.abort()
        assert _private.has_dropped(transport)
        theirs.close()

    stock(main())


def test_connection_lost() -> None:
    async def main() -> None:
        transport, protocol, theirs = await pair()
        lost = list[Any]()
        protocol.connection_lost = lost.append
        transport.pause_reading()
        _private.call_connection_lost(transport, None)
        assert lost == [None] and theirs.recv(1) == b""
        theirs.close()

    stock(main())


def test_half_made() -> None:
    async def main() -> None:
        transport, _, theirs = await pair()
        assert _private.of_attributes(vars(transport)) is transport
        assert _private.of_attributes({}) is None
        transport.pause_reading()
        sock = _private.disown(transport)
        assert sock.fileno() >= 0 and _private.own_socket(transport) is None
        sock.close()
        theirs.close()

    stock(main())


@pytest.mark.parametrize("writes", [False, True])
def test_pipe(writes: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        ours, theirs = (write, read) if writes else (read, write)
        connect: Any = loop.connect_write_pipe if writes else loop.connect_read_pipe
        pipe, _ = await connect(
            asyncio.BaseProtocol if writes else asyncio.Protocol,
            os.fdopen(ours, "wb" if writes else "rb", 0),
        )
        assert type(pipe) in _private.PIPE_TRANSPORTS and _private.is_pipe(pipe)
        assert _private.own_pipe(pipe).fileno() == _private.pipe_fd(pipe) == ours
        sent = 0
        while writes and not (sent and _private.pipe_buffered(pipe)):
            pipe.write(bytes(65536))
            sent += 65536
        _private.close_pipe(pipe)
        while _private.own_pipe(pipe) is not None:
            await asyncio.sleep(0)
        assert not _private.pipe_buffered(pipe) and _private.own_pipe(object()) is None
        os.close(theirs)

    stock(main())


def test_buffered_datagrams(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
            theirs.bind(str(tmp_path / "theirs"))
            made: Any
            made, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                asyncio.DatagramProtocol, family=socket.AF_UNIX, remote_addr=theirs.getsockname()
            )
            assert _private.buffered_datagrams(made) == 0
            assert _private.buffered_datagrams(object()) is None
            for _ in range(300):
                made.sendto(bytes(1000))
            left = _private.buffered_datagrams(made)
            arrived = 0
            with contextlib.suppress(BlockingIOError):
                while theirs.recv(2000, socket.MSG_DONTWAIT):
                    arrived += 1
            assert left == 1000 * (300 - arrived) > 0
            made.abort()
            await asyncio.sleep(0)

    stock(main())


class Reads(ssl.SSLObject):
    def read(self, *args: Any) -> Any:
        return super().read(*args)


def test_tls_of_python() -> None:
    assert _private.same_tls(ssl.SSLObject, ssl.SSLObject)
    assert not _private.same_tls(Reads, ssl.SSLObject)
    assert os.path.exists(_private.library_of_tls())
    assert _private.default_context(server_side=False, hostname=None).check_hostname is False
    with pytest.raises(ValueError):
        _private.default_context(server_side=True, hostname=None)
    assert _private.tls_logger().name == "asyncio"


def test_tls(certificate: Certificate) -> None:
    async def main() -> None:
        accepted = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(
            lambda _, writer: accepted.set_result(writer),
            "127.0.0.1",
            0,
            ssl=certificate.server_context(),
        )
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=certificate.client_context(),
            server_hostname="localhost",
        )
        upper: Any = writer.transport
        layer = _private.layer_of(upper)
        assert type(upper) is _private.TlsTransport and type(layer) is sslproto.SSLProtocol
        assert isinstance(_private.below(layer), _private.SelectorTransport)
        assert _private.above(layer) is upper and _private.above(object()) is None
        assert _private.protocol_above(layer) is upper.get_protocol()
        tls, incoming, outgoing = _private.tls_of(layer)
        assert tls.version() and type(incoming) is type(outgoing) is ssl.MemoryBIO
        assert not _private.ends(layer) and not _private.buffered(layer)
        assert _private.session_of(tls).context is tls.context
        assert _private.session_of(object()) is None
        assert not _private.watches_tls(tls.context)
        assert _private.is_write_paused(upper) is False
        assert _private.read_ahead(upper.get_protocol()) == bytearray()
        assert _private.read_ahead(object()) is None
        _private.below(layer).set_write_buffer_limits(high=0)
        while not _private.buffered(layer) + upper.get_write_buffer_size():
            writer.write(bytes(1 << 20))
        assert _private.layer_of(_private.below(layer)) is None
        assert _private.reader_of(writer) is reader
        assert not _private.close_waiter_of(writer).done()
        assert _private.has_met_fin(layer) is False
        writer.close()
        assert _private.ends(layer)
        upper.abort()
        (await accepted).transport.abort()
        await finack.aclose(server)

    stock(main())


# ---- sockets ----


def test_socket(certificate: Certificate) -> None:
    ours, theirs = socket.socketpair()
    secure = certificate.client_context().wrap_socket(
        ours, server_hostname="localhost", do_handshake_on_connect=False
    )
    held = _private.tls_of_socket(secure)
    _private.replace_tls_of_socket(secure, None)
    assert isinstance(held, ssl.SSLObject | type(held)) and held.version() is None
    assert _private.tls_of_socket(secure) is None and _private.tls_of_socket(theirs) is None
    file = theirs.makefile("rb")
    assert _private.uses(theirs) == 1 and not _private.was_closed(theirs)
    theirs.close()
    assert _private.was_closed(theirs)
    file.close()
    assert _private.uses(theirs) == 0
    secure.close()


# ---- the interpreter ----


def test_child_watcher() -> None:
    found: Any = vars(unix_events)
    kind = found.get("PidfdChildWatcher") or found["_PidfdChildWatcher"]  # before 3.14, and since
    assert _private.is_child_watcher(kind())
    assert not _private.is_child_watcher(None)


def test_frames() -> None:
    assert _private.frame_at(0).f_code is test_frames.__code__
    top = _private.top_frames()[threading.get_ident()]
    assert top.f_code is test_frames.__code__


def test_module() -> None:
    spec, code = _private.find_module("this")
    assert spec.name == "this" and code.co_filename == spec.origin


# ---- all of them ----


def test_each_has_its_test() -> None:
    with open(__file__) as file:
        source = file.read()
    for name, value in vars(_private).items():
        if name.startswith("_") or inspect.ismodule(value):
            continue
        ours = getattr(value, "__module__", None) == "finack._private" or name.isupper()
        named = f"_private.{name}" in source or name in WELL_TRIED
        assert named or not ours, f"{name} has no test"
