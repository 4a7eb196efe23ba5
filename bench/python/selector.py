# SPDX-License-Identifier: MIT
"""ProxySelector against selectors.EpollSelector.

usage: selector.py [RESULTS.JSON]

Both run in turns, many short rounds; a ratio is the median of theirs over the median of ours, so
that greater is better. Exits with 1 if one is under its limit.
"""

import json
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Callable

import finack

ROUNDS = 201
PARTS = 5
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


def measure(
    name: str, limit: float, work: Work, ours: Selector, theirs: Selector
) -> dict[str, object]:
    times: dict[Selector, list[float]] = {ours: [], theirs: []}
    for turn in range(ROUNDS):
        for selector in (ours, theirs) if turn % 2 else (theirs, ours):
            times[selector].append(work(selector))
    medians = {key: statistics.median(values) for key, values in times.items()}
    parts = [
        statistics.median(times[theirs][part::PARTS]) / statistics.median(times[ours][part::PARTS])
        for part in range(PARTS)
    ]
    ratio = medians[theirs] / medians[ours]
    note = "" if ratio >= limit else "   is under its limit"
    print(
        f"{name:24} {ratio:6.2f} {min(parts):6.2f} {max(parts):6.2f} {limit:6.2f}"
        f" {medians[ours] * 1e6:8.2f} {medians[theirs] * 1e6:8.2f}{note}"
    )
    return {
        "name": name,
        "ratio": round(ratio, 4),
        "min": round(min(parts), 4),
        "max": round(max(parts), 4),
        "limit": limit,
    }


def main() -> int:
    ours, theirs = finack.ProxySelector(), selectors.EpollSelector()
    a, b = socket.socketpair()
    print(f"{'name':24} {'ratio':>6} {'min':>6} {'max':>6} {'limit':>6} {'us':>8} {'theirs':>8}")
    results = [
        measure("selector.register/stdlib", 1.3, lambda s: register(s, a), ours, theirs),
        measure("selector.modify/stdlib", 3.0, lambda s: modify(s, a), ours, theirs),
    ]
    pairs = [socket.socketpair() for _ in range(1000)]
    crowd(ours, pairs)
    crowd(theirs, pairs)
    for _, peer in pairs[::10]:
        peer.send(b"x")
    results.append(measure("selector.select/stdlib", 1.5, select, ours, theirs))
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as out:
            json.dump(results, out, indent=2)
    for sock in (a, b, *(end for pair in pairs for end in pair)):
        sock.close()
    return any(result["ratio"] < result["limit"] for result in results)  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
