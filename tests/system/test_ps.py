#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`finack ps`: each verdict on a real socket in that state, as text and as JSON, and what ss(8) lists
as the referee. Runs where there are no other sockets (namespaces.sh).

usage: test_ps.py FINACK SCHEMA        (prints TAP)
"""

import array
import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile

from ps_support import (
    COMMAND, FINACK, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_FIN_WAIT2, Python, check_schema, connection,
    fill, finack, in_state, inode, line_of, report, reset_at_close, seen, sockets, ss, ss_inodes,
    until,
)
from tap import WITHOUT_LEAK_CHECK, main, test


# ---- these tests ----

@test
def what_a_program_here_started_ends_with_it():
    """Else a later test finds its sockets."""
    with Python("pair = socket.socketpair(); child = os.fork()\n"
                "if child == 0: time.sleep(1000)\n"
                "say(child); wait()") as program:
        (child,) = map(int, program.read())
    until(lambda: not os.path.exists(f"/proc/{child}"), "the child is gone")
    assert not sockets(), sockets()


# ---- nothing ----

@test
def no_socket_is_fine():
    run = finack()
    assert run.returncode == 0 and run.stdout == b"0 sockets\n", run.stdout
    assert report() == {"sockets": [], "counts": dict.fromkeys(report()["counts"], 0),
                        "not_looked_at": report()["not_looked_at"]}


@test
def what_is_in_use_is_fine():
    with connection() as (client, server):
        rows = {s["inode"]: s for s in sockets("--port", str(client.getsockname()[1]))}
        assert {row["verdict"] for row in rows.values()} == {"fine"}, rows
        row = rows[inode(client)]
        (holder,) = row["holders"]
        assert (holder["pid"], holder["fd"], holder["command"]) == (
            os.getpid(), client.fileno(), COMMAND), row
        assert row["local"] == {"address": "127.0.0.1", "port": client.getsockname()[1]}, row
        assert row["remote"]["port"] == server.getsockname()[1] and row["listed"], row


# ---- leaked ----

@test
def leaked_is_close_wait():
    with connection() as (client, server):
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        row = seen(client)
        assert row["verdict"] == "leaked" and row["findings"] == ["leaked"], row
        assert row["state"] == "CLOSE_WAIT" and "has not read EOF" in row["why"], row
        assert 0 <= row["end_age_ms"]["least"] <= row["end_age_ms"]["most"] < 60000, row
        assert client.recv(1) == b""
        assert "the program has read EOF" in seen(client)["why"], seen(client)
        line = line_of("CLOSE_WAIT", "--ghosts", "--proto", "tcp")
        assert re.match(r"leaked +tcp +CLOSE_WAIT ", line), line
        assert re.search(r"\w+\[\d+\]:\d+ +the peer closed [\d.]+[mu]?s ago", line), line
        run = finack("--ghosts")
        assert run.returncode == 1 and b"\nwhat to do about leaked: the program has to close" in run.stdout
        assert b"what to do" not in finack("--state", "listen").stdout


@test
def leaked_says_how_long():
    with connection() as (client, server):
        server.sendall(b"12345")
        until(lambda: select.select([client], [], [], 0)[0], "input")
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        first = seen(client)
        assert "5 bytes were not read" in first["why"], first
        later = until(lambda: (row := seen(client))["end_age_ms"]["least"]
                      >= first["end_age_ms"]["least"] + 100 and row, "an age that grows")
        assert later["tcp"]["bytes_received"] == 6, later  # with the end
        # Data that we send is acknowledged later than the end came: the age is a range then.
        client.sendall(b"x")
        until(lambda: select.select([server], [], [], 0)[0], "our byte")
        row = seen(client)
        assert row["end_age_ms"]["most"] >= later["end_age_ms"]["least"], row
        assert row["end_age_ms"]["least"] <= row["end_age_ms"]["most"], row


@test
def leaked_over_unix():
    mine, other = socket.socketpair()
    other.sendall(b"123")
    other.close()
    with mine:
        row = seen(mine)
        assert row["verdict"] == "leaked" and "3 bytes were not read" in row["why"], row
        assert row["end_age_ms"] is None and row["remote"] == {"inode": 0}, row


# ---- parked ----

@test
def parked_is_what_is_left_of_a_pair():
    """Empty, and nobody waits for it; with a watcher, or a thread that reads, it is a leak."""
    mine, other = socket.socketpair()
    other.close()
    with mine:
        row = seen(mine)
        assert row["verdict"] == "parked" and row["findings"] == ["parked"], row
        assert finack("--ghosts", "--proto", "unix", "--pid", str(os.getpid())).returncode == 0
        with select.epoll() as watched:
            watched.register(mine)
            assert seen(mine)["verdict"] == "leaked", seen(mine)
    with Python("""
