# SPDX-License-Identifier: MIT
"""Sub-interpreters, each with a module of its own.

Those of CPython before 3.13 can't take asyncio in several at once, and 3.12.1 crashes at exit after
`import asyncio` in one: there is nothing to be tested there.
"""

import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("interpreters.py")

if sys.version_info[:2] != (3, 12):

    @pytest.mark.parametrize("at_once", [1, 4] if sys.version_info >= (3, 13) else [1])
    def test_closes_in_sub_interpreters(at_once: int) -> None:
        done = subprocess.run(
            [sys.executable, SCRIPT, str(at_once)], capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
