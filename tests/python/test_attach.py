# SPDX-License-Identifier: MIT
"""`finack attach`: what a program that runs says of its loops, and that nothing stays in it."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

COMMAND = pathlib.Path(__file__).parents[2] / "build" / "finack"
YOUNG = sys.version_info >= (3, 14)
young = pytest.mark.only_if(YOUNG)

# Says what it is like, before and after it was asked. The connection that leaks is the first.
PRELUDE = """
import asyncio, os, socket, sys, threading, time
scripts = []
sys.addaudithook(lambda event, args: "debugger" in event and scripts.append(event))
def say(*words): print(*words, flush=True)
def is_open(fd):
    try: return bool(os.fstat(fd))
    except OSError: return False
def state():
    fds = list(filter(is_open, range(400)))
    names = sorted(vars(sys.modules["__main__"]))
    return [sorted(sys.modules), names, fds, threading.active_count()]
"""
SERVER = """
async def leak(reader, writer):
    while await reader.read(100): pass
    await asyncio.sleep(1000)  # the leak
async def answer(reader, writer):
    mine = []
    while await reader.readline():
        if not mine and len(asyncio.all_tasks()) == 3:
            FILL
            mine = state()
        writer.write(b"%d %d\\n" % (state() == mine, len(scripts)))
async def main():
    one = await asyncio.start_server(leak, "127.0.0.1", 0)
    two = await asyncio.start_server(answer, "127.0.0.1", 0)
    say(*(server.sockets[0].getsockname()[1] for server in (one, two)))
    await asyncio.Event().wait()
RUN
"""
RUNNERS = {
    "asyncio": "asyncio.run(main())",
    "thread": "t = threading.Thread(target=lambda: asyncio.run(main())); t.start(); t.join()",
    "finack": "import finack; finack.run(main())",
    "crowded": """
import resource
kept = []
resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
def fill():
    while len(kept) < 40:
        try: kept.append(os.dup(0))
        except OSError: break
asyncio.run(main())
""",
}


@contextlib.contextmanager
def program(text: str, *options: str, **more: Any) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, *options, "-c", PRELUDE + text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def words_of(process: "subprocess.Popen[str]") -> list[str]:
    assert process.stdout
    return process.stdout.readline().split()


def exchanges(pid: Any) -> list[pathlib.Path]:
    """Folders for questions to that process; tests beside this one have others."""
    return list(pathlib.Path(tempfile.gettempdir()).glob(f"finack-{pid}-*"))


def attach(*arguments: Any, **more: Any) -> "subprocess.CompletedProcess[str]":
    command: list[str | pathlib.Path] = [COMMAND, "attach", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    assert not exchanges(arguments[-1])
    return done


def refused(process: "subprocess.Popen[str]", word: str, *arguments: Any) -> None:
    done = attach(*arguments, process.pid)
    assert done.returncode == 2 and not done.stdout, done
    assert done.stderr.count("\n") == 1 and word in done.stderr, done.stderr


@contextlib.contextmanager
def leak(port: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(port))) as sock:
        sock.shutdown(socket.SHUT_WR)
        yield sock


def ask(file: Any) -> list[str]:
    file.write("\n")
    file.flush()
    answer: list[str] = file.readline().split()
    return answer


def one_that(found: list[dict[str, Any]], verdict: str) -> dict[str, Any]:
    [one] = [entry for entry in found if entry["socket"]["verdict"] == verdict]
    return one


@young
@pytest.mark.parametrize("way", list(RUNNERS))
def test_leak(way: str) -> None:
    """A line that says which task leaks it, and where; the program is as it was before."""
    text = SERVER.replace("RUN", RUNNERS[way]).replace(
        "FILL", "fill()" * (way == "crowded") or "pass"
    )
    with program(text) as process:
        ports = words_of(process)
        control = socket.create_connection(("127.0.0.1", int(ports[1])))
        with leak(ports[0]), control, control.makefile("rw") as file:
            while ask(file)[0] != "1":  # until both are there
                pass
            deadline = time.monotonic() + 60
            while "leaked" not in (done := attach("-t", "30s", process.pid)).stdout:
                assert done.returncode == 0 and time.monotonic() < deadline, done
            assert done.returncode == 1 and not done.stderr, done
            line = next(line for line in done.stdout.splitlines() if line.startswith("leaked"))
            where = 1 + next(
                i for i, line in enumerate((PRELUDE + text).splitlines()) if "# the leak" in line
            )
            assert "leaked CLOSE_WAIT since " in line
            assert ", held by task leak (Task-" in line and f") at <string>:{where}: tcp " in line
            said = json.loads(attach("--json", "-t", "30s", process.pid).stdout)
            entry = one_that(said["connections"], "leaked")
            assert entry["unsent"] == 0 and not entry["tls"] and entry["address"] in line
            fine = one_that(said["connections"], "fine")
            [use] = fine["tasks"]
            assert use["how"] == "waits" and said["tasks"][use["task"]]["coroutine"] == "answer"
            assert len(said["servers"]) == 2 and not said["cut"]
            assert said["python"] == "{}.{}.{}".format(*sys.version_info)
            same, scripts = ask(file)
            assert same == "1" and int(scripts) >= 2, "the same modules, names and descriptors"


@young
def test_pipes_tls_and_unsent() -> None:
    """Over a full pipe: what the transport has not sent; a pair with TLS in the making."""
    text = """
