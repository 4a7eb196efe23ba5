# SPDX-License-Identifier: MIT
"""Datagram transports of EventLoop: what a program and its peer see, and their closes."""

import asyncio
import contextlib
import contextvars
import gc
import itertools
import logging
import os
import pathlib
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from test_loop_closes import run

import finack
from finack import _core

HEADER = 8 if sys.version_info >= (3, 13) else 0  # that asyncio counts with each datagram
AT_ONCE = 32
MANY = 300
UNIX = socket.AF_UNIX
FAMILIES = [socket.AF_INET, socket.AF_INET6, UNIX]


class Noting(asyncio.DatagramProtocol):
    """What its transport calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.error: BaseException | None = None
        self.changed = asyncio.Event()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.note("made")

    def note(self, call: str) -> None:
        self.calls.append(call)
        self.changed.set()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append((data, addr))
        self.changed.set()

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.changed.set()

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.error = exc
        os.fstat(self.transport.get_extra_info("socket").fileno())
        self.note("lost")
        self.over.set_result(None)

    async def until(self, so: Callable[[], Any]) -> None:
        while not so():
            self.changed.clear()
            await self.changed.wait()


async def endpoint(factory: Any = Noting, **options: Any) -> Any:
    """The protocol, whose transport is in C."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(factory, **options)
    assert type(transport) is _core.DatagramTransport
    assert isinstance(transport, asyncio.DatagramTransport)
    return protocol


@contextlib.contextmanager
def bound(family: int, folder: pathlib.Path, name: str = "peer") -> Iterator[socket.socket]:
    """A socket of the peer's, which does not block."""
    host = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(host.get(cast(socket.AddressFamily, family), str(folder / name)))
        sock.setblocking(False)
        yield sock


