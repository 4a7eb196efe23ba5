# SPDX-License-Identifier: MIT
"""CPython's own tests with this package's classes in place of its own.

Some of them measure time. So what fails is run again, alone, and what goes on failing then on
CPython's own classes: only what passes there is held against ours.
"""

import concurrent.futures
import importlib
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
from cpython_asyncio import DIFFERENT

HERE = pathlib.Path(__file__).parent
FOLDER = pathlib.Path(str(importlib.import_module("test.test_asyncio").__file__)).parent
LONGEST = ("test_tasks", "test_events", "test_ssl", "test_subprocess", "test_sock_lowlevel")


@dataclass(frozen=True)
class Ran:
    """One module of tests."""

    name: str
    passed: bool
    output: str


def run(name: str, *command: str | pathlib.Path, least: int = 1) -> Ran:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, errors="replace", timeout=900
    )
    output = done.stdout + done.stderr
    ran = re.search(r"^Ran (\d+) tests? in", output, re.M)
    return Ran(name, done.returncode == 0 and ran is not None and int(ran[1]) >= least, output)


def check(
    names: Iterable[str], ours: Callable[[str], Ran], stock: Callable[[str], Ran], at_once: int
) -> None:
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        failed = [ran for ran in pool.map(ours, names) if not ran.passed]
    for _ in range(2):
        failed = [ran for ran in (ours(ran.name) for ran in failed) if not ran.passed]
    failed = [ran for ran in failed if stock(ran.name).passed]
    assert not failed, "\n".join(ran.output[-20000:] for ran in failed)


def test_selectors() -> None:
    """Both ways at a time: the suite spends seconds in waiting."""
    script = HERE / "cpython_selectors.py"

    def ours(way: str) -> Ran:
        return run(way, script, *way.split(), least=20)

    check(["", "wrapped"], ours, lambda way: run(way, script, "stock"), 2)


def asyncio_modules() -> list[str]:
    """Those that take longest come first."""
    names = sorted(file.stem for file in FOLDER.glob("test_*.py") if "windows" not in file.stem)
    return sorted(names, key=lambda name: name not in LONGEST)


def modules_with(pattern: str) -> list[str]:
    text = f"def {pattern.rpartition('.')[2]}("
    return [file.stem for file in FOLDER.glob("test_*.py") if text in file.read_text()]


@pytest.mark.parametrize("name", [name for name in DIFFERENT if modules_with(name)])
def test_what_is_left_out_is_different(name: str) -> None:
    for module in modules_with(name):
        arguments = ("all", "--timeout", "30", "-m", name, f"test_asyncio.{module}")
        ran = run(name, HERE / "cpython_asyncio.py", *arguments)
        failed = "Result: FAILURE" in ran.output or "Timeout (0:00:30)!" in ran.output
        assert not ran.passed and failed, ran.output[-3000:]


def run_asyncio(name: str, *stock: str) -> Ran:
    return run(name, HERE / "cpython_asyncio.py", *stock, "-v", f"test_asyncio.{name}")


def test_asyncio() -> None:
    modules = asyncio_modules()
    assert len(modules) >= 25
    check(modules, run_asyncio, lambda name: run_asyncio(name, "stock"), 2 * (os.cpu_count() or 1))
