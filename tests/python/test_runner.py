# SPDX-License-Identifier: MIT
"""python -m finack: programs run as in plain Python, and a report at the end."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from peers import Certificate, Peers

BOUND = 120


class App:
    """A program in a folder of its own."""

    def __init__(self, folder: Path, source: str, name: str = "app.py") -> None:
        self.folder = folder
        self.path = folder / name
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text("import asyncio, os, socket, sys\n" + textwrap.dedent(source))

    def plain(self, *args: str) -> "subprocess.CompletedProcess[str]":
        return self._run(*args)

    def run(self, *args: str) -> "subprocess.CompletedProcess[str]":
        return self._run("-m", "finack", *args)

    def report(self, *args: str) -> Any:
        """What it says in JSON; the program's own output must be empty."""
        done = self.run("--json", "-", *(args or ("app.py",)))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def _run(self, *args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=BOUND,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )


def split(stderr: str) -> tuple[str, str]:
    """What the program said, and the report."""
    lines = stderr.splitlines(keepends=True)
    own = [line for line in lines if not line.startswith("finack: ")]
    return "".join(own), "".join(line for line in lines if line.startswith("finack: "))


# ---- as in plain Python ----


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit(3)",
        "sys.exit('gone')",
        "sys.exit()",
        "raise ValueError('x')",
        "def f(): 1 / 0\nf()",
        "asyncio.run(asyncio.wait_for(asyncio.sleep(60), 0))",
        "raise KeyboardInterrupt",
        "sys.excepthook = lambda *args: print('mine', args[0])\nraise ValueError",
        "import atexit\natexit.register(print, 'late')",
        "import threading\nthreading.Timer(0.1, print, ('later',)).start()",
    ],
)
def test_the_same_end(tmp_path: Path, end: str) -> None:
    """Status, output, traceback."""
    app = App(tmp_path, "print(__name__, __file__, __spec__, sys.argv, sys.path[0])\n" + end)
    plain, ours = app.plain("app.py", "-x", "--json"), app.run("app.py", "-x", "--json")
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout)
    said, report = split(ours.stderr)
    assert re.sub(r"0x\w+", "", said) == re.sub(r"0x\w+", "", plain.stderr)
    assert report == "finack: 0 closes\nfinack: no ghosts\n"
    assert plain.stdout.startswith(f"__main__ {tmp_path}/app.py None ['app.py', '-x', '--json']")


@pytest.mark.parametrize("module", ["app", "package", "package.app"])
def test_a_module(tmp_path: Path, module: str) -> None:
    source = "print(__name__, __file__, __package__, __spec__.name, sys.argv, sys.path[0])\n"
    source += "assert sys.modules['__main__'].__file__ == __file__"
    for name in ("app.py", "package/__init__.py", "package/__main__.py", "package/app.py"):
        app = App(tmp_path, source, name)
    (tmp_path / "package/__init__.py").write_text("")
    plain, ours = app.plain("-m", module, "--strict", "x"), app.run("-m", module, "--strict", "x")
    assert plain.returncode == ours.returncode == 0, ours.stderr
    assert ours.stdout == plain.stdout


def test_interrupted(tmp_path: Path) -> None:
    source = """
        async def main():
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), 2)
            try:
                await asyncio.sleep(60)
            finally:
                print("cleaned up")
        asyncio.run(main())
    """
    app = App(tmp_path, source)
    plain, ours = app.plain("app.py"), app.run("app.py")
    assert ours.returncode == plain.returncode == -signal.SIGINT
    assert ours.stdout == plain.stdout == "cleaned up\n"
    assert "no ghosts" in ours.stderr


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        ([], 2, "APP.py or -m MODULE is needed"),
        (["-m"], 2, "APP.py or -m MODULE is needed"),
        (
            ["--jso"],
            2,
            "usage: python -m finack [--version] [--json FILE] [--strict] [--all] (APP.py | -m",
        ),
        (["missing.py"], 2, "can't open the program: [Errno 2] No such file or directory: '"),
        (["-m", "missing"], 1, "No module named missing"),
        (["bad.py"], 1, "SyntaxError"),
    ],
)
def test_what_can_not_be_run(tmp_path: Path, args: list[str], status: int, text: str) -> None:
    (tmp_path / "bad.py").write_text("1 +\n")
    done = App(tmp_path, "").run(*args)
    assert done.returncode == status and text in done.stderr and done.stdout == ""
    assert "_runner.py" not in done.stderr


