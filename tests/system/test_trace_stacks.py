#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`finack trace --stack`: where sockets were made, in C, C++, Go, Python, and code of a JIT compiler.

usage: test_trace_stacks.py FINACK SCHEMA TRACED CHURN        (prints TAP)
"""

import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

import tap
from tap import test
from trace_support import PYTHON, TRACED, check_document, program, run, trace

PYTHON_STACK = """
import json, socket, traceback
def make():
    frames = traceback.extract_stack()[:-1]
    return socket.socket(), frames
class Maker:
    def make(self):
        return [make() for _ in range(1)][0]
def generator():
    yield Maker().make()
def sorter(_):
    global made
    made = next(generator())
    return 0
def main():
    #
    sorted([1], key=sorter)
main()
print(json.dumps([[f.filename, f.lineno] for f in made[1]]))
made[0].close()
"""


def interpreters():
    found = subprocess.run([pathlib.Path(__file__).parents[2] / "scripts/python-env", "list"],
                           capture_output=True, check=True, text=True).stdout.split()
    return {PYTHON, *found[1::2]}


@test
def stacks_have_the_frames_of_python():
    """As the interpreter itself tells them, each CPython there is."""
    with tempfile.TemporaryDirectory() as folder:
        app, output = f"{folder}/app.py", f"{folder}/trace.json"
        with open(app, "w", encoding="ascii") as file:
            file.write(PYTHON_STACK)
        for interpreter in interpreters():
            done = run("--json", "-o", output, "--stack=python", "--", interpreter, app)
            truth = [f"{file}:{line}" for file, line in json.loads(done.stdout)]
            with open(output, encoding="utf-8") as file:
                (one,) = [s for s in check_document(file.read())["sockets"] if s["family"] == "inet"]
            stack = one["made"]["stack"]
            assert stack[0].startswith("socket.__init__ (python) "), (interpreter, stack)
            assert stack[1].startswith(f"make (python) {app}:"), (interpreter, stack)
            assert [frame.split()[-1] for frame in stack[2:]] == truth[::-1], (interpreter, stack, truth)
            done = run("--json", "--stack", "--", interpreter, "-c",
                       "import socket; socket.socket().close()")
            # A script before it may ask a name service, by a Unix socket: pyenv's, with no $SHELL.
            (one,) = [s for s in check_document(done.stdout)["sockets"] if s["family"] == "inet"]
            frames = one["made"]["stack"]
            python = [i for i, frame in enumerate(frames) if " (python) " in frame]
            assert len(python) == 2 and python[0] > 0, (interpreter, frames)  # those of C are around them


BUSY = """
import random, socket, threading
def end(): socket.socket().close()
def a(n, r):
    pad = [n] * r.randrange(9)
    return go(n - 1, r) and pad
class C:
    def c(self, n, r):
        return [go(n - 1, r) for _ in range(1)]
def d(n, r):
    yield go(n - 1, r)
def go(n, r):
    if n <= 0: return end()
    return r.choice([a, C().c, lambda n, r: next(d(n, r))])(n, r)
def main(seed):
    r = random.Random(seed)
    for _ in range(10): go(r.randrange(1, 8), r)