one, two = socket.socketpair()
two.shutdown(socket.SHUT_RDWR); two.close(); say(one.fileno()); select.select([], [], [one])
""") as program:
        program.read()
        until(lambda: {row["verdict"] for row in sockets("--pid", program.pid)} == {"leaked"},
              "a program inside select()")


# ---- unserved ----

@test
def unserved_is_a_listener_that_nobody_accepts_from():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        assert seen(listener)["verdict"] == "fine", seen(listener)  # nobody waits
        client.connect(listener.getsockname())
        row = until(lambda: (r := seen(listener))["verdict"] == "unserved" and r, "unserved")
        assert "1 client waits to be accepted, the first for" in row["why"], row
        assert finack("--ghosts").returncode == 1
        with select.epoll() as watched:
            watched.register(listener, select.EPOLLIN)
            assert seen(listener)["verdict"] == "fine", seen(listener)
        reset_at_close(client)


@test
def unserved_says_that_its_maker_is_gone():
    with Python("""
listener = socket.create_server(("127.0.0.1", 0)); listener.set_inheritable(True)
child = subprocess.Popen(["/bin/sleep", "1000"], close_fds=False)
say(listener.getsockname()[1], child.pid)
""") as program:
        port, child = map(int, program.read())
        program.process.wait(30)
        with socket.create_connection(("127.0.0.1", port)) as client:
            def row():
                (found,) = [r for r in sockets("--port", port) if r["state"] == "LISTEN"]
                return found if found["verdict"] == "unserved" else None
            why = until(row, "unserved")["why"]
            assert f"sleep[{child}] has it in no epoll set and no call; the program that started it is gone" in why
            reset_at_close(client)


@test
def a_server_inside_accept_serves():
    for wait in ("s.accept()", "select.select([s], [], [])", "p = select.poll(); p.register(s, 1); p.poll()"):
        with Python("s = socket.create_server(('127.0.0.1', 0)); say(s.getsockname()[1]); "
                    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); " + wait) as program:
            (port,) = program.read()
            rows = sockets("--pid", program.pid)
            assert [row["verdict"] for row in rows] == ["fine"], (port, rows)


# ---- half-closed ----

@test
def half_closed_is_fin_wait():
    with connection("::1") as (client, server):
        client.shutdown(socket.SHUT_WR)
        in_state(client, TCP_FIN_WAIT2)
        row = seen(client)
        assert row["verdict"] == "half-closed" and row["state"] == "FIN_WAIT2", row
        assert row["family"] == "inet6" and "has not closed" in row["why"], row
        assert seen(server)["verdict"] == "leaked"
        assert re.match(r"half-closed +tcp +FIN_WAIT2 +0 +0 \[::1\]:\d+ +\[::1\]:",
                        line_of("FIN_WAIT2"))


@test
def half_closed_over_unix():
    with contextlib.ExitStack() as stack:
        one, two = map(stack.enter_context, socket.socketpair())
        one.shutdown(socket.SHUT_WR)
        assert "we have shut down" in seen(one)["why"] and seen(one)["verdict"] == "half-closed"
        assert "the other end has shut down" in seen(two)["why"], seen(two)


# ---- dead ----

@test
def dead_after_a_reset():
    with connection() as (client, server):
        server.sendall(b"1234")
        until(lambda: select.select([client], [], [], 0)[0], "input")
        port = server.getsockname()[1]
        reset_at_close(server)
        server.close()
        in_state(client, TCP_CLOSE)
        row = seen(client)
        assert row["verdict"] == "dead" and row["findings"] == ["dead"] and not row["listed"], row
        assert row["state"] == "CLOSE" and "has not read" in row["why"], row
        assert row["remote"] == {"address": "127.0.0.1", "port": port}, row
        assert row["receive_queue"] == 4 and "4 bytes were not read" in row["why"], row
        assert row["local"]["port"] == client.getsockname()[1], row
        assert row["holders"][0]["pid"] == os.getpid(), row
        assert inode(client) not in ss_inodes("-ta"), "then ss is no worse"
        assert re.match(r"dead +tcp +CLOSE ", line_of("CLOSE"))
        try:  # looking at it took nothing from the program
            assert client.recv(4) == b"1234"
            client.recv(1)
            raise AssertionError("no error")
        except ConnectionResetError:
            pass
        assert "though the connection is over" in seen(client)["why"], seen(client)


@test
def dead_after_both_ends():
    with connection() as (client, server):
        client.shutdown(socket.SHUT_WR)
        in_state(server, TCP_CLOSE_WAIT)
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE)
        in_state(server, TCP_CLOSE)
        assert seen(client)["verdict"] == seen(server)["verdict"] == "dead"
        assert seen(client)["remote"]["port"] == seen(server)["local"]["port"]
        assert seen(server)["remote"]["port"] == seen(client)["local"]["port"]
        assert not {inode(client), inode(server)} & ss_inodes("-ta")
    # The rest of it, TIME_WAIT, belongs to no process, and is no ghost.
        port = client.getsockname()[1]
    (rest,) = sockets("--state", "time-wait", "--port", str(port))
    assert rest["verdict"] == "fine" and "the addresses are free in" in rest["why"], rest
    assert rest["timer"]["name"] == "time-wait" and 0 < rest["timer"]["ms"] <= 60000, rest


@test
def not_connected_is_not_dead():
    with contextlib.ExitStack() as stack:
        kinds = [(socket.AF_INET, socket.SOCK_STREAM, 0), (socket.AF_INET6, socket.SOCK_STREAM, 0),
                 (socket.AF_INET, socket.SOCK_DGRAM, 0), (socket.AF_INET6, socket.SOCK_DGRAM, 0),
                 (socket.AF_UNIX, socket.SOCK_STREAM, 0), (socket.AF_UNIX, socket.SOCK_DGRAM, 0),
                 (socket.AF_NETLINK, socket.SOCK_RAW, 0)]
        for kind in kinds:
            stack.enter_context(socket.socket(*kind))
        bound = stack.enter_context(socket.socket())
        bound.bind(("127.0.0.1", 0))
        rows = sockets()
        assert {row["verdict"] for row in rows} == {"fine"}, rows
        assert len(rows) == 7, rows  # all but netlink's
        assert sum(not row["listed"] for row in rows) == 4, rows


@test
def unknown_without_the_right_to_look_closer():
    with socket.socket() as fresh:
        run = subprocess.run(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pidfd_getfd",
             "-e", "inject=pidfd_getfd:error=EPERM", FINACK, "ps", "--json"],
            env=WITHOUT_LEAK_CHECK, capture_output=True, timeout=60, check=True)
        value = json.loads(run.stdout)
        check_schema(value)
        (row,) = [row for row in value["sockets"] if row["inode"] == inode(fresh)]
        assert row["verdict"] == "fine" and row["state"] == "UNKNOWN", row
        assert "no permission to look closer" in row["why"], row
        assert value["not_looked_at"]["unidentified"] >= 1, value["not_looked_at"]


# ---- stalled ----

@test
def stalled_is_a_closed_window():
    with connection(SO_RCVBUF=4096) as (client, server):
        fill(client)
        until(lambda: seen(client)["verdict"] == "stalled", "stalled")
        row = seen(client)
        assert row["timer"]["name"] == "probe" and row["send_queue"] > 0, row
        assert "window is closed" in row["why"] and "next probe in" in row["why"], row
        assert seen(server)["verdict"] == "fine", seen(server)
        assert re.match(r"stalled +tcp +ESTABLISHED ", line_of("stalled", "--ghosts"))


# ---- stale registrations ----

@test
def stale_registration_after_a_close_with_a_dup():
    with connection() as (client, _), select.epoll() as watched:
        number = fcntl.fcntl(client, fcntl.F_DUPFD_CLOEXEC, 100)
        watched.register(number, select.EPOLLIN)
        assert seen(client)["verdict"] == "fine"
        os.close(number)
        with client.dup() as kept:
            row = seen(kept)
            assert row["verdict"] == "stale-registration", row
            (entry,) = row["registrations"]
            assert entry["pid"] == os.getpid() and entry["fd"] == number, entry
            assert entry["epoll_fd"] == watched.fileno() and not entry["reused"], entry
            assert f"still has it under descriptor {number}, which is closed now" in row[
                "why"], row
            with socket.socket() as other:
                for something_else in (watched.fileno(), other.fileno()):
                    os.dup2(something_else, number)
                    row = seen(kept)
                    os.close(number)
                    assert row["registrations"][0]["reused"], row
                    assert "something else" in row["why"], row
            assert line_of("stale-registration").startswith("stale-registration tcp")


@test
def stale_registrations_of_finack_itself_are_left_out():
    own_mark = select.EPOLLET | 0x400 | 0x80 | 0x200
    with connection() as (client, _), select.epoll() as witness:
        witness.register(client, own_mark)
        with client.dup() as kept:
            client.close()
            assert seen(kept)["verdict"] == "fine", seen(kept)
            reset_at_close(kept)


@test
def a_child_that_closed_its_copies_has_no_stale_registrations():
    with Python("""
