# SPDX-License-Identifier: MIT
"""Servers of EventLoop are as those of the newest CPython, on every release."""

import asyncio
import ssl
from typing import Any

import pytest
from peers import Certificate

import finack

BOUND = 20.0
LOOPS: list[Any] = [finack.EventLoop, lambda: finack.EventLoop(close_policy=None)]


class Served:
    """A server with two connections, and both ends of them."""

    def __init__(self) -> None:
        self.accepted: list[asyncio.StreamWriter] = []
        self.clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def keep(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(writer)

    async def begin(self, certificate: Certificate | None) -> Any:
        server_context: ssl.SSLContext | None = None
        options: dict[str, Any] = {}
        if certificate:
            server_context = certificate.server_context()
            options = {"ssl": certificate.client_context(), "server_hostname": "localhost"}
        server: Any = await asyncio.start_server(self.keep, "127.0.0.1", 0, ssl=server_context)
        address = server.sockets[0].getsockname()
        for _ in range(2):
            self.clients.append(await asyncio.open_connection(*address, **options))
        while len(self.accepted) < 2:
            await asyncio.sleep(0)
        return server

    async def ended(self) -> None:
        """The clients see an end."""
        for reader, writer in self.clients:
            assert await asyncio.wait_for(reader.read(), BOUND) == b""
            writer.close()


def run(main: Any, kind: Any) -> None:
    with asyncio.Runner(loop_factory=kind) as runner:
        runner.run(main())


@pytest.fixture(params=["tcp", "c", "python"])
def maybe(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, files: Certificate
) -> Certificate | None:
    """None: without TLS."""
    monkeypatch.setenv("FINACK_TLS", request.param)
    return None if request.param == "tcp" else files


@pytest.mark.parametrize("kind", LOOPS, ids=["engine", "asyncio"])
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_a_server_ends_its_connections(kind: Any, how: str, maybe: Certificate | None) -> None:
    async def main() -> None:
        served = Served()
        server = await served.begin(maybe)
        getattr(server, how)()
        await served.ended()
        assert server.is_serving()
        server.close()
        await asyncio.wait_for(server.wait_closed(), BOUND)

    run(main, kind)


@pytest.mark.parametrize("kind", LOOPS, ids=["engine", "asyncio"])
def test_wait_closed_waits_for_the_connections(kind: Any, maybe: Certificate | None) -> None:
    async def main() -> None:
        served = Served()
        server = await served.begin(maybe)
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        for writer in served.accepted:
            writer.close()
        await served.ended()
        await asyncio.wait_for(waiting, BOUND)
        await server.wait_closed()

    run(main, kind)


@pytest.mark.parametrize("kind", LOOPS, ids=["engine", "asyncio"])
def test_who_cancels_serve_forever_ends_the_connections(
    kind: Any, maybe: Certificate | None
) -> None:
    async def main() -> None:
        served = Served()
        server = await served.begin(maybe)
        serving = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already being awaited"):
            await server.serve_forever()
        serving.cancel()
        await served.ended()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(serving, BOUND)
        with pytest.raises(RuntimeError, match="is closed"):
            await server.serve_forever()

    run(main, kind)


def test_it_is_a_server_of_asyncios(tmp_path: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        name = str(tmp_path / "s")
        later = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, start_serving=False)
        unix = await loop.create_unix_server(asyncio.Protocol, name, start_serving=False)
        for server in (later, unix):
            made: Any = server
            assert isinstance(server, asyncio.Server) and repr(server).startswith("<Server ")
            made.close_clients()
            made.abort_clients()
            server.close()
            await server.wait_closed()

    run(main, finack.EventLoop)
