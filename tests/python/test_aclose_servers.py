# SPDX-License-Identifier: MIT
"""aclose() of a server that is cut, on every loop."""

import asyncio
import contextlib
import gc
import os
import socket
import weakref
from typing import Any

import pytest
from asyncio_lab import MEGABYTES, PATIENT, QUICK, Run, fileno, two_turns
from peers import Peers
from test_aclose_things import Guests, server_of_three

import finack
from finack._sockets import descriptors


def test_server_with_two_who_close_it_and_one_is_cancelled(run: Run, peers: Peers) -> None:
    """The other one has not been cancelled, and is told what became of it."""

    async def main() -> None:
        server, made, peer = await server_of_three(peers)
        made[0].transport.write(MEGABYTES)
        first = asyncio.create_task(finack.aclose(server, PATIENT))
        second = asyncio.create_task(finack.aclose(server, PATIENT))
        await two_turns()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        receipt = await first
        assert receipt.outcome == "aborted" and receipt.lost > 1 << 20
        assert [fileno(writer.transport) for writer in made] == [-1] * 3
        ends = await asyncio.to_thread(peer.seen, 3)
        assert all(end.end == "reset" or end.reset_after for end in ends)
        peer.stop()

    run(main())


@pytest.mark.parametrize("turns", range(6))
def test_server_that_does_not_let_itself_be_closed(run: Run, turns: int) -> None:
    """What has begun is let go, and what it had accepted is cut."""

    def refuse() -> None:
        raise RuntimeError("not now")

    async def main() -> None:
        server: Any = await asyncio.start_server(Guests(), "127.0.0.1", 0)
        try:
            server.close = refuse
        except AttributeError:
            assert run.loop == "uvloop"  # there it can't be
            server.close()
            return
        before = descriptors.sockets()
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(10)
            for _ in range(turns):
                await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="not now"):
                await finack.aclose(server, QUICK)
            del server.close
            server.close()
            with contextlib.suppress(ConnectionError):
                assert await asyncio.to_thread(client.recv, 1) == b""
        await two_turns()
        assert len(descriptors.sockets()) < len(before)

    run(main())


def test_server_without_connections_that_is_cut(run: Run) -> None:
    """It is closed when CancelledError is raised, and no task of its close is left."""

    async def main() -> None:
        server = await finack.start_server(Guests(), "127.0.0.1", 0)
        number = server.sockets[0].fileno()
        close = asyncio.create_task(finack.aclose(server))
        await asyncio.sleep(0)
        close.cancel()
        with pytest.raises(asyncio.CancelledError):
            await close
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

    run(main())


def test_server_forgets_who_has_gone(run: Run) -> None:
    """One that runs for a year keeps nothing of them, though its loop lists no connections."""

    async def main() -> None:
        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            gone.append(weakref.ref(writer.transport))
            writer.close()

        gone: list[weakref.ref[Any]] = []
        server = await finack.start_server(serve, "127.0.0.1", 0)
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            await finack.aclose(writer)
        for _ in range(10):
            await asyncio.sleep(0)
        gc.collect()
        assert [transport() for transport in gone] == [None] * 3
        await finack.aclose(server)

    run(main())
