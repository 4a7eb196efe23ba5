# SPDX-License-Identifier: MIT
"""A loop that lives again and again, with connections to peers of every temper; what is left then.

    soak.py SECONDS [SEED]

In each life connections of one kind are opened, treated and ended at random: close(), abort(),
aclose(), or by the end of the loop; with TLS, in C or by asyncio, or without, by one of some
policies. In some a process is killed, ours or the peers'. Each peer must have seen an end, within
PATIENCE; each connection has one connection_lost(), and a receipt where the loop has a policy.
Behind a life there are no more descriptors and registrations than before it; over all of them
the memory in use does not grow. The first life that breaks this is shown with its number: what it
does depends on that and SEED.

Memory in use is what malloc() has given out, to the byte: Python's objects come from it too here
(PYTHONMALLOC), and it keeps no freed piece aside that it counts as given out (GLIBC_TUNABLES). The
process's own size says less: malloc() keeps freed memory, by pages that have been in use at a time
of many connections. It is printed, as it is and when those pages have been given back, and is not
judged.
"""

import asyncio
import contextlib
import ctypes
import gc
import itertools
import os
import pathlib
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple, cast

import churn_lab
import leaks
from peers import Certificate, Peer, Peers, Temper

import finack

KINDS = (
    ["ourselves"] * 5
    + ["ourselves, TLS"] * 3
    + ["clean", "mute", "deaf", "reset", "peers killed", "we killed"]
)
POLICIES = [
    finack.Policy(courtesy="prompt", flush=0.2, proof="unreferenced"),
    finack.Policy(flush=0.2, linger=0.1),
    None,
]
END = finack.Policy(flush=0.2, farewell=0.2, linger=0.2, total=1)  # of a loop
SIZES = (1, 1000, 300_000)
CHURN, CHURN_TLS, COUNT = 2000, 500, 100
PATIENCE = 60  # seconds
WINDOW = 10  # lives between two looks at the memory
LEAST = 12  # looks
SPARE = 24 << 10  # bytes by which the memory may move without a leak
EXACT = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0:glibc.malloc.arena_max=1",
}

Open = tuple[int, int]


def connections() -> Open:
    """Sockets, and what is registered; a loop opens other descriptors as it needs them."""
    open_now, registered = churn_lab.left()
    return sum(what.startswith("socket:") for what in open_now), registered


class Wrong(Exception):
    """It must not be."""


@dataclass
class Tally:
    """What happened in all lives of one kind."""

    lives: int = 0
    connections: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)


class Mine(asyncio.Protocol):
    """Our end; it counts what it is told."""

    def __init__(self) -> None:
        self.losses = 0
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: BaseException | None) -> None:
        self.losses += 1
        self.lost.set()


