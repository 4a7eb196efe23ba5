# SPDX-License-Identifier: MIT
"""Two ways of doing the same, measured in turns; their ratio, as a table and as JSON.

A ratio is the median of their times over the median of ours: how many times as fast ours is.
"""

import json
import pathlib
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

PARTS = 5

Work = Callable[[], float]
Times = Mapping[str, Sequence[float]]  # of each way, in seconds


@dataclass(frozen=True)
class Result:
    """How many times as fast ours is: the median over all rounds, and of equal parts of the run."""

    name: str
    ratio: float
    min: float
    max: float
    limit: float | None
    peer: str = ""  # which, where it is the best of several


def keep_memory() -> None:
    """Have malloc keep what is freed.

    Freeing one large block does that. Else each read of stock asyncio, with its 256 KiB, may cost
    mmap, mremap and munmap, or may not, by what was allocated before.
    """
    bytearray(31 << 20)


def in_turns(ways: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """The seconds each way took, round by round; every round begins with another one."""
    keep_memory()
    times: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(ways[name]())
    return times


def ratio(
    name: str,
    limit: float | None,
    ours: Sequence[float],
    theirs: Sequence[float],
    peer: str = "",
) -> Result:
    parts = [
        statistics.median(theirs[part::PARTS]) / statistics.median(ours[part::PARTS])
        for part in range(PARTS)
    ]
    whole = statistics.median(theirs) / statistics.median(ours)
    result = Result(name, round(whole, 4), round(min(parts), 4), round(max(parts), 4), limit, peer)
    note = f"   {peer}" if met(result) else "   is under its limit"
    print(
        f"{name:28} {whole:6.2f} {result.min:6.2f} {result.max:6.2f}"
        f" {'' if limit is None else f'{limit:.2f}':>6}"
        f" {statistics.median(ours) * 1e6:8.2f} {statistics.median(theirs) * 1e6:8.2f}{note}"
    )
    return result


def head() -> None:
    print(f"{'name':28} {'ratio':>6} {'min':>6} {'max':>6} {'limit':>6} {'us':>8} {'theirs':>8}")


def met(result: Result) -> bool:
    return result.limit is None or result.ratio >= result.limit


def write(results: Sequence[Result], path: pathlib.Path) -> None:
    path.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


def finish(results: Sequence[Result]) -> int:
    """Write the file named on the command line, if any; the exit status."""
    if len(sys.argv) > 1:
        write(results, pathlib.Path(sys.argv[1]))
    return not all(map(met, results))
