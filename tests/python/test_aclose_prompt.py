# SPDX-License-Identifier: MIT
"""A prompt close, and receipts that nobody has looked at."""

import asyncio
import copy
import dataclasses
import gc
import operator
import os
import pickle
import selectors
import socket
import warnings
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asyncio_lab import QUICK
from conftest import descriptors
from peers import Peer, Peers, Seen

import finack
from finack import _core

PROMPT = finack.Policy(courtesy="prompt")


async def connect(peer: Peer) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    host, port = str(peer.address[0]), int(peer.address[1])
    transport, _ = await loop.create_connection(asyncio.Protocol, host, port)
    return transport


def go(peers: Peers, main: Callable[[asyncio.Transport], Awaitable[Any]]) -> list[Seen]:
    """Run it with a connection, on EventLoop and on asyncio's loop; what the peer saw."""
    peer = peers.listen("mute")

    async def connected() -> None:
        await main(await connect(peer))

    for loop in (finack.EventLoop, asyncio.SelectorEventLoop):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(connected())
    seen = peer.seen(2)
    peer.stop()
    return seen


def test_receipt(peers: Peers) -> None:
    async def main(transport: asyncio.Transport) -> None:
        ours, theirs = (transport.get_extra_info(name) for name in ("sockname", "peername"))
        fd = transport.get_extra_info("socket").fileno()
        receipt = await finack.aclose(transport, PROMPT)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        assert receipt.socket == f"tcp {ours[0]}:{ours[1]} -> {theirs[0]}:{theirs[1]}"
        assert (receipt.outcome, receipt.held) == ("prompt", False)
        assert receipt.end in ("fin", "kernel")  # as soon as the peer acknowledges, or before
        assert {"requested", "flushed", "shut", "released", "unreferenced"} <= set(receipt.stages)
        assert await finack.aclose(transport, PROMPT) is receipt
        assert await finack.closed(transport) is receipt

    assert go(peers, main) == [Seen(0, False, "eof", False)] * 2


def test_several_at_once_get_the_same(peers: Peers) -> None:
    async def main(transport: asyncio.Transport) -> None:
        waiting = [finack.aclose(transport, PROMPT), finack.aclose(transport)]
        receipts = await asyncio.gather(*waiting, finack.closed(transport))
        assert receipts[0] is receipts[1] is receipts[2]

    go(peers, main)


def sockets() -> set[int]:
    return {fd for fd, link in descriptors().items() if link.startswith("socket:")}


def test_cancelled(peers: Peers) -> None:
    async def main(transport: asyncio.Transport) -> None:
        before = sockets()
        fd = transport.get_extra_info("socket").fileno()
        task = asyncio.create_task(finack.aclose(transport, PROMPT))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert sockets() == before - {fd}
        outcome = (await finack.aclose(transport)).outcome
        # EventLoop's was complete by then.
        assert outcome == ("prompt" if type(transport) is _core.Transport else "aborted")

    assert [one.end for one in go(peers, main)] != ["open"] * 2


def test_held_by_a_dup(peers: Peers) -> None:
    async def main(transport: asyncio.Transport) -> None:
        dup = os.dup(transport.get_extra_info("socket").fileno())
        receipt = await finack.aclose(transport, PROMPT)
        os.close(dup)
        assert receipt.held is True
        assert [holder.fd for holder in receipt.holders] == [dup]

    go(peers, main)


@pytest.mark.parametrize("new_loop", [finack.EventLoop, asyncio.SelectorEventLoop])
def test_held_by_a_file(peers: Peers, new_loop: Callable[[], Any]) -> None:
    peer = peers.listen("mute")

    async def main() -> None:
        sock = socket.create_connection((str(peer.address[0]), int(peer.address[1])))
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
        fd = sock.fileno()
        file = os.fdopen(os.dup(fd), "rb")  # and one of the socket's own
        with file, sock.makefile("rb"):
            receipt = await finack.aclose(transport, PROMPT)
            assert receipt.tombstone or not os.path.exists(f"/proc/self/fd/{fd}")
            assert receipt.end in ("fin", "kernel", "none")

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert peer.seen(1) == [Seen(0, False, "eof", False)]
    peer.stop()


async def in_its_proof(
    peer: Peer, policy: finack.Policy
) -> tuple[asyncio.Task[finack.Receipt], socket.socket]:
    """A close whose descriptor is released, and what holds its socket."""
    transport = await connect(peer)
    fd = transport.get_extra_info("socket").fileno()
    held = socket.socket(fileno=os.dup(fd))
    close = asyncio.ensure_future(finack.aclose(transport, policy))
    while not transport.is_closing() or transport.get_extra_info("socket").fileno() >= 0:
        await asyncio.sleep(0)
    return close, held


# With a selector of another kind the transports are asyncio's.
LOOPS: list[Callable[[], dict[str, Any]]] = [
    dict,
    lambda: {"close_policy": finack.CLOSE_POLICY},
    lambda: {"selector": selectors.SelectSelector()},
]


@pytest.mark.parametrize("options", LOOPS)
def test_the_loop_waits_for_it(peers: Peers, options: Callable[[], dict[str, Any]]) -> None:
    """EventLoop.close() comes while it waits for its proof."""
    peer = peers.listen("mute")
    loop = finack.EventLoop(**options())
    policy = dataclasses.replace(PROMPT, proof_wait=3600)
    close, held = loop.run_until_complete(in_its_proof(peer, policy))
    loop.call_later(0.05, held.close)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.close()
    assert close.result().held is False and "unreferenced" in close.result().stages
    peer.stop()


@pytest.mark.parametrize("options", LOOPS)
def test_the_loop_ends_it(peers: Peers, options: Callable[[], dict[str, Any]]) -> None:
    """It would wait for longer than the loop may take for its end."""
    peer = peers.listen("mute")
    loop = finack.EventLoop(policy=finack.Policy(total=0.1), **options())
    policy = dataclasses.replace(PROMPT, proof_wait=3600)
    close, held = loop.run_until_complete(in_its_proof(peer, policy))
    loop.close()
    assert close.done() and close.result().held is True
    held.close()
    peer.stop()


@pytest.mark.parametrize("policy", [PROMPT, QUICK])
def test_the_loop_keeps_nothing_of_it(peers: Peers, policy: finack.Policy) -> None:
    """A loop runs for years."""
    peer = peers.listen("mute")

    async def main() -> None:
        transport = await connect(peer)
        await finack.aclose(transport, policy)
        gone.append(weakref.ref(transport))

    gone: list[weakref.ref[Any]] = []
    with asyncio.Runner(loop_factory=lambda: finack.EventLoop(**LOOPS[2]())) as runner:
        runner.run(main())
        gc.collect()
        assert gone[0]() is None
    peer.stop()


def test_receipts_are_worked_out_when_asked_for(peers: Peers) -> None:
    async def main(transport: asyncio.Transport) -> None:
        receipt = await finack.aclose(transport, PROMPT)
        with pytest.raises(AttributeError, match="no attribute 'outcom'"):
            operator.attrgetter("outcom")(receipt)
        assert str(copy.copy(receipt)) == str(receipt)
        assert receipt.as_dict()["outcome"] == "prompt"

    go(peers, main)


def test_policies_are_copied_as_before() -> None:
    policy = finack.Policy(courtesy="full", flush=0.5)
    policy._as_tuple()
    assert copy.copy(policy) == pickle.loads(pickle.dumps(policy)) == policy
