# SPDX-License-Identifier: MIT
"""aclose() at every moment of a transport's life, under every policy, and cancelled."""

import asyncio
import contextlib
import dataclasses
import errno
import gc
import os
import resource
import socket
import threading
import time
from typing import Any

import pytest
from asyncio_lab import (
    LOOPS_IN_PYTHON,
    MEGABYTES,
    PATIENT,
    QUICK,
    VERSIONS,
    Lab,
    Run,
    fileno,
    no_descriptors,
    our_end,
    seen,
    two_turns,
    unread,
)
from peers import Certificate, Peer, Peers, Seen

import finack


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of listdir() itself
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return {name: link for name, link in found.items() if link != "/dev/null"}  # libuv's spare


# ---- courtesies ----


def test_full(run: Run, lab: Lab) -> None:
    """Our FIN comes after the peer's answer, which is seen."""

    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        transport.write(b"hello")
        receipt = await finack.aclose(transport, dataclasses.replace(PATIENT, courtesy="full"))
        assert (receipt.outcome, receipt.end) == ("graceful", "fin")
        assert ("answered" in receipt.stages) == lab.tls
        assert not receipt.unverifiable
        if lab.tls:
            assert receipt.stages["answered"] <= receipt.stages["shut"]
        assert fileno(transport) == -1
        assert recorder.calls[-1] == "lost"
        assert await seen(peer) == Seen(5, lab.tls, "eof", False)

    run(main())


