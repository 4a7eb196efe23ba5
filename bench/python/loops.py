# SPDX-License-Identifier: MIT
"""EventLoop beside other loops: churn in its ways to close, echo, streams, callbacks, memory.

usage: loops.py [RESULTS.JSON]
       loops.py --idle LOOP   bytes of an idle connection

Processor time, of all ways in turns and in one process: the machine has other things to do. Server
and clients are in one loop. Only EventLoop proves anything about a close; as `plain` it doesn't.
"""

import asyncio
import functools
import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping

import churn
import echo
import ratio
from others import LOOPS, PEERS, Make, beside

import finack

ROUNDS = 41
CALLS = 20000
CROWD = 2000


def processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(work: Callable[[], object], count: int) -> ratio.Work:
    def once() -> float:
        before = processor()
        work()
        return (processor() - before) / count

    return once


def all_of(
    found: Mapping[str, echo.Echo | churn.Churn], count: int, rounds: int = ROUNDS
) -> ratio.Times:
    """Each runs `count` in its turn, and is stopped at the end."""
    try:
        return ratio.in_turns({name: timed(one.run, count) for name, one in found.items()}, rounds)
    finally:
        for one in found.values():
            one.stop()


# ---- churn ----


def churns() -> ratio.Times:
    prompt = finack.Policy(courtesy="prompt", proof="unreferenced")
    plain = functools.partial(finack.EventLoop, close_policy=None)
    orderly = functools.partial(finack.EventLoop, close_policy=finack.Policy())
    ways: dict[str, tuple[Make, churn.Close]] = {
        **{name: (make, churn.stock_close) for name, make in PEERS.items()},
        "plain": (plain, churn.stock_close),
        "proved": (finack.EventLoop, churn.stock_close),
        "orderly": (orderly, churn.stock_close),
        "aclose": (plain, churn.prove(prompt)),
        "aclose.proved": (finack.EventLoop, churn.prove(prompt)),
    }
    found = {name: churn.Churn(make(), close) for name, (make, close) in ways.items()}
    return all_of(found, churn.BATCH)


# ---- echo and streams ----


class Streams(echo.Echo):
    """The same with StreamReader and StreamWriter."""

    size = 1024

    async def start(self, clients: int) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        where = self.server.sockets[0].getsockname()
        self.pairs = [await asyncio.open_connection(*where) for _ in range(clients)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def batch(self) -> float:
        each = echo.TRIPS // len(self.pairs)
        await asyncio.gather(*(self.trips(*pair, each) for pair in self.pairs))
        return 0.0

    async def trips(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int
    ) -> None:
        message = bytes(self.size)
        for _ in range(count):
            writer.write(message)
            await reader.readexactly(self.size)

    async def end(self) -> None:
        for _, writer in self.pairs:
            writer.close()
        self.server.close()
        await asyncio.sleep(0.1)


class Bulk(Streams):
    """100 KiB at a time."""

    size = 100 * 1024


def echoes(make: Callable[[asyncio.AbstractEventLoop], echo.Echo]) -> ratio.Times:
    return all_of({name: make(loop()) for name, loop in LOOPS.items()}, echo.TRIPS)


# ---- callbacks ----


async def soon(loop: asyncio.AbstractEventLoop) -> None:
    for _ in range(CALLS // 100):
        for _ in range(100):
            loop.call_soon(int)
        await asyncio.sleep(0)


async def later(loop: asyncio.AbstractEventLoop) -> None:
    for _ in range(CALLS // 100):
        for _ in range(100):
            loop.call_later(60, int).cancel()
        await asyncio.sleep(0)


async def sleep0(loop: asyncio.AbstractEventLoop) -> None:
    for _ in range(CALLS):
        await asyncio.sleep(0)


def callbacks(work: Callable[[asyncio.AbstractEventLoop], object]) -> ratio.Times:
    loops = {name: make() for name, make in LOOPS.items()}

    def once(loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(work(loop))  # type: ignore[arg-type]

    try:
        ways = {name: timed(functools.partial(once, loop), CALLS) for name, loop in loops.items()}
        return ratio.in_turns(ways, ROUNDS)
    finally:
        for loop in loops.values():
            loop.close()


# ---- memory ----


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def idle_bytes(name: str) -> float:
    """Of an idle connection, both ends and their protocols, in a process of its own: what this one
    has freed would be used first."""
    done = subprocess.run(
        [sys.executable, __file__, "--idle", name], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout)


async def crowd(loop: asyncio.AbstractEventLoop) -> float:
    server = await loop.create_server(echo.Server, "127.0.0.1", 0, backlog=CROWD)
    where = server.sockets[0].getsockname()
    kept = [await loop.create_connection(asyncio.Protocol, *where) for _ in range(100)]
    gc.collect()
    before = resident()
    kept += [await loop.create_connection(asyncio.Protocol, *where) for _ in range(CROWD)]
    gc.collect()
    return (resident() - before) / CROWD


# ---- all ----


def measure() -> list[ratio.Result]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * CROWD)), hard))
    results: list[ratio.Result] = []
    memory = {name: [idle_bytes(name)] * ratio.PARTS for name in LOOPS}
    closes = churns()
    # aclose: the client's end alone is proved, which may be beside ends that are closed blindly.
    limits = {"plain": 1.10, "proved": 1.05, "orderly": 1.0, "aclose": 1.10, "aclose.proved": None}
    for way, limit in limits.items():
        results += beside(f"loop.churn.{way}", limit, closes, way)
    rows: list[tuple[str, float, ratio.Times]] = [
        ("loop.echo", 1.10, echoes(lambda loop: echo.Echo(loop, 1))),
        ("loop.echo.50", 1.10, echoes(lambda loop: echo.Echo(loop, 50))),
        ("loop.streams", 1.10, echoes(lambda loop: Streams(loop, 10))),
        ("loop.echo.100k", 1.00, echoes(lambda loop: Bulk(loop, 10))),
        ("loop.call_soon", 1.20, callbacks(soon)),
        ("loop.call_later", 1.20, callbacks(later)),
        ("loop.sleep0", 1.20, callbacks(sleep0)),
        ("loop.memory", 1 / 0.70, memory),
    ]
    for name, limit, times in rows:
        results += beside(name, limit, times)
    return results


if __name__ == "__main__":
    if sys.argv[1:2] == ["--idle"]:
        loop = LOOPS[sys.argv[2]]()
        print(loop.run_until_complete(crowd(loop)))
        sys.exit(0)
    ratio.head()
    sys.exit(ratio.finish(measure()))
