# SPDX-License-Identifier: MIT
"""What is built on asyncio, each with many open connections to a peer and its own way to close.

A library is a function that opens them, with TLS, and gives back what the test needs: the peer and
the library's own close. For a deaf peer each connection has more to send than the buffers hold.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import anyio
import httpx
import uvicorn
from aiohttp import web
from anyio.abc import SocketStream
from anyio.streams.tls import TLSStream
from peers import Certificate, Opening, Peer, Peers, Temper
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

SMALL = 8192
BODY = bytes(256 * 1024)
TIMEOUT = 30

Close = Callable[[], Awaitable[object]]


@dataclass
class World:
    """What a library is tried with. `deadline`: seconds, for libraries that take one."""

    peers: Peers
    certificate: Certificate
    temper: Temper
    count: int
    deadline: float

    @property
    def stuck(self) -> bool:
        return self.temper == "deaf"

    def listen(self, opening: Opening) -> Peer:
        return self.peers.listen(self.temper, tls=self.certificate, opening=opening)

    async def connect(self, sock: socket.socket, opening: Opening) -> Peer:
        peer = self.peers.connect(
            self.temper, sock.getsockname(), self.count, tls=True, opening=opening
        )
        await self.opened(peer)
        return peer

    async def opened(self, peer: Peer) -> None:
        assert await asyncio.to_thread(peer.opened, self.count, TIMEOUT) == self.count


@dataclass
class Opened:
    """The library's own close, and the transports where a program can reach them."""

    peer: Peer
    close: Close
    transports: list[Any] = field(default_factory=list)


Library = Callable[[World], Awaitable[Opened]]


def small(sock: socket.socket) -> socket.socket:
    """Little of what is unsent fits into the kernel."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    return sock


def listener() -> socket.socket:
    sock = small(socket.socket())
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    return sock


async def each(count: int, work: Callable[[], Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*(work() for _ in range(count)))


class Stuck:
    """Tasks that can't get on, since their peers don't read."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    async def begin_all(self, works: Iterable[Coroutine[Any, Any, Any]]) -> None:
        self.tasks = [asyncio.create_task(work) for work in works]
        await asyncio.wait(self.tasks, timeout=0.2)  # as much is sent as the buffers hold

    async def give_up(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


# ---- clients ----


async def aiohttp_client(world: World) -> Opened:
    peer = world.listen("" if world.stuck else "http")
    url = f"https://localhost:{peer.address[1]}/"
    connector = aiohttp.TCPConnector(
        limit=0,
        keepalive_timeout=TIMEOUT,
        ssl=world.certificate.client_context(),
        family=socket.AF_INET,
        socket_factory=lambda info: small(socket.socket(*info[:3])),
    )
    session = aiohttp.ClientSession(connector=connector)
    stuck = Stuck()

    async def get() -> None:
        async with session.get(url) as response:
            assert await response.read() == b"ok"

    async def post() -> None:
        async with session.post(url, data=BODY):
            pass

    if world.stuck:
        await stuck.begin_all(post() for _ in range(world.count))
    else:
        await each(world.count, get)
    await world.opened(peer)

    async def close() -> None:
        await stuck.give_up()
        await session.close()

    return Opened(peer, close)


async def httpx_client(world: World) -> Opened:
    peer = world.listen("" if world.stuck else "http")
    url = f"https://localhost:{peer.address[1]}/"
    transport = httpx.AsyncHTTPTransport(
        verify=world.certificate.client_context(),
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=None, keepalive_expiry=TIMEOUT
        ),
        socket_options=[(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)],
    )
    client = httpx.AsyncClient(transport=transport, timeout=TIMEOUT)
    stuck = Stuck()
    if world.stuck:
        await stuck.begin_all(client.post(url, content=BODY) for _ in range(world.count))
    else:
        await each(world.count, lambda: client.get(url))
    await world.opened(peer)

    async def close() -> None:
        await stuck.give_up()
        await client.aclose()

    return Opened(peer, close)


async def websockets_client(world: World) -> Opened:
    peer = world.listen("websocket")
    context = world.certificate.client_context()

    async def dial() -> ClientConnection:
        sock = small(socket.socket())
        sock.connect((str(peer.address[0]), int(peer.address[1])))
        return await connect(
            "wss://localhost/",
            sock=sock,
            ssl=context,
            open_timeout=TIMEOUT,
            ping_interval=None,
            compression=None,
            close_timeout=world.deadline,
        )

    clients = await each(world.count, dial)
    await world.opened(peer)
    stuck = Stuck()
    if world.stuck:
        await stuck.begin_all(client.send(BODY) for client in clients)

    async def close() -> None:
        await stuck.give_up()
        await asyncio.gather(*(client.close() for client in clients))

    return Opened(peer, close, [client.transport for client in clients])


async def anyio_streams(world: World) -> Opened:
    peer = world.listen("")
    context = world.certificate.client_context()

    async def dial() -> TLSStream:
        sock = small(socket.socket())
        sock.connect(peer.address)
        stream = await SocketStream.from_socket(sock)
        return await TLSStream.wrap(stream, hostname="localhost", ssl_context=context)

    streams = await each(world.count, dial)
    await world.opened(peer)
    stuck = Stuck()
    if world.stuck:
        await stuck.begin_all(stream.send(BODY) for stream in streams)

    async def close_one(stream: TLSStream) -> None:
        with anyio.move_on_after(world.deadline), contextlib.suppress(anyio.BrokenResourceError):
            await stream.aclose()  # it may have been closed below it

    async def close() -> None:
        await stuck.give_up()
        await asyncio.gather(*map(close_one, streams))

    return Opened(peer, close)


async def asyncio_streams(world: World) -> Opened:
    peer = world.listen("")
    context = world.certificate.client_context()

    async def dial() -> asyncio.StreamWriter:
        sock = small(socket.socket())
        sock.connect(peer.address)
        _, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname="localhost"
        )
        if world.stuck:
            writer.write(BODY)
        return writer

    writers = await each(world.count, dial)
    await world.opened(peer)

    async def close() -> None:
        for writer in writers:
            writer.close()

    return Opened(peer, close, writers)


# ---- servers ----


async def aiohttp_server(world: World) -> Opened:
    body = BODY if world.stuck else b"ok"
    transports: list[Any] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        transports.append(request.transport)
        return web.Response(body=body)

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=world.deadline)
    await runner.setup()
    sock = listener()
    await web.SockSite(runner, sock, ssl_context=world.certificate.server_context()).start()
    return Opened(await world.connect(sock, "http"), runner.cleanup, transports)


async def websockets_server(world: World) -> Opened:
    async def answer(connection: ServerConnection) -> None:
        if world.stuck:
            await connection.send(BODY)
        await connection.wait_closed()

    sock = listener()
    server = await serve(
        answer,
        sock=sock,
        ssl=world.certificate.server_context(),
        open_timeout=TIMEOUT,
        ping_interval=None,
        compression=None,
        close_timeout=world.deadline,
    )

    async def close() -> None:
        server.close()
        await server.wait_closed()

    peer = await world.connect(sock, "websocket")
    return Opened(peer, close, [connection.transport for connection in server.connections])


async def uvicorn_server(world: World) -> Opened:
    body = BODY if world.stuck else b"ok"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(
        app,
        ssl_certfile=world.certificate.chain,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=TIMEOUT,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    sock = listener()
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    peer = await world.connect(sock, "http")

    async def close() -> None:
        server.should_exit = True
        await serving

    return Opened(peer, close)
