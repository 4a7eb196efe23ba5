# SPDX-License-Identifier: MIT
"""Connections treated at random, against a model of the order in which asyncio calls a protocol.

    sequences.py COUNT [SEED] [stock]

A sequence is a connection, both ends in one loop, with what a program may do to them between turns
and inside callbacks: write, pause, close, abort, another protocol, exceptions. Some begin with
start_tls() by both ends, which the program may cut short. COUNT of them run for each of some
policies. What breaks the model is shown with the number of its sequence;
`sequences.py COUNT SEED` does the same again. With `stock` it is asyncio's own loop that is held to
the model, but for what only EventLoop promises: no end of the stream behind dropped bytes, and one
receipt for each transport.
"""

import asyncio
import contextlib
import os
import pathlib
import random
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from peers import Certificate

import finack

SIZES = (1, 100, 70_000, 500_000)
LIMITS = ((65_536, 16_384), (100_000, 90_000), (400_000, 390_000))
PATIENCE = 30.0  # seconds for a sequence to end
FAREWELL = 0.02  # seconds that an end of TLS waits for the other, which may not read
POLICIES = (
    finack.CLOSE_POLICY,
    finack.Policy(),
    finack.Policy(courtesy="prompt", proof="released"),
)


class Wrong(Exception):
    """The model does not allow it."""


class End:
    """One end of a connection: its transport, what was called, and what may be called next."""

    def __init__(self, chaos: random.Random, name: str) -> None:
        self.chaos, self.name = chaos, name
        self.transport: Any = None
        self.calls: list[str] = []
        self.inside = 0  # calls of the program that must not call back for an end
        self.least = self.most = self.received = 0  # bytes: what was certainly sent, what maybe was
        self.unix = self.failed = False
        self.secure = ""  # "waits" for the handshake, by "c" or by "sslproto", has "failed"
        self.peer: End | None = None

    def note(self, call: str, wrong: bool = False) -> None:
        self.calls.append(call)
        if wrong or "lost" in self.calls[:-1]:
            raise Wrong(f"{self.name}: {call} after {self.calls[-12:-1]}")

    def has(self, call: str) -> bool:
        return call in self.calls

    def act(self) -> None:
        """One thing that a program may do."""
        if self.transport is None:
            return
        action: Callable[[], None] = self.chaos.choice(self.actions())
        self.inside += 1
        try:
            action()
        finally:
            self.inside -= 1

    def actions(self) -> list[Callable[[], None]]:
        if self.secure == "sslproto" and self.transport.is_closing():
            return [self.close]  # all else fails there
        if self.secure == "waits":  # what is written would be a part of the handshake
            return [self.close, self.abort, self.give_away]
        actions = [self.write] * 4
        actions += [self.lines, self.pause, self.resume, self.resume]
        actions += [self.close, self.close, self.abort, self.give_away, self.other_protocol]
        return [*actions, self.limit, *([] if self.secure else [self.write_eof])]

    async def start_tls(self, server_side: bool) -> None:
        """An end that is cut in the handshake is over with that: asyncio gives None back then."""
        made = None
        with contextlib.suppress(OSError):
            made = await asyncio.get_running_loop().start_tls(
                self.transport,
                self.transport.get_protocol(),
                CONTEXTS[server_side],
                server_side=server_side,
                server_hostname=None if server_side else "localhost",
                ssl_handshake_timeout=PATIENCE,
                ssl_shutdown_timeout=FAREWELL,
            )
        if made is None:
            self.secure = "failed"
        else:
            self.secure = "c" if made is self.transport else "sslproto"
            self.transport = made

    def is_over(self) -> bool:
        return self.has("lost") or self.secure == "failed"

    def sends(self, size: int) -> None:
        self.most += size
        self.least += 0 if self.transport.is_closing() else size

    def write(self) -> None:
        size = self.chaos.choice(SIZES)
        if self.may_write():
            self.sends(size)
            self.transport.write(bytes(size))

    def may_write(self) -> bool:
        """asyncio's own transports of 3.13 fail when they are written to after their end."""
        return not self.has("write_eof") and (STRICT or not self.transport.is_closing())

    def lines(self) -> None:
        if self.may_write():
            lines = [b"12345"] * self.chaos.choice([2, 70])
            self.sends(5 * len(lines))
            self.transport.writelines(lines)

    def write_eof(self) -> None:
        if not self.transport.is_closing():
            self.calls.append("write_eof")
            try:
                self.transport.write_eof()
            except OSError:  # the peer was faster
                self.failed = True

    def pause(self) -> None:
        self.transport.pause_reading()
        if not self.transport.is_closing():
            self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")
        self.transport.resume_reading()

    def close(self) -> None:
        self.calls.append("close")
        self.transport.close()

    def abort(self) -> None:
        self.calls.append("abort")
        # sslproto of the first 3.11 forgets what is below it in a second close(), and raises here.
        if getattr(self.transport, "_ssl_protocol", self) is not None:
            self.transport.abort()

    def give_away(self) -> None:
        self.transport.get_extra_info("socket")

    def limit(self) -> None:
        """High ones have the protocol called while much is left to be sent."""
        self.transport.set_write_buffer_limits(*self.chaos.choice(LIMITS))

    def other_protocol(self) -> None:
        self.transport.set_protocol(Side(self))

    def reads(self) -> bool:
        """By what the program has asked for last."""
        asked = [call for call in self.calls if call in ("pause", "resume")]
        return not asked or asked[-1] == "resume"


