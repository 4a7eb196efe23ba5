# SPDX-License-Identifier: MIT
"""aclose() of pipes and subprocesses, on every loop."""

import asyncio
import dataclasses
import errno
import gc
import os
import select
import socket
from asyncio.subprocess import DEVNULL, PIPE, SubprocessStreamProtocol
from typing import Any

import pytest
from asyncio_lab import PATIENT, QUICK, Recorder, Run, no_descriptors

import finack
from finack._close.at_work import MANY
from finack._close.remembered import remembered


def test_pipe(run: Run) -> None:
    """What is buffered arrives, and then the end."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        size = 1 << 20
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb"))
        transport.write(bytes(size))
        close = asyncio.create_task(finack.aclose(transport, PATIENT))
        with os.fdopen(reading, "rb") as file:
            assert len(await asyncio.to_thread(file.read)) == size
        receipt = await close
        assert (receipt.outcome, receipt.end, receipt.held) == ("graceful", "none", False)
        assert "flushed" in receipt.stages
        assert receipt.socket.startswith("pipe")
        assert await finack.aclose(transport) is receipt

    run(main())


def test_pipe_where_calls_that_may_block_are_forbidden(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some suites have it: its name is known all the same."""

    def forbidden(*_: Any, **__: Any) -> Any:
        raise RuntimeError("this call may block")

    async def main() -> None:
        reading, writing = os.pipe()
        inode = os.fstat(writing).st_ino
        file = os.fdopen(writing, "wb")
        with monkeypatch.context() as patch:
            for name in ("readlink", "getcwd", "stat", "listdir", "scandir"):
                patch.setattr(os, name, forbidden)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, file)
            receipt = await finack.aclose(transport, PATIENT)
        assert (receipt.outcome, receipt.socket) == ("graceful", f"pipe:[{inode}]")
        os.close(reading)

    run(main())


def test_pipe_that_nobody_reads(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb"))
        transport.write(bytes(1 << 20))
        receipt = await finack.aclose(transport, QUICK)
        assert (receipt.outcome, receipt.phase) == ("timed_out", "flush")
        assert receipt.unsent > 0
        with pytest.raises(OSError):
            os.fstat(writing)
        os.close(reading)

    run(main())


def test_pipe_whose_reader_ends(run: Run) -> None:
    """What was buffered is lost, and the receipt says so."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb"))
        transport.write(bytes(1 << 20))
        close = asyncio.create_task(finack.aclose(transport, PATIENT))
        await asyncio.sleep(0)
        os.close(reading)
        receipt = await close
        assert receipt.outcome == "reset"
        assert receipt.unsent > 0

    run(main())


@pytest.mark.parametrize("whole", [True, False])
def test_subprocess_that_wants_no_more_input(run: Run, whole: bool) -> None:
    """What was buffered is lost: the transport of its stdin had found that out by itself."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: SubprocessStreamProtocol(1 << 16, loop),
            *("sh", "-c", "head --bytes=1; exec <&-; exec sleep 60"),
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=None,
        )
        assert protocol.stdin
        protocol.stdin.write(bytes(1 << 20))
        with pytest.raises(OSError) as lost:
            await protocol.stdin.wait_closed()
        receipt = await finack.aclose(transport if whole else protocol.stdin, QUICK)
        assert receipt.outcome == "reset"
        assert type(receipt.error) is type(lost.value)
        await finack.aclose(transport, QUICK)

    run(main())