def test_every_way_to_a_loop(tmp_path: Path) -> None:
    source = """
        import warnings
        from asyncio import SelectorEventLoop
        import finack
        warnings.simplefilter("ignore", DeprecationWarning)
        seen = []

        async def main():
            seen.append(asyncio.get_running_loop())

        class Own(asyncio.SelectorEventLoop):
            pass

        asyncio.run(main())
        finack.run(main())
        with asyncio.Runner() as runner:
            runner.run(main())
        def current():
            if sys.version_info >= (3, 14):  # there a policy makes no loop by itself
                asyncio.set_event_loop(asyncio.new_event_loop())
            return asyncio.get_event_loop()

        for make in (current, asyncio.new_event_loop,
                     SelectorEventLoop, asyncio.SelectorEventLoop, Own, finack.EventLoop,
                     getattr(asyncio, "EventLoop", SelectorEventLoop)):
            if hasattr(asyncio, "set_event_loop_policy"):  # until 3.15
                asyncio.set_event_loop_policy(None)  # forgets that there was a loop
            loop = make()
            loop.run_until_complete(main())
            loop.close()
        assert len(seen) == 10, len(seen)
        timed = sys.modules["finack._loop.timed"].TimedLoop
        assert all(isinstance(loop, timed) for loop in seen), seen
    """
    done = App(tmp_path, source).run("--strict", "app.py")
    assert done.returncode == 0, done.stderr


def test_a_child_does_not_report(tmp_path: Path) -> None:
    source = """
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
    """
    done = App(tmp_path, source).run("app.py")
    assert done.stderr == "finack: 0 closes\nfinack: no ghosts\n"


def test_processes_that_are_spawned(tmp_path: Path) -> None:
    """They import the program by its path."""
    source = """
        import multiprocessing

        def double(x):
            return 2 * x

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(double, [21]))
    """
    done = App(tmp_path, source).run("app.py")
    assert (done.returncode, done.stdout) == (0, "[42]\n"), done.stderr


# ---- the report ----

SERVED = """
    async def serve(reader, writer):
        await reader.read()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            for _ in range({count}):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"x")
                writer.write_eof()
                assert await reader.read() == b""
                {close}
    asyncio.run(main())
"""


# Under the last two the transports are asyncio's, and the runner notes their closes itself.
OPTIONS = ["", "close_policy=None", "selectors.SelectSelector()"]


@pytest.mark.parametrize("options", OPTIONS)
def test_closes_of_the_program(tmp_path: Path, options: str) -> None:
    source = SERVED.format(count=20, close="writer.close(); await writer.wait_closed()")
    made = f"asyncio.Runner(loop_factory=lambda: finack.EventLoop({options})).run(main())"
    source = source.replace("asyncio.run(main())", f"import finack, selectors; {made}")
    app = App(tmp_path, source)
    report = app.report()
    assert report["closes"] == 40 and report["outcomes"] == {"prompt": 40}
    assert report["ghosts"] == [] and report["notes"] == []
    assert len(report["slowest"]) == 10
    seconds = [slow["seconds"] for slow in report["slowest"]]
    assert seconds == sorted(seconds, reverse=True) and 0 < seconds[0] < 60
    slow = report["slowest"][0]
    assert slow["receipt"]["stages"]["released"] == slow["seconds"]
    assert re.match(r"tcp 127.0.0.1:\d+ -> 127.0.0.1:\d+", slow["receipt"]["socket"])


def test_the_report_in_words(tmp_path: Path) -> None:
    app = App(tmp_path, SERVED.format(count=2, close="writer.close(); await writer.wait_closed()"))
    said = app.run("app.py").stderr
    assert re.search(r"^finack: 4 closes: 4 prompt$", said, re.M)
    assert re.search(
        r"^finack:    +[\d.]+(us|ms|s)  tcp .*, prompt, made at app\.py:\d+ in main$", said, re.M
    )


