# SPDX-License-Identifier: MIT
"""Connections one after the other, both ends in one loop, and what they leave."""

import asyncio
import itertools
import pathlib
import ssl
from collections import Counter
from typing import Any, cast

from conftest import descriptors

import finack

AT_ONCE = 50
# A client that closes first keeps its port for a minute: each address has its own ports.
HOSTS = [f"127.0.0.{last}" for last in range(1, 9)]


def registrations() -> int:
    """Entries in all epoll sets of this process."""
    count = 0
    for fd, what in descriptors().items():
        if what == "anon_inode:[eventpoll]":
            text = pathlib.Path(f"/proc/self/fdinfo/{fd}").read_text()
            count += sum(line.startswith("tfd:") for line in text.splitlines())
    return count


def left() -> tuple[Counter[str], int]:
    """What is open, sockets by inode, and how much is registered."""
    return Counter(descriptors().values()), registrations()


class Server:
    """Echoes on all the addresses; its ends are closed by asyncio when the client's has ended."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.more = asyncio.Event()

    async def start(self, secure: ssl.SSLContext | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.listeners = [
            await loop.create_server(
                lambda: ServerEnd(self), host, 0, backlog=4 * AT_ONCE, ssl=secure
            )
            for host in HOSTS
        ]
        names = [listener.sockets[0].getsockname() for listener in self.listeners]
        self.addresses = itertools.cycle(names)

    async def all_ended(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.ends.total() < count:
                self.more.clear()
                await self.more.wait()

    def stop(self) -> None:
        for listener in self.listeners:
            listener.close()


class ServerEnd(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.ends[repr(exc)] += 1
        self.server.more.set()


class Client(asyncio.Protocol):
    """Sends a byte and waits for it to come back."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(b"x")

    def data_received(self, data: bytes) -> None:
        self.answered.set_result(None)


async def visit(server: Server, count: int, policy: finack.Policy, **more: Any) -> Counter[str]:
    """One connection after the other; how they were closed. More arguments: of connecting."""
    loop = asyncio.get_running_loop()
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        _, client = await loop.create_connection(Client, *next(server.addresses), **more)
        await client.answered
        receipt = await finack.aclose(client.transport, policy)
        outcomes[receipt.outcome] += 1
    return outcomes


async def churn(server: Server, count: int, policy: finack.Policy, **more: Any) -> Counter[str]:
    visits = (visit(server, count // AT_ONCE, policy, **more) for _ in range(AT_ONCE))
    return sum(await asyncio.gather(*visits), Counter())