@pytest.mark.parametrize("unread", [True, False])
def test_writer_ends_by_itself_and_no_descriptor_is_left(run: Run, unread: bool) -> None:
    """Its transport watches for the reader's end, and closes the close's only descriptor."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, reader = socket.socketpair()
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, ours)
        transport.write(b"hello")
        fin = select.poll()
        fin.register(reader, select.POLLRDHUP)
        with no_descriptors():
            close = asyncio.create_task(finack.aclose(transport, PATIENT))
            while not fin.poll(0):
                await asyncio.sleep(0)
            if not unread:
                reader.recv(9)
            reader.close()
            receipt = await close
        # Whether it had read everything can't be known any more.
        assert (receipt.outcome, receipt.end) == ("error", "kernel")
        assert receipt.error and receipt.error.errno == errno.ENOTCONN
        assert "eof" not in receipt.stages

    run(main())


def test_pipe_that_is_read(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        transport, recorder = await loop.connect_read_pipe(Recorder, os.fdopen(reading, "rb"))
        watch = asyncio.create_task(finack.closed(transport))
        os.write(writing, b"unread")
        receipt = await finack.aclose(transport)
        assert recorder.calls[-1] == "lost"
        assert await watch is receipt
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")
        os.close(writing)

    run(main())


def test_input_of_a_subprocess(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert process.stdin and process.stdout
        process.stdin.write(b"hello")
        receipt = await finack.aclose(process.stdin, PATIENT)
        assert receipt.outcome == "graceful"
        assert await process.stdout.read() == b"hello"
        assert await process.wait() == 0

    run(main())


@pytest.mark.parametrize("policy", [PATIENT, QUICK, finack.Policy(courtesy="abort")])
def test_subprocess(run: Run, policy: finack.Policy) -> None:
    """It has the policy's time to end by itself once its input is over."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        command = ["cat"] if policy is PATIENT else ["sleep", "60"]
        transport, protocol = await loop.subprocess_exec(
            Subprocess, *command, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        stdin: Any = transport.get_pipe_transport(0)
        stdin.write(b"hello")
        receipt = await finack.aclose(transport, policy)
        assert protocol.calls[-1] == "lost"
        assert receipt.socket == f"subprocess {transport.get_pid()}"
        if policy is PATIENT:
            assert (receipt.outcome, protocol.received) == ("graceful", b"hello")
            assert transport.get_returncode() == 0
        else:
            assert receipt.outcome == ("timed_out" if policy is QUICK else "aborted")
            assert transport.get_returncode() == -9
        assert await finack.aclose(transport) is receipt

    run(main())


@dataclasses.dataclass
class Equal(asyncio.SubprocessProtocol):
    """No key of a dictionary."""


@pytest.mark.parametrize("protocol", [asyncio.SubprocessProtocol, Equal])
def test_subprocess_whose_protocol_says_nothing_of_it(run: Run, protocol: Any) -> None:
    """It takes no weak references, as what has slots, or is no key."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(protocol, "cat", stdin=PIPE, stdout=PIPE)
        assert (await finack.aclose(transport, PATIENT)).outcome == "graceful"
        assert transport.get_returncode() == 0
        # On uvloop's nothing is kept, and what is closed can be asked for no more.
        expected = "prompt" if run.loop == "uvloop" else "graceful"
        assert (await finack.closed(transport)).outcome == expected

    run(main())


NO_PIPES: Any = {"stdin": None, "stdout": None, "stderr": None}


@pytest.mark.parametrize("at_once", [False, True])
def test_subprocesses_with_one_protocol(run: Run, at_once: bool) -> None:
    """Each is closed, and has a receipt of its own."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        shared = Subprocess()
        started = [await loop.subprocess_exec(lambda: shared, "cat", stdin=PIPE) for _ in range(3)]
        transports = [transport for transport, _ in started]
        closes = [finack.aclose(transport, PATIENT) for transport in transports]
        receipts = await asyncio.gather(*closes) if at_once else [await close for close in closes]
        for transport, receipt in zip(transports, receipts, strict=True):
            assert transport.get_returncode() == 0
            assert receipt.socket == f"subprocess {transport.get_pid()}"
            assert await finack.aclose(transport) is receipt

    run(main())


def test_many_subprocesses_with_one_protocol(run: Run) -> None:
    """What is remembered of them has a bound."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        shared = Subprocess()
        before = len(remembered)
        for _ in range(MANY + 20):
            transport, _ = await loop.subprocess_exec(lambda: shared, "/bin/true", **NO_PIPES)
            await finack.aclose(transport, PATIENT)
        del transport
        gc.collect()
        assert len(remembered) - before <= MANY

    run(main())


def test_subprocess_with_two_who_close_it_and_one_is_cancelled(run: Run) -> None:
    """The other one is told that it was killed."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(Subprocess, "sleep", "1000", stdin=PIPE)
        first = asyncio.create_task(finack.aclose(transport, PATIENT))
        second = asyncio.create_task(finack.aclose(transport, PATIENT))
        for _ in range(10):
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (await asyncio.wait_for(first, 20)).outcome == "aborted"
        assert transport.get_returncode() == -9

    run(main())


class Subprocess(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received = b""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        self.calls.append("lost")
