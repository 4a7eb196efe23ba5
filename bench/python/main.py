# SPDX-License-Identifier: MIT
"""All benchmarks of the Python package.

usage: main.py HTTP_LOAD FOLDER

Writes FOLDER/python.json, the ratios, and FOLDER/python-release.json, the times from asking for a
close to the release. Exits with 1 if a ratio is under its limit.
"""

import pathlib
import sys

import churn
import echo
import loops
import ratio
import release
import secure
import selector
import web


def main() -> int:
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    ratio.head()
    results = [
        *selector.measure(),
        *churn.measure(),
        *echo.measure(),
        *loops.measure(),
        *secure.measure(),
        *web.measure(program),
    ]
    ratio.write(results, folder / "python.json")
    print()
    release.write(release.measure(), folder / "python-release.json")
    return not all(map(ratio.met, results))


if __name__ == "__main__":
    sys.exit(main())