a, b = socket.socketpair()
set = select.epoll()
set.register(a, select.EPOLLIN)
if os.fork() == 0:
    a.close()
    say("closed")
    time.sleep(1000)
b.fileno() and wait()
""") as program:
        assert program.read() == ["closed"]
        rows = sockets()
        assert len(rows) == 2 and {row["verdict"] for row in rows} == {"fine"}, rows


@test
def a_program_that_leaves_epoll_entries_behind_after_fork():
    with connection() as (client, server), Python("""
s = socket.socket(fileno=int(sys.argv[1]))
set = select.epoll()
set.register(s, select.EPOLLIN)
child = os.fork()
if child == 0:
    time.sleep(1000)
s.close()
say(child, set.fileno())
wait()
""", client.fileno(), pass_fds=[client.fileno()]) as program:
        child, number = map(int, program.read())
        row = seen(client)
        assert row["verdict"] == "stale-registration", row
        (entry,) = row["registrations"]
        assert (entry["pid"], entry["epoll_fd"]) == (program.pid, number), entry
        assert {h["pid"] for h in row["holders"]} == {os.getpid(), child}, row
        assert "held" in row["findings"], row
        assert seen(client, "--pid", str(program.pid))["inode"] == inode(client)
        assert seen(server)["verdict"] == "fine"


@test
def thousands_of_sets_each_shared_by_fork():
    """Which of them are the same is known without comparing each with each."""
    many = 8000
    with Python("""
