# SPDX-License-Identifier: MIT
"""A program that closes its HTTPS client without waiting, and its loop at once."""

import asyncio
import os
import time
import warnings
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from peers import Certificate, Peers, Temper

import finack

BOUND = 30.0


class Noting(ResponseHandler):
    all: "list[Noting]"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.fd = transport.get_extra_info("socket").fileno()
        self.lost = 0
        self.all.append(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.lost += 1


def connector(certificate: Certificate, shutdown: float | None) -> aiohttp.TCPConnector:
    options: dict[str, Any] = {} if shutdown is None else {"ssl_shutdown_timeout": shutdown}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = aiohttp.TCPConnector(limit=0, ssl=certificate.client_context(), **options)
    made._factory = lambda: Noting(asyncio.get_running_loop())  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("shutdown", [None, BOUND], ids=["aborts", "notifies"])
@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("temper", ["clean", "mute"])
def test_aiohttp(
    peers: Peers, certificate: Certificate, temper: Temper, count: int, shutdown: float | None
) -> None:
    """One connection_lost for each connection_made, and nothing left; by default aiohttp aborts."""
    peer = peers.listen(temper, tls=certificate, opening="http", delay=0.005)
    url = f"https://{peer.address[0]}:{peer.address[1]}/"
    Noting.all = []
    closing: list[asyncio.Task[None]] = []

    async def post(session: aiohttp.ClientSession) -> None:
        async with session.post(url) as response:
            response.raise_for_status()

    async def main() -> None:
        session = aiohttp.ClientSession(connector=connector(certificate, shutdown))
        await asyncio.gather(*(post(session) for _ in range(count)))
        closing.append(asyncio.create_task(session.close()))

    loop = finack.EventLoop(policy=finack.Policy(farewell=BOUND if temper == "clean" else 0.3))
    loop.run_until_complete(main())
    before = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
    assert time.monotonic() - before < BOUND / 3

    assert len(Noting.all) == count and closing[0].done()
    for one in Noting.all:
        assert one.lost == 1
        with pytest.raises(OSError):
            os.fstat(one.fd)
    told = [str(one.message) for one in caught]
    assert not any(one.category is ResourceWarning for one in caught)
    if shutdown is None or temper == "clean":
        assert not told
    else:
        assert len(told) == 1 and told[0].count("still closing") == count
    seen = peer.seen(count)
    assert len(seen) == count
    assert shutdown is None or all(one.close_notify for one in seen)
