# SPDX-License-Identifier: MIT
"""uvicorn on EventLoop and on other loops: plain text, connections kept and a connection each.

usage: web.py HTTP_LOAD [RESULTS.JSON]

Each server is a process; what is compared is its processor time for a request. The load comes from
bench/http_load.c, which does not tell the servers apart.
"""

import contextlib
import functools
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import ratio
from others import LOOPS, beside, each

ROUNDS = 21
REQUESTS = 500
CONNECTIONS = 20
TIME_LIMIT = 10  # seconds
SERVER = pathlib.Path(__file__).with_name("web_server.py")


def processor(pid: int) -> float:
    """The seconds that a process has used: its clock, numbered as by clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


@contextlib.contextmanager
def servers() -> Iterator[dict[str, tuple[int, int]]]:
    """The pid and port of a server on each loop."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name in LOOPS:
            command = [sys.executable, str(SERVER), name]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.terminate)
            assert process.stdout
            found[name] = process.pid, int(process.stdout.readline())
        yield found


def load(program: str, pid: int, port: int, way: str, requests: int = REQUESTS) -> float:
    before = processor(pid)
    command = [program, str(port), str(CONNECTIONS), str(requests), way]
    subprocess.run(command, check=True, timeout=TIME_LIMIT)
    return (processor(pid) - before) / requests


def measure(program: str) -> list[ratio.Result]:
    results = []
    with servers() as found:
        for name, way in (("loop.http", "keep"), ("loop.http.close", "close")):

            def once(loop: str, way: str = way) -> ratio.Work:
                load(program, *found[loop], way, CONNECTIONS)  # it can
                return functools.partial(load, program, *found[loop], way)

            results += beside(name, 1.00, ratio.in_turns(each(once), ROUNDS))
    return results


if __name__ == "__main__":
    ratio.head()
    sys.exit(ratio.finish(measure(sys.argv.pop(1))))
