# SPDX-License-Identifier: MIT
"""Runs CPython's own test_asyncio with EventLoop in place of the loops that it would make.

usage: cpython_asyncio.py [stock] [ARGS of regrtest]

With `stock` nothing is replaced. ARGS are by default those for all of test_asyncio.
"""

import asyncio
import importlib
import sys
from asyncio import unix_events
from typing import Any

import finack


def substitute() -> None:
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "_UnixSelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, finack.EventLoop)
    policy: Any = unix_events._UnixDefaultEventLoopPolicy
    policy._loop_factory = finack.EventLoop
    loop = asyncio.new_event_loop()
    assert isinstance(loop, finack.EventLoop)
    loop.close()
    asyncio.set_event_loop_policy(None)


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["stock"]:
        del arguments[0]
    else:
        substitute()
    sys.argv[1:] = ["-u", "cpu", *(arguments or ["test_asyncio"])]
    regrtest: Any = importlib.import_module("test.libregrtest.main")
    regrtest.main()


# Some of the tests start processes which import this file.
if __name__ == "__main__":
    main()
