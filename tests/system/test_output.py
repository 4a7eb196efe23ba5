#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the command shows on a terminal, and the files it writes: whole or not at all.

usage: test_output.py FINACK        (prints TAP)
"""

import fcntl
import json
import os
import pathlib
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading

import tap
from on_pty import environment, plain, run_on_terminal
from tap import WITHOUT_LEAK_CHECK, test

FINACK = sys.argv[1]
BLOCKS = re.compile("[\u2588-\u258f]")
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>')


def finack(*args, **kwargs):
    return subprocess.run([FINACK, *args], capture_output=True, timeout=60, check=False, **kwargs)


def data_of(path):
    with open(path, encoding="utf-8") as file:
        return json.loads(DATA.search(file.read()).group(1))


def expect_line(run, *words):
    lines = run.stderr.decode().splitlines()
    assert run.returncode == 2 and len(lines) == 1, (run.returncode, lines)
    assert lines[0].startswith("finack probe: "), lines
    for word in words:
        assert word in lines[0], lines


class Server:
    """Accepts connections, and answers the end of each once `release` is set."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.release = threading.Event()
        self.thread = threading.Thread(target=self.serve)

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                if connection.recv(100) == b"stop":
                    return
                self.release.wait()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.release.set()
        with socket.create_connection(self.listener.getsockname()) as last:
            last.sendall(b"stop")
        self.thread.join()
        self.listener.close()


# ---- output that can't be written, or not at once ----

@test
def few_descriptors_are_told_of():
    for limit in range(6, 24):
        run = finack("trace", "true", env=WITHOUT_LEAK_CHECK, preexec_fn=lambda limit=limit:
                     resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        lines = run.stderr.decode().splitlines()
        if run.returncode == 2:
            assert len(lines) == 1 and "Too many open files" in lines[0], (limit, lines)
        else:
            assert run.returncode == 0 and "exited with status 0" in lines[-1], (limit, run)


@test
def a_full_standard_error_is_told_by_the_status():
    with open("/dev/full", "wb") as full:
        run = subprocess.run([FINACK, "trace", "true"], stderr=full, timeout=60, check=False)
    assert run.returncode == 2, run


MANY = "import socket\nfor _ in range(300): socket.socket().close()"


@test
def output_that_somebody_made_nonblocking_is_whole():
    for stream, option in (("stderr", []), ("stdout", ["--json"])):
        end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(write_end, False)
        with subprocess.Popen([FINACK, "trace", *option, "--", sys.executable, "-c", MANY],
                              **{stream: write_end}) as process:
            os.close(write_end)
            with open(end, encoding="utf-8") as reader:
                text = reader.read()
        assert process.returncode == 0, text[-300:]
        if option:
            assert len(json.loads(text)["sockets"]) == 300
        else:
            assert text.count(" closed by ") == 300 and text.endswith("exited with status 0\n")


# ---- files ----

@test
def a_page_is_written_beside_the_table():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "page.html")
        run = finack("probe", "--html", path)
        assert run.returncode == 0 and b"18 of 18 as expected" in run.stdout, run
        data = data_of(path)
        assert os.listdir(folder) == ["page.html"]
    assert data["title"] == "finack probe" and len(data["closes"]) == 18, data["title"]
    names = {close["name"] for close in data["closes"]}
    assert {"held", "held (TLS)", "truncating (TLS)"} < names, names
    for close in data["closes"]:
        assert close["held"] == close["name"].startswith("held"), close
        assert close["outcome"] in close["text"] and close["stages"]["requested"] == 0, close
        ends = [end for end, _ in close["pieces"]]
        assert ends == sorted(ends) and ends[-1] >= close["stages"]["released"], close


@test
def time_that_a_deadline_ended_is_of_its_phase():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "page.html")
        finack("probe", "--html", path, "--json")
        data = data_of(path)
    longest = {}
    for close in data["closes"]:
        begins = [0, *(end for end, _ in close["pieces"])]
        spans = [(end - begin, data["parts"][part])
                 for begin, (end, part) in zip(begins, close["pieces"])]
        longest[close["name"]] = max(spans)[1]
    assert longest["mute"] == longest["deaf"] == longest["slow (TLS)"] == "linger", longest
    assert longest["deaf (TLS)"] == longest["notify-then-deaf (TLS)"] == "flush", longest


