# SPDX-License-Identifier: MIT
"""Does the same many times; the references and blocks of memory must not grow.

usage: leaks.py NAME

Run alone in a process, so that nothing else allocates.
"""

import asyncio
import contextlib
import gc
import itertools
import os
import selectors
import socket
import sys
import warnings
from collections.abc import Callable

import finack

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Thing:
    """Is counted by gc.get_objects() while it is alive."""


def use(selector: finack.ProxySelector) -> None:
    a, b = socket.socketpair()
    seen: list[object] = []
    observer = lambda event, key: seen.append((event, key))  # noqa: E731
    selector.add_observer(observer)
    data = Thing()
    selector.register(a, READ, data)
    selector.register(b.fileno(), READ | WRITE, data=data)
    selector.modify(a, WRITE, Thing())
    selector.modify(a, WRITE, Thing())
    selector.select(0)
    selector.get_key(a)
    dict(selector.get_map())
    list(selector.get_map().items())
    selector.get_map().get(b)
    selector.unregister(fileobj=a)
    selector.remove_observer(observer)
    a.close()
    b.close()


def native() -> None:
    with finack.ProxySelector() as selector:
        use(selector)
        selector.thing = selector  # type: ignore[attr-defined] # a cycle


def dropped() -> None:
    """Never closed."""
    use(finack.ProxySelector())


def wrapped() -> None:
    inner = selectors.PollSelector()
    a, b = socket.socketpair()
    inner.register(a, READ, Thing())
    with finack.ProxySelector(inner) as selector:
        use(selector)
    a.close()
    b.close()


def errors() -> None:
    with finack.ProxySelector() as selector:
        a, b = socket.socketpair()
        selector.register(a, READ)
        attempts: list[Callable[[], object]] = [
            lambda: selector.register(a, READ, Thing()),
            lambda: selector.register(Thing(), READ),  # type: ignore[arg-type]
            lambda: selector.register(b, 7, Thing()),
            lambda: selector.register(10**20, READ, Thing()),
            lambda: selector.register(-(10**20), READ, Thing()),
            lambda: selector.modify(b, READ, Thing()),
            lambda: selector.unregister(b),
            lambda: selector.get_key(b),
            lambda: selector.get_map()[b],
            lambda: selector.select(float("nan")),
            lambda: selector.select(1e20),
            lambda: finack.ProxySelector(Thing()),  # type: ignore[arg-type]
            lambda: selector.remove_observer(print),
            lambda: selector.add_observer(Thing()),  # type: ignore[arg-type]
            lambda: selector.__init__(),  # type: ignore[misc]
        ]
        for attempt in attempts:
            with contextlib.suppress(Exception):
                attempt()
                raise SystemExit("an error was expected")
        a.close()
        b.close()


def stale() -> None:
    """A key that is dropped because its number means another file."""
    with finack.ProxySelector() as selector:
        a, b = socket.socketpair()
        c = socket.socket()
        copy = a.dup()
        b.send(b"x")
        selector.register(a.fileno(), READ, Thing())
        os.dup2(c.fileno(), a.fileno())
        if a.fileno() in selector.get_map():
            raise SystemExit("the key was not dropped")
        selector.select(0)
        for sock in (a, b, c, copy):
            sock.close()


def loop() -> None:
    loop = asyncio.SelectorEventLoop(finack.ProxySelector())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


SCRIPTS = {f.__name__: f for f in (native, dropped, wrapped, errors, stale, loop)}
ROUNDS = 60
WINDOWS = 6


def footprint() -> tuple[int, int, int]:
    gc.collect()
    things = sum(isinstance(o, Thing) for o in gc.get_objects())
    return sys.getallocatedblocks(), things, len(os.listdir("/proc/self/fd"))


def main() -> None:
    warnings.simplefilter("error", ResourceWarning)
    work = SCRIPTS[sys.argv[1]]
    marks = []
    for _ in range(WINDOWS + 1):
        for _ in range(ROUNDS):
            work()
        marks.append(footprint())
    # The interpreter's free lists fill up now and then; what leaks grows all the time, by a block a
    # round at the least.
    growth = min(after[0] - before[0] for before, after in itertools.pairwise(marks))
    if growth > ROUNDS // 2 or len({mark[1:] for mark in marks}) > 1:
        raise SystemExit(f"blocks, things, descriptors: {marks}")


if __name__ == "__main__":
    main()