async def main():
    child = await asyncio.create_subprocess_exec("sleep", "1000", stdin=-1, stdout=-1)
    child.stdin.write(bytes(1 << 20))
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    import ssl
    opening = asyncio.open_connection(
        sock=ours, ssl=ssl.create_default_context(), server_hostname="nobody")
    task = asyncio.create_task(opening)
    await asyncio.get_running_loop().sock_recv(theirs, 1000)
    say("ready")
    await task
asyncio.run(main())
"""
    with program(text, start_new_session=True) as process:
        assert words_of(process) == ["ready"]
        said = json.loads(attach("--json", "-t", "30s", process.pid).stdout)
        os.killpg(process.pid, signal.SIGKILL)
    [unsent] = [pipe["unsent"] for pipe in said["pipes"] if "Write" in pipe["protocol"]]
    assert 0 < unsent < 1 << 20 and len(said["pipes"]) == 2
    [connection] = said["connections"]
    assert connection["tls"] and connection["socket"]["proto"] == "unix"


@young
@pytest.mark.parametrize(
    "text",
    [
        "say('up')\nwhile True: pass",
        "async def main():\n    say('up')\n    while True: await asyncio.sleep(0)\n"
        "asyncio.run(main())",
        "def work():\n    say('up')\n    while True: pass\n"
        "one = threading.Thread(target=work, daemon=True)\none.start()\none.join()",
    ],
)
def test_busy(text: str) -> None:
    """It looks while it computes."""
    with program(text) as process:
        assert words_of(process) == ["up"]
        done = attach("-t", "30s", process.pid)
        assert done.returncode == 0 and f"{int('async' in text)} loop" in done.stdout, done


LATER = """
async def main():
    await asyncio.Event().wait()
def work():
    say("up")
    os.read(FD, 1)
    asyncio.run(main())
one = threading.Thread(target=work)
one.start()
one.join()
"""


@young
def test_loop_that_begins_meanwhile() -> None:
    """No thread could answer when the question came."""
    read, write = os.pipe()
    with program(LATER.replace("FD", str(read)), pass_fds=[read]) as process:
        os.close(read)
        assert words_of(process) == ["up"]
        command = [str(COMMAND), "attach", "-t", "60s", str(process.pid)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asking:
            while not exchanges(process.pid):
                assert asking.poll() is None
            os.close(write)
            said, _ = asking.communicate()
        assert asking.returncode == 0 and "1 loop" in said, said
        assert not exchanges(process.pid)


NEVER = """
import signal
signal.signal(signal.SIGUSR1, lambda *_: say("scripts", len(scripts)))
say("up")
while True: time.sleep(1000)
"""


@young
def test_never_answers() -> None:
    """A call that no wake-up ends; and stopped: it is told nothing later."""
    with program(NEVER) as process:
        assert words_of(process) == ["up"]
        refused(process, "did not answer within 300 ms", "-t", "300ms")
        process.send_signal(signal.SIGUSR1)
        assert words_of(process) == ["scripts", "0"]
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        refused(process, "is stopped", "-t", "300ms")
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGCONT)
        assert words_of(process) == ["scripts", "0"]
        interrupted = subprocess.Popen([COMMAND, "attach", "-t", "60s", str(process.pid)])
        while not exchanges(process.pid):
            assert interrupted.poll() is None
        interrupted.terminate()
        assert interrupted.wait(30) == -signal.SIGTERM
        process.send_signal(signal.SIGUSR1)
        assert words_of(process) == ["scripts", "0"]


@young
def test_uvloop() -> None:
    """It says why, and after that uvloop's loop is none the worse."""
    text = SERVER.replace("RUN", "import uvloop; uvloop.run(main())")
    with program(text) as process:
        ports = words_of(process)
        refused(process, "uvloop", "-t", "300ms")
        with socket.create_connection(("127.0.0.1", int(ports[1]))) as sock:
            sock.sendall(b"\n")
            assert sock.recv(100) == b"0 0\n"


@young
def test_forbidden() -> None:
    """Switched off there; another user's; run by another user."""
    with program(NEVER, "-X", "disable-remote-debug") as process:
        words_of(process)
        refused(process, "-X disable-remote-debug")


@young
@pytest.mark.only_if(os.getuid() == 0)
def test_other_users(tmp_path: pathlib.Path) -> None:
    """Root may ask another user's process, which writes into files that it was given."""
    text = "say('up')\nos.setgid(65534); os.setuid(65534)\nsay('nobody')\nwhile True: pass"
    with program(text) as process:
        words_of(process), words_of(process)
        done = attach("-t", "30s", process.pid)
        assert done.returncode == 0, done
        copy = pathlib.Path(tempfile.mkdtemp()) / "finack"
        copy.write_bytes(COMMAND.read_bytes())
        copy.chmod(0o755)
        copy.parent.chmod(0o755)
        done = subprocess.run(
            [copy, "attach", str(os.getpid())],
            capture_output=True,
            text=True,
            user=65534,
            group=65534,
        )
        copy.unlink()
        copy.parent.rmdir()
        assert done.returncode == 2 and "no permission" in done.stderr, done


@pytest.mark.only_if(not YOUNG)
def test_older() -> None:
    """What can be done instead is said."""
    with program(NEVER) as process:
        words_of(process)
        refused(process, "report_on(signal.SIGUSR1)")
