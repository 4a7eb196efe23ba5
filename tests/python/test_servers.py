# SPDX-License-Identifier: MIT
"""The servers that people run, started on EventLoop as the page of recipes starts them.

Each gets a request that is answered, and one that it is still reading when SIGTERM comes.
"""

import contextlib
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from peers import HTTP_REQUEST

RECIPES = pathlib.Path(__file__).parents[2] / "docs" / "guide" / "recipes-python.md"
COMMANDS = pathlib.Path(sys.executable).parent
TIMEOUT = 30
BEGIN = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"

# Answers with the class of its loop, and with the body of the request.
APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    kind = type(asyncio.get_running_loop())
    body = f"{kind.__module__}.{kind.__name__} ".encode()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


@dataclass
class Server:
    """How one is started, what it says then, and how it ends on SIGTERM."""

    program: str  # of the page; "" for none
    command: str
    words: str
    status: int


SERVERS = {
    "uvicorn": Server(
        "",
        "uvicorn api:app --loop finack:EventLoop --port PORT",
        "running on",
        -signal.SIGTERM,  # it stops, and then lets the signal take its course
    ),
    "gunicorn": Server(
        "workers.py",
        "gunicorn api:app -k workers.FinackWorker -b 127.0.0.1:PORT",
        "Listening at",
        0,
    ),
    "hypercorn": Server("serve.py", "python serve.py", "Running on", 0),
    "granian": Server("serve_granian.py", "python serve_granian.py", "Started worker", 0),
}


def from_page(name: str, port: int) -> str:
    found = re.search(rf"^```python file={name}\n(.*?)^```$", RECIPES.read_text(), re.M | re.S)
    assert found
    return re.sub(r"\b80\d\d\b", str(port), found[1])


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def started(server: Server, port: int, folder: pathlib.Path) -> Iterator[subprocess.Popen[str]]:
    (folder / "api.py").write_text(APP)
    if server.program:
        (folder / server.program).write_text(from_page(server.program, port))
    program, *words = server.command.replace("PORT", str(port)).split()
    with subprocess.Popen(
        [COMMANDS / program, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return
    raise AssertionError(lines)


def connected(port: int) -> socket.socket:
    """Granian says that it has started, and listens then."""
    until = time.monotonic() + TIMEOUT
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), TIMEOUT)
        except ConnectionRefusedError:
            assert time.monotonic() < until


class Client:
    """A connection to a server."""

    def __init__(self, port: int) -> None:
        self.sock = connected(port)
        self.data = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, request: bytes) -> None:
        self.sock.sendall(request)

    def read_until(self, end: bytes) -> bytes:
        while end not in self.data:
            more = self.sock.recv(65536)
            assert more, self.data
            self.data += more
        found, _, self.data = self.data.partition(end)
        return found + end

    def end(self) -> tuple[bytes, int]:
        """What comes before EOF, and the socket's error behind it: none, unless it was reset."""
        while more := self.sock.recv(65536):
            self.data += more
        return self.data, self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


@pytest.mark.parametrize("name", SERVERS)
def test_server(name: str, tmp_path: pathlib.Path) -> None:
    server, port = SERVERS[name], free_port()
    with started(server, port, tmp_path) as process:
        wait_for(process, server.words)
        with Client(port) as idle, Client(port) as busy:
            idle.ask(HTTP_REQUEST)
            assert idle.read_until(b"finack._loop.loop.EventLoop ").startswith(b"HTTP/1.1 200 ")
            busy.ask(BEGIN)
            assert busy.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            process.send_signal(signal.SIGTERM)
            assert idle.end() == (b"", 0)  # it has begun to stop
            busy.ask(b"late")
            answer, error = busy.end()
            assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"EventLoop late")
            assert error == 0
        said, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == server.status, said
        assert not re.search("Warning|Error|Traceback", said), said
