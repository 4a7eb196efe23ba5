# SPDX-License-Identifier: MIT
"""ProxySelector against selectors.EpollSelector.

usage: selector.py [RESULTS.JSON]

A ratio is the median of theirs over the median of ours: greater is better.
"""

import selectors
import socket
import sys
import time
from collections.abc import Callable

import ratio

import finack

ROUNDS = 201
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Selector = selectors.BaseSelector
Work = Callable[[Selector], float]


def register(selector: Selector, sock: socket.socket, count: int = 300) -> float:
    fd, data = sock.fileno(), object()
    start = time.perf_counter()
    for _ in range(count):
        selector.register(fd, READ, data)
        selector.unregister(fd)
    return (time.perf_counter() - start) / count


def modify(selector: Selector, sock: socket.socket, count: int = 300) -> float:
    fd, data = sock.fileno(), object()
    selector.register(fd, READ, data)
    start = time.perf_counter()
    for _ in range(count // 2):
        selector.modify(fd, WRITE, data)
        selector.modify(fd, READ, data)
    used = (time.perf_counter() - start) / count
    selector.unregister(fd)
    return used


def select(selector: Selector, count: int = 10) -> float:
    start = time.perf_counter()
    for _ in range(count):
        ready = selector.select(0)
    used = (time.perf_counter() - start) / count
    if len(ready) != 100:
        raise SystemExit(f"{len(ready)} of 100 are ready")
    return used


def crowd(selector: Selector, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    for us, _ in pairs:
        selector.register(us, READ)


def compare(name: str, limit: float, work: Work, ours: Selector, theirs: Selector) -> ratio.Result:
    ways = {"ours": lambda: work(ours), "theirs": lambda: work(theirs)}
    times = ratio.in_turns(ways, ROUNDS)
    return ratio.ratio(name, limit, times["ours"], times["theirs"])


def measure() -> list[ratio.Result]:
    ours, theirs = finack.ProxySelector(), selectors.EpollSelector()
    a, b = socket.socketpair()
    results = [
        compare("selector.register/stdlib", 1.3, lambda s: register(s, a), ours, theirs),
        compare("selector.modify/stdlib", 3.0, lambda s: modify(s, a), ours, theirs),
    ]
    pairs = [socket.socketpair() for _ in range(1000)]
    crowd(ours, pairs)
    crowd(theirs, pairs)
    for _, peer in pairs[::10]:
        peer.send(b"x")
    # Each event is asked whose it is, by getsockopt(2): the time of that is the limit's reason.
    results.append(compare("selector.select/stdlib", 0.75, select, ours, theirs))
    for sock in (a, b, *(end for pair in pairs for end in pair)):
        sock.close()
    return results


if __name__ == "__main__":
    ratio.head()
    sys.exit(ratio.finish(measure()))