import resource
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
one, two = socket.socketpair()
sets = [select.epoll() for _ in range(int(sys.argv[1]))]
copy = os.dup(one.fileno())
for set in sets:
    set.register(copy, select.EPOLLIN)
os.close(copy)
if os.fork() == 0:
    say("made")
    time.sleep(1000)
wait()
""", many) as program:
        assert program.read() == ["made"]
        (row,) = (row for row in sockets() if row["verdict"] == "stale-registration")
        assert len(row["registrations"]) == many, len(row["registrations"])
        assert {entry["pid"] for entry in row["registrations"]} == {program.pid}, "the eldest has them"


# ---- held ----

@test
def held_by_a_child():
    with connection() as (client, _), Python("say('here'); wait()", pass_fds=[client.fileno()]) as child:
        child.read()
        row = seen(client)
        assert row["verdict"] == "held", row
        assert {(h["pid"], h["fd"]) for h in row["holders"]} == {
            (os.getpid(), client.fileno()), (child.pid, client.fileno())}, row
        assert f"[{child.pid}]" in row["why"] and f"{COMMAND}[{os.getpid()}]" in row["why"], row
        assert "held" in line_of("held", "--ghosts")


@test
def workers_of_one_program_share():
    """Forked, not executed: on purpose or forgotten, which can't be told apart, and is said."""
    with Python("""
listener = socket.create_server(("127.0.0.1", 0)); say(listener.getsockname()[1])
connection, _ = listener.accept()
child = os.fork()
if child == 0:
    time.sleep(1000)
say(child); wait()
""") as program:
        (port,) = map(int, program.read())
        with socket.create_connection(("127.0.0.1", port)) as client:
            (child,) = map(int, program.read())
            (row,) = [r for r in sockets("--pid", program.pid) if r["state"] == "ESTABLISHED"]
            assert row["verdict"] == "fine" and "can't be told apart" in row["why"], row
            assert {h["pid"] for h in row["holders"]} == {program.pid, child}, row
            reset_at_close(client)


