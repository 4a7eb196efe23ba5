#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command line of `finack probe`: exit status, one line for bad input, JSON by its schema.

usage: test_probe.py FINACK SCHEMA        (prints TAP)
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading

import jsonschema

import tap
from tap import test

FINACK, SCHEMA = sys.argv[1:3]


def finack(*args, **kwargs):
    kwargs.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([FINACK, *args], stderr=subprocess.PIPE, timeout=60, check=False, **kwargs)


def check_output(output):
    value = json.loads(output)
    with open(SCHEMA, encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema, jsonschema.Draft202012Validator)
    return value


# ---- a server that answers our end ----

class Server:
    def __init__(self, family=socket.AF_INET, host="127.0.0.1"):
        self.listener = socket.socket(family)
        self.listener.bind((host, 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.received = []
        self.thread = threading.Thread(target=self.serve)

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                data = b""
                while part := connection.recv(65536):
                    data += part
                    if data.startswith(b"GET ") and data.endswith(b"\r\n\r\n"):
                        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            if data == b"stop":
                return
            self.received.append(data)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        with socket.create_connection(self.listener.getsockname()[:2]) as last:
            last.sendall(b"stop")
        self.thread.join()
        self.listener.close()


def expect_line(run, *words):
    lines = run.stderr.decode().splitlines()
    assert run.returncode == 2, f"exit status {run.returncode}"
    assert len(lines) == 1, f"{len(lines)} lines: {lines}"
    assert lines[0].startswith("finack"), lines[0]
    assert all(32 <= ord(c) < 127 for c in lines[0]), lines[0]
    for word in words:
        assert word in lines[0], lines[0]


# ---- the embedded peers ----

@test
def embedded_peers_are_as_expected():
    run = finack("probe")
    text = run.stdout.decode()
    assert run.returncode == 0, text + run.stderr.decode()
    assert "18 of 18 as expected" in text and "UNEXPECTED" not in text, text
    assert max(map(len, text.splitlines())) <= 120, text
    assert not run.stderr, run.stderr


@test
def embedded_peers_in_json_follow_the_schema():
    run = finack("probe", "--json")
    rows = check_output(run.stdout)
    assert run.returncode == 0, rows
    assert len(rows) == 18 and all(row["expected"] for row in rows), rows
    assert {row["peer"] for row in rows if row["tls"]} - {row["peer"] for row in rows
                                                         if not row["tls"]} == {
        "truncating", "notify-then-deaf"}
    held = [row for row in rows if row["peer"] == "held"]
    assert all(row["held"] == "yes" and row["seen"]["eof"] for row in held), held
    for row in rows:
        names = [holder["command"] for holder in row["holders"]]
        assert len(names) == row["holder_count"], row
        assert bool(names) <= (row["search"] in ("found", "cut")), row
        if row["peer"] != "held":
            assert row["search"] == "none", row
        elif row["search"] != "cut":  # on a crowded machine there is no time to find it
            assert row["search"] == "found" and names == ["finack"], row


@test
def another_policy_is_not_judged():
    run = finack("probe", "--json", "--courtesy", "prompt")
    rows = check_output(run.stdout)
    assert run.returncode == 0 and not any("expected" in row for row in rows), rows


# ---- a server ----

@test
def a_graceful_close_exits_with_0():
    with Server() as server:
        run = finack("probe", "--json", f"127.0.0.1:{server.port}")
    (row,) = check_output(run.stdout)
    assert run.returncode == 0 and row["outcome"] == "graceful" and row["end"] == "fin", row
    assert row["peer"] == f"127.0.0.1:{server.port}" and row["tls"] is False, row


@test
def a_prompt_close_exits_with_1():
    with Server() as server:
        run = finack("probe", "--json", "--courtesy", "prompt", f"localhost:{server.port}")
    (row,) = check_output(run.stdout)
    assert run.returncode == 1 and row["outcome"] == "prompt", row


@test
def an_abort_exits_with_1():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        run = finack("probe", "--json", "--courtesy", "abort", f"127.0.0.1:{port}")
    (row,) = check_output(run.stdout)
    assert run.returncode == 1 and row["outcome"] == "aborted" and row["end"] == "reset", row


@test
def each_of_many_closes_has_an_object():
    with Server() as server:
        run = finack("probe", "--json", "--count", "100", f"127.0.0.1:{server.port}")
    rows = check_output(run.stdout)
    assert run.returncode == 0 and len(rows) == 100, run.stderr
    assert all(row["outcome"] == "graceful" for row in rows)


@test
def a_file_is_sent_whole():
    data = os.urandom(5_000_000)
    with Server() as server, tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        run = finack("probe", "--json", "--send", file.name, f"127.0.0.1:{server.port}")
    (row,) = check_output(run.stdout)
    assert run.returncode == 0 and row["unsent"] == row["unacked"] == 0, row
    assert server.received == [data]


@test
def a_request_is_sent_and_its_response_drained():
    with Server() as server:
        run = finack("probe", "--json", "--http", "/x?y", f"127.0.0.1:{server.port}")
    (row,) = check_output(run.stdout)
    assert run.returncode == 0 and row["discarded"] == 27, row
    (request,) = server.received
    assert request.startswith(b"GET /x?y HTTP/1.1\r\n"), request
    assert f"\r\nHost: 127.0.0.1:{server.port}\r\n".encode() in request, request
    assert b"\r\nConnection: keep-alive\r\n" in request, request


# ---- bad input ----

BAD = [
    [["probe", "host"], "HOST:PORT"],
    [["probe", "host:0"], "port '0'"],
    [["probe", "host:65536"], "port '65536'"],
    [["probe", "host:http"], "port 'http'"],
    [["probe", ":80"], "host name"],
    [["probe", "::1:80"], "[::1]"],
    [["probe", "[::1]80"], "[ADDRESS]:PORT"],
    [["probe", "a\x1b[31m\nb:80"], "\\x1b[31m\\x0ab"],
    [["probe", "a" * 300 + ":80"], "too long"],
    [["probe", "a:1", "b:2"], "b:2"],
    [["probe", "--bogus"], "--bogus"],
    [["probe", "-xy"], "-x"],
    [["probe", "--sni"], "value"],
    [["probe", "--flush", "1x"], "--flush '1x'"],
    [["probe", "--flush", "-1"], "--flush '-1'"],
    [["probe", "--linger", ""], "--linger ''"],
    [["probe", "--total", "86400001"], "too long"],
    [["probe", "--total", "99999999999999999999999"], "too long"],
    [["probe", "--proof-wait", "1e3"], "--proof-wait"],
    [["probe", "--drain", "1Q"], "--drain '1Q'"],
    [["probe", "--drain", "99999999999999999999"], "--drain"],
    [["probe", "--courtesy", "rude"], "abort, prompt, orderly, full"],
    [["probe", "--proof", "eof"], "released, unreferenced, finished, gone"],
    [["probe", "--scope", "all"], "connection, descriptor"],
    [["probe", "--count", "0", "a:1"], "--count '0'"],
    [["probe", "--http", "index.html", "a:1"], "--http"],
    [["probe", "--http", "/a\r\nb", "a:1"], "\\x0d\\x0a"],
    [["probe", "--http", "/", "--send", "/dev/null", "a:1"], "exclude"],
    [["probe", "--insecure", "a:1"], "--tls"],
    [["probe", "--tls"], "HOST:PORT"],
    [["probe", "--tls", "--sni", "a b", "a:1"], "--sni 'a b'"],
    [["probe", "--tls", "--cafile", "/nonexistent", "127.0.0.1:1"], "/nonexistent"],
    [["probe", "--tls", "--cafile", "/dev/null", "127.0.0.1:1"], "certificate"],
    [["probe", "--send", "/nonexistent", "127.0.0.1:1"], "/nonexistent"],
    [["probe", "--send", "/", "127.0.0.1:1"], "directory"],
    [["bogus"], "'bogus'"],
    [[], "--help"],
]


@test
def bad_input_gets_one_line():
    for args, word in BAD:
        run = finack(*args)
        try:
            expect_line(run, word)
            assert not run.stdout
        except AssertionError as error:
            raise AssertionError(f"{args}: {error}") from error


@test
def no_connection_gets_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can listen there
        port = taken.getsockname()[1]
        expect_line(finack("probe", f"127.0.0.1:{port}"), f"127.0.0.1:{port}", "refused")
        run = finack("probe", "--json", "--count", "5", f"127.0.0.1:{port}")
    expect_line(run, "refused")
    assert json.loads(run.stdout) == []
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        target = f"[::1]:{taken.getsockname()[1]}"
        expect_line(finack("probe", target), f" {target}: ", "refused")


@test
def a_server_that_does_not_accept_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        run = finack("probe", "--tls", "--insecure", "--connect-timeout", "50ms",
                     f"127.0.0.1:{port}")
    expect_line(run, "timed out")


# ---- output ----

@test
def help_and_version():
    for args in (["--help"], ["probe", "--help"]):
        run = finack(*args)
        assert run.returncode == 0 and run.stdout.startswith(b"usage: finack"), run
    for args in (["--version"], ["probe", "--version"]):
        run = finack(*args)
        assert run.returncode == 0 and run.stdout.startswith(b"finack "), run


@test
def a_full_disk_gets_one_line():
    for args in (["--help"], ["probe", "--help"], ["probe", "--json"]):
        with open("/dev/full", "wb") as full:
            expect_line(finack(*args, stdout=full), "No space left")


@test
def a_reader_that_went_away_is_no_trouble():
    read_end, write_end = os.pipe()
    os.close(read_end)
    run = finack("probe", "--json", stdout=write_end)
    os.close(write_end)
    assert run.returncode == 0 and not run.stderr, run


@test
def closed_standard_streams_are_no_trouble():
    with Server() as server:
        script = f'"$0" probe --http / 127.0.0.1:{server.port} <&- >&- 2>&-'
        run = subprocess.run(["/bin/sh", "-c", script, FINACK], timeout=60, check=False)
    assert run.returncode == 0
    assert server.received[0].endswith(b"\r\n\r\n"), server.received


if __name__ == "__main__":
    sys.exit(tap.main())
