#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plays scenes whose program is Python, and holds the receipts against the referee's rules.

usage: referee.py STAGE SECONDS SEED [PART]   random scenes for that long; PART is in all of them
       referee.py STAGE --scenes FILE         those in a file, one a line, in TAP
       referee.py STAGE SCENE [TIMES]         one, on each loop, as a contradiction printed it

STAGE is the program referee_stage, which has the scenes, the peers and the rules (see stage.c).
Each worker is a process with an event loop and a stage of its own.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import uvloop

import finack
from finack import _core

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "EventLoop": finack.EventLoop,
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
WORKERS_A_LOOP = 2
TRIES = 4
HANG = 5.0
LOOKS = 20
SOME = 8  # turns of a loop, in which it has seen what is there
FILL = 4_000_000
CLONE_NEWNET = 0x40000000
ENDS = ("none", "fin", "reset", "kernel")
PHASES = (None, "flush", "farewell", "linger")
SEARCHES = ("none", "found", "invisible", "blind", "cut")
OUTCOMES = ("graceful", "prompt", "truncated", "timed_out", "reset", "error", "aborted", "bounded")
Scene = dict[str, str]


class Stage:
    """The program with the peers, at the other end of a socket."""

    def __init__(self, program: str) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = subprocess.Popen([program], stdin=theirs.fileno())
        theirs.close()

    def ask(self, text: str) -> str:
        return self.ask_for_descriptor(text)[0]

    def ask_for_descriptor(self, text: str) -> tuple[str, int]:
        self.sock.send(text.encode())
        answer, descriptors, _, _ = socket.recv_fds(self.sock, 65536, 1)
        if not answer:
            raise RuntimeError(f"the stage is gone after {text!r}")
        return answer.decode(), descriptors[0] if descriptors else -1

    def fields(self, scene: str) -> Scene:
        return dict(word.split("=") for word in self.ask(f"all {scene}").split())

    def close(self) -> None:
        self.sock.close()
        self.process.wait()


def pattern(offset: int, size: int) -> bytes:
    """What either side sends: view_byte() of view.h."""
    block = bytes((i * 131 + (i >> 8) * 7) & 255 for i in range(65536))
    start = offset % 65536
    return (block * ((start + size) // 65536 + 1))[start : start + size]


PATTERN = pattern(0, FILL + 65536)


def client_context(scene: Scene) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    version = ssl.TLSVersion.TLSv1_2 if scene["tls"] == "1.2" else ssl.TLSVersion.TLSv1_3
    context.minimum_version = context.maximum_version = version
    return context


def policy_of(scene: Scene) -> finack.Policy:
    orphan: Any = {"-1": "leave", "0": "reset"}.get(scene["orphan_ms"])
    return finack.Policy(
        courtesy=scene["courtesy"],  # type: ignore[arg-type]
        scope=scene["scope"],  # type: ignore[arg-type]
        proof=scene["proof"],  # type: ignore[arg-type]
        drain=int(scene["drain"]),
        linger=int(scene["linger_ms"]) / 1000,
        total=int(scene["total_ms"]) / 1000,
        proof_wait=int(scene["proof_ms"]) / 1000,
        flush=int(scene["flush_ms"]) / 1000,
        farewell=int(scene["farewell_ms"]) / 1000,
        orphan=int(scene["orphan_ms"]) / 1000 if orphan is None else orphan,
        find_holders=scene["search"] == "yes",
        rebindable=scene["rebindable"] == "yes",
    )


def descriptors() -> set[int]:
    """Those that are open; to look into /proc would open one."""
    found = set()
    for fd in range(256):
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_GETFD)
            found.add(fd)
    return found


def kept_waiting() -> int:
    """How long this thread has waited for a processor, in ns; 0 where the kernel does not say."""
    with contextlib.suppress(OSError), open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1])
    return 0


def what_is(fd: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}")
    return "free by now"


def index(values: tuple[Any, ...], value: object) -> int:
    """As the library counts; what came later than this program is beyond the last."""
    return values.index(value) if value in values else len(values)


