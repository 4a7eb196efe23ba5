#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`finack trace -p`, and what the files and calls of whoever is traced can do to it.

usage: test_trace_attach.py FINACK SCHEMA TRACED CHURN        (prints TAP)
"""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import tap
from tap import test
from trace_support import (
    FILL, FINACK, PYTHON, TRACED, check_document, run, trace, running,
)


def attach(pid):
    tracer = subprocess.Popen([FINACK, "trace", "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    lines = [tracer.stderr.readline()]
    return tracer, lines


def traced_by(pid):
    """Waits for the tracer, and returns its process id."""
    while True:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            tracer = int(re.search(r"TracerPid:\t(\d+)", file.read()).group(1))
        if tracer:
            return tracer


@test
def attach_to_a_process():
    with running() as child:
        tracer, lines = attach(child.pid)
        assert " #1 found 3: tcp" in lines[0], lines
        child.stdin.write("x\n")
        child.stdin.flush()
        assert child.stdout.readline() == "sockets work\n"
        child.stdin.close()
        with tracer.stderr:
            text = tracer.stderr.read()
        assert tracer.wait(30) == 0
    assert "#3 unreferenced" in text and "#1 closed 3" in text, text
    assert "exited with status 0" in text


def attach_to_all_threads(which):
    with running("threads") as child:
        tids = sorted(map(int, os.listdir(f"/proc/{child.pid}/task")))
        tracer, lines = attach(tids[which])
        lines += [tracer.stderr.readline() for _ in range(3)]
        assert all(" found " in line for line in lines), lines
        child.stdin.close()
        with tracer.stderr:
            text = tracer.stderr.read()
        assert tracer.wait(30) == 0
    closed = re.findall(r"\[(\d+) traced\] #\d+ closed", text)
    assert len(closed) == 8 and len(set(closed)) == 4, text
    assert text.count(" made ") == 8 and "exited with status 0" in text, text  # 4 in the receipts
    assert "note:" not in text, text


@test
def attach_to_threads():
    attach_to_all_threads(0)


@test
def attach_by_the_number_of_a_thread():
    attach_to_all_threads(-1)


@test
def detach_from_a_process():
    with running() as child:
        tracer, _ = attach(child.pid)
        second = run("-p", str(child.pid))
        assert second.returncode == 2 and b"may not trace process" in second.stderr
        tracer.send_signal(signal.SIGINT)
        with tracer.stderr:
            text = tracer.stderr.read()
        assert tracer.wait(30) == 0 and "the process goes on" in text, text
        with open(f"/proc/{child.pid}/status", encoding="utf-8") as file:
            assert "TracerPid:\t0\n" in file.read()
        child.stdin.write("x\n")
        child.stdin.flush()
        assert child.stdout.readline() == "sockets work\n"


CROWD = """
import resource, socket, sys
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
pairs = [socket.socketpair() for _ in range(int(sys.argv[1]))]
print("ready", flush=True)
sys.stdin.read()
"""


@test
def letting_go_of_thousands_of_sockets():
    """Who has each of them open is found by one search."""
    pairs = 7000
    with subprocess.Popen([PYTHON, "-c", CROWD, str(pairs)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        tracer, _ = attach(child.pid)
        tracer.send_signal(signal.SIGINT)
        text = tracer.communicate(timeout=60)[1]
        child.stdin.close()
    assert tracer.returncode == 0 and "the process goes on" in text, text[-500:]
    assert text.count(f"    held by {child.pid} ") == 2 * pairs, text[-500:]


LEAKER = """
import select, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
found = socket.create_connection(listener.getsockname()); old = listener.accept()[0]
print("ready", flush=True)
def leak_one():
    return listener.accept()[0]
sys.stdin.readline()
peer = socket.create_connection(listener.getsockname())
leaked = leak_one()
fine = socket.create_connection(listener.getsockname()); served = leak_one()
pair = socket.socketpair(); pair[1].send(b"xyz"); pair[1].close()
old.close(); peer.close()
for s in found, leaked:
    select.select([s], [], [])
