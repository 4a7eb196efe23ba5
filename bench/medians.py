#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Of several runs of one benchmark: the median of each ratio, and the least and greatest round.

usage: medians.py RUN.json ...
"""

import json
import pathlib
import statistics
import sys


def main():
    runs = [json.loads(pathlib.Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    rows = {}
    for row in (row for run in runs for row in run):
        rows.setdefault(row["name"], []).append(row)
    print(f"{'of ' + str(len(runs)) + ' runs':<28} {'median':>8} {'min':>8} {'max':>8}")
    for name, found in rows.items():
        ratios = [row["ratio"] for row in found]
        print(f"{name:<28} {statistics.median(ratios):>8.3f} {min(row['min'] for row in found):>8.3f}"
              f" {max(row['max'] for row in found):>8.3f}")


if __name__ == "__main__":
    main()