def drained(sock: socket.socket) -> list[bytes]:
    """All that it has."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(70_000))
    return found


def stuffed(peer: socket.socket, connected: bool, count: int = MANY) -> Any:
    """An endpoint whose peer takes no more; 1000 bytes each, numbered."""

    async def make() -> Any:
        name = peer.getsockname()
        protocol = await endpoint(family=UNIX, **({"remote_addr": name} if connected else {}))
        for number in range(count):
            protocol.transport.sendto(sent(number), None if connected else name)
        assert protocol.transport.get_write_buffer_size() > 0
        return protocol

    return make()


def sent(number: int) -> bytes:
    return number.to_bytes(4) + bytes(996)


# ---- both ends ----


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_ends_get_what_was_sent(family: int, connected: bool, tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with bound(family, tmp_path) as peer, bound(family, tmp_path, "ours") as ours:
            if connected:
                ours.connect(peer.getsockname())
            protocol = await endpoint(sock=ours.dup())
            transport = protocol.transport
            sizes = [1, 1400, 60_000]
            for size in sizes:
                transport.sendto(bytes(size), None if connected else peer.getsockname())
            transport.sendto(b"", None if connected else peer.getsockname())
            assert list(map(len, drained(peer))) == sizes + ([0] if HEADER else [])
            for size in sizes:
                peer.sendto(bytes(size), ours.getsockname())
            await protocol.until(lambda: len(protocol.received) == 3)
            assert protocol.received == [(bytes(n), peer.getsockname()) for n in sizes]
            name = transport.get_extra_info("peername")
            assert name == (peer.getsockname() if connected else None)
            assert transport.get_extra_info("sockname") == ours.getsockname()
            assert isinstance(transport.get_extra_info("socket"), asyncio.trsock.TransportSocket)
            transport.close()
            await protocol.over
            assert (protocol.calls, protocol.error) == (["made", "lost"], None)

    [receipt] = run(main())
    kind = "unix" if family == UNIX else "udp"
    assert receipt.socket.startswith(kind) and (" -> " in receipt.socket) == connected


def test_a_sender_without_a_name(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        protocol = await endpoint(family=UNIX, local_addr=str(tmp_path / "ours"))
        with socket.socket(UNIX, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"x", str(tmp_path / "ours"))
        await protocol.until(lambda: protocol.received)
        assert protocol.received == [(b"x", None)]
        protocol.transport.close()
        await protocol.over

    run(main())


def test_a_pair_without_names() -> None:
    """stock asyncio takes the empty name for none, and fails."""

    async def main() -> None:
        ours, peer = socket.socketpair(UNIX, socket.SOCK_DGRAM)
        with peer:
            protocol = await endpoint(sock=ours)
            protocol.transport.sendto(b"x")
            assert peer.recv(9) == b"x"
            protocol.transport.close()
            await protocol.over

    run(main())


def test_names_are_resolved_as_the_socket_module_does() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            port = peer.getsockname()[1]
            protocol = await endpoint(local_addr=("127.0.0.1", 0))
            protocol.transport.sendto(b"x", addr=("localhost", port))
            assert peer.recv(9) == b"x"
            with pytest.raises(OverflowError):
                peer.sendto(b"x", ("127.0.0.1", 70_000))
            protocol.transport.close()
            await protocol.over

    run(main())


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 70_000), ("127.0.0.1\0", 9), "127.0.0.1"])
def test_what_is_no_address_ends_it_as_in_asyncio(address: Any) -> None:
    async def main() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
        protocol = await endpoint(local_addr=("127.0.0.1", 0))
        protocol.transport.sendto(b"x", address)
        await protocol.over
        assert [what["message"] for what in told] == ["Fatal write error on datagram transport"]
        assert isinstance(protocol.error, OverflowError | TypeError | ValueError)

    run(main())


def test_one_address_alone() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            name = peer.getsockname()
            protocol = await endpoint(remote_addr=name)
            protocol.transport.sendto(b"x", name)
            with pytest.raises(ValueError, match=r"Invalid address: must be None or \('127"):
                protocol.transport.sendto(b"x", ("127.0.0.1", 1))
            with pytest.raises(TypeError, match="must be a bytes-like object, not 'str'"):
                protocol.transport.sendto("x")
            assert peer.recv(9) == b"x"
            protocol.transport.close()
            await protocol.over

    run(main())


# ---- errors ----


def test_a_refusal_is_told_and_ends_nothing(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with bound(socket.AF_INET, tmp_path) as peer:
            name = peer.getsockname()
            protocol = await endpoint(remote_addr=name)
        for count in (1, 2):
            protocol.transport.sendto(b"x")  # ICMP says that nobody is there
            await protocol.until(lambda count=count: len(protocol.errors) == count)
        assert {type(error) for error in protocol.errors} == {ConnectionRefusedError}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(name)
            protocol.transport.sendto(b"x")
            assert peer.recv(9) == b"x"
            peer.sendto(b"y", protocol.transport.get_extra_info("sockname"))
            await protocol.until(lambda: protocol.received)
        protocol.transport.close()
        await protocol.over
        assert protocol.error is None

    run(main())


def test_what_the_kernel_refuses_at_once_is_told_from_inside() -> None:
    async def main() -> None:
        protocol = await endpoint(local_addr=("127.0.0.1", 0))
        protocol.transport.sendto(bytes(70_000), ("127.0.0.1", 9))
        assert [type(error) for error in protocol.errors] == [OSError]
        assert not protocol.transport.is_closing()
        protocol.transport.close()
        await protocol.over

    run(main())


class Raising(Noting):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        raise KeyError("evil")

    def error_received(self, exc: Exception) -> None:
        super().error_received(exc)
        raise KeyError("evil")


def test_what_the_protocol_raises_is_told_and_ends_nothing(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        told: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, what: told.append(what["message"]))
        with bound(socket.AF_INET, tmp_path) as peer:
            protocol = await endpoint(Raising, remote_addr=peer.getsockname())
            peer.sendto(b"x", protocol.transport.get_extra_info("sockname"))
            await protocol.until(lambda: protocol.received)
        protocol.transport.sendto(b"x")
        await protocol.until(lambda: protocol.errors)
        with pytest.raises(KeyError):  # of who is called from inside sendto()
            protocol.transport.sendto(bytes(70_000))
        assert not protocol.transport.is_closing()
        protocol.transport.close()
        await protocol.over
        assert told == ["Exception in datagram_received()", "Exception in error_received()"]

    run(main())


def test_those_behind_a_refused_one_are_sent(tmp_path: pathlib.Path) -> None:
    """In the buffer, and while it closes: a Unix peer that is gone refuses, another one takes."""

    async def main() -> None:
        with bound(UNIX, tmp_path) as peer, bound(UNIX, tmp_path, "other") as other:
            protocol = await stuffed(peer, connected=False)
            for number in range(3):
                protocol.transport.sendto(bytes([number]), str(tmp_path / "nobody"))
                protocol.transport.sendto(bytes([number]), other.getsockname())
            protocol.transport.close()
            while not protocol.over.done():
                drained(peer)
                await asyncio.sleep(0)
            assert drained(other) == [b"\0", b"\1", b"\2"]
            assert [type(error) for error in protocol.errors] == [FileNotFoundError] * 3

    [receipt] = run(main())
    assert (receipt.outcome, receipt.unsent) == ("prompt", 0)


# ---- reading ----


def test_a_flood_leaves_the_others_their_turns(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with bound(socket.AF_INET, tmp_path) as peer:
            protocol = await endpoint(local_addr=("127.0.0.1", 0))
            for number in range(100):
                peer.sendto(bytes([number]), protocol.transport.get_extra_info("sockname"))
            seen = [0]
            while seen[-1] < 100:
                await asyncio.sleep(0)
                seen.append(len(protocol.received))
            steps = {b - a for a, b in itertools.pairwise(seen)}
            assert max(steps) == AT_ONCE
            assert [data for data, _ in protocol.received] == [bytes([n]) for n in range(100)]
            protocol.transport.close()
            await protocol.over

    run(main())


def test_nothing_is_read_while_paused_or_closing(tmp_path: pathlib.Path) -> None:
    class Pausing(Noting):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            getattr(self.transport, data.decode())()

    async def main() -> None:
        with bound(socket.AF_INET, tmp_path) as peer:
            protocol = await endpoint(Pausing, local_addr=("127.0.0.1", 0))
            transport = protocol.transport
            name = transport.get_extra_info("sockname")
            for what in (b"pause_reading", b"is_closing", b"close", b"is_closing"):
                peer.sendto(what, name)
            await protocol.until(lambda: protocol.received)
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(protocol.received) == 1 and not transport.is_reading()
            transport.resume_reading()
            await protocol.over
            assert [data for data, _ in protocol.received][1:] == [b"is_closing", b"close"]

    run(main())


def test_shut_for_reading_is_no_flood(tmp_path: pathlib.Path) -> None:
    """The kernel then has an empty answer for each read, which is no datagram."""

    async def main() -> None:
        with bound(socket.AF_INET, tmp_path) as peer:
            protocol = await endpoint(remote_addr=peer.getsockname())
            peer.sendto(b"before", protocol.transport.get_extra_info("sockname"))
            await protocol.until(lambda: protocol.received)
            protocol.transport.get_extra_info("socket").shutdown(socket.SHUT_RD)
            for _ in range(9):
                await asyncio.sleep(0)
            protocol.transport.sendto(b"x")
            assert drained(peer) == [b"x"]
            assert [data for data, _ in protocol.received] == [b"before"]
            protocol.transport.close()
            await protocol.over

    run(main())


def test_callbacks_run_in_the_context_of_who_made_it(tmp_path: pathlib.Path) -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="")
    seen: list[str] = []

    class Marked(Noting):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            seen.append(mark.get())
            super().datagram_received(data, addr)

    async def main() -> None:
        mark.set("made")
        with bound(socket.AF_INET, tmp_path) as peer:
            protocol = await endpoint(Marked, remote_addr=peer.getsockname())
            mark.set("later")
            peer.sendto(b"x", protocol.transport.get_extra_info("sockname"))
            await protocol.until(lambda: protocol.received)
            protocol.transport.close()
            await protocol.over
        assert seen == ["made"]

    run(main())


# ---- the buffer ----


@pytest.mark.parametrize("connected", [True, False])
def test_water_marks(connected: bool, tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with bound(UNIX, tmp_path) as peer:
            protocol = await stuffed(peer, connected)
            transport = protocol.transport
            assert protocol.calls == ["made", "pause"]
            assert transport.get_write_buffer_size() % (1000 + HEADER) == 0
            got: list[bytes] = []
            while "resume" not in protocol.calls or len(got) < MANY:
                got += drained(peer)
                await asyncio.sleep(0)
            assert got == [sent(number) for number in range(MANY)]
            assert transport.get_write_buffer_size() == 0
            transport.close()
            await protocol.over
            assert protocol.calls == ["made", "pause", "resume", "lost"]

    run(main())


class Counting(socket.socket):
    """A socket that counts its calls."""

    tries = 0

    def sendto(self, *args: Any) -> Any:
        self.tries += 1
        return super().sendto(*args)


def test_a_peer_that_takes_nothing_does_not_make_it_spin(tmp_path: pathlib.Path) -> None:
    """epoll(7) does not know of the queue of a Unix peer that ours is not connected to."""

    async def main() -> None:
        with bound(UNIX, tmp_path) as peer, Counting(UNIX, socket.SOCK_DGRAM) as ours:
            protocol = await endpoint(sock=ours)
            while protocol.transport.get_write_buffer_size() == 0:
                protocol.transport.sendto(b"x", peer.getsockname())
            before = ours.tries
            protocol.transport.close()
            await protocol.over
            assert 2 < ours.tries - before < 100
            assert isinstance(protocol.error, TimeoutError)

    [receipt] = run(main(), close_policy=finack.Policy(courtesy="prompt", flush=0.3))
    assert (receipt.outcome, receipt.phase, receipt.unsent) == ("timed_out", "flush", 1)


def test_writes_behind_the_end_are_told_of(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with bound(socket.AF_INET, tmp_path) as peer:
            protocol = await endpoint(remote_addr=peer.getsockname())
            protocol.transport.close()
            for _ in range(7):
                protocol.transport.sendto(b"lost")
            await protocol.over
            protocol.transport.sendto(b"lost")
            assert drained(peer) == []

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(main())
    assert {record.message for record in caplog.records} == {"socket.send() raised exception."}


# ---- closing ----


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("policy", [finack.CLOSE_POLICY, finack.Policy(), None])
def test_close_sends_what_is_buffered(
    policy: finack.Policy | None, connected: bool, tmp_path: pathlib.Path
) -> None:
    async def main() -> None:
        with bound(UNIX, tmp_path) as peer:
            protocol = await stuffed(peer, connected)
            protocol.transport.close()
            assert "lost" not in protocol.calls  # never from inside
            protocol.transport.sendto(b"more", None if connected else peer.getsockname())
            got: list[bytes] = []
            while not protocol.over.done():
                got += drained(peer)
                await asyncio.sleep(0)
            got += drained(peer)
            assert got == [*(sent(number) for number in range(MANY)), b"more"]
            assert protocol.error is None

    receipts = run(main(), close_policy=policy)
    if policy is None:
        assert receipts == []
        return
    [receipt] = receipts
    outcome = "prompt" if policy.courtesy == "prompt" else "graceful"
    assert (receipt.outcome, receipt.end, receipt.unsent) == (outcome, "none", 0)
    assert receipt.held is False
    stages = ["requested", "flushed", "unwatched", "released", "unreferenced"]
    assert list(receipt.stages) == stages


@pytest.mark.parametrize("connected", [True, False])
def test_abort_drops_what_is_buffered(connected: bool, tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with bound(UNIX, tmp_path) as peer:
            protocol = await stuffed(peer, connected)
            left = protocol.transport.get_write_buffer_size() // (1000 + HEADER)
            protocol.transport.abort()
            protocol.transport.abort()
            assert protocol.transport.get_write_buffer_size() == 0
            await protocol.over
            assert len(drained(peer)) == MANY - left
            assert protocol.error is None
            lost.append(left * 1000)

    lost: list[int] = []
    [receipt] = run(main())
    assert (receipt.outcome, receipt.end, receipt.unsent) == ("aborted", "none", lost[0])


@pytest.mark.parametrize("make_loop", [finack.EventLoop, asyncio.SelectorEventLoop])
def test_the_descriptor_alone_and_what_is_buffered(
    make_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: pathlib.Path
) -> None:
    """Nobody will send it: the receipt says so."""

    async def main() -> None:
        with bound(UNIX, tmp_path) as peer:
            made, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                asyncio.DatagramProtocol, family=UNIX, remote_addr=peer.getsockname()
            )
            for number in range(MANY):
                made.sendto(sent(number))
            receipt = await finack.aclose(made, finack.Policy(scope="descriptor"))
            got = drained(peer)
            assert got == [sent(number) for number in range(len(got))]
            assert (receipt.outcome, receipt.end) == ("error", "none")
            assert receipt.unsent == 1000 * (MANY - len(got)) > 0

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


def test_abort_while_it_closes(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with bound(UNIX, tmp_path) as peer:
            protocol = await stuffed(peer, connected=True)
            protocol.transport.close()
            await asyncio.sleep(0)
            protocol.transport.abort()
            await protocol.over

    [receipt] = run(main())
    assert receipt.outcome == "aborted" and receipt.unsent > 0


def test_a_peer_that_takes_nothing_is_waited_for_by_the_policy(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with bound(UNIX, tmp_path) as peer:
            protocol = await stuffed(peer, connected=True)
            protocol.transport.close()
            await protocol.over
            assert isinstance(protocol.error, TimeoutError)

    [receipt] = run(main(), close_policy=finack.Policy(courtesy="prompt", flush=0.05))
    assert (receipt.outcome, receipt.phase) == ("timed_out", "flush")
    assert receipt.unsent > 0 and receipt.unsent % 1000 == 0


def test_a_slow_peer_is_waited_for_while_it_takes_something(tmp_path: pathlib.Path) -> None:
    """`flush` is the longest time without progress; not connected, that is not seen by events."""

    async def main() -> None:
        with bound(UNIX, tmp_path) as peer:
            protocol = await stuffed(peer, connected=False, count=40)
            protocol.transport.close()
            got = 0
            while not protocol.over.done():
                with contextlib.suppress(BlockingIOError):
                    got += len(peer.recv(2000)) // 1000
                await asyncio.sleep(0.02)
            assert got + len(drained(peer)) == 40

    [receipt] = run(main(), close_policy=finack.Policy(courtesy="prompt", flush=0.3))
    assert (receipt.outcome, receipt.unsent) == ("prompt", 0)
    assert receipt.stages["flushed"] > 0.3


def test_who_asks_gets_the_receipt_of_that_close(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with bound(socket.AF_INET, tmp_path) as peer:
            protocol = await endpoint(remote_addr=peer.getsockname())
            transport = protocol.transport
            fd = transport.get_extra_info("socket").fileno()
            with pytest.raises(RuntimeError, match="is used by transport"):
                loop.add_reader(fd, print)
            watch = asyncio.create_task(finack.closed(transport))
            transport.close()
            assert [ghost.kind for ghost in finack.ghosts() if ghost.fd == fd] == ["descriptor"]
            receipt = await finack.aclose(transport)
            assert await watch is receipt and finack.receipts()[-1] is receipt
            assert await finack.closed(transport) is receipt
            assert protocol.over.done() and fd not in [ghost.fd for ghost in finack.ghosts()]
            with pytest.raises(OSError):
                os.fstat(fd)

    [receipt] = run(main())
    assert receipt.held is False and receipt.socket.startswith("udp 127.0.0.1:")


def test_who_else_holds_it_is_told() -> None:
    async def main() -> None:
        protocol = await endpoint(local_addr=("127.0.0.1", 0))
        copy = protocol.transport.get_extra_info("socket").dup()
        with copy:
            protocol.transport.close()
            assert (await finack.closed(protocol.transport)).held is True

    run(main())


def test_a_close_from_each_callback(tmp_path: pathlib.Path) -> None:
    class Closing(Noting):
        at = ""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if self.at == "made":
                transport.close()

        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.close()
            self.transport.abort()
            assert "lost" not in self.calls

    async def main() -> None:
        for at in ("made", "error"):
            Closing.at = at
            protocol = await endpoint(Closing, local_addr=("127.0.0.1", 0))
            if at == "error":
                protocol.transport.sendto(bytes(70_000), ("127.0.0.1", 9))
            await protocol.over
            assert protocol.calls == ["made", "lost"]

    assert len(run(main())) == 2


def test_one_that_nobody_closed(tmp_path: pathlib.Path) -> None:
    """It is the selector's until the loop ends, which names it."""

    async def main() -> None:
        protocol = await endpoint(local_addr=("127.0.0.1", 0))
        seen.append(weakref.ref(protocol))
        del protocol
        gc.collect()
        assert seen[0]() is not None

    seen: list[Any] = []
    with pytest.warns(ResourceWarning, match=r"udp 127\.0\.0\.1:\d+ fd \d+, never closed"):
        run(main())
    gc.collect()
    assert seen[0]() is None


