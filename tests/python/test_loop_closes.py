# SPDX-License-Identifier: MIT
"""Closes of an unmodified program on EventLoop: each is the engine's, and has a receipt."""

import asyncio
import contextlib
import gc
import os
import pickle
import socket
import struct
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from peers import Peers

import finack

MANY = bytes(16 << 20)
CLOSE_WAIT = 8  # of TCP_INFO


class Noting(asyncio.Protocol):
    """What its transport calls, and whether the descriptor is open in connection_lost()."""

    def __init__(self) -> None:
        self.made = self.lost = 0
        self.error: BaseException | None = None
        self.was_open = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made += 1
        self.transport = cast(asyncio.Transport, transport)
        self.fd = transport.get_extra_info("socket").fileno()
        self.inode = os.fstat(self.fd).st_ino

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost += 1
        self.error = exc
        os.fstat(self.fd)
        self.was_open = True
        self.over.set_result(None)

    def is_released(self) -> bool:
        try:
            return os.fstat(self.fd).st_ino != self.inode
        except OSError:
            return True


def run(main: Coroutine[Any, Any, Any], **options: Any) -> list[finack.Receipt]:
    """The receipts of a program's closes."""
    told: list[finack.Receipt] = []
    with asyncio.Runner(
        loop_factory=lambda: finack.EventLoop(on_closed=told.append, **options)
    ) as runner:
        runner.run(main)
    return told


async def dial(peers: Peers, temper: Any) -> tuple[Any, Noting]:
    peer = peers.listen(temper)
    _, protocol = await asyncio.get_running_loop().create_connection(Noting, *peer.address)
    return peer, protocol


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_close_is_proved(peers: Peers) -> None:
    async def main() -> None:
        peer, protocol = await dial(peers, "clean")
        protocol.transport.write(b"x" * 1000)
        protocol.transport.close()
        assert protocol.lost == 0  # never from inside
        await protocol.over
        await turns()
        assert protocol.is_released() and protocol.was_open
        seen = peer.seen(1)[0]
        assert seen.end == "eof" and seen.received == 1000
        [receipt] = finack.receipts()
        assert await finack.aclose(protocol.transport) is receipt
        assert await finack.closed(protocol.transport) is receipt

    [receipt] = run(main())
    assert receipt.outcome == "prompt" and receipt.held is False
    assert {"flushed", "shut", "unwatched", "released", "unreferenced"} <= set(receipt.stages)
    assert receipt.socket.startswith("tcp 127.0.0.1:")


def test_connection_lost_gets_none_and_comes_once(peers: Peers) -> None:
    async def main() -> None:
        _, protocol = await dial(peers, "clean")
        for _ in range(3):
            protocol.transport.close()
            protocol.transport.abort()
        await turns(5)
        assert (protocol.made, protocol.lost, protocol.error) == (1, 1, None)

    assert len(run(main())) == 1


def test_unread_input_is_no_reset(peers: Peers) -> None:
    """asyncio's close(2) with unread input resets, and the peer loses what it has not read."""

    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            loop = asyncio.get_running_loop()
            made: list[Noting] = []

            def factory() -> Noting:
                made.append(Noting())
                return made[-1]

            other = await loop.create_server(factory, "127.0.0.1", 0)
            with socket.create_connection(other.sockets[0].getsockname()) as sock:
                while not made:
                    await asyncio.sleep(0)
                made[0].transport.pause_reading()
                made[0].transport.write(b"answer")
                sock.sendall(b"unread")
                made[0].transport.close()
                await made[0].over
                await turns()
                assert sock.recv(100) == b"answer" and sock.recv(100) == b""
            other.close()
            peer.close()
        server.close()

    receipts = run(main())
    assert [one.end for one in receipts if one.discarded == 6] != ["reset"]