@test
def a_page_goes_with_json():
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        server.release.set()
        path = pathlib.Path(folder, "page.html")
        run = finack("probe", "--json", "--count", "3", "--html", path, server.address)
        assert len(json.loads(run.stdout)) == 3 and run.returncode == 0, run
        data = data_of(path)
    assert data["title"] == f"finack probe {server.address}", data["title"]
    assert [close["outcome"] for close in data["closes"]] == ["graceful"] * 3, data


@test
def a_hostile_name_stays_a_name():
    """The name of a holder's program comes from the file that it was started from."""
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder, '<!--<script>\x1b"')
        program.symlink_to(os.path.abspath(FINACK))
        path = pathlib.Path(folder, "page.html")
        run = subprocess.run([program, "probe", "--html", path], capture_output=True, timeout=60,
                             check=False)
        assert run.returncode == 0, run
        raw = DATA.search(path.read_text(encoding="utf-8")).group(1)
    assert "<" not in raw and raw.isascii() and raw.isprintable(), raw
    held = [close for close in json.loads(raw)["closes"] if close["held"]]
    for close in held:
        by = dict(close["facts"])["held by"]
        assert '<!--<script>\\x1b"' in by or by == "could not look everywhere", by


@test
def a_file_is_replaced_and_keeps_its_mode():
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        server.release.set()
        path, link = pathlib.Path(folder, "page.html"), pathlib.Path(folder, "link")
        path.write_text("old", encoding="utf-8")
        path.chmod(0o640)
        link.symlink_to("page.html")
        before = path.stat().st_ino
        assert finack("probe", "--html", link, server.address).returncode == 0
        assert link.is_symlink() and len(data_of(path)["closes"]) == 1
        assert path.stat().st_ino != before and stat.S_IMODE(path.stat().st_mode) == 0o640
        assert sorted(os.listdir(folder)) == ["link", "page.html"]


@test
def a_new_file_has_the_usual_mode():
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        server.release.set()
        path = pathlib.Path(folder, "page.html")
        run = finack("probe", "--html", path, server.address, umask=0o027)
        assert run.returncode == 0 and stat.S_IMODE(path.stat().st_mode) == 0o640


@test
def what_cannot_be_written_is_told_before_the_work():
    with Server() as server:
        for path, word in (("/nonexistent/page.html", "No such file"), ("/proc", "Is a directory"),
                           ("", "--html"), ("/proc/self/status/x", "Not a directory")):
            run = finack("probe", "--html", path, server.address)
            expect_line(run, word)
            assert not run.stdout, run


@test
def a_full_disk_leaves_the_old_file():
    """A limit on the size of files fails in the middle, as a full disk does."""
    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    with tempfile.TemporaryDirectory() as folder, Server() as server:
        server.release.set()
        path = pathlib.Path(folder, "page.html")
        path.write_text("old", encoding="utf-8")
        run = finack("probe", "--html", path, server.address, preexec_fn=small,
                     restore_signals=False)
        expect_line(run, str(path), "File too large")
        assert b"graceful" in run.stdout, run
        assert path.read_text(encoding="utf-8") == "old" and os.listdir(folder) == ["page.html"]


@test
def a_device_is_written_to_and_stays():
    full = os.stat("/dev/full")
    with Server() as server:
        server.release.set()
        run = finack("probe", "--html", "/dev/full", server.address)
        expect_line(run, "/dev/full", "No space left")
        run = finack("probe", "--json", "--html", "/dev/stdout", server.address)
    assert run.returncode == 0 and run.stdout.endswith(b"</html>\n"), run
    assert os.stat("/dev/full").st_ino == full.st_ino and stat.S_ISCHR(full.st_mode)


# ---- folders that others can write to ----

NOBODY = 65534
# Swaps a file of its own for a link to somebody else's file, and back, for as long as it lives.
SWAP = """
import ctypes, os, sys
folder, victim = sys.argv[1:]
os.umask(0)
os.symlink(victim, folder + "/out.b")
os.close(os.open(folder + "/out", os.O_CREAT | os.O_WRONLY, 0o777))
here = os.open(folder, os.O_RDONLY)
exchange = ctypes.CDLL(None).renameat2
print("ready", flush=True)
while True:
    exchange(here, b"out", here, b"out.b", 2)
"""