class Side(asyncio.Protocol):
    """A protocol, of which an end may have several."""

    def __init__(self, end: End) -> None:
        self.end = end

    def disturb(self) -> None:
        """What a program may do in a callback."""
        end = self.end
        if end.chaos.random() < 0.15 and end.secure != "waits":
            end.act()
        if end.chaos.random() < 0.05:
            end.failed = True
            raise ZeroDivisionError

    def connection_made(self, transport: Any) -> None:
        end = self.end
        end.note("made", bool(end.calls))
        end.transport = transport
        sock = transport.get_extra_info("socket")
        end.fd = sock.fileno()  # type: ignore[attr-defined]
        if end.chaos.random() < 0.5:  # so that the transport has something to buffer
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.disturb()

    def data_received(self, data: bytes) -> None:
        end = self.end
        end.received += len(data)
        wrong = end.has("close") or not end.reads() or end.inside > 0
        wrong = wrong and end.secure != "sslproto"  # whose close() reads what has come
        end.note("data", wrong or not end.has("made") or end.has("eof"))
        self.disturb()

    def eof_received(self) -> bool:
        end, peer = self.end, self.end.peer
        in_python = end.secure == "sslproto"
        wrong = not in_python and (not end.reads() or end.inside > 0)
        end.note("eof", end.has("eof") or wrong)
        # A Unix socket can't be reset; sslproto tells of a truncated stream as of one that ended.
        cut = in_python or (end.unix and peer and (peer.failed or peer.has("abort")))
        if peer and STRICT and not cut and not peer.least <= end.received <= peer.most:
            raise Wrong(f"{end.name}: {end.received} bytes of {peer.least} to {peer.most} and EOF")
        self.disturb()
        return end.chaos.random() < 0.3 and not end.secure  # where it has no effect

    def pause_writing(self) -> None:
        flow = [call for call in self.end.calls if call.endswith("_writing")]
        self.end.note("pause_writing", flow[-1:] == ["pause_writing"])

    def resume_writing(self) -> None:
        flow = [call for call in self.end.calls if call.endswith("_writing")]
        self.end.note("resume_writing", flow[-1:] != ["pause_writing"])
        if self.end.chaos.random() < 0.3:
            self.end.abort()
        self.disturb()

    def connection_lost(self, error: BaseException | None) -> None:
        end = self.end
        end.note("lost", not end.has("made") or end.inside > 0)
        if end.secure != "sslproto":  # which tells it a turn later
            os.fstat(end.fd)  # type: ignore[attr-defined]
        self.disturb()


