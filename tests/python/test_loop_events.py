# SPDX-License-Identifier: MIT
"""No event is lost and no call waits, whatever the program or its memory comes to."""

import asyncio
import logging
import pathlib
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from peers import Certificate

import finack

BOUND = 30
WRITES = 9


def run_alone(program: str) -> None:
    """In a process of its own, which may come to a standstill."""
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=BOUND
    )
    assert done.stdout == "done\n"


# ---- no memory ----

NO_MEMORY = """
import _testcapi, asyncio, contextlib, socket
import finack

loop = finack.EventLoop()
loop.stop()  # a turn does not wait
turn = loop._run_once
PLACES = 64  # in the loop's queue, before it has to grow
got, made = [], []

class Counting(asyncio.Protocol):
    def connection_made(self, transport):
        made.append(transport)
    def data_received(self, data):
        got.append(data)

def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport = loop._make_socket_transport(ours, Counting())
    turn()
    return transport, theirs

def listen():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    loop._start_serving(Counting, listener)
    return listener

def without_memory(call):
    _testcapi.set_nomemory(0)
    try:
        call()
    except MemoryError:
        return
    finally:
        _testcapi.remove_mem_hooks()
    raise AssertionError("there was no need of memory")
"""


def test_no_event_of_a_batch_is_lost() -> None:
    """The loop's queue can't grow: what it can't take is asked for again."""
    run_alone(
        NO_MEMORY
        + """
pairs = [pair() for _ in range(PLACES - 10)]
listeners = [listen() for _ in range(PLACES - 10)]
turn()
del made[:]
clients = [socket.create_connection(listener.getsockname()) for listener in listeners]
for _, theirs in pairs:
    theirs.send(b"x")
without_memory(turn)
for _ in range(5):
    turn()
assert len(got) == len(pairs), len(got)
assert len(made) == len(clients), len(made)
print("done")
"""
    )


def test_what_was_put_off_is_not_lost() -> None:
    """A transport that can't be queued, outside of any batch, is told of its events once more."""
    run_alone(
        NO_MEMORY
        + """
transport, theirs = pair()
transport.pause_reading()
theirs.send(b"x")
turn()
for _ in range(PLACES):
    loop.call_soon(id, 1)
without_memory(transport.resume_reading)
for _ in range(3):
    turn()
assert got == [b"x"], got
print("done")
"""
    )


# ---- what somebody has made blocking ----


def test_a_listener_that_somebody_made_blocking() -> None:
    """The loop accepts what there is, and waits for more together with all else."""
    run_alone("""
import asyncio, os, time
import finack

async def echo(reader, writer):
    writer.write(await reader.read(1))
    await reader.read()
    writer.close()

async def use(address):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    writer.close()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await use(address)
    os.set_blocking(server.sockets[0].fileno(), True)
    until = time.monotonic() + 0.002  # so long the loop believes what it saw
    while time.monotonic() < until:
        await asyncio.sleep(0)
    for _ in range(3):
        await use(address)
    await asyncio.gather(*(use(address) for _ in range(20)))
    server.close()

finack.run(main())
print("done")
""")


def test_datagrams_by_a_socket_that_somebody_made_blocking(tmp_path: pathlib.Path) -> None:
    """To a Unix socket that takes no more."""
    run_alone(f"""
import asyncio, os, socket
import finack

async def main():
    loop = asyncio.get_running_loop()
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    theirs.bind({str(tmp_path / "peer")!r})
    theirs.setblocking(False)
    ours.setblocking(False)
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=ours)
    os.set_blocking(ours.fileno(), True)
    count = 0
    while transport.get_write_buffer_size() == 0:
        transport.sendto(b"x", theirs.getsockname())
        count += 1
    for _ in range(count):
        await loop.sock_recv(theirs, 1)
    transport.close()
    theirs.close()

finack.run(main())
print("done")
""")


# ---- writes that are lost ----


class Idle(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set()


async def plain(_: Certificate) -> tuple[Any, Idle, Callable[[], None]]:
    ours, theirs = socket.socketpair()
    transport, idle = await asyncio.get_running_loop().create_connection(Idle, sock=ours)
    return transport, idle, theirs.close


async def secure(files: Certificate) -> tuple[Any, Idle, Callable[[], None]]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=files.server_context())
    transport, idle = await loop.create_connection(
        Idle,
        *server.sockets[0].getsockname(),
        ssl=files.client_context(),
        server_hostname="localhost",
    )
    return transport, idle, server.close


@pytest.mark.parametrize("connect", [plain, secure])
@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("later", [False, True])
def test_writes_to_a_lost_connection_are_told_of_as_in_asyncio(
    connect: Any, end: str, later: bool, files: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    """After as many writes, in the same words, before connection_lost() and after it."""

    async def main() -> list[list[str]]:
        transport, idle, finish = await connect(files)
        getattr(transport, end)()
        if later:
            await idle.lost.wait()
        told = []
        for _ in range(WRITES):
            caplog.clear()
            transport.write(b"lost")
            told.append([record.getMessage() for record in caplog.records])
        await idle.lost.wait()
        finish()
        return told

    with caplog.at_level(logging.WARNING, "asyncio"):
        told = finack.run(main())
        assert told == asyncio.run(main())
    assert told[0] == [] and len(told[-1]) == 1


# ---- threads ----

BUSY = """
import socket, threading
import finack

loop = finack.EventLoop()
ours, theirs = socket.socketpair()
theirs.send(b"x")
loop.add_reader(ours, int)  # there is always something to read, and nothing of it runs in Python

def count():
    for _ in range(3_000_000):
        pass
    loop.call_soon_threadsafe(loop.stop)

loop.call_soon(threading.Thread(target=count).start)
loop.run_forever()
loop.remove_reader(ours)
loop.close()
print("done")
"""


def test_other_threads_run_while_events_are_always_there() -> None:
    run_alone(BUSY)