def forgotten(listener_stays):
    """A server starts another program, which inherits the connection, and closes its own end."""
    with Python("""
listener = socket.create_server(("127.0.0.1", 0)); say(listener.getsockname()[1])
client = socket.create_connection(listener.getsockname()); client.set_inheritable(True)
server, _ = listener.accept(); server.set_inheritable(True)
child = subprocess.Popen(["/bin/sleep", "1000"], close_fds=False)
number = server.fileno(); server.close()
if sys.argv[1] == "False": listener.close()
say(child.pid, number); wait()
""", listener_stays) as program:
        (port,) = map(int, program.read())
        child, number = map(int, program.read())
        rows = [r for r in sockets("--port", port) if r["state"] == "ESTABLISHED"]
        (server,) = [r for r in rows if r["local"]["port"] == port]
        assert server["verdict"] == "held", rows
        assert [(h["pid"], h["fd"]) for h in server["holders"]] == [(child, number)], server
        assert re.fullmatch(rf"python3\[{program.pid}\] closed it, and sleep\[{child}\], which it "
                            rf"started, still has it as descriptor {number} .*", server["why"]), server


@test
def a_forgotten_child_has_the_servers_end():
    forgotten(True)
    forgotten(False)


@test
def held_by_another_program():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert seen(listener)["verdict"] == "fine"
        # Workers of the same program share what they listen on.
        with Python("say('here'); wait()", pass_fds=[listener.fileno()]) as worker:
            worker.read()
            assert seen(listener)["verdict"] == "fine" and len(seen(listener)["holders"]) == 2
        other = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 pass_fds=[listener.fileno()])
        other.stdin.write(b"x")
        other.stdin.flush()
        other.stdout.read(1)  # it is cat by now
        row = seen(listener)
        assert row["verdict"] == "held" and f"cat[{other.pid}]" in row["why"], row
        other.communicate()


@test
def standard_streams_are_shared_on_purpose():
    with contextlib.ExitStack() as stack:
        one, two = map(stack.enter_context, socket.socketpair())
        child = subprocess.Popen(["cat"], stdin=two, stdout=two)
        one.sendall(b"x")
        assert one.recv(1) == b"x"
        row = seen(two)
        assert row["verdict"] == "fine" and len(row["holders"]) == 3, row
        one.shutdown(socket.SHUT_WR)
        child.wait()


# ---- invisible holders ----

