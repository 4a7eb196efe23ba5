# SPDX-License-Identifier: MIT
"""A loop that is closed under an aclose(): what that had taken goes with its task."""

import asyncio
import gc
import warnings
from typing import Any

import pytest
from asyncio_lab import LOOPS, Lab, seen

import finack
from finack._close import closing


@pytest.mark.parametrize("courtesy", ["prompt", "orderly"])
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("kind", ["stock", "proxy", "uvloop"])  # ours lets it come to its end
def test_loop_closed_under_a_close(lab: Lab, kind: str, courtesy: Any, turns: int) -> None:
    asyncio.run(abandon(lab, kind, courtesy, turns))


async def abandon(lab: Lab, kind: str, courtesy: Any, turns: int) -> None:
    peer = await asyncio.to_thread(leave, lab, kind, courtesy, turns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's transport was never closed
        gc.collect()
    assert not closing.Hub._at_work
    assert (await seen(peer)).end != "open"


def leave(lab: Lab, kind: str, courtesy: Any, turns: int) -> Any:
    loop = LOOPS[kind]()
    loop.set_exception_handler(lambda *_: None)  # a task was destroyed
    policy = finack.Policy(courtesy=courtesy)

    async def main() -> Any:
        peer, transport, _ = await lab.connect("mute")
        task = loop.create_task(finack.aclose(transport, policy))
        for _ in range(turns):
            await asyncio.sleep(0)
        del task
        return peer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = loop.run_until_complete(main())
        loop.close()
    return peer
