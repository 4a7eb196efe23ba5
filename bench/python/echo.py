# SPDX-License-Identifier: MIT
"""Echo round trips, one and several connections at a time; client and server in one loop.

usage: echo.py [RESULTS.JSON]
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any, cast

import ratio
import uvloop

import finack

ROUNDS = 201
TRIPS = 400
MESSAGE = bytes(64)


class Server(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Client(asyncio.Protocol):
    """Writes again when the answer has come, until it was so often."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def begin(self, trips: int) -> asyncio.Future[None]:
        self.left = trips
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport.write(MESSAGE)
        return self.done

    def data_received(self, data: bytes) -> None:
        self.left -= 1
        if self.left:
            self.transport.write(MESSAGE)
        else:
            self.done.set_result(None)


class Echo:
    """One loop with a server and its clients."""

    server_options: Mapping[str, Any] = {}
    client_options: Mapping[str, Any] = {}

    def __init__(self, loop: asyncio.AbstractEventLoop, clients: int) -> None:
        self.loop = loop
        loop.run_until_complete(self.start(clients))

    async def start(self, clients: int) -> None:
        self.server = await self.loop.create_server(Server, "127.0.0.1", 0, **self.server_options)
        where = self.server.sockets[0].getsockname()
        self.clients = [
            (await self.loop.create_connection(Client, *where, **self.client_options))[1]
            for _ in range(clients)
        ]

    async def batch(self) -> float:
        each = TRIPS // len(self.clients)
        start = time.perf_counter()
        await asyncio.gather(*(client.begin(each) for client in self.clients))
        return (time.perf_counter() - start) / TRIPS

    def run(self) -> float:
        return self.loop.run_until_complete(self.batch())

    async def end(self) -> None:
        self.server.close()
        for client in self.clients:
            client.transport.close()
        await self.server.wait_closed()
        await asyncio.sleep(0.1)

    def stop(self) -> None:
        self.loop.run_until_complete(self.end())
        self.loop.close()


def compare(clients: int) -> Mapping[str, list[float]]:
    found = {
        "stock": Echo(asyncio.SelectorEventLoop(), clients),
        "ours": Echo(finack.EventLoop(), clients),
        "uvloop": Echo(uvloop.new_event_loop(), clients),
    }
    try:
        return ratio.in_turns({name: echo.run for name, echo in found.items()}, ROUNDS)
    finally:
        for echo in found.values():
            echo.stop()


def measure() -> list[ratio.Result]:
    one, many = compare(1), compare(50)
    return [
        ratio.ratio("loop.echo/stdlib", 1.0, one["ours"], one["stock"]),
        ratio.ratio("loop.echo.50/stdlib", None, many["ours"], many["stock"]),
        ratio.ratio("uvloop.echo/stdlib", None, one["uvloop"], one["stock"]),
        ratio.ratio("uvloop.echo.50/stdlib", None, many["uvloop"], many["stock"]),
    ]


if __name__ == "__main__":
    ratio.head()
    sys.exit(ratio.finish(measure()))
