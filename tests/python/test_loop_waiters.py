# SPDX-License-Identifier: MIT
"""Who waits for a close runs before the loop can block again after it."""

import asyncio
import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from peers import Peers

import finack
from finack import _core

BOUND = 20.0
SELECTORS: dict[str, Callable[[], selectors.BaseSelector]] = {
    "proxy": finack.ProxySelector,
    "epoll": selectors.EpollSelector,
    "poll": selectors.PollSelector,
    "wrapped": lambda: finack.ProxySelector(selectors.SelectSelector()),
}


class Counting(selectors.EpollSelector):
    """Notes before each wait that could block what was to be seen before it."""

    def __init__(self) -> None:
        super().__init__()
        self.watch: Callable[[], None] = lambda: None

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout > 0:
            self.watch()
        return super().select(timeout)


def run(
    main: Coroutine[Any, Any, None], make: Callable[[], selectors.BaseSelector] | None = None
) -> None:
    with asyncio.Runner(loop_factory=lambda: finack.EventLoop(make() if make else None)) as runner:
        runner.run(asyncio.wait_for(main, BOUND))


def this_loop() -> finack.EventLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, finack.EventLoop)
    return loop


def waiter(fd: int) -> asyncio.Future[None]:
    loop = this_loop()
    future = loop.create_future()
    loop._add_release_waiter(fd, _core.identify(fd), future)
    return future


def watching() -> bool:
    return "_run_once" in this_loop().__dict__


class Noting(asyncio.Protocol):
    def __init__(self, events: list[str]) -> None:
        self.events = events

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")


async def connect(peers: Peers, events: list[str]) -> tuple[asyncio.Transport, int]:
    address = peers.listen("clean").address
    assert not isinstance(address, str)
    transport, _ = await this_loop().create_connection(lambda: Noting(events), *address)
    return transport, transport.get_extra_info("socket").fileno()


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("asked", ["before", "after"])
def test_transport(peers: Peers, selector: str, asked: str) -> None:
    """connection_lost, release, waiter: in this order, whether asked before close() or after."""

    async def main() -> None:
        events: list[str] = []
        transport, fd = await connect(peers, events)
        assert not watching()
        if asked == "after":
            transport.close()
        future = waiter(fd)
        future.add_done_callback(lambda _: events.append("waiter"))
        transport.close()
        await future
        with pytest.raises(OSError):
            os.fstat(fd)
        assert events == ["lost", "waiter"]
        assert not watching()

    run(main(), SELECTORS[selector])


def test_before_the_loop_blocks(peers: Peers) -> None:
    selector = Counting()

    async def main() -> None:
        transport, fd = await connect(peers, [])
        identity = _core.identify(fd)
        future = waiter(fd)
        future.add_done_callback(lambda _: blocked.append("waiter"))
        blocked: list[str] = []

        def watch() -> None:
            if not _core.is_same(fd, identity):
                blocked.append("blocked")

        selector.watch = watch
        this_loop().call_later(0.01, transport.close)
        await future
        await asyncio.sleep(0.01)
        assert blocked[:2] == ["waiter", "blocked"]

    run(main(), lambda: selector)


def test_reused_number() -> None:
    """A number that is somebody else's is free all the same."""

    async def main() -> None:
        one, two = socket.socketpair()
        fd = one.fileno()
        future = waiter(fd)
        os.dup2(two.fileno(), fd)
        await future
        one.close()
        two.close()

    run(main())


@pytest.mark.parametrize("after", [0.0, 0.2])
def test_another_thread(after: float) -> None:
    """Looked for again and again: it may close at any time."""

    async def main() -> None:
        one, two = socket.socketpair()
        one.setblocking(False)
        fd = one.fileno()
        loop = this_loop()
        loop.add_reader(fd, lambda: None)
        future = waiter(fd)
        thread = threading.Timer(after, one.close)
        thread.start()
        await asyncio.wait_for(future, BOUND)
        thread.join()
        with contextlib.suppress(OSError):
            loop.remove_reader(fd)
        two.close()

    run(main())