def test_abort_of_what_was_all_sent_is_no_reset(peers: Peers) -> None:
    """As in asyncio; the one that drops bytes is another matter."""

    async def main() -> None:
        peer, protocol = await dial(peers, "clean")
        protocol.transport.abort()
        await protocol.over
        assert protocol.error is None
        await turns()
        assert peer.seen(1)[0].end == "eof"

    [receipt] = run(main())
    assert (receipt.outcome, receipt.unsent) == ("aborted", 0)
    assert {"shut", "unreferenced"} <= set(receipt.stages)


def test_abort_that_drops_bytes_resets(peers: Peers) -> None:
    async def main() -> None:
        peer, protocol = await dial(peers, "deaf")
        protocol.transport.write(MANY)
        protocol.transport.abort()
        await protocol.over
        assert protocol.error is None
        await turns()
        assert peer.seen(1)[0].end == "reset"

    [receipt] = run(main())
    assert (receipt.outcome, receipt.end) == ("aborted", "reset")
    assert receipt.unsent > 0


def test_abort_while_closing(peers: Peers) -> None:
    async def main() -> None:
        peer, protocol = await dial(peers, "deaf")
        protocol.transport.write(MANY)
        protocol.transport.close()
        await turns()
        assert protocol.lost == 0
        protocol.transport.abort()
        await protocol.over
        await turns()
        assert protocol.is_released() and peer.seen(1)[0].end == "reset"

    [receipt] = run(main())
    assert receipt.outcome == "aborted" and receipt.unsent > 0


def test_a_deaf_peer_is_reset_without_progress(peers: Peers) -> None:
    async def main() -> None:
        peer, protocol = await dial(peers, "deaf")
        protocol.transport.write(MANY)
        protocol.transport.close()
        await protocol.over
        assert isinstance(protocol.error, TimeoutError)
        await turns()
        assert protocol.is_released() and peer.seen(1)[0].end == "reset"

    policy = finack.Policy(courtesy="prompt", flush=0.2, total=60)
    [receipt] = run(main(), close_policy=policy)
    assert receipt.outcome == "timed_out" and receipt.unsent > 0


def test_orderly_lingers_behind_connection_lost(peers: Peers) -> None:
    async def main() -> None:
        _, protocol = await dial(peers, "mute")
        protocol.transport.close()
        await protocol.over
        assert not protocol.is_released()
        receipt = await finack.closed(protocol.transport)
        assert receipt.outcome == "timed_out" and protocol.is_released()

    run(main(), close_policy=finack.Policy(linger=0.2))


def test_the_loops_end_waits_for_what_lingers(peers: Peers) -> None:
    made: list[Noting] = []

    async def main() -> None:
        _, protocol = await dial(peers, "clean")
        made.append(protocol)
        protocol.transport.close()

    run(main(), close_policy=finack.Policy())
    assert made[0].lost == 1 and made[0].is_released()


def test_the_cap_forces_the_oldest(peers: Peers) -> None:
    async def main() -> None:
        made = [(await dial(peers, "mute"))[1] for _ in range(4)]
        for protocol in made:
            protocol.transport.close()
            await protocol.over
        await turns()
        assert [protocol.is_released() for protocol in made] == [True, True, False, False]
        assert [one.forced for one in finack.receipts()] == [True, True]
        for protocol in made[2:]:
            receipt = await finack.aclose(protocol.transport, finack.Policy(total=0.1))
            assert (receipt.outcome, receipt.phase) == ("timed_out", "linger")
            assert not receipt.forced

    run(main(), close_policy=finack.Policy(linger=30, total=30), close_cap=2)


def test_a_record_keeps_nothing_of_the_program(peers: Peers) -> None:
    """Nor does the error by which it ended, whose traceback knows all."""
    gone: list[Any] = []

    async def main() -> None:
        peer, protocol = await dial(peers, "mute")
        gone.extend((weakref.ref(protocol), weakref.ref(protocol.transport)))
        peer.act("reset")
        await protocol.over
        assert isinstance(protocol.error, ConnectionResetError)
        await turns()

    [receipt] = run(main())
    gc.collect()
    assert (receipt.outcome, receipt.end) == ("reset", "reset")
    assert [one() for one in gone] == [None, None]


