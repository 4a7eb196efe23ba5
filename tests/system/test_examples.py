#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples do what they say, and README quotes them as they are.

usage: test_examples.py --root SOURCE_FOLDER --built FOLDER_OF_PROGRAMS        (prints TAP)
"""

import argparse
import concurrent.futures
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading

ARGS = argparse.ArgumentParser()
ARGS.add_argument("--root", required=True)
ARGS.add_argument("--built", required=True)
ARGS = ARGS.parse_args()
OVER_TLS = ("close_tls", "close_gnutls", "close_mbedtls")
ADAPTERS = ("epoll", "libuv", "libevent", "glib", "io_uring")
RESET = struct.pack("ii", 1, 0)
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def example(name, *args, **kwargs):
    return subprocess.run([os.path.join(ARGS.built, name), *map(str, args)], check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, text=True, **kwargs)


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


def read(*path):
    with open(os.path.join(ARGS.root, *path), encoding="utf-8") as file:
        return file.read()


class Server:
    """Serves connections, one after the other; keeps what each sent before it ended."""

    def __init__(self, answer, count=1):
        self.answer = answer
        self.received = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=count)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:  # shut: the example has ended
                return
            connection.settimeout(60)
            with connection:
                self.received.append(self.answer(connection))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


def read_to_end(connection):
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


def page(connection):
    request = connection.recv(65536)
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello\n")
    return request + read_to_end(connection)


def reset(connection):
    data = read_to_end(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return data


def of_which(one):
    """Every second connection ends well, the others as `one` does."""
    turn = iter(range(1 << 30))
    return lambda connection: (one if next(turn) % 2 else read_to_end)(connection)


def expect(run, status, *lines):
    assert run.returncode == status, f"exit status {run.returncode}, {run.stdout}{run.stderr}"
    assert not run.stderr, run.stderr
    found = run.stdout.splitlines()
    assert len(found) == len(lines), run.stdout
    for have, want in zip(found, lines):
        assert re.fullmatch(want, have), f"{have!r} is not {want!r}"


def expect_trouble(run, word):
    assert run.returncode == 2 and not run.stdout, f"{run.returncode} {run.stdout}"
    assert len(run.stderr.splitlines()) == 1 and word in run.stderr, run.stderr


GRACEFUL = r"graceful, end=fin, held=no: .*\bshut=\S+ acked=\S+ eof=\S+ .*\bunreferenced=.*"


# ---- one close ----

@test
def close_drains_the_page():
    with Server(page) as server:
        run = example("close", server.port)
    expect(run, 0, GRACEFUL + r" discarded=25; tcp 127.0.0.1:[0-9]+ -> 127.0.0.1:[0-9]+")
    assert server.received == [b"GET / HTTP/1.0\r\n\r\n"], server.received


@test
def close_tells_a_reset():
    for name in ("close", "close_cpp"):
        with Server(reset) as server:
            run = example(name, server.port)
        expect(run, 1, r"reset\b.*")


@test
def close_in_cpp():
    with Server(page) as server:
        run = example("close_cpp", server.port)
    expect(run, 0, GRACEFUL + r" discarded=25")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        expect_trouble(example("close_cpp", taken.getsockname()[1]), "refused")


def make_certificate(folder):
    key, certificate = os.path.join(folder, "key.pem"), os.path.join(folder, "certificate.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-days", "2",
                    "-keyout", key, "-out", certificate],
                   check=True, capture_output=True, timeout=60)
    return key, certificate


def over_tls(folder, talk=None):
    key, certificate = make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def answer(connection):
        with context.wrap_socket(connection, server_side=True) as session:
            if talk:
                return talk(session)
            request = page(session)
            session.unwrap().close()
            return request

    return answer, certificate


@test
def close_tls_is_answered():
    with tempfile.TemporaryDirectory() as folder:
        answer, certificate = over_tls(folder)
        with Server(answer) as server:
            runs = [example(name, server.port, certificate) for name in OVER_TLS]
    for run in runs:
        expect(run, 0, r"graceful, end=fin, held=no: .*\bnotified=\S+ answered=\S+ .*")
    assert server.received == [b"GET / HTTP/1.0\r\n\r\n"] * len(OVER_TLS), server.received


def cut(session):
    """The end of a stream that a stranger could have cut: FIN, and no close_notify."""
    request = session.recv(65536)
    session.shutdown(socket.SHUT_WR)  # of the socket below: the session is over too
    read_to_end(session)
    return request


@test
def close_tls_tells_a_truncated_stream():
    with tempfile.TemporaryDirectory() as folder:
        answer, certificate = over_tls(folder, cut)
        with Server(answer) as server:
            for name in OVER_TLS:
                expect(example(name, server.port, certificate), 1, r"truncated\b.*")


# ---- many closes from a loop ----

@test
def each_loop_closes_many():
    for name in ADAPTERS:
        for count in (1, 50):
            with Server(read_to_end, count) as server:
                run = example(name, server.port, count)
            expect(run, 0, *[GRACEFUL] * count)
            assert server.received == [b""] * count, (name, server.received)


@test
def each_loop_tells_which_were_not_graceful():
    for name in ADAPTERS:
        with Server(of_which(reset), 6) as server:
            run = example(name, server.port, 6)
        lines = run.stdout.splitlines()
        expect(run, 1, *[r"(graceful, end=fin|reset\b).*"] * 6)
        assert sum(line.startswith("reset") for line in lines) == 3, (name, lines)


@test
def each_loop_waits_no_longer_than_the_deadline():
    """A peer that never closes (nobody accepts): the closer's descriptor wakes the loop in time."""
    with (socket.create_server(("127.0.0.1", 0)) as listener,
          concurrent.futures.ThreadPoolExecutor(len(ADAPTERS)) as pool):
        port = listener.getsockname()[1]
        runs = list(pool.map(lambda name: example(name, port, 2), ADAPTERS))
    for run in runs:
        expect(run, 1, *[r"timed_out in linger\b.*"] * 2)


@test
def each_loop_says_what_is_wrong():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can listen there
        for name in ADAPTERS:
            expect_trouble(example(name, taken.getsockname()[1], 1), "refused")
    for name in ADAPTERS:
        expect_trouble(example(name), "usage: " + name)


# ---- README ----

@test
def readme_quotes_the_examples():
    """Each C snippet is a part of the example that README named last."""
    quoted, name = set(), None
    for link, snippet in re.findall(r"\]\((examples/\w+\.c)\)|^```c(?: [^\n]*)?\n(.*?)^```$", read("README.md"),
                                    re.M | re.S):
        if link:
            name = link
        else:
            assert name, "a snippet before any example is named"
            assert snippet in read(name), f"{name} does not contain:\n{snippet}"
            quoted.add(name)
    assert quoted, "README quotes no example"


@test
def every_example_is_built():
    sources = [name.replace(".cpp", "_cpp.c") for name in os.listdir(f"{ARGS.root}/examples")
               if name.endswith((".c", ".cpp"))]
    missing = [name for name in sources
               if not os.access(os.path.join(ARGS.built, name[:-2]), os.X_OK)]
    assert sources and not missing, missing


def main():
    failures = 0
    print(f"1..{len(TESTS)}")
    for number, function in enumerate(TESTS, 1):
        before = descriptors()
        try:
            function()
            assert descriptors() == before, f"descriptors left: {descriptors()}"
            print(f"ok {number} - {function.__name__}", flush=True)
        except Exception as error:  # whatever it was, the others still run
            failures += 1
            print(f"not ok {number} - {function.__name__}")
            print("# " + "\n# ".join(f"{type(error).__name__}: {error}".splitlines()), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
