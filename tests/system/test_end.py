#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`finack end` and `finack heal`: on processes that go on.

usage: test_end.py FINACK SCHEMA        (prints TAP)
"""

import fcntl
import os
import select
import socket
import subprocess
import sys
from contextlib import suppress

from ps_support import (
    COMMAND, FINACK, TCP_CLOSE, TCP_CLOSE_WAIT, Python, as_nobody, connection, for_all, in_state, seen,
    tcp_state, until,
)
from tap import WITHOUT_LEAK_CHECK, main, test


def finack(*args, program=FINACK, **kwargs):
    return subprocess.run([program, *map(str, args)], capture_output=True, timeout=60, check=False,
                          text=True, stdin=subprocess.DEVNULL, **kwargs)


def cookie(sock):
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 57, 8), sys.byteorder)


def end(sock, *args, **kwargs):
    return finack("end", "--yes", "--socket", cookie(sock), *args, os.getpid(), sock.fileno(), **kwargs)


def expect_line(run, *words):
    lines = run.stderr.splitlines()
    assert run.returncode == 2 and len(lines) == 1 and not run.stdout, run
    for word in words:
        assert word in lines[0], lines


@test
def a_leak_is_ended_and_the_peer_sees_fin():
    with connection() as (client, server):
        server.sendall(b"unread")
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        flags = fcntl.fcntl(client, fcntl.F_GETFL)
        assert seen(client)["cookie"] == cookie(client)
        run = end(client)
        assert run.returncode == 0 and not run.stderr, run
        what, receipt, stays = run.stdout.splitlines()
        assert what.startswith(f"descriptor {client.fileno()} of {COMMAND}[{os.getpid()}]: tcp "), what
        assert "CLOSE_WAIT" in what and what.endswith(f"socket {cookie(client)}"), what
        assert receipt.startswith("graceful"), receipt
        assert stays == (f"descriptor {client.fileno()} stays open in process {os.getpid()} until it "
                         "closes it"), stays
        assert server.recv(10) == b"", "FIN, and no reset"
        assert tcp_state(client) == TCP_CLOSE and seen(client)["verdict"] == "dead"
        assert fcntl.fcntl(client, fcntl.F_GETFL) == flags


@test
def a_list_is_ended():
    with connection() as (one, peer), connection() as (two, other), connection() as (fine, _):
        for client, server in (one, peer), (two, other):
            server.shutdown(socket.SHUT_WR)
            in_state(client, TCP_CLOSE_WAIT)
        run = finack("ps", "--ghosts", "--end", "--pid", os.getpid(), "--state", "close-wait")
        assert run.returncode == 1 and "no terminal" in run.stderr, run
        run = finack("ps", "--ghosts", "--end", "--yes", "--pid", os.getpid(), "--state", "close-wait")
        assert run.returncode == 0 and run.stdout.count(": graceful") == 2, run
        assert peer.recv(1) == other.recv(1) == b""
        assert seen(fine)["verdict"] == "fine"
    run = finack("ps", "--end")
    assert run.returncode == 2 and "--ghosts" in run.stderr, run


@test
def reset_is_a_reset():
    with connection() as (client, server):
        run = end(client, "--reset")
        assert run.returncode == 0, run
        until(lambda: select.select([server], [], [], 0)[0], "the end")
        try:
            server.recv(1)
            raise AssertionError("no reset")
        except ConnectionResetError:
            pass


@test
def a_unix_stream_is_ended():
    one, two = socket.socketpair()
    with one, two:
        assert end(one).returncode in (0, 1)
        assert two.recv(1) == b""


@test
def nothing_is_done_without_being_sure():
    with connection() as (client, server):
        run = finack("end", "-n", os.getpid(), client.fileno())
        assert run.returncode == 0 and f"socket {cookie(client)}" in run.stdout, run
        run = finack("end", os.getpid(), client.fileno())  # no terminal to ask on
        assert run.returncode == 1 and "no terminal" in run.stderr, run
        expect_line(finack("end", "--yes", os.getpid(), client.fileno()), "--socket")
        expect_line(finack("end", "-y", "-s", cookie(server), os.getpid(), client.fileno()),
                    "another socket by now")
        client.sendall(b"it lives")
        assert server.recv(8) == b"it lives"


@test
def what_has_no_connection_is_left_alone():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as fresh, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, open("/dev/null", "rb") as null:
        for sock in (listener, fresh, udp):
            expect_line(end(sock), "no connection")
        expect_line(finack("end", "-y", "-s", 1, os.getpid(), null.fileno()), "no socket")
        expect_line(finack("end", "-y", "-s", 1, os.getpid(), 999), "has no descriptor 999")
    expect_line(finack("end", "-y", "-s", 1, 2**22 + 1, 3), "no process")
    for args, word in [([], "process"), (["x", "3"], "'x'"), (["1"], "descriptor"),
                       (["1", "2", "3"], "'3'"), (["-s", "0", "1", "2"], "--socket"),
                       (["--bogus"], "--bogus")]:
        expect_line(finack("end", *args), word)


@test
def another_users_process_is_not_touched():
    with connection() as (client, _), for_all() as program:
        kwargs = as_nobody()
        if kwargs:
            expect_line(end(client, program=program, **kwargs), "no permission")


def where_nothing_may_be_copied(sock, *args, error="EPERM"):
    """As with kernel.yama.ptrace_scope=3."""
    return finack("-q", "-o", "/dev/null", "-e", f"inject=pidfd_getfd:error={error}", FINACK, "end",
                  "--yes", "--socket", cookie(sock), *args, os.getpid(), sock.fileno(),
                  program="strace", env=WITHOUT_LEAK_CHECK)


@test
def without_a_copy_the_kernel_resets():
    for host in ("127.0.0.1", "::1"):
        with connection(host) as (client, server), connection(host) as (other, _):
            server.shutdown(socket.SHUT_WR)
            in_state(client, TCP_CLOSE_WAIT)
            run = where_nothing_may_be_copied(client)
            expect_line(run, "can't be copied (Operation not permitted)", "--reset")
            run = finack("-q", "-o", "/dev/null", "-e", "inject=pidfd_getfd:error=EPERM", FINACK, "end",
                         "-y", "--reset", "-s", cookie(other), os.getpid(), client.fileno(),
                         program="strace", env=WITHOUT_LEAK_CHECK)
            expect_line(run, "another socket by now")
            assert tcp_state(client) == TCP_CLOSE_WAIT
            run = where_nothing_may_be_copied(client, "--reset", "--dry-run")
            assert run.returncode == 0 and tcp_state(client) == TCP_CLOSE_WAIT, run
            run = where_nothing_may_be_copied(client, "--reset", error="ENOSYS")
            assert run.returncode == 0 and not run.stderr, run
            what, how, stays = run.stdout.splitlines()
            assert what.endswith(f"socket {cookie(client)}") and how == "reset by the kernel", run
            assert "stays open" in stays, run
            assert tcp_state(client) == TCP_CLOSE
            with suppress(ConnectionResetError):
                assert not server.recv(1), "the peer is reset"
                raise AssertionError("no reset")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        expect_line(where_nothing_may_be_copied(udp, "--reset"), "no connection to end")


# ---- heal ----

STALE = """
import socket, select
one, two = socket.socketpair()
kept = os.dup(one.fileno())
epoll = select.epoll()
number = one.fileno()
epoll.register(number, select.EPOLLIN)
one.close()
two.send(b"x")
say(epoll.fileno(), number, kept)
while True:
    wait()
    say(len(epoll.poll(0)))
