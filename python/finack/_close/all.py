# SPDX-License-Identifier: MIT
"""Closing all that a loop has."""

import asyncio
import sys
import time
from dataclasses import replace
from typing import Any, NamedTuple

from finack._close.aclose import aclose_anyhow
from finack._policy import Policy, _check_time, checked
from finack._receipt import CloseReport, Receipt, Straggler
from finack._report.leftovers import objects
from finack._sockets.places import places
from finack._sockets.transports import connections

_CUT = ("timed_out", "bounded", "aborted")


async def close_all(timeout: float = 10.0, policy: Policy | None = None) -> CloseReport:
    """Close every connection of the running loop at once, and its servers.

    The loop is asyncio's, finack's or uvloop, where only the connections that finack has started
    are known. A connection that a server accepts while it is being closed is closed too.

    timeout
        Seconds for everything up to the release of the last; a connection that has not ended by
        then is cut (RST if bytes are unsent) and is a straggler. 0: cut everything now.
    policy
        How to close, by default Policy(); its `total` is at most the timeout.

    If it is cancelled, all are cut within two turns of the loop.

    TypeError, ValueError: timeout or policy isn't as above. RuntimeError: no loop is running.

    >>> async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    ...     writer.write(b"hello")
    ...     await reader.read()
    >>> async def main() -> None:
    ...     server = await asyncio.start_server(greet, "127.0.0.1", 0)
    ...     reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    ...     await reader.readexactly(5)
    ...     report = await close_all(timeout=5)
    ...     print(len(report.receipts), report.stragglers)
    >>> asyncio.run(main())
    3 ()
    """
    begun = time.monotonic()
    policy = checked(policy)
    _check_time("timeout", timeout)
    loop = asyncio.get_running_loop()
    receipts: list[Receipt] = []
    stragglers: list[Straggler] = []
    known: dict[int, Any] = {}  # by id(); kept, so that no other gets one
    while found := [target for target in _targets(loop) if id(target.thing) not in known]:
        known.update((id(target.thing), target.thing) for target in found)
        left = max(0.0, begun + timeout - time.monotonic())
        now = replace(policy, total=min(policy.total, left))
        closed = await asyncio.gather(*(aclose_anyhow(target.thing, now) for target in found))
        for target, receipt in zip(found, closed, strict=True):
            receipts.append(receipt)
            if receipt.outcome in _CUT and not receipt.stragglers:  # else those of a server
                name = receipt.socket
                stragglers.append(Straggler(name, target.fd, target.made, receipt))
    return CloseReport(tuple(receipts), tuple(stragglers), time.monotonic() - begun)


class _Target(NamedTuple):
    thing: Any
    fd: int
    made: str | None


def _targets(loop: asyncio.AbstractEventLoop) -> list[_Target]:
    """Servers first, so that nothing comes after."""
    servers = [
        _Target(server, server.sockets[0].fileno(), None)
        for server in objects(*_server_types())
        if server.get_loop() is loop and server.sockets
    ]
    return servers + [
        _Target(c.transport, c.fd, places.place_of(c.identity[2]) or c.made)
        for c in connections(loop)
    ]


def _server_types() -> list[type[Any]]:
    uvloop = sys.modules.get("uvloop.loop")
    return [asyncio.Server, *([uvloop.Server] if uvloop else [])]
