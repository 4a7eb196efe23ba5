# SPDX-License-Identifier: MIT
"""CPython's own tests with this package's classes in place of its own."""

import pathlib
import re
import subprocess
import sys

RUNNER = pathlib.Path(__file__).with_name("cpython_selectors.py")


def test_selectors() -> None:
    """Both ways at a time: the suite spends seconds in waiting."""
    runs = [
        subprocess.Popen(
            [sys.executable, RUNNER, *way],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for way in ([], ["wrapped"])
    ]
    for run in runs:
        output, _ = run.communicate(timeout=120)
        ran = re.search(r"Ran (\d+) tests", output)
        assert run.returncode == 0 and ran and int(ran[1]) >= 20, output