@pytest.mark.parametrize("courtesy", ["orderly", "prompt"])
def test_a_close_by_finack_counts_once(tmp_path: Path, courtesy: str) -> None:
    close = f"await finack.aclose(writer, finack.Policy(courtesy={courtesy!r}))"
    source = "import finack\n" + textwrap.dedent(SERVED.format(count=5, close=close))
    report = App(tmp_path, source).report()
    assert report["closes"] == 10
    stages = [slow["receipt"]["stages"] for slow in report["slowest"]]
    assert ["unreferenced" in one for one in stages] == [True] * 10  # the server's too


def test_a_slow_close(tmp_path: Path, peers: Peers, certificate: Certificate) -> None:
    """TLS to a peer that never answers: the time runs from the program's close()."""
    peer = peers.listen("mute", tls=certificate)
    source = f"""
        import ssl
        async def main():
            context = ssl.create_default_context(cafile={str(certificate.authority)!r})
            context.check_hostname = False
            _, writer = await asyncio.open_connection(
                *{peer.address!r}, ssl=context, ssl_shutdown_timeout=0.5)
            writer.close()
            try:
                await writer.wait_closed()
            except TimeoutError:
                pass
        asyncio.run(main())
    """
    report = App(tmp_path, source).report()
    assert report["closes"] == 1
    slow = report["slowest"][0]
    assert slow["seconds"] >= 0.5
    assert (slow["receipt"]["outcome"], slow["receipt"]["phase"]) == ("timed_out", "farewell")
    assert re.fullmatch(r"app\.py:\d+ in main", slow["made"])


