# SPDX-License-Identifier: MIT
"""TLS in C keeps nothing of a connection, however it ends."""

import pathlib
import subprocess
import sys

import leaks_tls
import pytest

SCRIPT = pathlib.Path(leaks_tls.__file__)


@pytest.mark.parametrize("way", leaks_tls.WAYS)
def test_nothing_is_left_of_tls(way: str) -> None:
    done = subprocess.run([sys.executable, SCRIPT, way], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
