#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`finack attach`: its document, and what it can't ask. tests/python/test_attach.py has the rest.

usage: test_attach.py FINACK SCHEMA        (prints TAP)
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

from ps_support import FINACK, Python, check_schema
from tap import main, test

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"
SERVER = """
import asyncio
async def serve(reader, writer):
    await reader.read()
    await asyncio.sleep(1000)
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    child = await asyncio.create_subprocess_exec("sleep", "1000", stdin=-1)
    say(server.sockets[0].getsockname()[1])
    await child.wait()
asyncio.run(main())
"""


def young_pythons():
    """Those that can be asked; `./dev newest-pythons` fetches them."""
    run = subprocess.run([SCRIPTS / "python-env", "list"], capture_output=True, text=True, check=True)
    found = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    return [path for version, path in found.items() if int(version.split(".")[1]) >= 14]


def attach(*args):
    return subprocess.run([FINACK, "attach", *map(str, args)], capture_output=True, timeout=60,
                          check=False, text=True, stdin=subprocess.DEVNULL)


def expect_line(run, *words):
    assert run.returncode == 2 and run.stderr.count("\n") == 1 and not run.stdout, run
    for word in words:
        assert word in run.stderr, run


@test
def arguments_are_checked():
    for args, word in [([], "which process"), (["x"], "'x'"), (["0"], "'0'"), (["1", "2"], "'2'"),
                       (["-t", "0", "1"], "--timeout"), (["-t", "soon", "1"], "'soon'"),
                       (["--bogus", "1"], "--bogus")]:
        expect_line(attach(*args), word)
    run = attach("--help")
    assert run.returncode == 0 and "usage: finack attach" in run.stdout


@test
def what_cannot_be_asked_is_said():
    expect_line(attach(2**22 + 1), "no process")
    with subprocess.Popen(["sleep", "1000"]) as process:
        expect_line(attach(process.pid), "no Python")
        process.kill()
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        expect_line(attach(process.pid), str(process.pid))
    if sys.version_info < (3, 14):
        with Python("say('up')\nwait()") as program:
            program.read()
            expect_line(attach(program.pid), "older than 3.14", "report_on")


@test
def the_document_is_as_the_schema_says():
    for python in young_pythons():
        with Python(SERVER, program=python) as program:
            (port,) = map(int, program.read())
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.send(b"x")
                sock.shutdown(socket.SHUT_WR)
                while True:
                    run = attach("--json", "-t", "30s", program.pid)
                    assert run.returncode in (0, 1) and not run.stderr, run
                    said = json.loads(run.stdout)
                    if run.returncode == 1:
                        break
            check_schema(said)
            [connection] = said["connections"]
            assert connection["socket"]["verdict"] == "leaked", connection
            assert len(said["servers"]) == len(said["pipes"]) == 1, said


if __name__ == "__main__":
    sys.exit(main())
