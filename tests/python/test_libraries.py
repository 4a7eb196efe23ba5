# SPDX-License-Identifier: MIT
"""The packages that people use, with peers of every temper: closed means closed, by the deadline.

Each test opens 200 TLS connections and closes them: the library does as it is used to, or
`finack.close_all` does, or `finack.aclose` for each. When it is over no socket is left, every peer
has seen an end, and nobody complained.
"""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import libraries
import pytest
import uvloop
from conftest import descriptors
from libraries import Library, Opened, World
from peers import Certificate, Peer, Peers, Seen, Temper

import finack

COUNT = 200
DEADLINE = 0.5
POLICY = finack.Policy(total=DEADLINE)
# Where all can be said: who answers is waited for, who doesn't answer isn't for long.
POLICIES = {
    "clean": finack.Policy(farewell=60, linger=60, total=60),
    "mute": finack.Policy(farewell=60, linger=DEADLINE, total=60),
}
# Seconds that a close may take on a busy machine; without a bound it takes 30, or for ever.
PATIENCE = 25

# How a peer behaves, and whether it sends its own end first.
TEMPERS: dict[str, tuple[Temper, bool]] = {
    "clean": ("clean", False),
    "mute": ("mute", False),
    "deaf": ("deaf", False),
    "notify, then deaf": ("deaf", True),
}

LIBRARIES: list[Library] = [
    libraries.aiohttp_client,
    libraries.aiohttp_server,
    libraries.anyio_streams,
    libraries.httpx_client,
    libraries.uvicorn_server,
    libraries.websockets_client,
    libraries.websockets_server,
]

WITH_TRANSPORTS: list[Library] = [
    libraries.aiohttp_server,
    libraries.websockets_client,
    libraries.websockets_server,
]


def sockets() -> set[str]:
    return {what for what in descriptors().values() if what.startswith("socket:")}


def connections() -> int:
    """TCP connections that this process has."""
    found = 0
    for fd, what in descriptors().items():
        if what.startswith("socket:"):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
                found += sock.family == socket.AF_INET and bool(sock.getpeername())
    return found


@contextlib.contextmanager
def no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio logs no error, and no warning says that the program left something open."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    found = [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]
    for record in caplog.records:
        if record.name == "asyncio" and record.levelno >= logging.ERROR:
            found.append(record.getMessage())
    assert found == []


@dataclass
class Trial:
    """One library with one kind of peer."""

    library: Library
    world: World
    notify: bool
    peer: Peer | None = None
    asked: float = 0

    async def run(self, close: Callable[[Opened], Awaitable[object]]) -> None:
        opened = await self.library(self.world)
        self.peer = opened.peer
        if self.notify:
            opened.peer.act("notify")
        self.asked = time.monotonic()
        await close(opened)

    def check(self, before: set[str]) -> list[Seen]:
        assert time.monotonic() - self.asked < PATIENCE
        assert sockets() == before
        assert self.peer
        seen = self.peer.seen(self.world.count)
        self.peer.stop()
        assert len(seen) == self.world.count
        assert all(one.end != "open" for one in seen)
        return seen

    async def own_way(self, opened: Opened) -> None:
        await opened.close()

    async def all_at_once(self, opened: Opened) -> None:
        report = await finack.close_all(DEADLINE)
        assert len(report.receipts) >= self.world.count
        assert connections() == 0
        await opened.close()

    async def each_transport(self, opened: Opened) -> None:
        policy = POLICIES.get(self.world.temper, POLICY)
        receipts = await asyncio.gather(*(finack.aclose(t, policy) for t in opened.transports))
        assert len(receipts) == self.world.count
        assert all(receipt.stages["released"] < PATIENCE for receipt in receipts)
        assert connections() == 0
        await opened.close()


@pytest.fixture
def trial(library: Library, temper: str, peers: Peers, certificate: Certificate) -> Iterator[Trial]:
    base, notify = TEMPERS[temper]
    yield Trial(library, World(peers, certificate, base, COUNT, DEADLINE), notify)


def named(library: Library) -> str:
    return library.__name__


@pytest.mark.parametrize("temper", TEMPERS)
@pytest.mark.parametrize("library", LIBRARIES, ids=named)
def test_own_way(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    before = sockets()
    with no_complaints(caplog):
        finack.run(trial.run(trial.own_way), policy=POLICY)
    trial.check(before)


@pytest.mark.parametrize("temper", ["mute", "notify, then deaf"])
@pytest.mark.parametrize("library", LIBRARIES, ids=named)
def test_close_all(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    before = sockets()
    with no_complaints(caplog):
        finack.run(trial.run(trial.all_at_once), policy=POLICY)
    trial.check(before)


@pytest.mark.parametrize("temper", ["clean", "notify, then deaf"])
@pytest.mark.parametrize("library", WITH_TRANSPORTS, ids=named)
def test_aclose(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    before = sockets()
    with no_complaints(caplog):
        finack.run(trial.run(trial.each_transport), policy=POLICY)
    trial.check(before)


@pytest.mark.parametrize("temper", TEMPERS)
@pytest.mark.parametrize("library", [libraries.asyncio_streams], ids=named)
def test_uvloop(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    before = sockets()
    with no_complaints(caplog), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(trial.run(trial.each_transport))
    seen = trial.check(before)
    if trial.world.temper != "deaf":  # all could be said, and no input was left unread
        assert seen == [Seen(0, True, "eof", False)] * COUNT