"""


@test
def stale_entries_are_removed():
    with Python(STALE) as program:
        epoll, number, kept = map(int, program.read())
        program.go_on()
        assert program.read() == ["1"], "the set reports a descriptor that was closed"
        run = finack("heal", "-n", program.pid)
        assert run.returncode == 1 and run.stdout.startswith(
            f"epoll set {epoll}: descriptor {number}, whose socket "), run
        run = finack("heal", program.pid)
        assert run.returncode == 1 and "no terminal" in run.stderr, run
        run = finack("heal", "--yes", program.pid)
        assert run.returncode == 0 and run.stdout.endswith(": removed\n"), run
        program.go_on()
        assert program.read() == ["0"], "the entry is gone"
        assert finack("heal", "-y", program.pid).returncode == 0
    expect_line(finack("heal", "-y", 2**22 + 1), "no process")
    expect_line(finack("heal"), "process")


@test
def however_many_stale_entries_there_are():
    many = 1100
    with Python("""
import fcntl, resource, select, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
one, two = socket.socketpair()
epoll = select.epoll()
copies = [os.dup(one.fileno()) for _ in range(int(sys.argv[1]))]
for copy in copies:
    epoll.register(copy, select.EPOLLIN)
for copy in copies:
    os.close(copy)
two.send(b"x")
say("made")
wait()
say(len(epoll.poll(0, int(sys.argv[1]))))
wait()
""", many) as program:
        assert program.read() == ["made"]
        run = finack("heal", "--dry-run", program.pid)
        assert run.returncode == 1 and run.stdout.count("epoll set ") == many, run.stdout[-200:]
        run = finack("heal", "--yes", program.pid)
        assert run.returncode == 0 and run.stdout.count(": removed\n") == many, run.stdout[-200:]
        program.go_on()
        assert program.read() == ["0"]


if __name__ == "__main__":
    sys.exit(main())