print("leaked", leaked.fileno(), found.fileno(), pair[0].fileno(), flush=True)
sys.stdin.readline()
"""


@test
def what_leaks_is_listed_when_we_let_go():
    """Also what was found; the end that leaks and not the peer's; what is in use is none."""
    with subprocess.Popen([PYTHON, "-c", LEAKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as child, tempfile.TemporaryDirectory() as folder:
        assert child.stdout.readline() == "ready\n"
        path = f"{folder}/trace.json"
        tracer = subprocess.Popen([FINACK, "trace", "--json", "-o", path, "-p", str(child.pid)])
        traced_by(child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        word, *numbers = child.stdout.readline().split()
        assert word == "leaked"
        tracer.send_signal(signal.SIGINT)
        assert tracer.wait(30) == 1
        with open(path, encoding="utf-8") as file:
            document = check_document(file.read())
        child.stdin.close()
        assert child.wait(30) == 0
    found = {s["origin"]: g for s in document["sockets"] for g in s["ghosts"]
             if s["protocol"] == "tcp"}
    assert set(found) == {"accepted", "found"} and document["detached"], found
    texts = [g["text"] for s in document["sockets"] for g in s["ghosts"]]
    assert document["ghosts"] == len(texts) == 3, texts
    for number in numbers:
        assert any(f"open as descriptor {number} of {child.pid} python3: the peer closed" in text
                   for text in texts), (number, texts)
    assert any("3 bytes were not read" in text for text in texts), texts


LASTING = FILL + """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname()); server = listener.accept()[0]
fill(client)
client.close()
time.sleep(float(sys.argv[1]))
print("lasting", flush=True)
sys.stdin.readline()
"""


@test
def a_connection_that_lasts_is_a_ghost_when_we_let_go():
    """After 2 s, and not before."""
    for seconds, status in ("2.1", 1), ("0", 0):
        tracer = subprocess.Popen([FINACK, "trace", "--", PYTHON, "-c", LASTING, seconds], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert tracer.stdout.readline() == "lasting\n"
        tracer.send_signal(signal.SIGINT)
        result = tracer.wait(30)
        tracer.stdin.close()
        with tracer.stderr, tracer.stdout:
            text = tracer.stderr.read()
        assert result == status, text
        assert ("ghost connection: released, and the kernel's connection went on for 2" in text) == status, text


def traced_to_its_end(thing, status):
    """What the tracer of something that is running already says of it."""
    with running(thing) as child:
        tracer = subprocess.Popen([FINACK, "trace", "-p", str(child.pid)], stderr=subprocess.PIPE,
                                  text=True)
        traced_by(child.pid)
        child.stdin.write("x")
        child.stdin.close()
        with tracer.stderr:
            text = tracer.stderr.read()
        assert child.wait(30) == 0 and tracer.wait(30) == status, text
    return text


@test
def a_close_is_told_with_its_result():
    """One that is refused has closed nothing."""
    text = traced_to_its_end("refused_close", 1)
    assert re.search(r"#1 closed (\d+): EPERM\n.* #1 closed \1 by exit\n", text), text
    assert re.search(r"ghost descriptor: never closed: descriptor \d+ was open", text), text


@test
def calls_of_another_instruction_set_are_not_taken_for_ours():
    text = traced_to_its_end("foreign_calls", 0)
    for number in 1, 2:
        story_ = re.findall(rf"#{number} (\w+) \d", text)
        assert story_ == ["made", "closed"], text
    assert "ghost" not in text.replace("0 ghosts", ""), text
    if platform.machine() == "x86_64":
        assert "another instruction set" in text, text


@test
def a_debug_file_that_is_never_read_keeps_nobody():
    """The program names a FIFO that nobody writes to as the file with its debugging information."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(TRACED, f"{folder}/traced")
        tools = [["cp", "traced", "traced.debug"], ["strip", "traced"],
                 ["objcopy", "--add-gnu-debuglink=traced.debug", "traced"], ["rm", "traced.debug"],
                 ["mkfifo", "traced.debug"]]
        for tool in tools:
            subprocess.run(tool, cwd=folder, check=True)
        document = trace(f"{folder}/traced", "plain", options=["--stack"])
    assert document["exit"]["status"] == 0 and document["sockets"][0]["made"]["stack"], document


sys.exit(tap.main())
