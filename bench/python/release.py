# SPDX-License-Identifier: MIT
"""How long from asking for a close until the descriptor is free, and what the asker knows.

usage: release.py [RESULTS.JSON]

Each way to close is tried on many connections to each kind of peer, begun one shortly after the
other. `returns`: when the asker goes on; `released`: when the number is free, both in milliseconds
since the asking, median and 99th percentile; `open`: in how many of a hundred cases the descriptor
is still open when the asker goes on; `the peer`: what most peers saw, how the stream ended and
whether all bytes had come. Nobody waits longer than CUT: `-` is what did not happen by then.
"""

import asyncio
import contextlib
import json
import math
import pathlib
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import uvloop
from anyio import BrokenResourceError, BusyResourceError
from anyio.abc import SocketStream
from anyio.streams.tls import TLSStream

import finack

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests" / "python"))
from peers import Certificate, Peer, Peers, Seen, Temper

COUNT = 200
APART = 0.002
CUT = 1.0
POLICY = finack.Policy(total=0.25)
PROMPT = finack.Policy(courtesy="prompt", total=0.25)

Close = Callable[[], Awaitable[object]]


class Timed(socket.socket):
    """Knows when its descriptor was let go."""

    released: float | None = None

    def close(self) -> None:
        super().close()
        self.now()

    def detach(self) -> int:
        """uvloop's way: it has closed the descriptor itself."""
        self.now()
        return super().detach()

    def now(self) -> None:
        if self.released is None:
            self.released = time.perf_counter()


@dataclass(frozen=True)
class Situation:
    """A kind of peer, and what is left to be sent to it when the close is asked for."""

    name: str
    temper: Temper
    tls: Certificate | None = None
    unsent: bytes = b""

    @property
    def context(self) -> ssl.SSLContext | None:
        return self.tls.client_context() if self.tls else None


Open = Callable[[Situation, socket.socket], Awaitable[Close]]


@dataclass(frozen=True)
class Way:
    """A way to close, and the loop it is tried on."""

    name: str
    open: Open
    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop


@dataclass(frozen=True)
class Sample:
    """Seconds since the asking; inf: not by CUT. `open`: when it returned."""

    returned: float
    released: float
    open: bool


@dataclass(frozen=True)
class Row:
    peer: str
    way: str
    returns_p50: float | None
    returns_p99: float | None
    released_p50: float | None
    released_p99: float | None
    open: int | None
    peer_saw: str


# ---- the ways ----


def streams(close: Callable[[asyncio.StreamWriter], Awaitable[object]]) -> Open:
    async def open_one(situation: Situation, sock: socket.socket) -> Close:
        context = situation.context
        host = "localhost" if context else None
        _, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=host)
        writer.write(situation.unsent)
        return lambda: close(writer)

    return open_one