def test_many_and_cancelled() -> None:
    """A waiter that was cancelled is forgotten; the others, of one socket too, are all told."""

    async def main() -> None:
        pairs = [socket.socketpair() for _ in range(50)]
        futures = [waiter(one.fileno()) for one, _ in pairs for _ in range(2)]
        futures[0].cancel()
        await asyncio.sleep(0.2)
        assert not any(future.done() for future in futures[1:])
        for one, two in pairs:
            one.close()
            two.close()
        await asyncio.gather(*futures[1:])
        assert not watching()

    run(main())


def test_only_cancelled() -> None:
    async def main() -> None:
        one, two = socket.socketpair()
        with one, two:
            waiter(one.fileno()).cancel()
            while watching():
                await asyncio.sleep(0.01)

    run(main())


# ---- await_fd_close() ----

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "ours": finack.EventLoop,
    "stock": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def run_on(loop: str, main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(asyncio.wait_for(main, BOUND))


@pytest.mark.parametrize("loop", LOOPS)
def test_await_fd_close(peers: Peers, loop: str) -> None:
    peer = peers.listen("clean")

    async def main() -> None:
        _, writer = await asyncio.open_connection(peer.address[0], int(peer.address[1]))
        sock = writer.get_extra_info("socket")
        number = sock.fileno()
        early = asyncio.create_task(finack.await_fd_close(sock))
        await asyncio.sleep(0.1)
        assert not early.done()
        writer.close()
        await finack.await_fd_close(number)
        with pytest.raises(OSError):
            os.fstat(number)
        await early
        await finack.await_fd_close(sock)

    run_on(loop, main())


def test_await_fd_close_of_what_is_closed() -> None:
    async def main() -> None:
        one, two = socket.socketpair()
        number = one.fileno()
        one.close()
        await this_loop().await_fd_close(one)
        await this_loop().await_fd_close(number)
        two.close()

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("wrong", ["3", 3.0, None, True])
def test_await_fd_close_of_wrong_type(loop: str, wrong: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="expected a socket or a descriptor, got"):
            await finack.await_fd_close(wrong)

    run_on(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_await_fd_close_of_another_file(loop: str) -> None:
    """It isn't taken for closed."""

    async def main() -> None:
        with open(os.devnull) as file, pytest.raises(OSError, match="not supported"):
            await finack.await_fd_close(file)
        reading, writing = os.pipe()
        waiting = asyncio.create_task(finack.await_fd_close(writing))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        os.close(writing)
        await waiting
        os.close(reading)

    run_on(loop, main())


def test_await_fd_close_elsewhere() -> None:
    """In another loop, in another thread, and with the loop closed: nothing is changed."""
    one, two = socket.socketpair()
    other = finack.EventLoop()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="this loop runs elsewhere"):
            await other.await_fd_close(one)

    run(main())
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()
    assert "_run_once" not in other.__dict__
    other.close()
    run(main())
    assert two.send(b"x") and one.recv(1) == b"x"
    one.close()
    two.close()


@pytest.mark.parametrize("proof", ["released", "unreferenced"])
def test_a_close_that_is_released_is_waited_for_as_long_as_is_asked(proof: Any) -> None:
    """Not as long as the policy says by which it was begun."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=ours
        )
        number = ours.fileno()
        with theirs, socket.socket(fileno=os.dup(number)):
            transport.close()
            while ours.fileno() >= 0:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            policy = finack.Policy(proof=proof, proof_wait=0, find_holders=False)
            receipt = await asyncio.wait_for(finack.aclose(transport, policy), BOUND)
            assert (receipt.outcome, receipt.held, receipt.search) == ("prompt", True, "none")

    long = finack.Policy(courtesy="prompt", proof_wait=3600)
    with asyncio.Runner(loop_factory=lambda: finack.EventLoop(close_policy=long)) as runner:
        runner.run(main())


def test_an_abort_of_a_close_at_work_has_its_own_proof() -> None:
    """Not that of the policy by which the close was begun, which would look for who holds it."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=ours
        )
        with theirs, socket.socket(fileno=os.dup(ours.fileno())):
            transport.write(bytes(16 << 20))
            transport.close()
            policy = finack.Policy(courtesy="abort", proof="released")
            receipt = await finack.aclose(transport, policy)
            assert (receipt.outcome, receipt.held, receipt.search) == ("aborted", None, "none")

    patient = finack.Policy(flush=60, total=60)
    with asyncio.Runner(loop_factory=lambda: finack.EventLoop(close_policy=patient)) as runner:
        runner.run(main())