@test
def invisible_holder_in_flight():
    with contextlib.ExitStack() as stack:
        one, two = map(stack.enter_context, socket.socketpair())
        with connection() as (client, server):
            gone = inode(client)
            one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                  array.array("i", [client.fileno()]))])
            client.close()
            (row,) = [s for s in sockets() if s["inode"] == gone]
            assert row["verdict"] == "invisible-holder" and row["holders"] == [], row
            assert "no process shows it" in row["why"], row
            assert re.match(r"invisible-holder +tcp +ESTABLISHED ", line_of("invisible"))
            assert seen(server)["verdict"] == "fine"
            _, [(_, _, data)], _, _ = two.recvmsg(1, 100)
            with socket.socket(fileno=struct.unpack("i", data)[0]) as back:
                assert seen(back)["verdict"] == "fine"
                reset_at_close(back)


@test
def a_table_of_a_thread_is_no_invisible_holder():
    with connection() as (client, _), Python("""
import ctypes, threading
CLONE_FILES = 0x400
ready = threading.Event()
def keep():
    ctypes.CDLL(None).unshare(CLONE_FILES)
    ready.set()
    time.sleep(1000)
threading.Thread(target=keep, daemon=True).start()
ready.wait()
os.close(int(sys.argv[1]))
say("closed")
wait()
""", client.fileno(), pass_fds=[client.fileno()]) as program:
        assert program.read() == ["closed"]
        gone = inode(client)
        client.close()
        (row,) = [s for s in sockets() if s["inode"] == gone]
        assert row["verdict"] == "fine" and len(row["holders"]) == 1, row
        assert row["holders"][0]["pid"] != program.pid, row


# ---- orphans ----

@test
def orphan_waits_for_the_peers_end():
    with connection() as (client, server):
        port = client.getsockname()[1]
        client.close()
        in_state(server, TCP_CLOSE_WAIT)
        (row,) = until(lambda: sockets("--port", str(port), "--state", "fin-wait2"),
                       "an acknowledgement")
        assert row["verdict"] == "orphan" and row["inode"] == 0 and row["holders"] == [], row
        assert 0 < row["timer"]["ms"] <= 60000 and "ends in" in row["why"], row
        assert re.match(r"orphan +tcp +FIN_WAIT2 ", line_of("orphan"))


@test
def orphan_with_bytes_that_the_peer_does_not_take():
    with connection(SO_RCVBUF=4096) as (client, server):
        fill(client)
        until(lambda: seen(client)["verdict"] == "stalled", "stalled")
        port = client.getsockname()[1]
        client.close()
        (row,) = [s for s in sockets("--port", str(port)) if s["local"]["port"] == port]
        assert row["verdict"] == "orphan" and row["state"] == "FIN_WAIT1", row
        assert row["findings"] == ["orphan", "stalled"] and row["send_queue"] > 1, row
        assert "the kernel goes on" in row["why"] and "next probe in" in row["why"], row
        assert row["timer"]["name"] == "probe", row


@test
def what_waits_to_be_accepted_is_no_orphan():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        port = str(listener.getsockname()[1])
        rows = sockets("--port", port)
        assert {row["verdict"] for row in rows if row["state"] != "LISTEN"} == {"fine"}, rows
        assert len(rows) == 3, rows
        (waiting,) = [row for row in rows if not row["inode"]]
        assert waiting["why"] == "waits to be accepted", waiting
        client.shutdown(socket.SHUT_WR)
        in_state(client, TCP_FIN_WAIT2)
        (waiting,) = sockets("--state", "close-wait")
        assert waiting["verdict"] == "fine" and "the peer has closed" in waiting["why"], waiting
        reset_at_close(client)


# ---- all of them ----

def as_ss_has_them():
    """The rows, if ss lists the same sockets; those of an earlier test may be about to go."""
    rows = sockets()
    for proto, option in (("tcp", "-ta"), ("udp", "-ua"), ("unix", "-xa")):
        ours = {row["inode"] for row in rows if row["proto"] == proto} - {0}
        theirs = ({int(line.split()[5]) for line in ss(option)} if proto == "unix"
                  else ss_inodes(option))
        if ours != theirs or not ours:
            return None
    return rows


