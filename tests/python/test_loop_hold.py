# SPDX-License-Identifier: MIT
"""hold(): what a loop waits for before it ends, though no task does."""

import asyncio

import pytest
from test_loop_end import end

import finack


def test_hold_future() -> None:
    done: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        assert finack.hold(future) is future
        loop.call_later(0.1, future.set_result, None)
        future.add_done_callback(lambda _: done.append("x"))

    assert not end(main).caught
    assert done == ["x"]


@pytest.mark.parametrize("task", [False, True])
def test_hold_survives_run(task: bool) -> None:
    """asyncio.run() and finack.run() cancel all tasks at their end, but not these."""
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.1)
        done.append("x")

    async def main() -> None:
        finack.hold(asyncio.get_running_loop().create_task(work()) if task else work())

    finack.run(main())
    assert done == ["x"]


def test_hold_for_ever() -> None:
    cancelled: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.append("x")

    async def main() -> None:
        finack.hold(work())
        await asyncio.sleep(0)

    ended = end(main, finack.Policy(total=0.3))
    assert "held by <Task" in ended.text and cancelled == ["x"]


def test_hold_bad_input() -> None:
    other = finack.EventLoop()
    theirs = other.create_future()

    async def main() -> None:
        with pytest.raises(TypeError, match="expected an awaitable, got int"):
            finack.hold(3)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="another loop"):
            finack.hold(theirs)

    finack.run(main())
    other.close()

    async def stock() -> None:
        with pytest.raises(RuntimeError, match=r"needs finack\.EventLoop"):
            finack.hold(asyncio.get_running_loop().create_future())

    asyncio.run(stock())
