# SPDX-License-Identifier: MIT
"""What the tests of `finack ps` share. Their arguments: FINACK SCHEMA."""

import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import jsonschema


FINACK, SCHEMA = sys.argv[1:3]
TCP_FIN_WAIT2, TCP_CLOSE, TCP_CLOSE_WAIT = 5, 7, 8
with open("/proc/self/comm", encoding="ascii") as own:
    COMMAND = own.read().strip()


def check_schema(value, path=SCHEMA):
    with open(path, encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema, jsonschema.Draft202012Validator)


def until(condition, what, seconds=30):
    """Waits for what can't be waited for otherwise: the kernel's view of a socket."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.002)
    return value


def finack(*args, **kwargs):
    kwargs.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([FINACK, "ps", *map(str, args)], stderr=subprocess.PIPE, timeout=60, check=False,
                          **kwargs)


def report(*args, **kwargs):
    """The JSON, checked, and the exit status."""
    run = finack("--json", *args, **kwargs)
    assert run.returncode in (0, 1) and not run.stderr, (run.returncode, run.stderr)
    value = json.loads(run.stdout)
    check_schema(value)
    ghosts = [v for v, n in value["counts"].items() if n and v not in ("fine", "parked")]
    if not value.get("since"):
        assert run.returncode == (1 if ghosts else 0), value["counts"]
    return value


def sockets(*args, **kwargs):
    """The rows, but for what earlier tests have left in TIME_WAIT."""
    rows = report(*args, **kwargs)["sockets"]
    return rows if "time-wait" in args else [s for s in rows if s["state"] != "TIME_WAIT"]


def inode(sock):
    return os.fstat(sock.fileno()).st_ino


def seen(sock, *args):
    """The row of that socket."""
    rows = [s for s in sockets(*args) if s["inode"] == inode(sock)]
    assert len(rows) == 1, rows
    return rows[0]


def line_of(word, *args):
    lines = [line for line in finack(*args).stdout.decode().splitlines()
             if word in line and not re.match(r"\d+ socket|what to do about ", line)]
    assert len(lines) == 1, lines
    return lines[0]


def tcp_state(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def in_state(sock, state):
    until(lambda: tcp_state(sock) == state, f"state {state}")


def reset_at_close(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def connection(host="127.0.0.1", **options):
    """Both ends; the accepted one comes second."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        with socket.socket(family) as listener:
            for name, value in options.items():
                listener.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
            listener.bind((host, 0))
            listener.listen()
            client = stack.enter_context(socket.socket(family))
            client.connect(listener.getsockname()[:2])
            server = stack.enter_context(listener.accept()[0])
        yield client, server
        for sock in (client, server):  # so that the next test finds none in TIME_WAIT
            if sock.fileno() >= 0:
                reset_at_close(sock)


class Python:
    """A program in a process of its own. It prints what it wants to tell, and ends when told to;
    at the latest here, with all that it started. It is the system's interpreter, which every user
    may run."""

    def __init__(self, text, *args, program="/usr/bin/python3", **kwargs):
        prelude = ("import os, select, signal, socket, subprocess, sys, time\n"
                   "def say(*words): print(*words, flush=True)\n"
                   "def wait(): sys.stdin.readline()\n")
        self.process = subprocess.Popen([program, "-c", prelude + text, *map(str, args)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        start_new_session=True, **kwargs)
        self.pid = self.process.pid

    def read(self):
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        assert ready, "the program says nothing"
        return self.process.stdout.readline().split()

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.read()  # what it started has it too: its end is theirs
        self.process.stdout.close()


CONTAINER = "0123456789ab" + "cd" * 26


@contextlib.contextmanager
def contained(text, pod=""):
    """A program that says and waits as Python's do, in what looks like a container of this name."""
    group = f"0::/kubepods/pod{pod}/{CONTAINER}\n" if pod else f"0::/docker/{CONTAINER}\n"
    with contextlib.ExitStack() as stack:
        root = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (root / "etc").mkdir()
        (root / "etc" / "hostname").write_text('web-"7d\n')
        (root / "cgroup").write_text(group)
        program = stack.enter_context(Python("os.chroot(sys.argv[1])\n" + text, root))
        said = program.read()
        place = f"/proc/{program.pid}/cgroup"
        subprocess.run(["mount", "--bind", root / "cgroup", place], check=True)
        stack.callback(subprocess.run, ["umount", place], check=True)
        yield program, said


def fill(sock):
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))


def ss(*args):
    run = subprocess.run(["ss", "-H", "-n", "-e", *args], stdout=subprocess.PIPE, check=True,
                         timeout=60)
    return run.stdout.decode(errors="replace").splitlines()


def ss_inodes(*args):
    return {int(m[1]) for line in ss(*args) if (m := re.search(r"\bino:([1-9]\d*)", line))}


@contextlib.contextmanager
def for_all():
    """A copy of the command where every user may run it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copy(FINACK, f"{folder}/finack")
        yield f"{folder}/finack"


def as_nobody():
    """Another user, where there is one: not in a user namespace that has but one."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return {"user": 65534, "group": 65534, "extra_groups": []} if int(
            file.read().split()[2]) > 65534 else {}
