# SPDX-License-Identifier: MIT
"""Random treatment of connections: see sequences.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("tls", "count"), [("c", 1600), ("python", 300)])
def test_the_order_of_calls(tls: str, count: int) -> None:
    script = Path(__file__).parent / "sequences.py"
    done = subprocess.run(
        [sys.executable, script, str(count), "5"],
        env={**os.environ, "FINACK_TLS": tls},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
