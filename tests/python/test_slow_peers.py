# SPDX-License-Identifier: MIT
"""A peer that takes little at a time is not one that takes nothing.

There is room to send only once a third of the kernel's queue is gone, which may take longer than a
flush may be without progress: the kernel's queue tells that the peer takes something.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asyncio_lab import Run

import finack

FLUSH = 1.0
SLOW = 3 * FLUSH
SIZE = 8 << 20
POLICY = finack.Policy(flush=FLUSH, total=60)


class SlowPeer:
    """Takes 4 KiB each 20 ms for some time, then all."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.client = socket.create_connection(listener.getsockname())
            self.sock, _ = listener.accept()
        self.count = 0
        self.error: OSError | None = None
        self.thread = threading.Thread(target=self.read)

    def read(self) -> None:
        until = time.monotonic() + SLOW
        try:
            while data := self.sock.recv(4096 if time.monotonic() < until else 1 << 20):
                self.count += len(data)
                if time.monotonic() < until:
                    time.sleep(0.02)
        except OSError as error:
            self.error = error

    async def fed(self) -> asyncio.Transport:
        """A connection to it with much in its buffer."""
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=self.client
        )
        transport.write(bytes(SIZE))
        self.thread.start()
        return transport


@pytest.fixture
def peer() -> Iterator[SlowPeer]:
    made = SlowPeer()
    yield made
    made.thread.join()
    made.sock.close()


def took_all(peer: SlowPeer) -> bool:
    peer.thread.join()
    return peer.count == SIZE and peer.error is None


def test_aclose(run: Run, peer: SlowPeer) -> None:
    async def main() -> finack.Receipt:
        return await finack.aclose(await peer.fed(), POLICY)

    receipt = run(main())
    assert took_all(peer), receipt
    assert receipt.stages["flushed"] > SLOW


def test_close_by_the_program(peer: SlowPeer) -> None:
    async def main() -> finack.Receipt:
        transport = await peer.fed()
        transport.close()
        return await finack.closed(transport)

    with asyncio.Runner(loop_factory=lambda: finack.EventLoop(close_policy=POLICY)) as runner:
        receipt = runner.run(main())
    assert took_all(peer), receipt


@pytest.mark.parametrize("close_policy", [finack.CLOSE_POLICY, None])
def test_end_of_the_loop(close_policy: Any, peer: SlowPeer) -> None:
    async def main() -> None:
        (await peer.fed()).close()

    make: Callable[[], finack.EventLoop] = lambda: finack.EventLoop(  # noqa: E731
        policy=POLICY, close_policy=close_policy
    )
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())
    assert took_all(peer)


def test_pipe(run: Run) -> None:
    """In a full pipe there is no room before a whole page of it was read (pipe_read())."""
    reading, writing = os.pipe()
    count = 0

    def read() -> None:
        nonlocal count
        until = time.monotonic() + SLOW
        while data := os.read(reading, 20 if time.monotonic() < until else 1 << 20):
            count += len(data)
            if time.monotonic() < until:
                time.sleep(0.02)

    async def main() -> finack.Receipt:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(writing, "wb", 0))
        transport.write(bytes(SIZE))
        thread.start()
        return await finack.aclose(transport, POLICY)

    thread = threading.Thread(target=read)
    receipt = run(main())
    thread.join()
    os.close(reading)
    assert count == SIZE, receipt
    assert receipt.outcome == "graceful"
    assert receipt.stages["flushed"] > SLOW
