# SPDX-License-Identifier: MIT
"""A socket may have the number 0: in a program that has closed its standard input."""

import asyncio
import itertools
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from asyncio_lab import LOOPS_IN_PYTHON, QUICK, Run, fileno
from blocking import until
from peers import Certificate, Peers
from test_blocking_signals import interrupted_at
from test_blocking_tls import tls_client

import finack


@pytest.fixture(autouse=True)
def stdin_comes_back() -> Iterator[None]:
    kept = os.dup(0)
    yield
    os.dup2(kept, 0)
    os.close(kept)


# uvloop takes it for a mistake of its own to close it.
in_python = pytest.mark.parametrize("run", LOOPS_IN_PYTHON, indirect=True)


def pair() -> tuple[socket.socket, socket.socket]:
    os.close(0)
    ours, theirs = socket.socketpair()
    assert ours.fileno() == 0
    ours.setblocking(False)
    theirs.settimeout(10)
    return ours, theirs


def is_free() -> bool:
    try:
        os.fstat(0)
    except OSError:
        return True
    return False


def test_blocking() -> None:
    ours, theirs = pair()
    with theirs:
        with finack.closing(ours):
            theirs.shutdown(socket.SHUT_WR)
        assert is_free() and theirs.recv(1) == b""
        assert (finack.close(ours).outcome, finack.close(ours).held) == ("graceful", False)


def test_interrupted_at_each_line(peers: Peers, certificate: Certificate) -> None:
    """What the program can't use any more is closed, and the exception has the receipt."""
    peer = peers.listen("clean", tls=certificate)
    for line in itertools.count():
        if not is_free():
            os.close(0)
        ours = tls_client(peer.address, certificate)
        assert ours.fileno() == 0
        error = interrupted_at(line, ours)
        if error is None:
            break
        if hasattr(error, "receipt"):
            assert finack.close(ours) is error.receipt and ours.fileno() == -1
            until(is_free)
        else:
            assert ours.fileno() == 0
            assert finack.close(ours).outcome == "graceful"
    assert line > 50


@in_python
def test_transport(run: Run) -> None:
    async def main() -> None:
        ours, theirs = pair()
        with theirs:
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, sock=ours
            )
            assert fileno(transport) == 0
            theirs.shutdown(socket.SHUT_WR)
            receipt = await finack.aclose(transport)
            assert is_free() and theirs.recv(1) == b""
            assert (receipt.outcome, receipt.held) == ("graceful", False)

    run(main())


@in_python
def test_closed(run: Run) -> None:
    """It waits, and sees the end."""

    async def main() -> None:
        ours, theirs = pair()
        with theirs:
            watch = asyncio.create_task(finack.closed(ours))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not watch.done()
            ours.close()
            receipt = await watch
            assert receipt.held is False and {"released", "unreferenced"} <= {*receipt.stages}

    run(main())


@in_python
def test_twice(run: Run) -> None:
    """What a transport has is not given to another one."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recv(ours, 1)
            await finack.aclose(transport, QUICK)

    run(main())


@in_python
def test_servers(run: Run) -> None:
    """One after the other; nothing of the first is left."""

    async def main() -> None:
        os.close(0)
        for name in (b"first", b"second"):

            def greet(_: Any, writer: asyncio.StreamWriter, name: bytes = name) -> None:
                writer.write(name)
                writer.close()

            sock = socket.create_server(("127.0.0.1", 0))
            assert sock.fileno() == 0
            address = sock.getsockname()
            server = await asyncio.start_server(greet, sock=sock)
            reader, writer = await asyncio.open_connection(*address)
            assert await reader.read() == name
            await finack.aclose(writer)
            server.close()
            await server.wait_closed()
            assert is_free()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)

    run(main())