class Play:
    """One scene: what both drivers share."""

    def __init__(self, stage: Stage, scene: Scene, text: str, host: int) -> None:
        self.stage, self.scene = stage, scene
        self.facts: dict[str, int] = {"result": 0, "pid": os.getpid(), "read": 0}
        self.written = 0
        self.unwritten = 0
        self.holder_fd = -1
        self.holder_pid = 0
        self.taken = ""  # what the peer had
        self.changed = ""  # descriptors that came or went
        self.sock = self.connect(text, host)
        self.fd = self.sock.fileno()

    @property
    def tls(self) -> bool:
        return self.scene["driver"].endswith("_tls")

    def connect(self, text: str, host: int) -> socket.socket:
        address, fd = self.stage.ask_for_descriptor(f"play {host} {text}")
        if fd >= 0:
            self.stage.ask("meet")
            return socket.socket(fileno=fd)
        if self.scene["fault"] != "none":
            with open(f"/proc/{self.stage.process.pid}/ns/net") as namespace:
                if ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET) < 0:
                    raise RuntimeError("setns")
        name, port = address.split()
        sock = socket.create_connection((name, int(port)))
        ours = sock.getsockname()
        self.stage.ask(f"meet {ours[0]} {ours[1]}")
        return sock

    def bytes_to_write(self) -> bytes:
        size = FILL if self.scene["sent"] == "fill" else int(self.scene["sent"])
        return PATTERN[:size]

    def acts_before(self) -> bool:
        ends = self.scene["peer_act"] in ("close", "shut", "reset", "die")
        return ends and self.scene["peer_when"] == "before"

    def has_settled(self) -> bool:
        """Whether the peer has no more than when this was asked before, or that does not matter."""
        if self.scene["settled"] == "no":
            return True
        before, self.taken = self.taken, self.stage.ask("took")
        return self.taken == before

    def set_options(self) -> None:
        if self.scene["linger"] != "no":
            time_ = int(self.scene["linger"] == "time")
            packed = struct.pack("ii", 1, time_)
            with contextlib.suppress(OSError):
                socket.socket(fileno=os.dup(self.fd)).setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, packed
                )

    def hold(self) -> None:
        try:
            os.fstat(self.fd)
        except OSError:  # the loop has closed it by itself
            self.facts["closing"] = 1
            return
        if self.scene["holder"] == "dup":
            self.holder_fd = os.dup(self.fd)
        elif self.scene["holder"] == "child":
            self.holder_pid = os.fork()
            if self.holder_pid == 0:
                self.stage.sock.close()
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
                while True:
                    signal.pause()

    def let_go(self) -> None:
        if self.holder_fd >= 0:
            os.close(self.holder_fd)
        if self.holder_pid:
            os.kill(self.holder_pid, signal.SIGKILL)
            os.waitpid(self.holder_pid, 0)

    def begin_close(self, buffered: int) -> None:
        self.facts["buffered"] = buffered + self.unwritten
        self.facts["handed"] = self.written - buffered
        self.before = descriptors()
        self.stage.ask("go")
        self.facts["stolen"] = -kept_waiting()
        self.facts["began"] = time.monotonic_ns()

    def end_close(self, receipt: finack.Receipt | None) -> None:
        facts = self.facts
        facts["ended"] = time.monotonic_ns()
        facts["stolen"] += kept_waiting()
        after = descriptors()
        facts["free"] = self.fd not in after
        came, went = after - self.before - {self.fd}, self.before - after - {self.fd}
        facts["left_open"] = bool(came or went)
        self.changed = ", ".join(
            [f"{fd} came: {what_is(fd)}" for fd in came] + [f"{fd} went" for fd in went]
        )
        if receipt is None:
            facts["cancelled"] = 1
            return
        facts.update({stage: int(at * 1e9) for stage, at in receipt.stages.items()})
        # When it was requested: no later than this, and all stages have come by now.
        facts["asked"] = facts["ended"] - int(max(receipt.stages.values(), default=0) * 1e9)
        facts["unverifiable"] = sum(1 << _core.STAGES.index(s) for s in receipt.unverifiable)
        facts["outcome"] = index(OUTCOMES, receipt.outcome)
        facts["phase"] = index(PHASES, receipt.phase)
        facts["end"] = index(ENDS, receipt.end)
        facts["held"] = {False: 0, True: 1, None: 2}[receipt.held]
        facts["error"] = -(receipt.error.errno or 0) if receipt.error else 0
        facts["search"] = index(SEARCHES, receipt.search)
        facts["unsent"], facts["unacked"] = receipt.unsent, receipt.unacked
        facts["discarded"], facts["tombstone"] = receipt.discarded, receipt.tombstone
        facts["holders"] = receipt.holder_count
        facts["holder_pid"] = receipt.holders[0].pid if receipt.holders else 0

    def judge(self) -> tuple[str, bool, str]:
        """(rule or "fine", of the clock, what was seen)."""
        self.stage.ask("has")
        self.facts["holder"] = self.holder_pid
        self.let_go()
        self.stage.ask("final")
        facts = " ".join(f"{name}={int(value)}" for name, value in self.facts.items())
        head, seen = self.stage.ask(f"judge {facts}").split("\n", 1)
        if self.changed:
            seen += f"  descriptors: {self.changed}\n"
        rule, clock = head.split()
        return rule, clock == "1", seen


