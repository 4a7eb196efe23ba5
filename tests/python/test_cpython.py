# SPDX-License-Identifier: MIT
"""CPython's own tests with this package's classes in place of its own."""

import concurrent.futures
import importlib
import os
import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass

HERE = pathlib.Path(__file__).parent
LONGEST = ("test_tasks", "test_events", "test_ssl", "test_subprocess", "test_sock_lowlevel")


def test_selectors() -> None:
    """Both ways at a time: the suite spends seconds in waiting."""
    runs = [
        subprocess.Popen(
            [sys.executable, HERE / "cpython_selectors.py", *way],
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


@dataclass(frozen=True)
class Ran:
    """One module of test_asyncio."""

    name: str
    passed: bool
    output: str


def asyncio_modules() -> list[str]:
    """Those that take longest come first."""
    package = importlib.import_module("test.test_asyncio")
    files = pathlib.Path(str(package.__file__)).parent.glob("test_*.py")
    names = sorted(file.stem for file in files if "windows" not in file.stem)
    return sorted(names, key=lambda name: name not in LONGEST)


def run_asyncio(name: str, *stock: str) -> Ran:
    done = subprocess.run(
        [sys.executable, HERE / "cpython_asyncio.py", *stock, "-v", f"test_asyncio.{name}"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=500,
    )
    ran = re.search(r"^Ran (\d+) tests? in", done.stdout + done.stderr, re.M)
    passed = done.returncode == 0 and ran is not None and int(ran[1]) > 0
    return Ran(name, passed, done.stdout + done.stderr)


def test_asyncio() -> None:
    """What fails is run again, since some of these tests measure time, and then on asyncio's own
    loop: only what passes there is held against this one."""
    modules = asyncio_modules()
    assert len(modules) >= 25
    with concurrent.futures.ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        failed = [ran.name for ran in pool.map(run_asyncio, modules) if not ran.passed]
    again = [ran for ran in map(run_asyncio, failed) if not ran.passed]
    ours = [ran for ran in again if run_asyncio(ran.name, "stock").passed]
    assert not ours, "\n".join(ran.output[-20000:] for ran in ours)