threads = [threading.Thread(target=main, args=(i,)) for i in range(4)]
for t in threads: t.start()
for t in threads: t.join()
"""
BUSY_LINES = {"end": (3, 3), "a": (4, 6), "c": (8, 9), "<listcomp>": (9, 9), "d": (10, 11),
              "go": (12, 14), "<lambda>": (14, 14), "main": (15, 17)}


@test
def stacks_are_right_while_other_threads_run():
    """Their frames come and go; each that is told is one that there is, from the top to the bottom."""
    with tempfile.TemporaryDirectory() as folder:
        app = f"{folder}/busy.py"
        with open(app, "w", encoding="ascii") as file:
            file.write(BUSY)
        for interpreter in interpreters():
            document = trace(interpreter, app, options=["--stack=python"])
            stacks = [s["made"]["stack"] for s in document["sockets"] if s["family"] == "inet"]
            assert len(stacks) == 40, (interpreter, len(stacks))
            for stack in stacks:
                told = [re.fullmatch(rf"(\S+) \(python\) {app}:(\d+)", f) for f in stack if app in f]
                assert all(told) and told[0][1] == "end" and told[-1][1] == "main", (interpreter, stack)
                for frame in told:
                    first, last = BUSY_LINES[frame[1].rpartition(".")[2]]
                    assert first <= int(frame[2]) <= last, (interpreter, frame[0])


POOL = """
#include <sys/socket.h>
#include <unistd.h>
namespace app { struct Pool { template<class T> int get(T) { return socket(AF_INET, SOCK_STREAM, 0); } }; }
int main() { app::Pool p; close(p.get(1.0)); }
"""
LISTEN = """
package main
import "net"
func open() net.Listener { l, _ := net.Listen("tcp", "127.0.0.1:0"); return l }
func main() { open().Close() }
"""


# A thread is inside a call of libc, from code that has no symbols: the map says whose it is.
MAPPED = """
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    static const unsigned char code[] = {
        0x55, 0x48, 0x89, 0xe5, 0xff, 0xd0, 0x5d, 0xc3 /* push rbp, mov rsp, call rax, pop, ret */ };
    char path[64];
    void *made = mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FILE *map;
    int fd;
    memcpy(made, code, sizeof code);
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    map = fopen(path, "w");
    fprintf(map, "%lx 1 before\\n%lx %zx made::here\\n", (long) made - 1, (long) made, sizeof code);
    fclose(map);
    if (argc > 1 && chown(path, 65534, -1) < 0)
        return 1;
    __asm__ volatile("call *%1" : "=a"(fd) : "r"(made), "a"(socket), "D"(AF_INET), "S"(SOCK_STREAM), "d"(0)
                     : "memory", "rcx", "r8", "r9", "r10", "r11");
    unlink(path);
    return close(fd);
}
"""


@test
def stacks_have_the_names_of_perf_maps():
    if platform.machine() != "x86_64":
        return  # the code above is for no other
    with tempfile.TemporaryDirectory() as folder:
        program(folder, "mapped.c", MAPPED, "cc", "-o", "mapped")
        for others in [[], ["x"]] if os.geteuid() == 0 else [[]]:
            (one,) = trace(f"{folder}/mapped", *others, options=["--stack"])["sockets"]
            named = any(f.startswith("made::here") for f in one["made"]["stack"])
            assert named == (not others), one["made"]["stack"]  # another user's map is ignored


@test
def stacks_have_lines_without_an_index():
    """As of what clang and Go make; and the names of C++ as they were written."""
    with tempfile.TemporaryDirectory() as folder:
        program(folder, "pool.cc", POOL, "g++", "-g", "-o", "pool")
        subprocess.run(["objcopy", "--remove-section", ".debug_aranges", "pool"], cwd=folder, check=True)
        (one,) = trace(f"{folder}/pool", options=["--stack"])["sockets"]
        (frame,) = [f for f in one["made"]["stack"] if "Pool" in f]
        assert frame.startswith("int app::Pool::get<double>(double) ("), frame
        assert frame.endswith("/pool.cc:4"), frame
        program(folder, "open.go", LISTEN, "go", "build", "-o", "open")
        document = trace(f"{folder}/open", options=["--stack"], status=None)
        stacks = [s["made"]["stack"] for s in document["sockets"]]
        assert any(f.startswith("main.") and f.endswith("/open.go:4")
                   for stack in stacks for f in stack), stacks


@test
def stacks_name_the_functions():
    document = trace(TRACED, "plain", options=["--stack"])
    (one,) = document["sockets"]
    assert any(frame.startswith("make_one (") for frame in one["made"]["stack"]), one["made"]
    assert any("traced.c:" in frame for frame in one["made"]["stack"]), one["made"]
    assert any(frame.startswith("close_one (") for frame in one["closed"]["stack"])


sys.exit(tap.main())
