# SPDX-License-Identifier: MIT
"""The loops that EventLoop is measured beside: those that are installed here, by name.

An environment need not have all of them: not each is built for each CPython. What is not there is
not measured, and the table of results says so by leaving it out.
"""

import asyncio
import contextlib
import importlib
import statistics
from collections.abc import Callable
from typing import TypeVar

import ratio
import uvloop

import finack

T = TypeVar("T")
Make = Callable[[], asyncio.AbstractEventLoop]

PEERS: dict[str, Make] = {"stock": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}

for _name in ("rloop", "rsloop"):
    with contextlib.suppress(ImportError):
        PEERS[_name] = importlib.import_module(_name).new_event_loop

with contextlib.suppress(ImportError):
    _patch = importlib.import_module("aiofastnet").patch_loop
    PEERS["aiofastnet"] = lambda: _patch(asyncio.SelectorEventLoop())
    PEERS["aiofastnet+uvloop"] = lambda: _patch(uvloop.new_event_loop())

LOOPS: dict[str, Make] = {"ours": finack.EventLoop, **PEERS}


def each(make: Callable[[str], T]) -> dict[str, T]:
    """What `make` gives for each loop by name. A peer that can't is left out, and is said to be."""
    found = {}
    for name in LOOPS:
        try:
            found[name] = make(name)
        except Exception as error:
            if name == "ours":
                raise
            print(f"without {name}: {error!r}")
    return found


def beside(
    name: str, limit: float | None, times: ratio.Times, ours: str = "ours"
) -> list[ratio.Result]:
    """Ours beside uvloop and beside whichever peer was the quickest in the same turns."""
    best = min(PEERS.keys() & times.keys(), key=lambda peer: statistics.median(times[peer]))
    return [
        ratio.ratio(f"{name}/uvloop", limit, times[ours], times["uvloop"]),
        ratio.ratio(f"{name}/best", None, times[ours], times[best], best),
    ]
