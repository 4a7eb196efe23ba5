# SPDX-License-Identifier: MIT
"""What the tests of `finack trace` share."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jsonschema

FINACK, SCHEMA, TRACED, CHURN = sys.argv[1:5]
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
OPENS = {"made", "accepted"}

# For programs that are traced.
FILL = """
def fill(sock):
    sock.setblocking(False)
    try:
        while sock.send(bytes(65536)):
            pass
    except BlockingIOError:
        pass
"""


def run(*args, **kwargs):
    kwargs.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([FINACK, "trace", *args], stderr=subprocess.PIPE, timeout=300, check=False,
                          **kwargs)


def check_document(text):
    document = json.loads(text)
    with open(SCHEMA, encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
    return document


def trace(*command, status=0, options=()):
    """The document of a traced command; its own output goes nowhere. Status None: ghosts or not."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        done = run("--json", "-o", path, *options, "--", *command, stdout=subprocess.DEVNULL)
        assert status in (None, done.returncode), (done.returncode, done.stderr)
        with open(path, encoding="utf-8") as file:
            return check_document(file.read())


def story(document, number=1):
    """What happened to a socket, as words."""
    return [e["kind"] for e in document["events"] if e["socket"] == number]


def ghosts(document):
    return [g["kind"] for s in document["sockets"] for g in s["ghosts"]]


def in_order(socket_, *stages):
    times = [socket_["stages"][stage] for stage in stages]
    assert None not in times and times == sorted(times), dict(zip(stages, times))


def expect_line(done, *words):
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and len(lines) == 1, (done.returncode, lines)
    assert lines[0].startswith("finack trace: "), lines
    for word in words:
        assert word in lines[0], lines


def program(folder, name, source, *build):
    path = pathlib.Path(folder, name)
    path.write_text(source, encoding="utf-8")
    subprocess.run([*build, str(path)], check=True, cwd=folder, timeout=600,
                   stdout=subprocess.DEVNULL,
                   env=os.environ | {"GO111MODULE": "off", "CGO_ENABLED": "0"})


@contextlib.contextmanager
def running(thing="on_demand"):
    with subprocess.Popen([TRACED, thing], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as child:
        assert child.stdout.readline() == "ready\n"
        yield child
