# SPDX-License-Identifier: MIT
"""aclose() and closed() while the program, or another close of the loop's, does something."""

import asyncio
import contextlib
import os
import selectors
import socket
from collections.abc import Callable
from typing import Any

import pytest
from asyncio_lab import (
    LOOPS_IN_PYTHON,
    MEGABYTES,
    PATIENT,
    QUICK,
    Lab,
    Recorder,
    Run,
    fileno,
    our_end,
    seen,
    two_turns,
)
from peers import Certificate, Peer, Peers, Seen
from test_aclose_things import connected

import finack
from finack._close.closing import Hub


@pytest.mark.parametrize("run", LOOPS_IN_PYTHON, indirect=True)
def test_the_program_closes_the_socket(run: Run, peers: Peers) -> None:
    """Its number may be another socket's by then, which stays open."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        peer = peers.listen("deaf")
        sock = await connected(peer.address)
        number = sock.fileno()
        writing = asyncio.create_task(loop.sock_sendall(sock, MEGABYTES))
        await asyncio.sleep(0)
        close = asyncio.create_task(finack.aclose(sock, QUICK))
        await asyncio.sleep(0)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            sock.close()
            os.dup2(ours.fileno(), number)
            receipt = await close
            assert (receipt.outcome, receipt.phase, receipt.end) == ("error", "flush", "reset")
            assert os.path.sameopenfile(number, ours.fileno())
            os.close(number)
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await writing
        assert (await seen(peer)).end == "reset"

    run(main())


async def flushing(
    peers: Peers, certificate: Certificate
) -> tuple[Peer, asyncio.Transport, Recorder, "asyncio.Task[finack.Receipt]"]:
    """A close with TLS that waits for its bytes to be sent. The peer does not answer."""
    peer = peers.listen("mute", tls=certificate)
    transport, recorder = await asyncio.get_running_loop().create_connection(
        Recorder,
        *peer.address,
        ssl=certificate.client_context(),
        server_hostname="localhost",
    )
    await asyncio.to_thread(peer.opened, 1)
    transport.write(MEGABYTES)
    close = asyncio.create_task(finack.aclose(transport, QUICK))
    await asyncio.sleep(0)
    return peer, transport, recorder, close


def twice(transport: asyncio.Transport) -> None:
    """asyncio's has nobody to ask then: its abort() and resume_reading() do nothing, or fail."""
    transport.close()
    transport.close()


def without_abort(transport: Any) -> None:
    with contextlib.suppress(AttributeError):  # not one in C
        transport.abort = lambda: None


@pytest.mark.parametrize("does", [twice, without_abort])
def test_tls_that_the_program_leaves_without_an_abort(
    run: Run, peers: Peers, certificate: Certificate, does: Callable[[Any], None]
) -> None:
    """It ends by an event of the socket's, however its reading was paused."""

    async def main() -> None:
        peer, transport, recorder, close = await flushing(peers, certificate)
        number = fileno(transport)
        does(transport)
        receipt = await close
        assert receipt.lost == 0 and receipt.end == "fin" and not receipt.tombstone
        assert recorder.calls[-1] == "lost"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        assert (await seen(peer)).received == len(MEGABYTES)

    run(main())


def test_another_close_is_cut(run: Run, peers: Peers) -> None:
    """What closes of a loop share is there until the last of them has ended."""

    async def main() -> None:
        peer = peers.listen("mute")
        first, second, third = [await connected(peer.address) for _ in range(3)]
        closes = [asyncio.create_task(finack.aclose(x, PATIENT)) for x in (first, second, third)]
        await our_end(peer, 3)
        closes[0].cancel()
        await asyncio.wait(closes[:1])
        await asyncio.to_thread(peer.act, "fin")
        for close in closes[1:]:
            receipt = await close
            assert (receipt.outcome, receipt.end, receipt.held) == ("graceful", "fin", False)
        ends = await asyncio.to_thread(peer.seen, 3)
        assert ends.count(Seen(0, False, "eof", False)) >= 2
        peer.stop()

    run(main())


@pytest.mark.parametrize("turns", range(4))
def test_closed_comes_after_connection_lost(run: Run, lab: Lab, turns: int) -> None:
    """Whoever waits for it has no turn to lose: nothing of the transport runs afterwards."""

    async def main() -> None:
        peer, transport, recorder = await lab.connect("mute")
        loop = asyncio.get_running_loop()

        def abort_after(turns: int) -> None:
            if turns:
                loop.call_soon(abort_after, turns - 1)
            else:
                transport.abort()

        abort_after(turns)
        await finack.closed(transport)
        assert recorder.calls[-1] == "lost"
        peer.stop()

    run(main())


def test_a_stray_close_of_what_the_closes_share() -> None:
    """poll(2) tells of a number that is none any more, or another file's."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            close = asyncio.create_task(finack.aclose(ours, finack.Policy(linger=10)))
            theirs.setblocking(False)
            await loop.sock_recv(theirs, 1)  # our end: now it waits
            await two_turns()
            number = Hub._at_work[loop].set.fileno()
            os.close(number)
            other = os.open("/dev/null", os.O_RDONLY)
            assert other == number
            theirs.shutdown(socket.SHUT_WR)
            receipt = await close
            assert receipt.outcome == "graceful" and receipt.stages["released"] < 5
            assert not loop.remove_reader(number)
            os.close(other)

    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())
    ) as runner:
        runner.run(main())
