# SPDX-License-Identifier: MIT
"""aclose() with peers of every temper, by every kind of transport, on every loop."""

import asyncio
import errno

from asyncio_lab import MEGABYTES, PATIENT, QUICK, Lab, Run, fileno, seen
from peers import Seen

import finack


def test_clean(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        transport.write(b"hello")
        receipt = await finack.aclose(transport, PATIENT)
        assert fileno(transport) == -1
        assert recorder.calls[-1] == "lost"
        assert (receipt.outcome, receipt.end, receipt.held) == ("graceful", "fin", False)
        assert {"flushed", "shut", "acked", "eof", "released", "unreferenced"} <= {*receipt.stages}
        assert ("notified" in receipt.stages) == ("answered" in receipt.stages) == lab.tls
        assert not receipt.unverifiable
        assert await seen(peer) == Seen(5, lab.tls, "eof", False)

    run(main())


def test_many_bytes_arrive_in_order(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        transport.write(MEGABYTES)
        receipt = await finack.aclose(transport, PATIENT)
        assert (receipt.outcome, receipt.end) == ("graceful", "fin")
        assert await seen(peer) == Seen(len(MEGABYTES), lab.tls, "eof", False)

    run(main())


def test_mute(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("mute")
        transport.write(b"hello")
        receipt = await finack.aclose(transport, QUICK)
        assert fileno(transport) == -1
        assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "linger", "fin")
        assert await seen(peer) == Seen(5, lab.tls, "eof", False)

    run(main())


def test_deaf(run: Run, lab: Lab) -> None:
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


def test_notify_then_deaf(run: Run, lab: Lab) -> None:
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


def test_flood(run: Run, lab: Lab) -> None:
    """Bounded by bytes, not by time."""

    async def main() -> None:
        peer, transport, _ = await lab.connect("flood")
        transport.write(b"hello")
        receipt = await finack.aclose(transport, PATIENT)
        assert fileno(transport) == -1
        assert (receipt.outcome, receipt.phase) == ("bounded", "linger")
        assert receipt.discarded > 0
        end = await seen(peer)
        assert end.end != "open"
        assert end.end == "reset" or (end.received, end.close_notify) == (5, lab.tls)

    run(main())


def test_reset_before(run: Run, lab: Lab) -> None:
    """The loop has not noticed it yet."""

    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        peer.act("reset")  # while the loop stands
        receipt = await finack.aclose(transport, QUICK)
        assert (fileno(transport), recorder.calls[-1]) == (-1, "lost")
        expected = ("graceful", "kernel") if lab.kind == "unix" else ("reset", "reset")
        assert (receipt.outcome, receipt.end) == expected
        peer.stop()

    run(main())


def test_reset_that_was_noticed(run: Run, lab: Lab) -> None:
    """Where nobody looked when the transport closed itself, nothing is claimed."""

    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        await asyncio.to_thread(peer.act, "reset")
        while recorder.calls[-1] != "lost" or fileno(transport) >= 0:
            await asyncio.sleep(0.001)
        receipt = await finack.aclose(transport, QUICK)
        if lab.by_engine(run):
            resets = lab.kind != "unix"
            expected = ("reset", "reset") if resets else ("prompt", "kernel")
            assert (receipt.outcome, receipt.end) == expected
        else:
            assert (receipt.outcome, receipt.end) == ("error", "kernel")
            assert receipt.error and receipt.error.errno == errno.ENOTCONN
            assert set(receipt.stages) == {"requested", "released"}
        peer.stop()

    run(main())


def test_reset_meanwhile(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, recorder = await lab.connect("mute")
        transport.write(b"hello")
        close = asyncio.create_task(finack.aclose(transport, PATIENT))
        while "lost" not in recorder.calls:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(peer.act, "reset")
        receipt = await close
        expected = ("graceful", "fin") if lab.kind == "unix" else ("reset", "reset")
        assert (receipt.outcome, receipt.end) == expected
        peer.stop()

    run(main())