# ---- blocking sockets ----


class Blocking(Play):
    def run(self) -> None:
        sock = self.sock
        if self.tls:
            sock = client_context(self.scene).wrap_socket(sock)
        self.prepare(sock)
        self.begin_close(0)
        self.end_close(finack.close(sock, policy_of(self.scene)))

    def prepare(self, sock: socket.socket) -> None:
        self.stage.ask("met")
        self.stage.ask("begin")
        self.give(sock)
        for _ in range(LOOKS):
            if self.has_settled():
                break
        if self.scene["input"] == "read":
            self.read(sock)
        if self.acts_before():
            self.stage.ask("act")
        if self.scene["input"] == "read":
            self.read(sock)
        self.take_error(sock)
        if self.scene["shut"] != "no":
            how = ("rd", "wr", "rdwr").index(self.scene["shut"])
            with contextlib.suppress(OSError):
                sock.shutdown(how)
        self.set_options()
        self.hold()

    def give(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        data = memoryview(self.bytes_to_write())
        try:
            while data:
                part = data[:16000]
                self.unwritten = len(part) if self.tls else 0
                sent = sock.send(part)
                self.unwritten = 0
                self.written += sent
                data = data[sent:]
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.unwritten = 0
        sock.setblocking(True)

    def read(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            while data := sock.recv(65536):
                self.facts["read"] += len(data)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            pass
        sock.setblocking(True)

    def take_error(self, sock: socket.socket) -> None:
        error = self.scene["error"]
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            if error == "send":
                self.written += sock.send(PATTERN[self.written : self.written + 1])
            elif error == "recv":
                self.facts["read"] += len(sock.recv(1))
            elif error == "so_error":
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        sock.setblocking(True)


# ---- transports ----


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Program(asyncio.Protocol):
    def __init__(self, play: "Transports") -> None:
        self.play = play

    def data_received(self, data: bytes) -> None:
        self.play.facts["read"] += len(data)

    def eof_received(self) -> bool:
        return not self.play.tls


class Asynchronous(Play):
    async def close(self, thing: Any) -> finack.Receipt | None:
        """aclose(), which may be cancelled: then there is no receipt."""
        closing = asyncio.ensure_future(self.aclose(thing, policy_of(self.scene)))
        cancel_ms = int(self.scene["cancel_ms"])
        await asyncio.wait([closing], timeout=None if cancel_ms < 0 else cancel_ms / 1000)
        if not closing.done():
            closing.cancel()
            await asyncio.wait([closing])
            await turns(2)
        return None if closing.cancelled() else closing.result()

    async def aclose(self, thing: Any, policy: finack.Policy) -> finack.Receipt:
        """Until it begins the transport does as it likes: answers the peer's close_notify, say."""
        self.facts["began"] = time.monotonic_ns()
        return await finack.aclose(thing, policy)


class Transports(Asynchronous):
    async def open(self) -> tuple[asyncio.Transport, Any]:
        """The transport, and what is closed."""
        loop = asyncio.get_running_loop()
        self.sock.setblocking(False)
        options: dict[str, Any] = {"sock": self.sock}
        if self.tls:
            options |= {"ssl": client_context(self.scene), "server_hostname": "localhost"}
        unix = self.scene["kind"] == "unix"
        if self.scene["driver"].startswith("py_stream"):
            open_stream = asyncio.open_unix_connection if unix else asyncio.open_connection
            _, writer = await open_stream(**options)
            return writer.transport, writer  # type: ignore[return-value]
        make = loop.create_unix_connection if unix else loop.create_connection
        transport, _ = await make(lambda: Program(self), **options)
        return transport, transport

    async def run(self) -> None:
        transport, thing = await self.open()
        if self.tls:
            await turns(SOME)  # what the handshake has to say is sent in the next one
        self.stage.ask("met")
        if self.scene["input"] == "left":
            transport.pause_reading()
        self.stage.ask("begin")
        self.write(transport, self.bytes_to_write())
        await self.settle()
        if self.acts_before():
            self.stage.ask("act")
        await self.meet_error(transport)
        if self.scene["shut"] == "wr" and transport.can_write_eof() and not transport.is_closing():
            with contextlib.suppress(OSError):
                transport.write_eof()
        if transport.is_closing():
            self.facts["closing"] = 1
        self.set_options()
        self.hold()
        self.begin_close(transport.get_write_buffer_size())
        self.end_close(await self.close(thing))

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        transport.write(data)
        self.written += len(data)

    async def settle(self) -> None:
        for _ in range(LOOKS):
            if self.has_settled():
                break
            await turns(1)

    async def meet_error(self, transport: asyncio.Transport) -> None:
        error = self.scene["error"]
        if error == "send":
            self.write(transport, PATTERN[self.written : self.written + 1])
        if error == "so_error":
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error != "left" or self.scene["input"] == "read":
            await turns(SOME)


# ---- sockets of loop.sock_recv() ----


class Sockets(Asynchronous):
    async def run(self) -> None:
        blocking = Blocking.__new__(Blocking)
        blocking.__dict__ = self.__dict__
        blocking.prepare(self.sock)
        self.sock.setblocking(False)
        reader = asyncio.ensure_future(self.read())
        await turns(1)
        self.begin_close(0)
        receipt = await self.close(self.sock)
        self.end_close(receipt)
        reader.cancel()
        await asyncio.wait([reader])

    async def read(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(self.sock, 65536):
                self.facts["read"] += len(data)


# ---- servers ----


class Servers(Asynchronous):
    def connect(self, text: str, host: int) -> socket.socket:
        self.stage.ask(f"play {host} {text}")
        return socket.create_server(("127.0.0.1", 0))

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        server: asyncio.AbstractServer
        if isinstance(loop, uvloop.Loop):  # doesn't list its connections
            server = await finack.start_server(self.handle, sock=self.sock)
        else:
            server = await loop.create_server(asyncio.Protocol, sock=self.sock)
        before = descriptors()
        host, port = self.sock.getsockname()
        self.stage.ask(f"meet {host} {port}")
        self.stage.ask("met")
        if self.scene["settled"] == "yes":
            await turns(SOME)
        self.hold()
        self.begin_close(0)
        self.before = before | {self.holder_fd} - {-1}
        self.end_close(await self.close(server))
        if self.scene["scope"] == "descriptor":  # its connections live on
            self.facts["left_open"] = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()


# ---- one scene ----


def play(
    stage: Stage, loop: asyncio.AbstractEventLoop, text: str, host: int
) -> tuple[str, bool, str]:
    scene = stage.fields(text)
    try:
        if not scene["driver"].startswith("py_close"):
            kind = {"py_socket": Sockets, "py_server": Servers}.get(scene["driver"], Transports)
            played: Play = kind(stage, scene, text, host)
            loop.run_until_complete(played.run())  # type: ignore[attr-defined]
        else:
            blocking = Blocking(stage, scene, text, host)
            played = blocking
            blocking.run()
    except Exception:
        seen = traceback.format_exc()
        stage.ask("final")
        return "raised", False, seen
    return played.judge()


def again(
    stage: Stage, loop: asyncio.AbstractEventLoop, text: str, rule: str, hosts: Iterator[int]
) -> int:
    """How often of TRIES it breaks that rule."""
    return sum(play(stage, loop, text, next(hosts))[0] == rule for _ in range(TRIES))


def reduce(
    stage: Stage,
    loop: asyncio.AbstractEventLoop,
    text: str,
    rule: str,
    enough: int,
    hosts: Iterator[int],
) -> str:
    """The scene with everything taken away that it does not need."""
    end = time.monotonic() + 8
    for word in text.split():
        less = " ".join(other for other in text.split() if other != word)
        if word.startswith("driver=") or time.monotonic() > end:
            continue
        if again(stage, loop, less, rule, hosts) >= enough:
            text = less
    return text


# ---- workers ----


class Worker:
    """Has a loop and a stage, and sends what it finds up a pipe."""

    def __init__(self, program: str, name: str, pipe: "multiprocessing.connection.Connection"):
        warnings.simplefilter("ignore")
        self.stage = Stage(program)
        self.name, self.pipe = name, pipe
        self.loop = LOOPS[name]()
        asyncio.set_event_loop(self.loop)
        self.hosts = iter(range(os.getpid() << 8, 1 << 40))
        self.warm_up()

    def warm_up(self) -> None:
        """EventLoop keeps what it opens for the first proof of a kind."""
        play(self.stage, self.loop, "kind=tcp driver=py_aclose proof=gone", next(self.hosts))

    def judge(self, text: str, told: set[str]) -> dict[str, Any]:
        rule, clock, seen = play(self.stage, self.loop, text, next(self.hosts))
        enough = TRIES if clock else 1
        if clock and again(self.stage, self.loop, text, rule, self.hosts) < enough:
            rule = "fine"  # the machine was busy
        found = {"loop": self.name, "scene": text, "rule": rule, "seen": seen}
        if rule != "fine" and rule not in told:
            told.add(rule)
            found["reduced"] = reduce(self.stage, self.loop, text, rule, min(enough, 2), self.hosts)
        return found

    def draw(self, seconds: float, seed: int, first: int, step: int, part: str) -> None:
        end, index, told = time.monotonic() + seconds, first, set[str]()
        while time.monotonic() < end:
            text = self.stage.ask(f"draw {seed} {index} {part}")
            self.pipe.send({"begin": f"{self.name} {index}: {text}"})
            found = self.judge(text, told)
            self.pipe.send(found | {"index": index})
            index += step
        self.pipe.send({"done": True})

    def listed(self, scenes: list[str]) -> None:
        for text in scenes:
            self.pipe.send({"begin": f"{self.name}: {text}"})
            self.pipe.send(self.judge(text, {"nothing is reduced"}) | {"name": text})
        self.pipe.send({"done": True})

    def close(self) -> None:
        self.loop.close()
        self.stage.close()


def work(
    program: str, name: str, pipe: "multiprocessing.connection.Connection", method: str, *args: Any
) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    worker = Worker(program, name, pipe)
    getattr(worker, method)(*args)
    worker.close()


class Crew:
    """The workers, and what they found."""

    def __init__(self) -> None:
        self.pipes: dict[multiprocessing.connection.Connection, Any] = {}
        self.doing: dict[Any, tuple[str, float]] = {}
        self.closes = 0
        self.counts: dict[str, int] = {}

    def start(self, program: str, name: str, method: str, *args: Any) -> None:
        ours, theirs = multiprocessing.Pipe(False)
        process = multiprocessing.Process(
            target=work, args=(program, name, theirs, method, *args), daemon=True
        )
        process.start()
        theirs.close()
        self.pipes[ours] = process

    def results(self) -> Iterator[dict[str, Any]]:
        """Everything that is found, and what hangs."""
        while self.pipes:
            for pipe in multiprocessing.connection.wait(list(self.pipes), 1.0):
                message = self.receive(pipe)
                if "begin" in message:
                    self.doing[pipe] = message["begin"], time.monotonic()
                elif "done" in message:
                    self.pipes.pop(pipe)  # type: ignore[call-overload]
                    self.doing.pop(pipe, None)
                else:
                    yield message
            yield from self.hanging()

    def receive(self, pipe: Any) -> dict[str, Any]:
        try:
            return dict(pipe.recv())
        except EOFError:
            self.pipes.pop(pipe)
            doing, _ = self.doing.pop(pipe, ("nothing", 0.0))
            return {"loop": "?", "scene": doing, "rule": "crashed", "seen": ""}

    def hanging(self) -> Iterator[dict[str, Any]]:
        for pipe, (doing, since) in list(self.doing.items()):
            if time.monotonic() - since > HANG * 12:  # a reduction takes long too
                self.pipes.pop(pipe).kill()
                self.doing.pop(pipe)
                yield {"loop": "?", "scene": doing, "rule": "hangs", "seen": ""}


def tell(found: dict[str, Any], seed: int) -> None:
    print(
        f"CONTRADICTION {found['rule']}: {found['loop']}, seed {seed}, close {found.get('index')}"
    )
    print(f"  scene: {found['scene']}\n{found['seen']}", end="")
    if "reduced" in found:
        print(f"  reduced: {found['reduced']!r}")
    sys.stdout.flush()


def play_many(program: str, seconds: float, seed: int, part: str) -> int:
    crew, count = Crew(), len(LOOPS) * WORKERS_A_LOOP
    for i, name in enumerate(list(LOOPS) * WORKERS_A_LOOP):
        crew.start(program, name, "draw", seconds, seed, i, count, part)
    for found in crew.results():
        crew.closes += 1
        if found["rule"] == "fine":
            continue
        crew.counts[found["rule"]] = crew.counts.get(found["rule"], 0) + 1
        if crew.counts[found["rule"]] == 1 or "reduced" in found:
            tell(found, seed)
    print(f"seed {seed}: {crew.closes} closes; {sum(crew.counts.values())} contradictions")
    for rule, times in crew.counts.items():
        print(f"  {times:6} {rule}")
    return bool(crew.counts)


def play_listed(program: str, scenes: list[str]) -> int:
    crew, bad = Crew(), 0
    parts = {
        name: [s for s in scenes if "py_close" not in s or name == "EventLoop"] for name in LOOPS
    }
    print(f"1..{sum(map(len, parts.values()))}")
    for name, part in parts.items():
        for i in range(WORKERS_A_LOOP):
            crew.start(program, name, "listed", part[i::WORKERS_A_LOOP])
    for number, found in enumerate(crew.results(), 1):
        good = found["rule"] == "fine"
        bad += not good
        print("ok" if good else "not ok", number, "-", f"{found['loop']}: {found['scene']}")
        if not good:
            print("#", found["rule"], *found["seen"].splitlines(), sep="\n# ")
        sys.stdout.flush()
    return bool(bad)


def play_one(program: str, text: str, times: int) -> int:
    crew, bad = Crew(), 0
    for name in LOOPS:
        crew.start(program, name, "listed", [text] * times)
    shown: set[str] = set()
    for found in crew.results():
        bad += found["rule"] != "fine"
        if (key := f"{found['loop']}: {found['rule']}") not in shown:
            shown.add(key)
            print(key, found["seen"], sep="\n", end="")
    print(f"{bad} of {times * len(LOOPS)} plays contradicted")
    return bool(bad)


def main() -> int:
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    program, *rest = sys.argv[1:]
    if rest[0] == "--scenes":
        with open(rest[1]) as file:
            return play_listed(program, [line.strip() for line in file if line.strip()])
    if "=" in rest[0]:
        return play_one(program, rest[0], int(rest[1]) if len(rest) > 1 else 5)
    return play_many(program, float(rest[0]), int(rest[1]), " ".join(rest[2:]))


if __name__ == "__main__":
    sys.exit(main())