def test_full_without_an_answer(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("mute")
        receipt = await finack.aclose(
            transport, finack.Policy(courtesy="full", farewell=0.2, linger=0.2)
        )
        assert receipt.outcome == "timed_out"
        assert receipt.phase == ("farewell" if lab.tls else "linger")
        assert fileno(transport) == -1
        assert await seen(peer) == Seen(0, lab.tls, "eof", False)

    run(main())


@pytest.mark.parametrize("lab", VERSIONS, indirect=True)
def test_full_truncated(run: Run, lab: Lab) -> None:
    """The peer ends TLS without a farewell of its own."""

    async def main() -> None:
        peer, transport, _ = await lab.connect("mute")
        close = asyncio.create_task(
            finack.aclose(transport, finack.Policy(courtesy="full", farewell=20, total=20))
        )
        for _ in range(20):  # our farewell goes out in the first few
            await asyncio.sleep(0)
        await asyncio.to_thread(peer.act, "fin")
        receipt = await close
        assert (receipt.outcome, receipt.end) == ("truncated", "fin")
        assert "answered" not in receipt.stages
        assert await seen(peer) == Seen(0, True, "eof", False)

    run(main())


def test_prompt(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("mute")
        transport.write(MEGABYTES)
        policy = finack.Policy(courtesy="prompt", proof="released")
        receipt = await finack.aclose(transport, policy)
        assert (receipt.outcome, fileno(transport)) == ("prompt", -1)
        assert await seen(peer) == Seen(len(MEGABYTES), lab.tls, "eof", False)

    run(main())


def test_abort(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        receipt = await finack.aclose(transport, finack.Policy(courtesy="abort"))
        assert receipt.outcome == "aborted"
        by_last_close = "fin" if lab.by_engine(run) else "kernel"
        assert receipt.end == (by_last_close if lab.kind == "unix" else "reset")
        assert fileno(transport) == -1
        assert recorder.calls[-1] == "lost"
        assert (await seen(peer)).end == ("eof" if lab.kind == "unix" else "reset")

    run(main())


def test_scope_descriptor(run: Run, lab: Lab) -> None:
    """Another holder, such as a forked worker, goes on with the connection."""

    async def main() -> None:
        peer, transport, _ = await lab.connect("echo")
        other = socket.socket(fileno=os.dup(fileno(transport)))
        policy = finack.Policy(scope="descriptor", proof_wait=0)
        receipt = await finack.aclose(transport, policy)
        assert fileno(transport) == -1
        assert (receipt.end, receipt.held, "shut" in receipt.stages) == ("none", True, False)
        assert [holder.pid for holder in receipt.holders] == [os.getpid()]
        if not lab.tls:
            other.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(other, b"still here")
            assert await asyncio.get_running_loop().sock_recv(other, 100) == b"still here"
        await finack.aclose(other, QUICK)
        peer.stop()

    run(main())


# What is buffered below TLS can't be counted.
@pytest.mark.parametrize("lab", ["tcp", "unix"], indirect=True)
@pytest.mark.parametrize("policy", [{"scope": "descriptor"}, {"courtesy": "abort"}])
def test_what_is_dropped_is_told(run: Run, lab: Lab, policy: Any) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("deaf")
        transport.write(MEGABYTES)
        left = transport.get_write_buffer_size()
        receipt = await finack.aclose(transport, finack.Policy(**policy))
        assert (receipt.unsent, receipt.lost >= left > 0) == (left, True)
        assert (await seen(peer)).received <= len(MEGABYTES) - left

    run(main())


def test_a_held_connection_ends_for_the_peer(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        with socket.socket(fileno=os.dup(fileno(transport))) as other:
            receipt = await finack.aclose(transport, PATIENT)
            assert (receipt.outcome, receipt.end, receipt.held) == ("graceful", "fin", True)
            assert [(h.pid, h.fd) for h in receipt.holders] == [(os.getpid(), other.fileno())]
            assert await seen(peer) == Seen(0, lab.tls, "eof", False)

    run(main())


def test_unread_input_does_not_reset(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, recorder = await lab.connect("echo")
        transport.pause_reading()
        transport.write(bytes(100_000))
        while not lab.tls and not unread(fileno(transport)):  # TLS has a buffer of its own
            await asyncio.sleep(0.001)
        receipt = await finack.aclose(transport, PATIENT)
        assert (receipt.outcome, receipt.end) == ("graceful", "fin")
        assert receipt.discarded > 0 or lab.tls
        assert "data" not in recorder.calls
        assert await seen(peer) == Seen(100_000, lab.tls, "eof", False)

    run(main())


# ---- once and again ----


def test_twice(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        first, second = await asyncio.gather(
            finack.aclose(transport, PATIENT), finack.aclose(transport, PATIENT)
        )
        assert first is second is await finack.aclose(transport, PATIENT)
        assert first is await finack.closed(transport)
        peer.stop()

    run(main())


def test_receipts_are_not_kept(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        await finack.aclose(transport, PATIENT)
        del transport
        peer.stop()

    run(main())
    gc.collect()
    from finack._close.at_work import pending
    from finack._close.remembered import remembered

    assert not remembered and not pending


def test_after_close(run: Run, lab: Lab) -> None:
    """A close() that is under way is taken over: it still ends in time, and properly."""

    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        transport.write(MEGABYTES)
        transport.close()
        receipt = await finack.aclose(transport, PATIENT)
        assert fileno(transport) == -1
        assert recorder.calls[-1] == "lost"
        assert (receipt.outcome, receipt.end) == ("graceful", "fin")
        assert await seen(peer) == Seen(len(MEGABYTES), lab.tls, "eof", False)

    run(main())


@pytest.mark.parametrize("closes", [1, 2])
def test_after_close_with_a_deaf_peer(run: Run, lab: Lab, closes: int) -> None:
    """The peer has said goodbye and reads no more; then stock TLS hears of no abort()."""

    async def main() -> None:
        peer, transport, recorder = await lab.connect("deaf")
        transport.write(MEGABYTES)
        await asyncio.to_thread(peer.act, "notify")
        while "eof" not in recorder.calls:
            await asyncio.sleep(0)
        for _ in range(closes):
            await asyncio.sleep(0)
            transport.close()
        receipt = await finack.aclose(transport, QUICK)
        assert "released" in receipt.stages
        assert not receipt.tombstone
        assert recorder.calls[-1] == "lost"
        end = await seen(peer)
        if lab.kind != "unix":
            assert end.end == "reset"
            assert (receipt.outcome, receipt.end) == ("timed_out", "reset")

    run(main())


@pytest.mark.parametrize("closes", [1, 2])
def test_after_close_with_a_mute_peer(run: Run, lab: Lab, closes: int) -> None:
    """Stock TLS would wait 30 s for the answer."""

    async def main() -> None:
        peer, transport, recorder = await lab.connect("mute")
        for _ in range(closes):
            transport.close()
        receipt = await finack.aclose(transport, QUICK)
        assert "released" in receipt.stages
        assert recorder.calls[-1] == "lost"
        assert await seen(peer) == Seen(0, lab.tls, "eof", False)

    run(main())


NOT_SEEN: dict[Any, tuple[Any, set[Any]]] = {
    "orderly": ("error", {"flushed", "shut", "acked", "eof", "unwatched", "unreferenced"}),
    "prompt": ("error", {"flushed", "shut", "unwatched", "unreferenced"}),
    "abort": ("aborted", {"unwatched", "unreferenced"}),
}


@pytest.mark.parametrize("courtesy", NOT_SEEN)
def test_gone_already(run: Run, lab: Lab, courtesy: Any) -> None:
    """How it ended can't be known any more: that is no prompt close, and no graceful one.

    What the engine has closed has a receipt.
    """

    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        transport.close()
        while recorder.calls[-1] != "lost":
            await asyncio.sleep(0.001)
        await two_turns()
        receipt = await finack.aclose(transport, finack.Policy(courtesy=courtesy))
        if lab.by_engine(run):
            assert (receipt.outcome, receipt.held) == ("prompt", False)
            assert {"shut", "unreferenced"} <= set(receipt.stages) and not receipt.unverifiable
        else:
            outcome, unseen = NOT_SEEN[courtesy]
            assert receipt.outcome == outcome
            assert receipt.unverifiable == unseen
            assert set(receipt.stages) == {"requested", "released"}
            assert (receipt.held, receipt.end) == (None, "kernel")
            assert (receipt.error and receipt.error.errno) == (
                errno.ENOTCONN if outcome == "error" else None
            )
        assert receipt is await finack.aclose(transport)
        peer.stop()

    run(main())


def test_aborted_meanwhile(run: Run, lab: Lab) -> None:
    """What the program drops while we wait must not look like the end of the stream."""

    async def main() -> None:
        peer, transport, _ = await lab.connect("deaf")
        transport.write(MEGABYTES)
        close = asyncio.create_task(finack.aclose(transport, finack.Policy(linger=0.2)))
        await two_turns()
        transport.abort()
        receipt = await close
        outcome = "aborted" if lab.by_engine(run) else "error"  # others can't know who did it
        assert (receipt.outcome, receipt.phase) == (outcome, "flush")
        if outcome == "error":
            assert receipt.error and receipt.error.errno == errno.ECANCELED
        assert receipt.unsent > 0
        end = await seen(peer)
        assert end.received < len(MEGABYTES)
        # A Unix socket can't be reset.
        assert (receipt.end, end.end) == (
            ("kernel", "eof") if lab.kind == "unix" else ("reset", "reset")
        )

    run(main())


@pytest.mark.parametrize("run", LOOPS_IN_PYTHON, indirect=True)
def test_aborted_before(run: Run, peers: Peers) -> None:
    """What the program has dropped a moment ago is missing, too."""

    async def main() -> None:
        peer = peers.listen("clean")
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, *peer.address)
        while transport.get_write_buffer_size() <= 1 << 16:  # a quick peer takes all of it
            transport.write(MEGABYTES)
        transport.abort()
        receipt = await finack.aclose(transport, PATIENT)
        outcome = "aborted" if run.loop == "finack" else "error"
        assert (receipt.outcome, receipt.end) == (outcome, "reset")
        assert receipt.unsent > 0
        assert (await seen(peer)).end == "reset"

    run(main())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_closed_before_without_descriptors(run: Run, lab: Lab, end: str) -> None:
    """No dup is to be had, and the transport's own number goes: nobody saw how it ended."""

    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        with no_descriptors():
            getattr(transport, end)()
            receipt = await finack.aclose(transport, QUICK)
        assert fileno(transport) == -1
        if lab.by_engine(run):
            assert receipt.outcome == ("graceful" if end == "close" else "aborted")
        elif lab.tls and end == "close":  # it waits for the peer's farewell, and is seen
            assert receipt.outcome == "graceful" and {"shut", "acked"} <= {*receipt.stages}
        else:
            assert (receipt.outcome, receipt.end) == ("error", "kernel")
            assert isinstance(receipt.error, OSError) and receipt.error.errno == errno.ENOTCONN
        peer.stop()

    run(main())


class Stubborn:
    """A transport that does not let go when it is told to."""

    def __init__(self, transport: Any, *, deaf: bool) -> None:
        self._transport, self._deaf = transport, deaf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def abort(self) -> None:
        pass

    def resume_reading(self) -> None:
        if not self._deaf:
            self._transport.resume_reading()


def test_a_transport_that_does_not_abort(run: Run, lab: Lab) -> None:
    """An event of its socket's ends it."""

    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        transport.write(b"hello")
        receipt = await finack.aclose(Stubborn(transport, deaf=False), QUICK)
        assert (fileno(transport), receipt.tombstone) == (-1, False)
        assert recorder.calls[-1] == "lost"
        assert await seen(peer) == Seen(5, lab.tls, "eof", False)

    run(main())


class Ended(Stubborn):
    """Its peer ends it some turns after it was told to let go."""

    def __init__(self, transport: Any, peer: Peer, turns: int) -> None:
        super().__init__(transport, deaf=False)
        self._peer, self._turns = peer, turns

    def abort(self) -> None:
        if self._turns:
            self._turns -= 1
            asyncio.get_running_loop().call_soon(self.abort)
        else:
            self._peer.act("notify")
            self._peer.act("fin")


def test_a_transport_that_its_peer_ends(run: Run, lab: Lab) -> None:
    """In whichever turn that comes, connection_lost() is called before the close is over."""

    async def main() -> None:
        for turns in range(5):
            peer, transport, recorder = await lab.connect("mute")
            await finack.aclose(Ended(transport, peer, turns), PATIENT)
            assert (fileno(transport), recorder.calls[-1]) == (-1, "lost"), turns
            peer.stop()
            (lab.folder / "socket").unlink(missing_ok=True)

    run(main())


@pytest.mark.parametrize("run", LOOPS_IN_PYTHON, indirect=True)
def test_a_transport_that_never_lets_go(run: Run, peers: Peers) -> None:
    """A dead descriptor takes its number, and the connection ends all the same."""

    async def main() -> None:
        peer = peers.listen("clean")
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, *peer.address)
        receipt = await finack.aclose(Stubborn(transport, deaf=True), PATIENT)
        assert (receipt.outcome, receipt.held, receipt.tombstone) == ("graceful", False, True)
        assert await seen(peer) == Seen(0, False, "eof", False)
        transport.abort()
        await two_turns()

    run(main())


def test_a_farewell_that_is_kept_back(run: Run, lab: Lab) -> None:
    """The peer's end came at the same time, without a farewell: stock TLS sends none then."""

    async def main() -> None:
        peer, transport, _ = await lab.connect("mute")
        peer.act("fin")  # while the loop stands
        receipt = await finack.aclose(transport, QUICK)
        assert ("notified" in receipt.stages) == (await seen(peer)).close_notify

    run(main())


# ---- cancelled ----


@pytest.mark.parametrize("size", [0, len(MEGABYTES)])
def test_cancelled(run: Run, lab: Lab, size: int) -> None:
    """Released within two turns; the peer is reset."""

    async def main() -> None:
        before = descriptors()
        peer, transport, recorder = await lab.connect("deaf" if size else "mute")
        transport.write(bytes(size))
        close = asyncio.create_task(finack.aclose(transport, PATIENT))
        await two_turns()  # who is deaf is told nothing: the close is begun then
        if not size:
            assert await asyncio.to_thread(peer.told, 1) == 1
        close.cancel()
        await two_turns()
        assert close.cancelled()
        await two_turns()
        assert fileno(transport) == -1
        now = descriptors()
        assert now == before, now
        await two_turns()
        assert recorder.calls[-1] == "lost"
        end = await seen(peer)
        if lab.kind != "unix" and size:
            assert end.end == "reset"
        elif lab.kind != "unix":
            assert end.end == "reset" or end.reset_after
        assert (await finack.aclose(transport, PATIENT)).outcome == "aborted"

    run(main())


@pytest.mark.parametrize("turns", [1, 2, 3, 4, 6, 200])
def test_one_of_two_cancelled(run: Run, lab: Lab, turns: int) -> None:
    """At whatever the other one is: that has its receipt."""

    async def main() -> None:
        peer, transport, _ = await lab.connect("mute")
        first = asyncio.create_task(finack.aclose(transport, PATIENT))
        second = asyncio.create_task(finack.aclose(transport, PATIENT))
        for _ in range(turns):
            await asyncio.sleep(0)
        second.cancel()
        receipt = await first
        assert second.cancelled()
        assert receipt.outcome == "aborted"
        assert fileno(transport) == -1
        peer.stop()

    run(main())


def test_timeout(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("mute")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await finack.aclose(transport)
        await two_turns()
        assert fileno(transport) == -1
        peer.stop()

    run(main())


def test_loop_closed_meanwhile(run: Run, lab: Lab) -> None:
    """The task is dropped with the loop: nothing is left open."""

    async def main() -> Any:
        peer, transport, _ = await lab.connect("mute")
        task = asyncio.create_task(finack.aclose(transport, PATIENT))
        await our_end(peer)
        return peer, transport, task

    peer, _, task = run(main())  # the runner cancels what is left
    assert task.cancelled()
    peer.stop()


# ---- bounds ----


def test_total(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("flood")
        start = time.monotonic()
        await finack.aclose(transport, finack.Policy(linger=60, total=0.2, drain=1 << 40))
        assert time.monotonic() - start < 30
        assert fileno(transport) == -1
        peer.stop()

    run(main())


# ---- what is refused ----


def test_wrong_types(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        own = type("OwnServer", (asyncio.AbstractServer,), {})()  # with none of the methods
        for wrong in (None, 3, "x", loop, asyncio.Protocol(), asyncio.Transport, own):
            with pytest.raises(TypeError, match="StreamWriter"):
                await finack.aclose(wrong)
            with pytest.raises(TypeError, match="StreamWriter"):
                await finack.closed(wrong)

    run(main())


def test_wrong_policy(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        with pytest.raises(TypeError, match=r"finack\.Policy"):
            await finack.aclose(transport, 3)  # type: ignore[arg-type]
        assert not transport.is_closing()
        await finack.aclose(transport, PATIENT)
        peer.stop()

    run(main())


def test_another_loop(run: Run, lab: Lab) -> None:
    async def other(transport: Any) -> None:
        for call in (finack.aclose, finack.closed):
            with pytest.raises(RuntimeError, match="another loop"):
                await call(transport)

    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        thread = threading.Thread(target=lambda: asyncio.run(other(transport)))
        thread.start()
        await asyncio.to_thread(thread.join)
        assert not transport.is_closing()
        receipt = await finack.aclose(transport, PATIENT)
        assert receipt.outcome == "graceful"
        peer.stop()

    run(main())


def test_without_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        finack.aclose(None).send(None)
    with pytest.raises(RuntimeError, match="no running event loop"):
        finack.closed(None).send(None)


@pytest.mark.parametrize("more", range(4))
def test_no_descriptor_left(run: Run, lab: Lab, more: int) -> None:
    """Whichever one it is that can't be had: the close is the same, but for what it can't see."""

    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        transport.write(b"hello")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, hard))
        try:
            receipt = await finack.aclose(transport, PATIENT)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (fileno(transport), recorder.calls[-1]) == (-1, "lost")
        assert (receipt.outcome, receipt.end) == ("graceful", "fin")
        assert ("notified" in receipt.stages) == lab.tls
        assert ("unreferenced" in receipt.unverifiable) == (receipt.held is None)
        assert receipt.held is None or more > 0 or lab.by_engine(run)
        assert await seen(peer) == Seen(5, lab.tls, "eof", False)

    run(main())


@pytest.mark.parametrize("courtesy", ["prompt", "abort"])
def test_no_descriptor_left_and_bytes_unsent(run: Run, lab: Lab, courtesy: Any) -> None:
    async def main() -> None:
        peer, transport, recorder = await lab.connect("deaf")
        transport.write(MEGABYTES)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            receipt = await finack.aclose(transport, finack.Policy(courtesy=courtesy, flush=0.2))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (fileno(transport), recorder.calls[-1]) == (-1, "lost")
        assert receipt.unsent > 0
        end = await seen(peer)
        assert end.received < len(MEGABYTES)
        if lab.kind != "unix":
            assert (receipt.end, end.end) == ("reset", "reset")

    run(main())


def test_aclosing(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        with pytest.raises(ZeroDivisionError):
            async with finack.aclosing(transport, QUICK) as same:
                assert same is transport
                raise ZeroDivisionError
        assert fileno(transport) == -1
        assert await seen(peer) == Seen(0, lab.tls, "eof", False)

    run(main())


def test_aclosing_refuses_before_the_block(run: Run, certificate: Certificate) -> None:
    async def main() -> None:
        blocking = certificate.client_context().wrap_socket(
            socket.socket(), server_hostname="localhost"
        )
        for wrong, text in ((3, "got int"), (blocking, "got SSLSocket .*: finack.close")):
            with pytest.raises(TypeError, match=text):
                async with finack.aclosing(wrong):
                    raise AssertionError
        with pytest.raises(TypeError, match="policy must be"):
            async with finack.aclosing(blocking, "full"):  # type: ignore[arg-type]
                raise AssertionError
        blocking.close()

    run(main())


def test_socket_whose_queue_is_full(run: Run, peers: Peers) -> None:
    """With nobody in sock_sendall() every byte of the program's is in the kernel."""
    peer = peers.listen("deaf")

    async def main() -> finack.Receipt:
        loop = asyncio.get_running_loop()
        sock = socket.create_connection(peer.address)  # type: ignore[arg-type]
        sock.setblocking(False)
        reading = asyncio.create_task(loop.sock_recv(sock, 1))
        await asyncio.sleep(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(MEGABYTES)
        receipt = await finack.aclose(sock, QUICK)
        await asyncio.wait({reading})
        reading.exception()
        return receipt

    receipt = run(main())
    assert (receipt.outcome, receipt.phase, receipt.unsent) == ("timed_out", "linger", 0)
    assert receipt.unacked > 0 and "flushed" in receipt.stages
