# SPDX-License-Identifier: MIT
"""Runs tests of the package, each request in a child that has all but the package imported.

usage: mutants_pytest.py, in a tree, with the package on PYTHONPATH

A request is a line on stdin, {"tests": [...], "seconds": {test: how long it takes}, "reach": bool};
the answer one on stdout, {"ended": {test: {"seconds", "lines", "blocks"}}, "failed": [test]}: where
"reach" is false, none is run after the first that fails. A child that dies or takes far too long
fails in the test that it is at.
"""

import contextlib
import gc
import importlib
import json
import mmap
import os
import re
import select
import signal
import sys
import time

import pytest

# What the tests import, besides the package.
THEIRS = "asyncio.sslproto ssl subprocess ctypes socketserver uvloop trustme multiprocessing"

PATIENCE = 20.0  # for any test
SLOWNESS = 8.0  # times what it takes otherwise
# A loop and a version of TLS that run no line of ours that others don't.
OTHERS = "not proxy and not (tls and 1.2)"


class Reach:
    """What a test ran, of both kinds of source."""

    def __init__(self):
        self.lines = os.environ["MUTANTS_LINES"]
        with open(os.environ["MUTANTS_BLOCKS"], "r+b") as file:
            self.blocks = mmap.mmap(file.fileno(), 0)
        self.blank = bytes(len(self.blocks))
        self.at_import = None  # lines; until the first test has begun
        self.restart()

    def begin(self):
        """A test begins; what ran before it ran when the package was imported."""
        if self.at_import is None:
            self.at_import = self.told()["lines"]
        self.restart()

    def restart(self):
        os.truncate(self.lines, 0)
        self.blocks[:] = self.blank
        sys.monitoring.restart_events()

    def told(self):
        with open(self.lines, encoding="utf-8") as file:
            lines = sorted(set(file.read().split()))
        blocks = [match.start() for match in re.finditer(rb"[^\0]", self.blocks)]
        return {"lines": lines, "blocks": blocks}

    def end(self):
        """Of the first test it is what ran at the import, too."""
        told = self.told()
        told["lines"] = sorted({*told["lines"], *self.at_import})
        self.at_import = []
        return told


class Teller:
    """The plugin that tells the parent how far the child is."""

    def __init__(self, pipe, reach):
        self.pipe, self.reach = pipe, reach

    def tell(self, *words):
        text = (json.dumps(words) + "\n").encode()
        while text:
            text = text[os.write(self.pipe, text) :]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        self.tell("begun", item.nodeid)
        if self.reach:
            self.reach.begin()
        begun = time.monotonic()
        answer = yield
        told = {"seconds": time.monotonic() - begun}
        self.tell("ended", item.nodeid, told | (self.reach.end() if self.reach else {}))
        return answer

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.tell("failed", report.nodeid)

    def pytest_collectreport(self, report):
        if report.failed:
            self.tell("failed", "collection")


def child(request, pipe):
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.close(nothing)
    reach = None
    if request["reach"]:
        importlib.import_module("sitecustomize")
        reach = Reach()
    kept = ["-k", OTHERS] if request["reach"] else ["-x"]
    teller = Teller(pipe, reach)
    teller.tell("done", int(pytest.main(["-q", *kept, *request["tests"]], plugins=[teller])))


class Watch:
    """What the parent knows of a child."""

    def __init__(self, request):
        self.request = request
        self.ended, self.failed, self.at = {}, [], "collection"
        self.since = time.monotonic()
        self.code = None

    def hear(self, line):
        word, name, *more = json.loads(line)
        if word == "begun":
            self.at = name
        elif word == "ended":
            self.ended[name] = more[0]
            self.at = "collection"
        elif word == "done":
            self.code = name
        else:
            self.failed.append(name)
        self.since = time.monotonic()

    def is_late(self):
        usual = self.request["seconds"].get(self.at, 10.0)
        return time.monotonic() - self.since > PATIENCE + SLOWNESS * usual


def listen(watch, pipe):
    """Until the child is done, dead or late."""
    rest = b""
    while watch.code is None and not watch.is_late():
        if select.select([pipe], [], [], 1.0)[0]:
            data = os.read(pipe, 1 << 20)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                watch.hear(line)


def answer(request):
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        try:
            child(request, write)
        finally:
            os._exit(70)
    os.close(write)
    watch = Watch(request)
    listen(watch, read)
    os.close(read)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # and what it has started
    os.waitpid(process, 0)
    if not watch.failed and watch.code != 0:
        watch.failed.append(watch.at)
    return {"ended": watch.ended, "failed": watch.failed}


def main():
    for name in THEIRS.split():
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