def test_a_close_that_was_watched_before_it_began(peers: Peers) -> None:
    async def main() -> None:
        _, protocol = await dial(peers, "clean")
        watch = asyncio.create_task(finack.closed(protocol.transport))
        await turns()
        protocol.transport.close()
        assert await watch is finack.receipts()[0]

    run(main())


def test_aclose_takes_a_close_over(peers: Peers) -> None:
    """What was begun promptly goes on by the policy that is waited for."""

    async def main() -> None:
        peer, protocol = await dial(peers, "clean")
        protocol.transport.write(MANY)
        protocol.transport.close()
        receipt = await finack.aclose(
            protocol.transport, finack.Policy(flush=60, linger=60, total=60)
        )
        assert (receipt.outcome, receipt.end) == ("graceful", "fin")
        assert peer.seen(1)[0].received == len(MANY)

    run(main())


def test_the_bound_of_whoever_takes_a_close_over_counts_from_the_start() -> None:
    """More was thrown away by then than the new policy allows: no more is."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(Noting, sock=ours)
        protocol.transport.pause_reading()
        theirs.sendall(bytes(5000))
        protocol.transport.close()
        await protocol.over
        closing = asyncio.ensure_future(finack.aclose(protocol.transport, finack.Policy(drain=10)))
        await turns()
        theirs.sendall(bytes(5000))
        receipt = await closing
        assert receipt.outcome == "bounded" and receipt.discarded == 5000
        theirs.close()

    run(main(), close_policy=finack.Policy(linger=60, total=60))


def descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the folder itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {number: link for number, link in found.items() if not link.endswith("/fd")}


async def close_one(kept: list[int] | None = None) -> finack.Receipt:
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    if kept is not None:
        kept.append(os.dup(ours.fileno()))
    theirs.close()
    return await finack.aclose(transport, finack.Policy(proof_wait=0, find_holders=False))


def test_closes_of_what_is_held_change_no_other_descriptor() -> None:
    """What is held fills the set that proves closes: a new one has the number of the old."""

    async def main() -> None:
        kept: list[int] = []
        await close_one()
        before = descriptors()
        for _ in range(200):
            assert (await close_one(kept)).held is True
        for number in kept:
            os.close(number)
        assert descriptors() == before
        assert (await close_one()).held is False

    run(main())


@pytest.mark.parametrize("taken", [False, True])
def test_a_stray_close_of_what_proves(taken: bool) -> None:
    """The program has closed what isn't its own: it is made anew, and the number left alone."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        assert (await close_one()).held is False
        [(view, link)] = [(n, link) for n, link in descriptors().items() if "/fdinfo/" in link]
        ours = {view, int(link.rpartition("/")[2])}
        for number in ours:
            os.close(number)
        others = [os.open("/dev/null", os.O_RDONLY) for _ in ours if taken]
        assert set(others) == (ours if taken else set())
        for _ in range(3):
            assert (await close_one()).held is False
        assert loop.is_running()
        return others

    with asyncio.Runner(loop_factory=finack.EventLoop) as runner:
        others = runner.run(main())
    for number in others:
        os.close(number)  # still open


def test_who_holds_it_is_told(peers: Peers) -> None:
    async def main() -> None:
        _, protocol = await dial(peers, "clean")
        copy = os.dup(protocol.fd)
        protocol.transport.close()
        try:
            receipt = await finack.closed(protocol.transport)
        finally:
            os.close(copy)
        assert receipt.held is True and receipt.holders[0].pid == os.getpid()

    [receipt] = run(main(), close_policy=finack.Policy(courtesy="prompt", proof_wait=0.02))
    assert "unreferenced" not in receipt.stages