def test_resets_and_aborts(tmp_path: Path, peers: Peers) -> None:
    peer = peers.listen("mute")
    source = f"""
        async def main():
            reader, writer = await asyncio.open_connection(*{peer.address!r})
            writer.transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection(*{peer.address!r})
            print(flush=True)
            try:
                await reader.read()
            except ConnectionResetError:
                pass
        asyncio.run(main())
    """
    app = App(tmp_path, source)
    process = subprocess.Popen(
        [sys.executable, "-m", "finack", "--json", "report.json", "app.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stdout.readline() == b"\n"
    peer.act("reset")
    process.communicate(timeout=BOUND)
    report = json.loads((app.folder / "report.json").read_text())
    assert report["outcomes"] == {"aborted": 1, "reset": 1}


def test_a_file_that_can_not_be_written(tmp_path: Path) -> None:
    done = App(tmp_path, "").run("--json", "missing/report.json", "app.py")
    assert done.returncode == 1 and "written: [Errno 2] No such file" in done.stderr


# ---- ghosts ----

GHOSTS = {
    "descriptor": (
        "sock = socket.socket()",
        r"ghost descriptor: tcp 0\.0\.0\.0:0, fd \d+: never closed, CLOSE,"
        r" made at app\.py:2 in <module>",
    ),
    "file": (
        "a, b = socket.socketpair(); f = a.makefile(); a.close(); b.close()",
        r"ghost descriptor: unix .*: close\(\) was called, and a file of makefile\(\) is open,"
        r" made at app\.py:2 in <module>",
    ),
    "description": (
        "s = socket.socket(); c, d = socket.socketpair()\n"
        "socket.send_fds(c, [b'x'], [s.fileno()]); s.close()",
        r"ghost description: tcp .*: fd \d+ is closed, still held by a thread inside a call, .*",
    ),
    "registration": (
        "import select\np = select.epoll(); a = socket.socket(); p.register(a)\n"
        "copy = os.dup(a.fileno()); a.close()",
        r"ghost registration: tcp 0\.0\.0\.0:0, fd \d+: closed, and still registered .*",
    ),
    "connection": (
        "import finack\nl = socket.create_server(('127.0.0.1', 0))\n"
        "c = socket.create_connection(l.getsockname()); s = l.accept()[0]\n"
        "finack.close(c, finack.Policy(linger=0))",
        r"ghost connection: tcp .*: FIN_WAIT2, 0 bytes not acknowledged, .*",
    ),
}


@pytest.mark.parametrize("kind", list(GHOSTS))
def test_ghosts(tmp_path: Path, kind: str) -> None:
    source, line = GHOSTS[kind]
    app = App(tmp_path, source)
    done = app.run("app.py")
    assert done.returncode == 0
    assert re.search(f"^finack:   {line}$", done.stderr, re.M), done.stderr
    strict = app.run("--strict", "--json", "report.json", "app.py")
    assert strict.returncode == 1
    ghosts = json.loads((tmp_path / "report.json").read_text())["ghosts"]
    assert ("descriptor" if kind == "file" else kind) in [ghost["kind"] for ghost in ghosts]


EXHAUSTED = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (40, {hard}))
kept = []
try:
    while True:
        kept.append(socket.socket())
except OSError:
    pass
"""


@pytest.mark.parametrize("limit", ["soft", "hard"])
def test_without_a_descriptor(tmp_path: Path, limit: str) -> None:
    """Who has used up all of them is told of them, or at least why not."""
    app = App(tmp_path, EXHAUSTED.format(hard=40 if limit == "hard" else 400))
    done = app.run("--strict", "app.py")
    own, told = split(done.stderr)
    assert own == "" and done.returncode == 1
    if limit == "soft":
        assert told.count("never closed, CLOSE, made at app.py:") > 20
    else:
        assert "finack: what is left was not looked for: [Errno 24] Too many open files\n" in told
        assert "no ghosts" not in told


def test_strict_keeps_the_program_s_own_status(tmp_path: Path) -> None:
    app = App(tmp_path, "sock = socket.socket()\nprint('written')\nsys.exit(7)")
    done = app.run("--strict", "app.py")
    assert (done.returncode, done.stdout) == (7, "written\n")


def test_strict_loses_no_output(tmp_path: Path) -> None:
    source = """
        import logging
        logging.basicConfig(filename="log")
        handler = logging.getLogger().handlers[0]
        sock = socket.socket()
        print("written")
    """
    done = App(tmp_path, source).run("--strict", "app.py")
    assert (done.returncode, done.stdout) == (1, "written\n")


def test_what_the_loop_s_end_cuts(tmp_path: Path, peers: Peers) -> None:
    """The program forgot it: aborted, and nothing is left but what the peer keeps."""
    peer = peers.listen("mute")
    source = f"""
        kept = []
        async def main():
            kept.append(await asyncio.open_connection(*{peer.address!r}))
        asyncio.run(main())
    """
    report = App(tmp_path, source).report()
    assert report["outcomes"] == {"aborted": 1}
    assert [ghost["kind"] for ghost in report["ghosts"]] == ["connection"]


def test_uvloop(tmp_path: Path, peers: Peers) -> None:
    """Its sockets are seen only by the table, and the report says so."""
    peer = peers.listen("mute")
    source = f"""
        import uvloop
        async def main():
            await asyncio.open_connection(*{peer.address!r})
        loop = uvloop.new_event_loop()
        kept = loop.run_until_complete(asyncio.open_connection(*{peer.address!r}))
    """
    done = App(tmp_path, source).run("--strict", "app.py")
    assert done.returncode == 1
    name = re.escape("{}:{}".format(*peer.address))
    assert re.search(
        rf"^finack:   ghost descriptor: tcp 127.* -> {name}, fd \d+: never closed, ESTABLISHED",
        done.stderr,
        re.M,
    ), done.stderr
    assert "uvloop is loaded: the closes of its loops are not timed" in done.stderr


# ---- never closed ----

LEFT_TO_THE_LOOP = """
    async def main():
        global kept
        server = await asyncio.start_server(lambda r, w: kept.append(w), "127.0.0.1", 0)
        kept = [server]
        kept.append(await asyncio.open_connection(*server.sockets[0].getsockname()))
        process = await asyncio.create_subprocess_exec("cat", stdin=-1)
        process._transport._returncode = 0  # let it be
        kept.append(process)
        while len(kept) < 4:
            await asyncio.sleep(0.01)

    asyncio.run(main())
"""


def test_never_closed(tmp_path: Path) -> None:
    """What the loop had to release comes first, with places, and makes --strict fail."""
    app = App(tmp_path, LEFT_TO_THE_LOOP)
    done = app.run("--strict", "app.py")
    assert done.returncode == 1
    said = split(done.stderr)[1].splitlines()
    assert said[0] == "finack: 4 never closed, and released when the loop was closed:"
    told = "\n".join(said[1:5])
    assert re.search(r"tcp 127\.0\.0\.1:\d+ listening fd \d+, made at app\.py:5 in main", told)
    assert re.search(r"-> .*, made at app\.py:7 in main, never closed\n", told)
    accepted = r", made at app\.py:5 in main \(the server that accepted it\), never closed"
    assert re.search(accepted + r", accepted by the server of 127\.0\.0\.1:\d+", told)
    assert re.search(r"pipe, stdin of process \d+ fd \d+, made at app\.py:8 in main", told)
    assert not any("no ghosts" in line for line in said)
    assert app.run("app.py").returncode == 0


def test_never_closed_as_json(tmp_path: Path) -> None:
    report = App(tmp_path, LEFT_TO_THE_LOOP).report()
    assert len(report["never_closed"]) == 4 and report["ghosts"] == []
    accepted = [one for one in report["never_closed"] if one["server"]]
    assert [one["made"] for one in accepted] == ["app.py:5 in main (the server that accepted it)"]
    assert accepted[0].keys() == {"socket", "fd", "made", "server", "unsent"}


# ---- handed over ----

HANDED_OVER = """
    import finack
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    read, write = os.pipe()
    if not os.fork():
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    finack.close(server, finack.Policy(scope="descriptor"))
    client.close()
    finack.close(listener)
"""


def test_what_was_handed_over_is_no_ghost(tmp_path: Path) -> None:
    """A worker has the connection, the socket it came from, and the end that is in this process."""
    app = App(tmp_path, HANDED_OVER)
    done = app.run("--strict", "app.py")
    assert done.returncode == 0 and "no ghosts" in done.stderr, done.stderr
    assert "handed over" not in done.stderr
    done = app.run("--strict", "--all", "app.py")
    assert done.returncode == 0 and "finack: 3 handed over\n" in done.stderr, done.stderr
    assert done.stderr.count("still held by") == 3
    assert len(app.report("--all", "app.py")["handed_over"]) == 3


def test_what_a_child_keeps_is_one_all_the_same(tmp_path: Path) -> None:
    """Nothing was handed over: the child has it by inheritance, and its peer waits in vain."""
    source = HANDED_OVER.replace('finack.Policy(scope="descriptor")', "finack.Policy(linger=0)")
    done = App(tmp_path, source).run("--strict", "app.py")
    assert done.returncode == 1
    assert "still held by" in done.stderr and app_line(5) in done.stderr, done.stderr


def test_an_end_that_another_child_keeps_is_one_all_the_same(tmp_path: Path) -> None:
    """That one has this end alone, so that nobody goes on with the connection there."""
    begin, end = HANDED_OVER.index("if not os.fork"), HANDED_OVER.index("finack.close(server")
    pipe, child = "read, write = os.pipe()\n    ", HANDED_OVER[begin:end]
    source = HANDED_OVER.replace(pipe, "").replace("server, _", f"{pipe}{child}server, _")
    done = App(tmp_path, source).run("--strict", "app.py")
    assert done.returncode == 1 and done.stderr.count("still held by") == 1, done.stderr
    assert app_line(4) in done.stderr, done.stderr


def test_what_a_worker_keeps_besides_is_one_all_the_same(tmp_path: Path) -> None:
    """It holds all that was handed over, and a socket that was not."""
    other = "other = socket.create_connection(listener.getsockname())"
    source = HANDED_OVER.replace("read, write", f"{other}\n    read, write")
    source += "    other.close()\n"
    done = App(tmp_path, source).run("--strict", "app.py")
    assert done.returncode == 1 and done.stderr.count("still held by") == 1, done.stderr
    assert app_line(7) in done.stderr, done.stderr


def app_line(number: int) -> str:
    return f"made at app.py:{number} in <module>"
