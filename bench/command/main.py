#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""All benchmarks of the command.

usage: namespaces.sh main.py FINACK FILE.json

Runs where there are no other processes and sockets (tests/system/namespaces.sh). Each is a ratio of our time to another's; exits with 1 if one is over its limit.
"""

import json
import sys

import ps
import ratio
import trace


def main():
    finack, path = sys.argv[1:3]
    ratio.head()
    results = ps.measure(finack) + trace.measure(finack)
    with open(path, "w", encoding="ascii") as file:
        json.dump(results, file, indent=2)
        file.write("\n")
    return 0 if all(map(ratio.met, results)) else 1


if __name__ == "__main__":
    sys.exit(main())