def test_aclose_is_the_same_close(peers: Peers) -> None:
    async def main() -> None:
        _, protocol = await dial(peers, "clean")
        both = await asyncio.gather(
            finack.aclose(protocol.transport), finack.aclose(protocol.transport)
        )
        assert both[0] is both[1] and both[0].outcome == "graceful"
        assert protocol.lost == 1 and protocol.is_released()

    assert len(run(main())) == 1


def test_aclose_cancelled(peers: Peers) -> None:
    async def main() -> None:
        peer, protocol = await dial(peers, "deaf")
        protocol.transport.write(MANY)
        task = asyncio.create_task(finack.aclose(protocol.transport, finack.Policy(flush=60)))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()
        assert protocol.is_released() and peer.seen(1)[0].end == "reset"

    [receipt] = run(main())
    assert receipt.outcome == "aborted"


def test_the_programs_linger_does_not_count(peers: Peers) -> None:
    async def main() -> None:
        peer, protocol = await dial(peers, "clean")
        sock = protocol.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        protocol.transport.write(b"x")
        protocol.transport.close()
        await finack.closed(protocol.transport)
        seen = peer.seen(1)[0]
        assert (seen.end, seen.received) == ("eof", 1)

    run(main())


def test_unix_streams(tmp_path: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(Noting, str(tmp_path / "s"))
        _, protocol = await loop.create_unix_connection(Noting, str(tmp_path / "s"))
        protocol.transport.close()
        await protocol.over
        await turns(5)
        assert protocol.is_released()
        server.close()

    receipts = run(main())
    assert len(receipts) == 2 and all(one.held is False for one in receipts)


def test_none_is_asyncios_own_way(peers: Peers) -> None:
    async def main() -> None:
        _, protocol = await dial(peers, "clean")
        protocol.transport.close()
        await protocol.over
        await turns()
        assert protocol.is_released() and finack.receipts() == []

    assert run(main(), close_policy=None) == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"close_policy": 1}, TypeError),
        ({"close_policy": finack.Policy(scope="descriptor")}, ValueError),
        ({"close_cap": 0}, ValueError),
        ({"on_closed": 1}, TypeError),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        finack.EventLoop(**options)


def test_reset_while_bytes_are_buffered(peers: Peers) -> None:
    """They are dropped for that, and not since anybody asked for an abort."""

    async def main() -> None:
        peer, protocol = await dial(peers, "deaf")
        protocol.transport.write(MANY)
        await asyncio.to_thread(peer.act, "reset")
        await protocol.over
        await turns()
        peer.stop()

    [receipt] = run(main())
    assert (receipt.outcome, receipt.end) == ("reset", "reset")
    assert receipt.unsent > 0


def test_a_callback_that_raises(peers: Peers) -> None:
    problems: list[dict[str, Any]] = []

    def fail(receipt: finack.Receipt) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, c: problems.append(c))
        for _ in range(2):
            _, protocol = await dial(peers, "clean")
            protocol.transport.close()
            await protocol.over
        await turns(5)

    with asyncio.Runner(
        loop_factory=lambda: finack.EventLoop(close_policy=finack.CLOSE_POLICY, on_closed=fail)
    ) as runner:
        runner.run(main())
    assert len(problems) == 2
    problems.clear()


class Resuming(Noting):
    """Does something when it may write again, which is while it closes."""

    def __init__(self, act: Callable[[asyncio.Transport], None]) -> None:
        super().__init__()
        self.act = act

    def resume_writing(self) -> None:
        self.act(self.transport)