def as_another_user():
    """Only root can be somebody else; else the links are our own."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


@test
def another_user_cannot_steer_the_output():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shared, victim = pathlib.Path(folder, "shared"), pathlib.Path(folder, "victim")
        shared.mkdir()
        if os.geteuid() == 0:
            os.chown(shared, NOBODY, NOBODY)
        victim.write_text("secret", encoding="utf-8")
        victim.chmod(0o644)
        swapper = subprocess.Popen([sys.executable, "-c", SWAP, shared, victim],
                                   stdout=subprocess.PIPE, **as_another_user())
        assert swapper.stdout.readline() == b"ready\n"
        for _ in range(60):
            finack("trace", "-o", shared / "out", "--", "/bin/true")
        swapper.kill()
        swapper.wait()
        swapper.stdout.close()
        if os.geteuid() == 0:
            assert victim.read_text(encoding="utf-8") == "secret"
        assert stat.S_IMODE(victim.stat().st_mode) == 0o644, oct(victim.stat().st_mode)


@test
def the_output_goes_by_no_link_and_no_mode_of_another_users():
    with tempfile.TemporaryDirectory() as folder:
        victim, link = pathlib.Path(folder, "victim"), pathlib.Path(folder, "link")
        theirs, way = pathlib.Path(folder, "theirs"), pathlib.Path(folder, "way")
        os.chmod(folder, 0o1777)
        victim.write_text("secret", encoding="utf-8")
        link.symlink_to(victim)
        theirs.touch()
        theirs.chmod(0o666)
        elsewhere = pathlib.Path(folder, "elsewhere")
        elsewhere.mkdir()
        way.symlink_to(elsewhere)
        if os.geteuid() == 0:
            for path in (link, theirs, way):
                os.lchown(path, NOBODY, NOBODY)
        for path in (link, theirs):
            assert finack("trace", "-o", path, "--", "/bin/true", umask=0o022).returncode == 0
        run = finack("trace", "-o", way / "out", "--", "/bin/true")
        if os.geteuid() == 0:
            assert victim.read_text(encoding="utf-8") == "secret" and not link.is_symlink()
            assert stat.S_IMODE(theirs.stat().st_mode) == 0o644, oct(theirs.stat().st_mode)
            assert run.returncode == 2 and b"another user's" in run.stderr, run
            assert not os.listdir(elsewhere)


@test
def a_pipe_by_number_and_a_fifo_are_written_to():
    read, write = os.pipe2(os.O_NONBLOCK)
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        server.release.set()
        fifo = pathlib.Path(folder, "fifo")
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        for path, end in ((f"/dev/fd/{write}", read), (fifo, reader)):
            run = finack("probe", "--html", path, server.address, pass_fds=[write])
            assert run.returncode == 0 and os.read(end, 65536).startswith(b"<!"), run
            os.close(end)
        assert stat.S_ISFIFO(fifo.stat().st_mode)
    os.close(write)


# ---- traces ----

# That a closed socket is held is a ghost if it lasts, so it lasts here (PROOF_NS in ghosts.c); nothing
# is waited for.
GHOST = """
import select, socket, time
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
epoll = select.epoll()
epoll.register(server)
copy = server.dup()
server.close()
client.shutdown(socket.SHUT_WR)
client.close()
time.sleep(0.6)
"""
TRACE = [FINACK, "trace"]
CHILD = ["--", sys.executable, "-c", GHOST]


@test
def a_trace_writes_a_page():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "page.html")
        run = finack("trace", "--html", path, *CHILD)
        assert run.returncode == 1 and b"\x1b" not in run.stderr, run
        data = data_of(path)
        run = finack("trace", "--json", "--html", path, *CHILD)
        sockets = json.loads(run.stdout)["sockets"]
        closes = data_of(path)["closes"]
    assert data["title"].startswith(f"finack trace {sys.executable} -c \\x0aimport select"), data
    listener, client, server = data["closes"]
    assert [close["outcome"] for close in data["closes"]] == [
        "fine", "fine", "ghost registration"], data["closes"]
    assert "\n    ghost registration: " in server["text"], server
    assert client["stages"]["shut"] <= client["stages"]["released"], client
    assert data["parts"][listener["pieces"][0][1]] == "use", listener
    for close, socket_of_it in zip(closes, sockets, strict=True):
        begin = socket_of_it["made"]["time"]
        for name, ns in socket_of_it["stages"].items():
            found = close["stages"].get(name)
            assert found == (None if ns is None else max(ns - begin, 0)), (name, close)


@test
def a_trace_draws_on_a_terminal():
    status, text = run_on_terminal([*TRACE, *CHILD], columns=100, streams=("stderr",))
    bars = [line for line in plain(text).splitlines() if BLOCKS.search(line)]
    assert status == 1 and len(bars) == 4 and "ghost registration" in bars[2], text
    for changes in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"LC_ALL": "C"}):
        _, text = run_on_terminal([*TRACE, *CHILD], columns=100, streams=("stderr",), **changes)
        assert "\x1b" not in text and text.isascii() and "ghost registration" in text, text


@test
def a_trace_tells_of_a_page_that_cannot_be_written():
    run = finack("trace", "--html", "/nonexistent/page.html", "--", "/bin/echo", "ran")
    assert run.returncode == 2 and b"ran" not in run.stdout, run
    assert run.stderr.count(b"\n") == 1 and b"No such file" in run.stderr, run
    run = finack("trace", "--html", "/dev/full", "--", "/bin/echo", "ran")
    assert run.returncode == 2 and run.stdout == b"ran\n", run
    assert b"'/dev/full': No space left" in run.stderr, run


# ---- terminals ----

@test
def a_terminal_gets_a_waterfall():
    status, text = run_on_terminal([FINACK, "probe"], columns=130)
    lines = plain(text).splitlines()
    assert status == 0 and "peer saw" in lines[0] and lines[-1].startswith("18 of 18"), text
    bars = [line for line in lines if BLOCKS.search(line) and "flush" not in line]
    assert len(bars) == 18 and max(map(len, lines)) <= 130, text
    mute = next(line for line in bars if line.startswith("mute "))
    clean = next(line for line in bars if line.startswith("clean "))
    assert len(BLOCKS.findall(mute)) > 50 > 25 > len(BLOCKS.findall(clean)), text
    assert "\u254c" in next(line for line in bars if line.startswith("held ")), text
    assert "\x1b[36m" in text, text


@test
def a_narrow_terminal_gets_the_waterfall_alone():
    for columns in (20, 40, 80):
        status, text = run_on_terminal([FINACK, "probe"], columns=columns)
        lines = plain(text).splitlines()
        drawn = lines[:next(i for i, line in enumerate(lines) if "The table" in line)]
        assert status == 0 and max(map(len, drawn)) <= columns, text
        assert sum(bool(BLOCKS.search(line)) for line in drawn) >= 18, text
        assert "peer saw" not in text and lines[-1].startswith("18 of 18"), text


@test
def what_is_no_such_terminal_gets_plain_text():
    with Server() as server:
        server.release.set()
        args = [FINACK, "probe", server.address]
        for changes in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": None}, {"LC_ALL": "C"}):
            status, text = run_on_terminal(args, columns=130, **changes)
            assert status == 0 and text.isascii() and "\x1b" not in text, (changes, text)
            assert len(text.splitlines()) == 2, (changes, text)
        status, text = run_on_terminal(args, columns=130, NO_COLOR="")
        assert BLOCKS.search(text), text
        run = subprocess.run(args, capture_output=True, env=environment(), timeout=60, check=True)
        assert run.stdout.isascii() and len(run.stdout.splitlines()) == 2, run


@test
def json_has_no_picture():
    with Server() as server:
        server.release.set()
        _, text = run_on_terminal([FINACK, "probe", "--json", server.address])
    assert len(json.loads(text)) == 1, text


# ---- progress ----

@test
def long_work_shows_its_progress_and_takes_it_away():
    with Server() as server:
        args = [FINACK, "probe", "--linger", "1.5s", "--count", "5", server.address]
        _, text = run_on_terminal(args, streams=("stderr",))
    assert re.search(r"\r[0-5] of 5 closed\x1b\[K", text), text
    assert text.endswith("\r\x1b[K") and "\n" not in text, text


@test
def progress_is_for_terminals_alone():
    with Server() as server:
        args = ["probe", "--linger", "1.5s", "--count", "2", server.address]
        run = finack(*args)
        assert not run.stderr, run
        _, text = run_on_terminal([FINACK, *args], streams=("stderr",), TERM="dumb")
    assert not text, text


if __name__ == "__main__":
    sys.exit(tap.main())