async def close_and_sleep(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await asyncio.sleep(0.25)


async def close_and_wait(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def open_anyio(situation: Situation, sock: socket.socket) -> Close:
    plain = await SocketStream.from_socket(sock)
    context = situation.context
    stream: SocketStream | TLSStream = plain
    if context:
        stream = await TLSStream.wrap(plain, hostname="localhost", ssl_context=context)
    if situation.unsent:
        sending = asyncio.ensure_future(stream.send(situation.unsent))
        sending.add_done_callback(lambda task: task.exception())  # that it was closed meanwhile
    return stream.aclose


def ways() -> list[Way]:
    default = streams(lambda writer: finack.aclose(writer, POLICY))
    prompt = streams(lambda writer: finack.aclose(writer, PROMPT))
    return [
        Way("close(), sleep(0.25)", streams(close_and_sleep)),
        Way("close(), wait_closed()", streams(close_and_wait)),
        Way("anyio's aclose()", open_anyio),
        Way("aclose(), stock asyncio", default),
        Way("aclose(), EventLoop", default, finack.EventLoop),
        Way("aclose(), uvloop", default, uvloop.new_event_loop),
        Way("aclose() prompt, EventLoop", prompt, finack.EventLoop),
    ]


# ---- the trials ----


def connected(peer: Peer) -> Timed:
    sock = Timed(socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    sock.connect(peer.address)
    sock.setblocking(False)
    return sock


async def outcome(close: Close) -> object:
    """What it returns or raises; a TimeoutError if it does neither in time."""
    try:
        async with asyncio.timeout(CUT):
            return await close()
    except (OSError, BrokenResourceError, BusyResourceError) as error:
        return error


async def try_one(situation: Situation, way: Way, peer: Peer, after: float) -> Sample:
    sock = connected(peer)
    close = await way.open(situation, sock)
    await asyncio.sleep(0.5 + after)
    asked = time.perf_counter()
    result = await outcome(close)
    returned = math.inf if isinstance(result, TimeoutError) else time.perf_counter() - asked
    was_open = sock.released is None
    if was_open:
        await asyncio.sleep(CUT - (time.perf_counter() - asked))
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    released = (sock.released or math.inf) - asked
    if isinstance(result, finack.Receipt):  # it has a descriptor of its own, and tells of both
        released = max(released, result.stages["released"])
    return Sample(returned, released, was_open)


async def try_many(situation: Situation, way: Way, peer: Peer) -> list[Sample]:
    tries = (try_one(situation, way, peer, APART * number) for number in range(COUNT))
    samples = await asyncio.gather(*tries)
    await asyncio.sleep(0.1)  # for what had to be cut
    return samples


def quantile(times: list[float], share: float) -> float | None:
    value = sorted(times)[math.ceil(share * len(times)) - 1]
    return round(value * 1000, 2) if value < CUT else None


def view(situation: Situation, seen: list[Seen]) -> str:
    """What most peers saw."""

    def one(seen: Seen) -> str:
        if seen.end != "eof":
            return seen.end
        cut = "" if seen.received == len(situation.unsent) else ", data missing"
        return ("EOF" if seen.close_notify or not situation.tls else "EOF, no close_notify") + cut

    return Counter(map(one, seen)).most_common(1)[0][0]


def open_share(samples: list[Sample]) -> int | None:
    """Percent of those that returned; None: hardly any did."""
    returned = [sample.open for sample in samples if sample.returned < CUT]
    return round(100 * statistics.mean(returned)) if len(returned) > len(samples) / 2 else None


def row(situation: Situation, way: Way, samples: list[Sample], seen: list[Seen]) -> Row:
    returned = [sample.returned for sample in samples]
    released = [sample.released for sample in samples]
    return Row(
        situation.name,
        way.name,
        quantile(returned, 0.5),
        quantile(returned, 0.99),
        quantile(released, 0.5),
        quantile(released, 0.99),
        open_share(samples),
        view(situation, seen) if quantile(released, 0.5) is not None else "-",
    )


def trial(situation: Situation, way: Way, peers: Peers) -> Row:
    peer = peers.listen(situation.temper, tls=situation.tls)
    with asyncio.Runner(loop_factory=way.loop) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: None)
        samples = runner.run(try_many(situation, way, peer))
    seen = peer.seen(COUNT)
    peer.stop()
    return row(situation, way, samples, seen)


def show(row: Row) -> None:
    cells = [
        "-" if value is None else f"{value:.2f}"
        for value in (row.returns_p50, row.returns_p99, row.released_p50, row.released_p99)
    ]
    cells.append("-" if row.open is None else f"{row.open} %")
    print(f"| {row.peer} | {row.way} | {' | '.join(cells)} | {row.peer_saw} |", flush=True)


def measure() -> list[Row]:
    rows = []
    print("| peer | way | returns p50 | p99 | released p50 | p99 | open | the peer |")
    print("|---|---|---:|---:|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as folder, Peers() as peers:
        certificate = Certificate.make(pathlib.Path(folder))
        for situation in (
            Situation("TCP", "clean"),
            Situation("TCP, deaf, 1 MiB unsent", "deaf", unsent=bytes(1 << 20)),
            Situation("TLS", "clean", certificate),
            Situation("TLS, mute", "mute", certificate),
            Situation("TLS, deaf, 1 MiB unsent", "deaf", certificate, bytes(1 << 20)),
        ):
            for way in ways():
                rows.append(trial(situation, way, peers))
                show(rows[-1])
    return rows


def write(rows: list[Row], path: pathlib.Path) -> None:
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    measured = measure()
    if len(sys.argv) > 1:
        write(measured, pathlib.Path(sys.argv[1]))
