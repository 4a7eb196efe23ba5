# SPDX-License-Identifier: MIT
"""A plugin of pytest for scripts/suites: on which loop a suite runs, and what came of each test.

SUITE_LOOP is `stock` or `finack`. SUITE_SERVER, if it is set, has a line that the server says when
it is ready, and the words of its command, one a line. What happens is written to the file
SUITE_RESULTS at once, an object in JSON a line, so that a crash leaves what was before it.
"""

import json
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import time
from asyncio.base_events import BaseEventLoop
from collections import Counter
from typing import Any

import pytest

SUBSTITUTE = pathlib.Path(__file__).parents[1] / "python" / "cpython_asyncio.py"


class Log:
    """The file that scripts/suites reads."""

    def __init__(self) -> None:
        self.file = open(os.environ["SUITE_RESULTS"], "a", buffering=1)  # noqa: SIM115
        self.loops: Counter[str] = Counter()

    def say(self, **what: Any) -> None:
        self.file.write(json.dumps(what) + "\n")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.say(id=nodeid, outcome="begun")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        text = report.longreprtext if report.failed else ""
        self.say(id=report.nodeid, outcome=report.outcome, text=text)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.say(id=report.nodeid, outcome="failed", text=report.longreprtext)

    def pytest_sessionfinish(self) -> None:
        self.say(loops=self.loops)
        # Left by tests that failed; the interpreter would wait for them at its end.
        for child in multiprocessing.active_children():
            child.kill()


def count_loops(made: Counter[str]) -> None:
    base: Any = BaseEventLoop
    before = base.__init__

    def init(self: BaseEventLoop) -> None:
        made[f"{type(self).__module__}.{type(self).__name__}"] += 1
        before(self)

    base.__init__ = init


def start_server(ready: str, command: list[str]) -> "subprocess.Popen[bytes]":
    """What it says goes to a file: a pipe that nobody reads would stop it."""
    log = pathlib.Path(os.environ["SUITE_RESULTS"] + ".server")
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    while ready not in log.read_text(errors="replace"):
        if server.poll() is not None:
            raise pytest.UsageError(f"{command} ended: {log.read_text(errors='replace')}")
        time.sleep(0.01)
    return server


def pytest_configure(config: pytest.Config) -> None:
    log = Log()
    count_loops(log.loops)
    if os.environ["SUITE_LOOP"] == "finack":
        runpy.run_path(str(SUBSTITUTE))["substitute"]()
        log.loops.clear()
    if ready_and_command := os.environ.get("SUITE_SERVER"):
        ready, *command = ready_and_command.splitlines()
        server = start_server(ready, command)
        config.add_cleanup(server.kill)
    config.pluginmanager.register(log, "suites-log")