@dataclass
class Life:
    """One loop, from its making to its end."""

    chaos: random.Random
    kind: str
    peers: Peers
    certificate: Certificate
    tally: Tally

    def __str__(self) -> str:
        return f"{self.kind}, TLS {self.tls} {self.way}, left open {self.left_open}, {self.policy}"

    def __post_init__(self) -> None:
        self.own = self.kind.startswith("ourselves")
        self.tls = self.kind == "ourselves, TLS" or (not self.own and self.chaos.random() < 0.5)
        self.count = (CHURN_TLS if self.tls else CHURN) if self.own else COUNT
        self.way = self.chaos.choice(["c", "c", "python"])
        self.policy = self.chaos.choice(POLICIES)
        self.left_open = self.chaos.random() < 0.2
        self.problems: list[dict[str, Any]] = []
        self.receipts: list[finack.Receipt] = []
        self.mine: list[Mine] = []

    def run(self) -> None:
        os.environ["FINACK_TLS"] = self.way
        before = churn_lab.left()
        with asyncio.Runner(loop_factory=self.loop) as runner:
            peer = runner.run(self.among_ourselves() if self.own else self.with_peers())
        self.tally.lives += 1
        self.tally.connections += self.count
        self.tally.outcomes.update(receipt.outcome for receipt in self.receipts)
        if churn_lab.left() != before:
            raise Wrong(f"behind the loop: {before} has become {churn_lab.left()}")
        self.look(peer)

    def loop(self) -> finack.EventLoop:
        self.more = asyncio.Event()
        loop = finack.EventLoop(policy=END, close_policy=self.policy, on_closed=self.closed)
        loop.set_exception_handler(lambda _, context: self.problems.append(context))
        return loop

    def closed(self, receipt: finack.Receipt) -> None:
        self.receipts.append(receipt)
        self.more.set()

    def look(self, peer: Peer | None) -> None:
        """At what both sides have seen, when all is over."""
        others = [one for one in self.problems if not isinstance(one.get("exception"), OSError)]
        if others:
            raise Wrong(str(others[0]))
        if any(one.losses != 1 for one in self.mine):
            raise Wrong(f"connection_lost() calls: {Counter(one.losses for one in self.mine)}")
        if peer is None or self.kind == "peers killed":
            return
        ends = Counter(one.end for one in peer.seen(COUNT, PATIENCE))
        peer.stop()
        self.tally.ends.update(ends)
        if ends["open"] or ends.total() != COUNT:
            raise Wrong(f"the peers' ends: {ends}")

    # ---- both ends are ours ----

    async def among_ourselves(self) -> None:
        server = churn_lab.Server()
        await server.start(self.certificate.server_context() if self.tls else None)
        before = connections()
        policy = self.policy or finack.Policy(courtesy="prompt")
        more = secure(self.certificate) if self.tls else {}
        self.tally.outcomes += await churn_lab.churn(server, self.count, policy, **more)
        await server.all_ended(self.count)
        self.tally.ends += server.ends
        await self.only(before)
        server.stop()
        self.receipts.clear()  # the tally has them from churn()

    async def only(self, before: Open) -> None:
        async with asyncio.timeout(PATIENCE):
            while connections() != before:
                await asyncio.sleep(0)

    # ---- the others are in another process ----

    async def with_peers(self) -> Peer:
        before = connections()
        temper = cast(Temper, self.kind if self.kind in ("mute", "deaf") else "clean")
        peer = self.peers.listen(temper, tls=self.certificate if self.tls else None)
        if self.kind == "we killed":
            be_killed(peer, self.certificate if self.tls else None)
            return peer
        self.mine = await open_all(peer, self.certificate if self.tls else None)
        for one in self.mine:
            one.transport.write(bytes(self.chaos.choice(SIZES)))
        if self.kind == "reset":
            peer.act("reset")
        elif self.kind == "peers killed":
            self.peers.kill()
        if not self.left_open:
            async with asyncio.timeout(PATIENCE):
                await self.end_all()
            await self.only(before)
        return peer

    async def end_all(self) -> None:
        await asyncio.gather(*map(self.end, self.mine))
        await self.all_closed(COUNT)

    async def all_closed(self, count: int) -> None:
        """A close by the engine may last longer than the connection."""
        while self.policy and len(self.receipts) < count:
            self.more.clear()
            await self.more.wait()

    async def end(self, one: Mine) -> None:
        """Without a policy a deaf peer would be waited for, as asyncio does."""
        how = self.chaos.choice(["abort", "aclose"] + ["close"] * 2 * bool(self.policy))
        if how == "aclose":
            with contextlib.suppress(OSError):  # it may be over
                receipt = await finack.aclose(one.transport, END)
                if self.tls and self.way == "python":  # the loop has none of that
                    self.closed(receipt)
        else:
            getattr(one.transport, how)()
        await one.lost.wait()


async def open_all(peer: Peer, certificate: Certificate | None) -> list[Mine]:
    loop, more = asyncio.get_running_loop(), secure(certificate) if certificate else {}
    opening = (loop.create_connection(Mine, *peer.address, **more) for _ in range(COUNT))
    return [mine for _, mine in await asyncio.gather(*opening)]


def secure(certificate: Certificate) -> dict[str, Any]:
    """Arguments of connecting."""
    context = certificate.client_context()
    return {"ssl": context, "server_hostname": "localhost", "ssl_shutdown_timeout": 0.2}


# ---- kill -9 ----


