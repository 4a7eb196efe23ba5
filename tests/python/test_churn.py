# SPDX-License-Identifier: MIT
"""Many connections one after the other, on each loop: nothing adds up."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from churn_lab import Server, churn, left, visit

import finack

CONNECTIONS = 20_000

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "stock": asyncio.SelectorEventLoop,
    "EventLoop": finack.EventLoop,
    "uvloop": uvloop.new_event_loop,
}


async def main() -> None:
    server = Server()
    await server.start()
    await visit(server, 1, finack.Policy())  # what is made once for a loop is there now
    await server.all_ended(1)
    before = left()
    half = CONNECTIONS // 2
    assert await churn(server, half, finack.Policy(courtesy="prompt")) == {"prompt": half}
    assert await churn(server, half, finack.Policy()) == {"graceful": half}
    await server.all_ended(1 + CONNECTIONS)
    assert left() == before
    assert server.ends == {"None": 1 + CONNECTIONS}  # EOF for each of them, never a reset
    server.stop()
    await asyncio.sleep(0)


@pytest.mark.parametrize("name", LOOPS)
def test_churn(name: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.run(main())
