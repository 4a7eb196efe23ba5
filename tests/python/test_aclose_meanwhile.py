# SPDX-License-Identifier: MIT
"""aclose() while the program, or another close of the loop's, does something of its own."""

import asyncio
import contextlib
import os
import socket

import pytest
from asyncio_lab import LOOPS_IN_PYTHON, MEGABYTES, PATIENT, QUICK, Run, our_end, seen
from peers import Peers, Seen
from test_aclose_things import connected

import finack


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
