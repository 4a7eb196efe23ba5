# SPDX-License-Identifier: MIT
"""loop.sendfile() on EventLoop: by the kernel, or block by block."""

import asyncio
import concurrent.futures
import io
import os
from pathlib import Path
from typing import Any

import pytest
from asyncio_lab import Recorder

import finack

BOUND = 30


class Writer(Recorder):
    """Notes what it is told of its transport's buffer, too."""

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


class AtOnce(concurrent.futures.ThreadPoolExecutor):
    """Without a thread, so that a number of turns is enough for a block to be read."""

    def submit(self, call: Any, /, *args: Any, **more: Any) -> concurrent.futures.Future[Any]:
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()
        done.set_result(call(*args, **more))
        return done


class File(io.BytesIO):
    """Notes where it was read."""

    at = 0

    def read(self, size: int | None = -1) -> bytes:
        self.at = self.tell()
        return super().read(size)


async def connected() -> tuple[asyncio.Transport, Writer, Any, Any]:
    """A transport, its protocol, and the streams of the other end."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Any] = loop.create_future()
    server = await asyncio.start_server(lambda *pair: accepted.set_result(pair), "127.0.0.1", 0)
    transport, recorder = await loop.create_connection(Writer, *server.sockets[0].getsockname())
    server.close()
    return transport, recorder, *await accepted


def test_sendfile(tmp_path: Path) -> None:
    """The kernel sends it while the loop reads nothing; afterwards that is as it was."""
    content = os.urandom(1 << 20)
    path = tmp_path / "file"
    path.write_bytes(content)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[Any] = loop.create_future()
        server = await asyncio.start_server(lambda *pair: accepted.set_result(pair), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        their_reader, their_writer = await accepted
        transport: Any = writer.transport
        for reads in (True, False):
            if not reads:
                transport.pause_reading()
            writer.write(b"begin")
            with path.open("rb") as file:
                sending = loop.sendfile(transport, file, 100)
                sent, got = await asyncio.gather(
                    sending, their_reader.readexactly(len(content) - 95)
                )
            assert (sent, got) == (len(content) - 100, b"begin" + content[100:])
            assert transport.is_reading() is reads
        their_writer.write(b"answer")
        transport.resume_reading()
        assert await reader.readexactly(6) == b"answer"
        receipts = await asyncio.gather(finack.aclose(writer), finack.aclose(their_writer))
        assert [receipt.outcome for receipt in receipts] == ["graceful"] * 2
        server.close()

    finack.run(main())


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("count", [None, 16 << 20])
def test_sendfile_of_what_is_no_file(count: int | None, reads: bool) -> None:
    """It is read and written, as fast as the other end takes it."""
    content = os.urandom(24 << 20)

    async def main() -> None:
        transport, _, reader, writer = await connected()
        if not reads:
            transport.pause_reading()
        file, loop = io.BytesIO(content), asyncio.get_running_loop()
        loop.set_default_executor(AtOnce())
        size = count or len(content) - 100
        transport.set_write_buffer_limits(high=1000)
        sending = asyncio.ensure_future(loop.sendfile(transport, file, 100, count))
        while not transport.get_write_buffer_size():  # the other end reads nothing yet
            await asyncio.sleep(0)
        for _ in range(10):  # it waits for room
            await asyncio.sleep(0)
        both = asyncio.gather(sending, reader.readexactly(size))
        sent, got = await asyncio.wait_for(both, BOUND)
        assert (sent, file.tell()) == (size, 100 + size)
        assert got == content[100 : 100 + size]
        assert transport.is_reading() is reads
        await asyncio.gather(finack.aclose(transport), finack.aclose(writer))

    finack.run(main())


def test_sendfile_leaves_a_full_transport() -> None:
    """The program's protocol is told so, and of the room that there is later."""

    async def main() -> None:
        transport, recorder, reader, writer = await connected()
        transport.set_write_buffer_limits(high=1000)
        block = bytes(16384)  # is written at once
        while "pause" not in recorder.calls:
            await asyncio.get_running_loop().sendfile(transport, io.BytesIO(block))
        while "resume" not in recorder.calls:
            await reader.read(1 << 20)
        assert recorder.calls == ["made", "pause", "resume"]
        transport.abort()
        writer.transport.abort()

    finack.run(main())


@pytest.mark.parametrize("end", ["reset", "closed by the program"])
def test_sendfile_and_the_end_of_its_connection(end: str) -> None:
    """It fails, the file is behind what was written, and the program's protocol told of the end."""

    async def main() -> None:
        transport, recorder, _, writer = await connected()
        file = File(bytes(16 << 20))
        sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(transport, file))
        while not transport.get_write_buffer_size():
            await asyncio.sleep(0)
        (writer.transport if end == "reset" else transport).abort()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sending, BOUND)
        assert 0 < file.at == file.tell() < 16 << 20  # the last block was not written
        writer.transport.abort()
        assert recorder.calls == ["made", "lost"]

    finack.run(main())
