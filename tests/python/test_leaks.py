# SPDX-License-Identifier: MIT
"""Nothing grows: no reference, no memory, no descriptor."""

import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("leaks.py")


PARTS = ["native", "dropped", "wrapped", "errors", "stale", "loop", "event_loop"]
PARTS += ["closes", "holders", "core", "tls", "tombs", "steps", "aclose", "datagrams"]


@pytest.mark.parametrize("name", PARTS)
def test_nothing_grows(name: str) -> None:
    done = subprocess.run([sys.executable, SCRIPT, name], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