class Sequence:
    """One connection from its making to both receipts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, chaos: random.Random) -> None:
        self.loop, self.chaos = loop, chaos
        self.ends = [End(chaos, "client"), End(chaos, "server")]
        self.ends[0].peer, self.ends[1].peer = self.ends[1], self.ends[0]

    async def connect(self, server: "Listening") -> None:
        if self.chaos.random() < 0.3:
            for end, sock in zip(self.ends, socket.socketpair(), strict=True):
                end.unix = True
                await self.loop.create_connection(lambda end=end: Side(end), sock=sock)  # type: ignore[misc]
            return
        server.waiting.append(self.ends[1])
        await self.loop.create_connection(lambda: Side(self.ends[0]), *server.address)

    async def start_tls(self) -> None:
        while not all(end.has("made") for end in self.ends):
            await asyncio.sleep(0)
        handshakes = [asyncio.create_task(end.start_tls(end is self.ends[1])) for end in self.ends]
        while not all(handshake.done() for handshake in handshakes):
            if self.chaos.random() < 0.02:
                self.chaos.choice(self.ends).act()
            await asyncio.sleep(0)
        await asyncio.gather(*handshakes)

    async def run(self, server: "Listening") -> None:
        if self.chaos.random() < 0.2:
            for end in self.ends:
                end.secure = "waits"
        await self.connect(server)
        if self.ends[0].secure:
            await self.start_tls()
        for _ in range(self.chaos.randrange(12)):
            self.chaos.choice(self.ends).act()
            for _ in range(self.chaos.choice((0, 0, 1, 2, 5))):
                await asyncio.sleep(0)
        await self.end()

    async def end(self) -> None:
        """Whatever is open yet is closed, some by aclose()."""
        deadline = time.monotonic() + PATIENCE
        while not all(end.is_over() for end in self.ends):
            for end in self.ends:
                if end.transport is not None and not end.transport.is_closing():
                    await self.finish(end)
                elif end.transport is not None and self.chaos.random() < 0.2:
                    end.abort()
            await asyncio.sleep(0.0005)
            if time.monotonic() > deadline:
                raise Wrong(f"no end: {[(end.name, end.calls[-12:]) for end in self.ends]}")

    async def finish(self, end: End) -> None:
        end.calls.append("close")
        if STRICT and end.secure != "sslproto" and self.chaos.random() < 0.5:
            await finack.aclose(end.transport, finack.Policy(flush=0.01, linger=0.01))
        else:
            end.transport.close()


class Listening:
    """The server; who connects says which end it is."""

    waiting: list[End]

    async def start(self) -> None:
        self.waiting = []
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Side(self.waiting.pop()), "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()


STRICT = True


async def run(count: int, seed: int, receipts: list[finack.Receipt]) -> None:
    loop, problems = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: problems.append(context.get("exception")))
    server = Listening()
    await server.start()
    for number in range(count):
        sequence = Sequence(loop, random.Random(f"{seed} {number}"))
        receipts.clear()
        try:
            await sequence.run(server)
            await settle(receipts)
        except Wrong as wrong:
            problems.append(wrong)
        wrongs = [one for one in problems if not isinstance(one, ZeroDivisionError | OSError)]
        if wrongs:
            calls = "\n".join(f"{end.name} {end.secure}: {end.calls[:80]}" for end in sequence.ends)
            raise SystemExit(f"seed {seed}, sequence {number}: {wrongs[0]!r}\n{calls}")
        problems.clear()
    server.server.close()


async def settle(receipts: list[finack.Receipt]) -> None:
    deadline = time.monotonic() + PATIENCE
    while STRICT and len(receipts) < 2 and time.monotonic() < deadline:
        await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    if STRICT and len(receipts) != 2:
        raise Wrong(f"{len(receipts)} receipts of two transports")


def contexts() -> list[ssl.SSLContext]:
    """A client's, a server's."""
    with tempfile.TemporaryDirectory() as folder:
        certificate = Certificate.make(pathlib.Path(folder))
        return [certificate.client_context(), certificate.server_context()]


CONTEXTS = contexts()


def main() -> None:
    global STRICT
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    STRICT = "stock" not in sys.argv
    receipts: list[finack.Receipt] = []
    for part, policy in enumerate(POLICIES if STRICT else POLICIES[:1]):
        with asyncio.Runner(
            loop_factory=(
                lambda policy=policy: finack.EventLoop(  # type: ignore[misc]
                    close_policy=policy, on_closed=receipts.append
                )
            )
            if STRICT
            else asyncio.SelectorEventLoop
        ) as runner:
            runner.run(run(count, seed + part, receipts))
    print(f"{count} sequences a policy, seed {seed}")


if __name__ == "__main__":
    main()
