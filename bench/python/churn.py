# SPDX-License-Identifier: MIT
"""Connection churn: connect, a byte each way, close, and know that it is closed.

usage: churn.py [RESULTS.JSON]

Client and server are in one loop. Stock asyncio and uvloop close and wait for connection_lost,
which proves nothing; ours is `aclose`, once with proof `released` and once with `unreferenced`.
"""

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, cast

import ratio
import uvloop

import finack

ROUNDS = 101
BATCH = 200
AT_ONCE = 20
ADDRESSES = [f"127.0.0.{last}" for last in range(1, 9)]

Close = Callable[["Client"], Awaitable[object]]


class Server(asyncio.Protocol):
    """Sends back what it reads; asyncio closes when the client has ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Client(asyncio.Protocol):
    """Waits for one answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        loop = asyncio.get_running_loop()
        self.transport = cast(asyncio.Transport, transport)
        self.answered: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.transport.write(b"x")

    def data_received(self, data: bytes) -> None:
        self.answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def stock_close(client: Client) -> None:
    client.transport.close()
    await client.lost


def prove(policy: "finack.Policy") -> Close:
    return lambda client: finack.aclose(client.transport, policy)


class Churn:
    """One loop with its server, and a way to close."""

    server_options: Mapping[str, Any] = {}
    client_options: Mapping[str, Any] = {}

    def __init__(self, loop: asyncio.AbstractEventLoop, close: Close) -> None:
        self.loop, self.close = loop, close
        self.servers = [loop.run_until_complete(self.listen(host)) for host in ADDRESSES]
        self.addresses = itertools.cycle([s.sockets[0].getsockname() for s in self.servers])

    async def listen(self, host: str) -> asyncio.Server:
        return await self.loop.create_server(Server, host, 0, backlog=BATCH, **self.server_options)

    async def visit(self, count: int) -> None:
        for _ in range(count):
            _, client = await self.loop.create_connection(
                Client, *next(self.addresses), **self.client_options
            )
            await client.answered
            await self.close(client)

    async def batch(self, count: int) -> float:
        start = time.perf_counter()
        await asyncio.gather(*(self.visit(count // AT_ONCE) for _ in range(AT_ONCE)))
        return (time.perf_counter() - start) / count

    def run(self, count: int = BATCH) -> float:
        return self.loop.run_until_complete(self.batch(count))

    def stop(self) -> None:
        for server in self.servers:
            server.close()
            self.loop.run_until_complete(server.wait_closed())
        self.loop.close()


@contextlib.contextmanager
def loops() -> Iterator[dict[str, Churn]]:
    prompt = finack.Policy(courtesy="prompt", proof="released")
    proven = finack.Policy(courtesy="prompt", proof="unreferenced")
    found = {
        "stock": Churn(asyncio.SelectorEventLoop(), stock_close),
        "ours": Churn(finack.EventLoop(), prove(prompt)),
        "proven": Churn(finack.EventLoop(), prove(proven)),
        "uvloop": Churn(uvloop.new_event_loop(), stock_close),
    }
    try:
        yield found
    finally:
        for churn in found.values():
            churn.stop()


def measure() -> list[ratio.Result]:
    with loops() as found:
        times = ratio.in_turns({name: churn.run for name, churn in found.items()}, ROUNDS)
    stock = times["stock"]
    return [
        ratio.ratio("loop.churn/stdlib", 1.0, times["ours"], stock),
        ratio.ratio("loop.churn.proof/stdlib", 0.95, times["proven"], stock),
        ratio.ratio("uvloop.churn/stdlib", None, times["uvloop"], stock),
    ]


if __name__ == "__main__":
    ratio.head()
    sys.exit(ratio.finish(measure()))
