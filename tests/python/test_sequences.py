# SPDX-License-Identifier: MIT
"""Random treatment of connections: see sequences.py."""

import subprocess
import sys
from pathlib import Path


def test_the_order_of_calls() -> None:
    script = Path(__file__).parent / "sequences.py"
    done = subprocess.run(
        [sys.executable, script, "1600", "5"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
