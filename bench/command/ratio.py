# SPDX-License-Identifier: MIT
"""Ways of doing the same, measured in turns, and the ratio of their medians."""

import statistics
import subprocess
import time

PARTS = 3


def run(*command):
    """The seconds that a command takes."""
    start = time.monotonic()
    status = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            check=False, timeout=300).returncode
    taken = time.monotonic() - start
    if status not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: exit status {status}")
    return taken


def in_turns(ways, rounds):
    """The seconds each way took, round by round; every round begins with another one."""
    times = {name: [] for name in ways}
    names = list(ways)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(ways[name]())
    return times


def head():
    print(f"{'name':20} {'ratio':>7} {'min':>7} {'max':>7} {'limit':>6} {'ours ms':>8} {'theirs':>8}")


def met(result):
    return result["ratio"] <= result["limit"]


def ratio(name, limit, ours, theirs):
    """Our time over theirs; min and max are those of equal parts of the run."""
    parts = [statistics.median(ours[part::PARTS]) / statistics.median(theirs[part::PARTS])
             for part in range(PARTS)]
    whole = statistics.median(ours) / statistics.median(theirs)
    result = {"name": name, "ratio": round(whole, 4), "min": round(min(parts), 4),
              "max": round(max(parts), 4), "limit": limit}
    print(f"{name:20} {whole:7.3f} {min(parts):7.3f} {max(parts):7.3f} {limit:6.2f}"
          f" {statistics.median(ours) * 1e3:8.1f} {statistics.median(theirs) * 1e3:8.1f}"
          f"{'' if met(result) else '   is over its limit'}")
    return result
