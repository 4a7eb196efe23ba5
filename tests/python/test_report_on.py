# SPDX-License-Identifier: MIT
"""finack.report_on(): a program says on a signal what its loops have open."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

PROGRAM = """
import asyncio, os, signal, socket, sys, finack
async def serve(reader, writer):
    while await reader.read(100): pass
    asyncio.get_running_loop().call_soon(print, "eof")  # once it waits
    await asyncio.sleep(1000)  # the leak
async def main():
    finack.report_on(signal.SIGUSR1, 1)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as sock:
        sock.shutdown(socket.SHUT_WR)
        await asyncio.Event().wait()
RUN
"""
RUNNERS = {
    "asyncio": "asyncio.run(main())",
    "finack": "finack.run(main())",
    "uvloop": "import uvloop; uvloop.run(main())",
}


@contextlib.contextmanager
def killed(process: subprocess.Popen[str]) -> Iterator[None]:
    """At the end, whatever came out."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.parametrize("loop", list(RUNNERS))
def test_report(loop: str) -> None:
    """Whichever loop: an idle one is woken by the signal, twice as well as once."""
    text = PROGRAM.replace("RUN", RUNNERS[loop])
    line = 1 + next(i for i, line in enumerate(text.splitlines()) if "# the leak" in line)
    command = [sys.executable, "-u", "-c", text]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, killed(process):
        assert process.stdout and process.stdout.readline() == "eof\n"
        for _ in range(2):
            process.send_signal(signal.SIGUSR1)
            head = process.stdout.readline()
            assert head.startswith(f"report of {process.pid}, Python 3."), head
            assert "1 loop, 1 connection, 1 server, 0 pipes, 2 tasks" in head, head
            leak, listening = process.stdout.readline(), process.stdout.readline()
            assert re.fullmatch(
                rf"CLOSE_WAIT, held by task serve \(.*\) at <string>:{line}: tcp 127.0.0.1:\d+ ->"
                r" 127.0.0.1:\d+, fd \d+, \S+StreamReaderProtocol\n",
                leak,
            ), leak
            assert listening.startswith("LISTEN, ") and ": tcp 127.0.0.1:" in listening, listening


RUNNING = """
import asyncio, os, signal, finack
async def ask(writer):
    os.kill(os.getpid(), signal.SIGUSR1)  # the line
async def work(writers):
    await ask(writers.pop())
async def main():
    finack.report_on(signal.SIGUSR1, 1)
    server = await asyncio.start_server(lambda *_: asyncio.sleep(1000), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writers = [writer]
    del writer
    await asyncio.create_task(work(writers))
    os._exit(0)
RUN
"""


@pytest.mark.parametrize("loop", ["asyncio", "finack"])
def test_task_that_runs(loop: str) -> None:
    """Neither it nor the collector tells of its variables, nor of what it awaits."""
    text = RUNNING.replace("RUN", RUNNERS[loop])
    line = 1 + next(i for i, line in enumerate(text.splitlines()) if "# the line" in line)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    held = rf"task work \(Task-\d+\) at <string>:{line}\b"
    assert bool(re.search(held, done.stdout)) == (sys.version_info >= (3, 13)), done.stdout


def test_bad_input() -> None:
    """What it can't be given."""
    import finack

    with pytest.raises(TypeError, match="descriptor"):
        finack.report_on(signal.SIGUSR1, "stderr")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        finack.report_on(1000)


def test_nobody_reads() -> None:
    """A report that can't be written is no trouble to the program."""
    import finack

    reading, writing = os.pipe()
    os.close(reading)
    try:
        finack.report_on(signal.SIGUSR1, writing)
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        os.close(writing)
