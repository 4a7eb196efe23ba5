# SPDX-License-Identifier: MIT
"""aclose(): every kind of transport, every temper of peer, on every loop; and what the peer saw."""

import asyncio
import pathlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import uvloop
from peers import Certificate, Peer, Peers, Seen

import finack

T = TypeVar("T")
Run = Callable[[Awaitable[T]], T]
MEGABYTES = bytes(16 << 20)
QUICK = finack.Policy(flush=0.2, farewell=0.2, linger=0.2)
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "stock": asyncio.SelectorEventLoop,
    "proxy": lambda: asyncio.SelectorEventLoop(finack.ProxySelector()),
    "uvloop": uvloop.new_event_loop,
}
if hasattr(finack, "EventLoop"):
    LOOPS["finack"] = finack.EventLoop
uvloop.new_event_loop().close()  # the first one of a process opens a pipe for signals, for good


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run[Any]:
    def run(main: Any) -> Any:
        problems: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: problems.append(context))
            result = runner.run(main)
        assert problems == []
        return result

    return run


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


class Lab:
    """Connects to a peer of a temper, by one kind of transport."""

    def __init__(
        self, kind: str, peers: Peers, certificate: Certificate, folder: pathlib.Path
    ) -> None:
        self.kind, self.peers, self.certificate = kind, peers, certificate
        self.tls = kind in VERSIONS
        self.folder = folder

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


def fileno(transport: Any) -> int:
    sock = transport.get_extra_info("socket")
    return int(sock.fileno()) if sock else -1


def test_clean(run: Run[Any], lab: Lab) -> None:
    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        transport.write(b"hello")
        receipt = await finack.aclose(transport)
        assert fileno(transport) == -1
        assert recorder.calls[-1] == "lost"
        assert (receipt.outcome, receipt.end, receipt.held) == ("graceful", "fin", False)
        assert {"flushed", "shut", "acked", "eof", "released", "unreferenced"} <= {*receipt.stages}
        assert ("notified" in receipt.stages) == lab.tls
        assert receipt.unverifiable == ({"answered"} if lab.tls else set())
        assert await seen(peer) == Seen(5, lab.tls, "eof", False)

    run(main())


def test_many_bytes_arrive_in_order(run: Run[Any], lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        transport.write(MEGABYTES)
        receipt = await finack.aclose(transport)
        assert (receipt.outcome, receipt.end) == ("graceful", "fin")
        assert await seen(peer) == Seen(len(MEGABYTES), lab.tls, "eof", False)

    run(main())


def test_mute(run: Run[Any], lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("mute")
        transport.write(b"hello")
        receipt = await finack.aclose(transport, QUICK)
        assert fileno(transport) == -1
        assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "linger", "fin")
        assert await seen(peer) == Seen(5, lab.tls, "eof", False)

    run(main())


def test_deaf(run: Run[Any], lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("deaf")
        transport.write(MEGABYTES)
        receipt = await finack.aclose(transport, QUICK)
        assert fileno(transport) == -1
        assert receipt.phase == "flush"
        assert receipt.unsent > 0
        end = await seen(peer)
        if lab.kind == "unix":  # can't be reset
            assert (receipt.outcome, receipt.end) == ("error", "kernel")
        else:
            assert (receipt.outcome, receipt.end) == ("timed_out", "reset")
            assert (end.end, end.close_notify) == ("reset", False)
        assert end.received < len(MEGABYTES)

    run(main())


def test_notify_then_deaf(run: Run[Any], lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("deaf")
        transport.write(MEGABYTES)
        await asyncio.to_thread(peer.act, "notify")
        receipt = await finack.aclose(transport, QUICK)
        assert fileno(transport) == -1
        assert receipt.phase == "flush"
        end = await seen(peer)
        if lab.kind != "unix":
            assert receipt.outcome == "timed_out"
            assert end.end == "reset"

    run(main())


def test_flood(run: Run[Any], lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("flood")
        transport.write(b"hello")
        receipt = await finack.aclose(transport, QUICK)
        assert fileno(transport) == -1
        assert (receipt.outcome, receipt.phase) == ("timed_out", "linger")
        assert receipt.discarded > 0
        end = await seen(peer)
        assert end.end != "open"
        assert end.end == "reset" or (end.received, end.close_notify) == (5, lab.tls)

    run(main())


def test_reset_before(run: Run[Any], lab: Lab) -> None:
    """Whether the loop has noticed it already or not."""

    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        await asyncio.to_thread(peer.act, "reset")
        receipt = await finack.aclose(transport, QUICK)
        assert fileno(transport) == -1
        assert receipt.outcome in ("reset", "graceful", "prompt")
        assert "released" in receipt.stages
        peer.stop()

    run(main())


def test_reset_meanwhile(run: Run[Any], lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("mute")
        transport.write(b"hello")
        close = asyncio.create_task(finack.aclose(transport))
        while fileno(transport) != -1:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(peer.act, "reset")
        receipt = await close
        expected = ("graceful", "fin") if lab.kind == "unix" else ("reset", "reset")
        assert (receipt.outcome, receipt.end) == expected
        peer.stop()

    run(main())