@test
def ss_is_the_referee():
    with contextlib.ExitStack() as stack:
        for host in ("127.0.0.1", "::1"):
            stack.enter_context(connection(host))
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                bound = stack.enter_context(socket.socket(family, kind))
                bound.bind((host, 0))
                if kind == socket.SOCK_STREAM:
                    bound.listen(7)
        peer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        peer.connect(("127.0.0.1", 9))
        named = stack.enter_context(socket.socket(socket.AF_UNIX))
        named.bind("\0abstract")
        named.listen()
        for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
            stack.enter_context(sock)
        rows = until(as_ss_has_them, "ss and ps list the same sockets")
        ends = {(f"{row['local']['address']}:{row['local']['port']}",
                 f"{row['remote']['address']}:{row['remote']['port']}")
                for row in rows if row["proto"] == "tcp" and row["state"] == "ESTABLISHED"}
        theirs = {tuple(end.replace("[", "").replace("]", "") for end in line.split()[3:5])
                  for line in ss("-t", "state", "connected") if line.startswith("ESTAB")}
        assert ends == theirs and len(ends) == 4, (ends, theirs)
        names = {row["local"]["name"] for row in rows if row["proto"] == "unix"}
        assert names == {"@abstract", ""}, names


# ---- real programs ----

@test
def a_program_that_leaks():
    with Python("""
server = socket.create_server(("127.0.0.1", 0))
say(server.getsockname()[1])
leaked = []
while True:
    s, _ = server.accept()
    while s.recv(100):
        pass
    leaked.append(s)
    say(len(leaked))
""") as program:
        (port,) = map(int, program.read())
        for _ in range(5):
            client = socket.create_connection(("127.0.0.1", port))
            client.close()
            program.read()
        rows = sockets("--pid", str(program.pid), "--ghosts")
        assert len(rows) == 5, rows
        assert {row["verdict"] for row in rows} == {"leaked"}, rows
        assert all("the program has read EOF" in row["why"] for row in rows), rows
        orphans = until(lambda: len(found := sockets("--state", "fin-wait2")) == 5 and found,
                        "acknowledgements")
        assert {row["verdict"] for row in orphans} == {"orphan"}, orphans


NGINX = """
user root; daemon off; master_process on; worker_processes 1; pid {folder}/pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off; client_header_timeout 60s;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen 127.0.0.1:{port}; }}
}}
"""


def workers(master):
    with open(f"/proc/{master}/task/{master}/children", encoding="ascii") as file:
        return set(map(int, file.read().split()))


@test
def nginx_after_a_reload():
    port = 8080  # nobody else is in this namespace
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        config = f"{folder}/nginx.conf"
        with open(config, "w", encoding="ascii") as file:
            file.write(NGINX.format(folder=folder, port=port))
        nginx = subprocess.Popen(["nginx", "-p", folder, "-c", config], stderr=subprocess.DEVNULL)
        try:
            client = until(lambda: connect(port), "nginx")
            with client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")  # and no more: the request goes on
                row = until(lambda: accepted(port), "accepted")
                (old,) = workers(nginx.pid)
                assert row["holders"][0]["pid"] == old and row["why"] == "", row
                nginx.send_signal(signal.SIGHUP)
                until(lambda: len(workers(nginx.pid)) == 2, "a new worker")
                (new,) = workers(nginx.pid) - {old}
                row = until(lambda: (r := accepted(port)) and r["why"] and r, "an explanation")
                assert row["holders"][0]["pid"] == old, row
                assert row["why"] in (
                    f"of an older generation: nginx[{pid}] listens on the port now"
                    for pid in (new, nginx.pid)), row
                reset_at_close(client)
        finally:
            nginx.terminate()
            nginx.wait()


def connect(port):
    try:
        return socket.create_connection(("127.0.0.1", port))
    except ConnectionRefusedError:
        return None


def accepted(port):
    rows = [row for row in sockets("--port", str(port), "--state", "established")
            if row["local"]["port"] == port and row["holders"]]
    return rows[0] if rows else None


if __name__ == "__main__":
    sys.exit(main())
