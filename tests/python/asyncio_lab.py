# SPDX-License-Identifier: MIT
"""Transports of every kind, to peers of every temper, on every loop."""

import asyncio
import contextlib
import fcntl
import os
import pathlib
import resource
import ssl
import sys
import termios
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop
from peers import Certificate, Peer, Peers, Seen

import finack

T = TypeVar("T")
MEGABYTES = bytes(16 << 20)
QUICK = finack.Policy(flush=0.2, farewell=0.2, linger=0.2)
PATIENT = finack.Policy(flush=60, farewell=60, linger=60, total=60)  # for what ends by itself


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "stock": asyncio.SelectorEventLoop,
    "proxy": lambda: asyncio.SelectorEventLoop(finack.ProxySelector()),
    "uvloop": uvloop.new_event_loop,
    "finack": finack.EventLoop,
}
LOOPS_IN_PYTHON = [name for name in LOOPS if name != "uvloop"]
uvloop.new_event_loop().close()  # the first one of a process opens a pipe for signals, for good


class Run:
    """Runs a coroutine on one kind of loop; nothing may go wrong unseen."""

    def __init__(self, loop: str) -> None:
        self.loop = loop

    def __call__(self, main: Coroutine[Any, Any, T]) -> T:
        problems: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=LOOPS[self.loop]) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: problems.append(context))
            result = runner.run(main)
        assert problems == []
        return result


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Recorder(asyncio.Protocol):
    """Notes what its transport calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.lost: BaseException | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.calls.append("data")

    def eof_received(self) -> None:
        self.calls.append("eof")

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = error
        self.calls.append("lost")


def secure(certificate: Certificate, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = certificate.client_context()
    context.minimum_version = context.maximum_version = version
    return context


KINDS = ["tcp", "unix", "tls 1.2", "tls 1.3"]
VERSIONS = {"tls 1.2": ssl.TLSVersion.TLSv1_2, "tls 1.3": ssl.TLSVersion.TLSv1_3}


def tls_is_in_c() -> bool:
    """By what the fixture `certificate` has chosen for this test."""
    return os.environ["FINACK_TLS"] == "c"


class Lab:
    """Connects to a peer of a temper, by one kind of transport."""

    def __init__(
        self, kind: str, peers: Peers, certificate: Certificate, folder: pathlib.Path
    ) -> None:
        self.kind, self.peers, self.certificate = kind, peers, certificate
        self.tls = kind in VERSIONS
        self.folder = folder

    def by_engine(self, run: Run) -> bool:
        """Whether the transport closes itself by the engine, whoever asks for it."""
        return run.loop == "finack" and (not self.tls or tls_is_in_c())

    async def connect(self, temper: Any, **options: Any) -> tuple[Peer, Any, Recorder]:
        if self.kind == "unix":
            options["unix"] = self.folder / "socket"
        peer = self.peers.listen(temper, tls=self.certificate if self.tls else None, **options)
        loop = asyncio.get_running_loop()
        if isinstance(peer.address, str):
            transport, recorder = await loop.create_unix_connection(Recorder, peer.address)
        else:
            host, port = peer.address
            context = secure(self.certificate, VERSIONS[self.kind]) if self.tls else None
            transport, recorder = await loop.create_connection(
                Recorder, host, port, ssl=context, server_hostname="localhost" if context else None
            )
        assert await asyncio.to_thread(peer.opened, 1) == 1
        return peer, transport, recorder


@pytest.fixture(params=KINDS)
def lab(
    request: pytest.FixtureRequest, peers: Peers, certificate: Certificate, tmp_path: pathlib.Path
) -> Lab:
    return Lab(request.param, peers, certificate, tmp_path)


async def seen(peer: Peer) -> Seen:
    (one,) = await asyncio.to_thread(peer.seen, 1)
    peer.stop()
    return one


async def our_end(peer: Peer, count: int = 1) -> None:
    """Wait until the peer has read our end: the closes wait for its answer then."""
    assert await asyncio.to_thread(peer.told, count) == count


async def two_turns() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def unread(fd: int) -> int:
    size = fcntl.ioctl(fd, termios.FIONREAD, bytes(4))
    return int.from_bytes(size, sys.byteorder)


def fileno(transport: Any) -> int:
    sock = transport.get_extra_info("socket")
    return int(sock.fileno()) if sock else -1