# ---- whose they are ----


def test_a_subclass_makes_its_own() -> None:
    class Own(finack.EventLoop):
        def _make_datagram_transport(self, *args: Any, **kwargs: Any) -> Any:
            made.append(super()._make_datagram_transport(*args, **kwargs))
            return made[-1]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for debug in (False, True):
            loop.set_debug(debug)
            protocol = await endpoint(local_addr=("127.0.0.1", 0))
            assert protocol.transport is made[-1]
            protocol.transport.close()
            await protocol.over

    made: list[Any] = []
    with asyncio.Runner(loop_factory=Own) as runner:
        runner.run(main())
    assert len(made) == 2


def test_other_sockets_have_asyncios() -> None:
    """As those of other families, of which asyncio knows no more than that they are sockets."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        ours, peer = socket.socketpair(UNIX, socket.SOCK_SEQPACKET)
        with peer:
            protocol = Noting()
            transport = loop._make_datagram_transport(ours, protocol)
            assert not isinstance(transport, _core.SocketTransport)
            peer.send(b"x")
            await protocol.until(lambda: protocol.received)
            transport.close()
            await protocol.over

    run(main())


def test_aclose_on_a_loop_without_a_policy(tmp_path: pathlib.Path) -> None:
    """aclose() is the engine's there too, and leaves its receipt."""

    async def main() -> None:
        with bound(UNIX, tmp_path) as peer:
            protocol = await stuffed(peer, connected=True)
            work = asyncio.create_task(finack.aclose(protocol.transport))
            got: list[bytes] = []
            while not work.done():
                got += drained(peer)
                await asyncio.sleep(0)
            receipt = await work
            assert (receipt.outcome, receipt.end, receipt.unsent) == ("graceful", "none", 0)
            assert got + drained(peer) == [sent(number) for number in range(MANY)]
            assert protocol.calls[-1] == "lost"

    assert [receipt.outcome for receipt in run(main(), close_policy=None)] == ["graceful"]