def be_killed(peer: Peer, certificate: Certificate | None) -> None:
    """Another process of ours opens them, and ends so."""
    where = [*map(str, peer.address), str(certificate.authority) if certificate else ""]
    with subprocess.Popen(
        [sys.executable, __file__, "victim", *where], stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout
        line = victim.stdout.readline()
        victim.kill()
    if line != "open\n":
        raise Wrong("the process that was to be killed ended before")


async def victim(host: str, port: str, authority: str) -> None:
    certificate = Certificate(pathlib.Path(), pathlib.Path(authority)) if authority else None
    mine = await open_all(Peer(cast(Peers, None), 0, (host, int(port))), certificate)
    for one in mine:
        one.transport.write(bytes(SIZES[-1]))
        one.transport.close()
    print("open", flush=True)
    await asyncio.get_running_loop().create_future()


# ---- all of them ----


ALLOCATED = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"]
ALLOCATED += ["uordblks", "fordblks", "keepcost"]


class Allocated(ctypes.Structure):
    """What mallinfo2(3) tells."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in ALLOCATED)


def in_use() -> int:
    """Bytes that malloc() has given out, without what CPython's cache of types keeps."""
    getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()
    gc.collect()
    mallinfo: Any = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Allocated
    now = mallinfo()
    return int(now.uordblks + now.hblkhd)


def resident() -> int:
    """Bytes, of its own."""
    text = pathlib.Path("/proc/self/smaps_rollup").read_text()
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if "Anonymous:" in line)


def trimmed() -> int:
    """The same without freed pages."""
    ctypes.CDLL(None).malloc_trim(0)
    return resident()


def grown(sizes: list[int]) -> int:
    """The least of several looks is what stays; what is kept for good is filled by the first third.

    That is for the most part what the last 256 closes have left for the report.
    """
    third = len(sizes) // 3
    return min(sizes[-third:]) - min(sizes[third : 2 * third])


class Look(NamedTuple):
    """What there is between two lives; bytes."""

    mark: leaks.Footprint
    in_use: int
    resident: int
    trimmed: int


@dataclass
class Soak:
    """Lives one after the other, and what there was between them: in a file, since it grows."""

    seconds: float
    seed: int
    certificate: Certificate
    tallies: dict[str, Tally] = field(default_factory=lambda: {kind: Tally() for kind in KINDS})
    file: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    count: int = 0

    def run(self) -> None:
        until = time.monotonic() + self.seconds
        peers = Peers()
        try:
            for number in itertools.count():
                if number % WINDOW == 0:
                    self.look()
                    if time.monotonic() > until and self.count >= LEAST:
                        break
                if self.live(number, peers) == "peers killed":
                    peers.stop()
                    peers = Peers()
        finally:
            peers.stop()

    def live(self, number: int, peers: Peers) -> str:
        chaos = random.Random(f"{self.seed} {number}")
        kind = chaos.choice(KINDS)
        life = Life(chaos, kind, peers, self.certificate, self.tallies[kind])
        try:
            life.run()
        except (Wrong, OSError) as error:
            where = f"seed {self.seed}, life {number}: {life}"
            raise SystemExit(f"{where}: {error!r}") from error
        return kind

    def look(self) -> None:
        pickle.dump(Look(leaks.footprint(), in_use(), resident(), trimmed()), self.file)
        self.count += 1

    def looks(self) -> list[Look]:
        self.file.seek(0)
        return [pickle.load(self.file) for _ in range(self.count)]

    def report(self, looks: list[Look]) -> None:
        print(f"{'kind':14}{'lives':>7}{'connections':>13}  outcomes; ends that the other side saw")
        for kind, tally in self.tallies.items():
            said = "; ".join(
                ", ".join(f"{what} {count}" for what, count in one.most_common())
                for one in (tally.outcomes, tally.ends)
            )
            print(f"{kind:14}{tally.lives:7}{tally.connections:13}  {said}")
        print(f"connections: {sum(one.connections for one in self.tallies.values())}")
        print(f"descriptors: {sorted({look.mark.descriptors for look in looks})}")
        print(f"in use, KiB: {[look.in_use >> 10 for look in looks]}")
        print(f"resident, KiB: {[look.resident >> 10 for look in looks]}")
        print(f"trimmed, KiB: {[look.trimmed >> 10 for look in looks]}")

    def check(self, looks: list[Look]) -> None:
        growth = grown([look.in_use for look in looks])
        print(f"grown by {growth} bytes between the second third and the last")
        if growth > SPARE:
            raise SystemExit("the memory in use grows")
        leaks.check([look.mark for look in looks[1:]], WINDOW)


def main() -> None:
    if sys.argv[1] == "victim":
        finack.run(victim(*sys.argv[2:]))
    if any(os.environ.get(name) != value for name, value in EXACT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **EXACT})
    with tempfile.TemporaryDirectory() as folder:
        seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
        soak = Soak(float(sys.argv[1]), seed, Certificate.make(pathlib.Path(folder)))
        soak.run()
    looks = soak.looks()
    soak.report(looks)
    soak.check(looks)


if __name__ == "__main__":
    main()