class Slow:
    """A peer that reads what is sent to it once it is asked to, to its end."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))

    async def dial(self, act: Callable[[asyncio.Transport], None]) -> tuple[Any, Resuming]:
        connecting = asyncio.get_running_loop().create_connection(
            lambda: Resuming(act), *self.listener.getsockname()
        )
        transport, protocol = await connecting
        self.sock = self.listener.accept()[0]
        self.sock.setblocking(False)
        transport.set_write_buffer_limits(len(MANY) // 2, len(MANY) // 2)
        transport.write(MANY)
        assert transport.get_write_buffer_size() > len(MANY) // 2
        return transport, protocol

    async def read(self) -> tuple[int, str]:
        count, loop = 0, asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(self.sock, 1 << 16)
            except ConnectionResetError:
                return count, "reset"
            if not data:
                return count, "eof"
            count += len(data)

    def close(self) -> None:
        self.sock.close()
        self.listener.close()


def test_abort_from_within_a_flush_that_goes_on() -> None:
    unsent = []

    def abort(transport: asyncio.Transport) -> None:
        unsent.append(transport.get_write_buffer_size())
        transport.abort()

    async def main() -> None:
        transport, protocol = await slow.dial(abort)
        transport.close()
        reads.append(await slow.read())
        await protocol.over

    slow = Slow()
    reads: list[tuple[int, str]] = []
    (receipt,) = run(main())
    slow.close()
    ((count, end),) = reads
    assert unsent[0] > 0
    assert count < len(MANY)
    assert end == "reset"
    assert (receipt.outcome, receipt.end, receipt.unsent) == ("aborted", "reset", unsent[0])


def test_write_from_within_a_flush_that_goes_on() -> None:
    more = b"more" * 1000

    async def main() -> None:
        transport, protocol = await slow.dial(lambda transport: transport.write(more))
        transport.close()
        reads.append(await slow.read())
        await protocol.over

    slow = Slow()
    reads: list[tuple[int, str]] = []
    (receipt,) = run(main())
    slow.close()
    assert reads == [(len(MANY) + len(more), "eof")]
    assert (receipt.outcome, receipt.unsent) == ("prompt", 0)


def test_an_exit_from_within_a_flush_does_not_stop_the_close() -> None:
    def leave(transport: asyncio.Transport) -> None:
        raise SystemExit("enough")

    async def main() -> None:
        transport, kept["protocol"] = await slow.dial(leave)
        transport.close()
        kept["reading"] = asyncio.ensure_future(slow.read())
        await kept["reading"]

    async def rest() -> tuple[int, str]:
        await kept["protocol"].over
        return await cast("asyncio.Task[tuple[int, str]]", kept["reading"])

    kept: dict[str, Any] = {}
    slow = Slow()
    told: list[finack.Receipt] = []
    loop = finack.EventLoop(on_closed=told.append)
    going_on = loop.create_task(main())
    with pytest.raises(SystemExit, match="enough"):
        loop.run_until_complete(going_on)
    assert loop.run_until_complete(asyncio.wait_for(rest(), 20)) == (len(MANY), "eof")
    loop.run_until_complete(going_on)
    loop.close()
    slow.close()
    assert [receipt.outcome for receipt in told] == ["prompt"]


def test_a_receipt_is_kept_once_somebody_has_looked_at_it() -> None:
    """And not before: it would keep itself, by its close, until the collector comes."""

    async def main(count: int, look: bool) -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        for _ in range(count):
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            receipt = await finack.aclose(writer, finack.Policy(courtesy="prompt"))
            assert receipt is await finack.aclose(writer)
            if look:
                assert receipt.held is False
                copy, number = pickle.loads(pickle.dumps(receipt)), id(receipt)
                del receipt
                again = await finack.aclose(writer)
                assert id(again) == number and again == copy
        server.close()
        await server.wait_closed()

    def receipts() -> int:
        return sum(type(one) is finack.Receipt for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=finack.EventLoop) as runner:
            before = receipts()
            runner.run(main(5, look=False))
            assert receipts() == before
            runner.run(main(5, look=True))
    finally:
        gc.enable()


def test_who_awaits_an_ending_by_hand() -> None:
    """It is an iterator like any other, and who stops in the middle resets the connection."""

    async def main() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.drain(), "127.0.0.1", 0)
        for stop in ("close", "throw", "send", "drop"):
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            transport: Any = writer.transport
            ending = transport._close_by(finack.Policy()._as_tuple(), asyncio.get_running_loop())
            waiting = ending.__await__()
            assert iter(waiting) is waiting and ending.driven == 0
            future = next(waiting)
            assert asyncio.isfuture(future) and ending.driven == 1
            if stop == "close":
                waiting.close()
            elif stop == "throw":
                with pytest.raises(ZeroDivisionError):
                    waiting.throw(ZeroDivisionError("stop"))
            elif stop == "send":
                with pytest.raises(RuntimeError, match="not complete"):
                    next(waiting)
            else:
                del waiting
            assert ending.driven == 0
            future._asyncio_future_blocking = False
            receipt = await finack.aclose(writer, finack.Policy(linger=0))
            assert (receipt.outcome == "aborted") is (stop != "drop")
            again = ending.__await__()
            with pytest.raises(StopIteration):
                next(again)
            with pytest.raises(RuntimeError, match="already"):
                next(again)
        server.close()

    with asyncio.Runner(loop_factory=finack.EventLoop) as runner:
        runner.run(main())


def test_what_came_after_a_read_of_nothing_is_drained() -> None:
    """Somebody shuts the read side, so that a read gives 0; what the peer sends then is unread."""

    class Keeping(Noting):
        ended: asyncio.Event

        def eof_received(self) -> bool:
            self.ended.set()
            return True

    async def main() -> tuple[finack.Receipt, int, bytes]:
        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        made: asyncio.Queue[Keeping] = asyncio.Queue()

        def serve() -> Keeping:
            protocol = Keeping()
            protocol.ended = asyncio.Event()
            made.put_nowait(protocol)
            return protocol

        server = await loop.create_server(serve, sock=listener)
        with socket.create_connection(listener.getsockname()) as peer:
            protocol = await made.get()
            with socket.socket(fileno=os.dup(protocol.fd)) as other:
                other.shutdown(socket.SHUT_RD)
                await protocol.ended.wait()
                peer.sendall(b"12345")
                peer.shutdown(socket.SHUT_WR)
                while other.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != CLOSE_WAIT:
                    await asyncio.sleep(0)
            protocol.transport.close()
            await protocol.over
            receipt = await finack.closed(protocol.transport)
            peer.settimeout(10)
            seen = peer.recv(1)
        server.close()
        return receipt, receipt.discarded, seen

    with asyncio.Runner(loop_factory=finack.EventLoop) as runner:
        receipt, discarded, seen = runner.run(main())
    assert (receipt.end, discarded, seen) == ("fin", 5, b"")


def test_all_was_read_and_the_peer_has_ended() -> None:
    """Then nothing is asked a second time, and the receipt says all the same."""

    class Ended(Noting):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Ended, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            peer.setblocking(False)
            await loop.sock_sendall(peer, bytes(100000))
            peer.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(peer, 65536):
                pass
        server.close()
        await server.wait_closed()

    (receipt,) = run(main())
    assert (receipt.outcome, receipt.end, receipt.held) == ("prompt", "fin", False)
    assert {"shut", "acked", "eof"} <= set(receipt.stages)
    assert not receipt.unverifiable and not receipt.lost and not receipt.discarded


def test_a_receipt_that_leads_back_to_its_close_is_collected() -> None:
    """By the traceback of its error, of which the frame has the transport."""

    async def main() -> "weakref.ref[finack.Receipt]":
        server = await asyncio.start_server(lambda _, writer: None, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(MANY)
        await asyncio.sleep(0)
        for accepted in finack_transports(writer.transport):
            accepted.abort()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        receipt = await finack.aclose(writer)
        assert receipt.error is not None
        with contextlib.suppress(OSError):
            raise receipt.error
        assert receipt.error.__traceback__ is not None
        server.close()
        return weakref.ref(receipt)

    with asyncio.Runner(loop_factory=finack.EventLoop) as runner:
        receipt = runner.run(main())
    del runner
    gc.collect()
    assert receipt() is None


def finack_transports(but: Any) -> list[Any]:
    loop: Any = asyncio.get_running_loop()
    return [one for one in loop._own_transports() if one is not but]
