#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command line of `finack ps`: what is shown and how, bad input, limits. Runs where there are no
other sockets (namespaces.sh).

usage: test_ps_command.py FINACK SCHEMA        (prints TAP)
"""

import contextlib
import fcntl
import json
import os
import pty
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading

from ps_support import (
    COMMAND, CONTAINER, FINACK, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_FIN_WAIT2, Python, as_nobody, check_schema,
    connection, contained, finack, for_all, in_state, inode, report, reset_at_close, sockets, until,
)
from tap import WITHOUT_LEAK_CHECK, main, test


# ---- what is shown, and how ----

@test
def filters():
    with contextlib.ExitStack() as stack:
        client, server = stack.enter_context(connection())
        stack.enter_context(connection("::1"))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        for sock in socket.socketpair():
            stack.enter_context(sock)
        child = stack.enter_context(Python("s = socket.create_server(('127.0.0.1', 0))\n"
                                           "say(s.getsockname()[1]); wait()"))
        (listening,) = child.read()
        assert len(sockets()) == 8
        assert len(sockets("--proto", "udp")) == 1
        assert len(sockets("--proto", "unix,udp")) == 3
        assert len(sockets("--port", str(client.getsockname()[1]))) == 2
        assert len(sockets("--port", f"{udp.getsockname()[1]},{listening}")) == 2
        assert [row["state"] for row in sockets("--pid", str(child.pid))] == ["LISTEN"]
        assert len(sockets("--pid", f"{child.pid},{os.getpid()}")) == 8
        assert len(sockets("--state", "established", "--proto", "tcp")) == 4
        assert len(sockets("--state", "Listen,CLOSE")) == 2
        assert sockets("--ghosts") == []
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        assert {row["verdict"] for row in sockets("--ghosts")} == {"leaked", "half-closed"}
        assert report("--ghosts")["counts"]["fine"] == 0
        assert finack("--proto", "udp").returncode == 0  # what is not shown does not count


@test
def sorting():
    with contextlib.ExitStack() as stack:
        client, server = stack.enter_context(connection())
        stack.enter_context(connection("::1"))
        for sock in socket.socketpair():
            stack.enter_context(sock)
        server.sendall(bytes(1000))
        until(lambda: select.select([client], [], [], 0)[0], "input")
        client.shutdown(socket.SHUT_WR)
        in_state(server, TCP_CLOSE_WAIT)
        keys = {
            "proto": lambda row: ["tcp", "udp", "unix"].index(row["proto"]),
            "port": lambda row: row["local"].get("port", 0),
            "recv": lambda row: -row["receive_queue"],
            "send": lambda row: -row["send_queue"],
            "pid": lambda row: row["holders"][0]["pid"],
            "verdict": lambda row: ["leaked", "half-closed", "fine"].index(row["verdict"]),
            "age": lambda row: -(row["end_age_ms"] or {"least": -1})["least"],
            "state": lambda row: ["ESTABLISHED", "FIN_WAIT2", "CLOSE_WAIT"].index(row["state"]),
        }
        for name, key in keys.items():
            rows = list(map(key, sockets("--sort", name)))
            assert rows == sorted(rows), (name, rows)
        assert sockets("--sort", "recv")[0]["receive_queue"] == 1000


@test
def filters_by_command_remote_user_and_age():
    with connection() as (client, server), connection("::1") as (six, _):
        address, port = server.getsockname()
        mine = {inode(client), inode(server), inode(six)}

        def shown(*args):
            return {row["inode"] for row in sockets(*args)} & mine
        assert shown("-c", COMMAND) == shown("--command", "nobody,pyth*") == mine
        assert shown("-c", "nobody") == set()
        assert shown("-u", "0" if os.geteuid() == 0 else str(os.geteuid())) == mine
        assert shown("--user", "65533") == set()
        assert shown("-r", f"{address}:{port}") == shown("-r", f":{port}") == {inode(client)}
        assert shown("-r", address) == shown("-r", "127.0.0.0/8") == {inode(client), inode(server)}
        assert shown("-r", f"[::1]:{six.getpeername()[1]}") == {inode(six)}
        assert shown("-r", "10.0.0.0/8,::1") >= {inode(six)} and shown("-r", "126.0.0.0/8") == set()
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        assert shown("-g", "-o", "1h") == set()
        until(lambda: shown("-g", "-o", "50ms") >= {inode(client)}, "50 ms")
        assert finack("-g", "-j", "-p", os.getpid(), "-s", "age").returncode == 1


@test
def groups():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pairs = []
        for _ in range(5):
            client = socket.create_connection(listener.getsockname())
            pairs.append((client, listener.accept()[0]))
        for client, server in pairs:
            server.send(b"xyz")
            server.shutdown(socket.SHUT_WR)
            in_state(client, TCP_CLOSE_WAIT)
        to = "127.0.0.1:%d" % listener.getsockname()[1]
        for by, name in [("process", f"{COMMAND}[{os.getpid()}]"), ("command", COMMAND),
                         ("container", None), ("remote", to)]:
            value = report("--by", by, "--ghosts", "--state", "close-wait")
            (group,) = value["groups"]
            assert name in (group["name"], None), (by, group)
            assert group["sockets"] == 5 and group["verdicts"] == {"leaked": 5}, (by, group)
            assert group["remote"] == to and group["unread"] == 15 and group["oldest_ms"] >= 0, group
        line = finack("-b", "process", "-g", "--state", "close-wait").stdout.decode().splitlines()[0]
        assert re.fullmatch(rf"5 leaked: {COMMAND}\[{os.getpid()}\], to {to}, oldest \S+, "
                            "15 bytes not read", line), line
        # Though they are more, what the kernel ends comes last.
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                orphan, peer = stack.enter_context(connection())
                orphan.shutdown(socket.SHUT_WR)
                in_state(orphan, TCP_FIN_WAIT2)  # the peer may be late with its ACK
                orphan.close()
                peer.shutdown(socket.SHUT_RD)
            lines = finack("-b", "process", "-g", "--state", "fin-wait2").stdout.decode()
            assert lines.startswith("5 half-closed: "), lines
            assert lines.splitlines()[1].startswith("20 orphan: (no process)"), lines
        # Clients come from ports that mean nothing.
        (group,) = report("--by", "remote", "--state", "fin-wait2")["groups"]
        assert group["name"] == "127.0.0.1" and group["sockets"] == 5, group
        for client, server in pairs:
            reset_at_close(client)
            client.close()
            server.close()


@test
def containers():
    listen = "s = socket.create_server(('127.0.0.1', 0)); say(s.getsockname()[1]); wait()"
    with contained(listen) as (program, _), socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        where = sockets("--pid", str(program.pid))[0]["holders"][0]["container"]
        assert where == {"cgroup": f"/docker/{CONTAINER}", "id": CONTAINER, "pod": None,
                         "host": 'web-"7d'}, where
        (group,) = report("--by", "container", "--pid", str(program.pid))["groups"]
        assert group["name"] == f'{CONTAINER[:12]} web-"7d', group
        titles, *rows = finack("--pid", str(program.pid)).stdout.decode().splitlines()
        assert "container" in titles.split() and f'web-"7d/{CONTAINER[:12]}' in rows[0].split(), rows
        titles, *_ = finack("--pid", str(os.getpid())).stdout.decode().splitlines()
        assert "container" not in titles.split(), titles


# Opened anew each: what counts is open file descriptions.
MUCH_OPEN = """
import ctypes, resource, threading
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(6000)]
"""


def looked_by(strace, *args):
    """The sockets, and how many links were read."""
    with tempfile.NamedTemporaryFile("r", encoding="ascii") as calls:
        run = subprocess.run(
            ["strace", "-q", "-f", "-o", calls.name, "-e", "trace=readlinkat,bpf", *strace, FINACK, "ps",
             "--json", *args], env=WITHOUT_LEAK_CHECK, capture_output=True, timeout=60, check=False)
        assert run.returncode in (0, 1) and not run.stderr, run
        return json.loads(run.stdout)["sockets"], calls.read().count("readlinkat(")


def by_kernel(*args):
    return looked_by([], *args)


def by_links(*args):
    return looked_by(["-e", "inject=bpf:error=EPERM"], *args)


def has_iterators():
    return os.geteuid() == 0 and os.path.exists("/sys/kernel/btf/vmlinux")


@test
def with_very_much_open_the_kernel_is_asked_instead():
    """Of so many descriptors a BPF iterator tells, where there is one, and else the links in /proc."""
    with Python(MUCH_OPEN + """
one, two = socket.socketpair()
two.send(b"x")
spare = os.dup(one.fileno())
stale = select.epoll()
stale.register(one.fileno(), select.EPOLLIN)
one.close()
other = socket.create_server(("127.0.0.1", 0))
say("here"); wait()
""") as program:
        program.read()
        told, few = by_kernel("--pid", str(program.pid))
        read, many = by_links("--pid", str(program.pid))
        assert sorted(row["verdict"] for row in told) == ["fine", "fine", "stale-registration"], told
        for row, same in zip(told, read, strict=True):
            for key in "inode", "verdict", "holders", "findings":
                assert row[key] == same[key], (row, same)
        assert many > 6000 and (few < 6000 or not has_iterators()), (few, many)


@test
def with_very_much_open_what_no_process_shows_is_looked_for_once_more():
    """By the kernel's word again, but for the table of a thread, of which it says nothing."""
    with Python(MUCH_OPEN + """
apart = socket.create_server(("127.0.0.1", 0))
inode = os.fstat(apart.fileno()).st_ino
ready = threading.Event()
def keep():
    ctypes.CDLL(None).unshare(0x400)
    ready.set()
    time.sleep(1000)
threading.Thread(target=keep, daemon=True).start()
ready.wait()
apart.close()
say(inode); wait()
""") as program:
        (wanted,) = map(int, program.read())
        told, few = by_kernel()
        read, many = by_links()
        for rows in told, read:
            (row,) = [row for row in rows if row["inode"] == wanted]
            assert row["verdict"] == "fine" and len(row["holders"]) == 1, row
            assert row["holders"][0]["pid"] != program.pid, row
        assert many > 18000 and (few < 12000 or not has_iterators()), (few, many)


@test
def what_came_since():
    with tempfile.TemporaryDirectory() as folder, connection() as (client, server):
        file = f"{folder}/look.json"
        assert finack("--record", file, "--proto", "udp").returncode == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fresh:
            fresh.bind(("127.0.0.1", 0))
            server.shutdown(socket.SHUT_WR)
            in_state(client, TCP_CLOSE_WAIT)
            in_state(server, TCP_FIN_WAIT2)
            value = report("--since", file)
            assert {row["inode"] for row in value["sockets"]} == {
                inode(client), inode(server), inode(fresh)}, value
            assert value["since"]["came"] == 1 and value["since"]["changed"] == 2, value["since"]
            assert b"since then: 1 came, 2 changed, " in finack("--since", file).stdout
        for text in ("", "[]", "{", '{"sockets": 3}'):
            with open(file, "w", encoding="ascii") as out:
                out.write(text)
            run = finack("--since", file)
            lines = run.stderr.decode().splitlines()
            assert run.returncode == 2 and len(lines) == 1 and "--since" in lines[0], (text, lines)


@test
def a_process_is_looked_at_where_it_is():
    with elsewhere() as program:
        (port,) = map(int, program.read())
        (row,) = sockets("--pid", program.pid)
        assert row["state"] == "LISTEN" and row["local"]["port"] == port, row


def elsewhere():
    """A program in a network namespace of its own; Python learns unshare() in 3.12."""
    return Python("""
import ctypes
assert ctypes.CDLL(None).unshare(0x40000000) == 0
s = socket.create_server(('0.0.0.0', 0)); say(s.getsockname()[1]); wait()
""")


@test
def colors_are_for_terminals():
    with connection() as (client, server):
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        assert b"\x1b" not in finack("-g").stdout
        text, _ = run_on_terminal(200, 50, "-g", color=True)
        assert "\x1b[31mleaked" in text, text
        assert "\x1b" not in run_on_terminal(200, 50, "-g")[0]
        # More than a screenful: how many there are comes first, too.
        rows = run_on_terminal(200, 2, "--proto", "tcp")[0].splitlines()
        assert re.match(r"\d+ sockets: ", rows[0]) and rows[0] in rows[1:], rows


@test
def the_count_comes_first_where_a_screen_is_too_small():
    with connection(), connection("::1"):
        for columns, lines, *args in [(200, 5), (40, 20), (200, 1, "--by", "command")]:
            for more in (0, 100):
                drawn, _ = run_on_terminal(columns, lines + more, "--state", "established",
                                           "--proto", "tcp", *args)
                rows = drawn.splitlines()
                assert rows[-1].startswith("4 sockets: "), rows
                assert (rows[0] == rows[-1]) == (more == 0), (columns, lines + more, rows)


@test
def other_namespaces():
    with socket.create_server(("127.0.0.1", 0)), Python("""
import ctypes
CLONE_NEWNET = 0x40000000
assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
s = socket.socket()
s.bind(("0.0.0.0", 0)); s.listen()
never = socket.socket()
pair = socket.socketpair()
say(s.getsockname()[1])
wait()
""") as program:
        (port,) = map(int, program.read())
        here = report("--state", "listen")
        assert len(here["sockets"]) == 1, here
        assert here["not_looked_at"]["sockets_elsewhere"] == 4, here
        assert b"4 sockets of other network namespaces" in finack().stdout
        there = report("--netns", str(program.pid))
        assert len(there["sockets"]) == 4, there
        assert there["sockets"] == report("--netns", f"/proc/{program.pid}/ns/net")["sockets"]
        (listening,) = [row for row in there["sockets"] if row["state"] == "LISTEN"]
        assert listening["local"] == {"address": "0.0.0.0", "port": port}, listening
        assert listening["holders"][0]["pid"] == program.pid, listening
        both = report("--netns", "all", "--state", "listen,close,established")
        assert len(both["sockets"]) == 5 and len({row["netns"] for row in both["sockets"]}) == 2
        assert both["not_looked_at"]["sockets_elsewhere"] == 0, both


@test
def namespaces_come_and_go():
    with subprocess.Popen([FINACK, "ps", "--netns", "all", "--watch=100ms", "--json"],
                          stdout=subprocess.PIPE) as watch:
        def look():
            return {row["netns"] for row in json.loads(watch.stdout.readline())["sockets"]}

        def holds(space):
            links = subprocess.run(["find", f"/proc/{watch.pid}/fd", "-printf", "%l\n"], timeout=60,
                                   capture_output=True, check=False, text=True)  # some vanish
            return f"net:[{space}]" in links.stdout

        look()
        with Python("import ctypes\nassert ctypes.CDLL(None).unshare(0x40000000) == 0\n"
                    "s = socket.create_server(('0.0.0.0', 0)); say('here'); wait()") as program:
            program.read()
            space = os.stat(f"/proc/{program.pid}/ns/net").st_ino
            until(lambda: space in look(), "the new namespace is looked at")
        until(lambda: space not in look() and not holds(space), "it is let go of")
        watch.send_signal(signal.SIGINT)
        watch.stdout.read()


@test
def many_holders_are_counted():
    with connection() as (client, _), Python("""
for _ in range(20):
    if os.fork() == 0:
        os.close(1); signal.pause()
say('forked'); wait()
""", pass_fds=[client.fileno()]) as program:
        program.read()
        (row,) = [row for row in sockets("--ghosts") if row["inode"] == inode(client)]
    assert len(row["holders"]) == 22, row
    assert row["why"].count("[") == 8 and " and 14 more, which" in row["why"], row["why"]


CLEAR = b"\x1b[H\x1b[2J"


def run_on_terminal(columns, lines, *args, until_pages=0, color=False):
    """What the command draws on a terminal of that size, and its exit status."""
    main_end, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen([FINACK, "ps", *args], stdout=end, stderr=end, stdin=end,
                               env={"TERM": "xterm"} if color else {"TERM": "xterm", "NO_COLOR": "1"})
    os.close(end)
    drawn = b""
    with contextlib.suppress(OSError):  # EIO: the other side is gone
        while part := os.read(main_end, 65536):
            drawn += part
            if until_pages and drawn.count(CLEAR) >= until_pages:
                process.send_signal(signal.SIGINT)
                until_pages = 0
    os.close(main_end)
    return drawn.decode(), process.wait(60)


@test
def narrow_terminals():
    with connection() as (client, server):
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        for width in (1, 7, 20, 60, 80, 120, 300):
            drawn, status = run_on_terminal(width, 24)
            rows = drawn.replace("\r\n", "\n").splitlines()
            assert status == 1 and max(map(len, rows)) <= width, (width, rows)
            if width >= 20:
                assert any("leaked" in row for row in rows), (width, rows)
            text = "".join(rows).replace(" ", "")
            assert "thepeerclosed" in text and f"{COMMAND}[{os.getpid()}]" in text, (width, text)


@test
def watching_with_rates():
    with connection() as (client, server):
        process = subprocess.Popen([FINACK, "ps", "--watch=100ms", "--json", "--proto", "tcp"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        first = json.loads(process.stdout.readline())
        check_schema(first)
        assert all("rates" not in row for row in first["sockets"]), first
        server.sendall(bytes(5000))

        def received():
            value = json.loads(process.stdout.readline())
            check_schema(value)
            (row,) = [row for row in value["sockets"] if row["inode"] == inode(client)]
            return row["rates"]["received"]
        until(received, "a rate")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and not errors, errors


@test
def watching_remembers_what_may_not_be_looked_at():
    """A dead socket of which no copy may be had: what the look before knew of it is shown."""
    with connection() as (client, server):
        process = subprocess.Popen(
            ["strace", "-D", "-q", "-f", "-o", "/dev/null", "-e", "inject=pidfd_getfd:error=EPERM", FINACK,
             "ps", "--watch=100ms", "--json", "--proto", "tcp"],
            env=WITHOUT_LEAK_CHECK, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        json.loads(process.stdout.readline())
        to = client.getpeername()[1]
        reset_at_close(server)
        server.close()
        in_state(client, TCP_CLOSE)

        def dead():
            value = json.loads(process.stdout.readline())
            check_schema(value)
            (row,) = [row for row in value["sockets"] if row["inode"] == inode(client)]
            return row["verdict"] == "dead" and row
        for _ in range(2):
            row = until(dead, "a look")
            assert row["remote"] == {"address": "127.0.0.1", "port": to}, row
            assert row["state"] == "CLOSE" and row["receive_queue"] is None, row
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert not errors, errors


@test
def watching_on_a_terminal():
    with connection() as (client, server):
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        for columns, lines in ((120, 24), (20, 10)):
            drawn, status = run_on_terminal(columns, lines, "--watch=100ms", "--ghosts",
                                            until_pages=3)
            pages = drawn.split(CLEAR.decode())
            assert status == 1 and len(pages) >= 4, drawn
            for page in pages[1:-1]:
                rows = page.replace("\r\n", "\n").splitlines()
                assert len(rows) < lines, (lines, rows)
                assert max(map(len, rows)) <= columns, rows
        assert re.search(r"2 sockets: 1 leaked, 1 half-closed .*/s begun, .*/s ended, leaked \+0.0/s",
                         drawn.replace("\r\n", " ")), drawn


# ---- bad input ----

BAD = [
    (["--bogus"], "--bogus"),
    (["-x"], "-x"),
    (["what"], "'what'"),
    (["--json=3"], "--json takes no value"),
    (["--pid"], "value"),
    (["--pid", "x"], "--pid 'x'"),
    (["--pid", "0"], "--pid '0'"),
    (["--pid", "1,,2"], "--pid ''"),
    (["--pid", "4194305"], "no such process"),
    (["--pid", ",".join(["1"] * 65)], "64"),
    (["--port", "65536"], "--port '65536'"),
    (["--port", "http"], "--port 'http'"),
    (["--proto", "sctp"], "tcp, udp, unix"),
    (["--proto", "a\x1b[31m\n"], "\\x1b[31m\\x0a"),
    (["--state", "open"], "ESTABLISHED"),
    (["--state", "x" * 100], "--state"),
    (["--sort", "size"], "verdict, proto"),
    (["--netns", ""], "--netns"),
    (["--netns", "nowhere"], "--netns nowhere"),
    (["--netns", "/etc/hostname"], "--netns"),
    (["--watch=1x"], "--watch '1x'"),
    (["--watch=10ms"], "100ms"),
]


@test
def bad_input_gets_one_line():
    for args, word in BAD:
        run = finack(*args)
        lines = run.stderr.decode().splitlines()
        assert run.returncode == 2 and not run.stdout, (args, run)
        assert len(lines) == 1 and lines[0].startswith("finack ps: ") and word in lines[0], (args, lines)
        assert all(32 <= ord(c) < 127 for c in lines[0]), lines


@test
def a_fifo_is_no_namespace():
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(f"{folder}/fifo")
        run = finack("--netns", f"{folder}/fifo")
    assert run.returncode == 2 and run.stderr.startswith(b"finack ps: --netns"), run


@test
def help_and_version():
    assert finack("--help").stdout.startswith(b"usage: finack ps")
    assert finack("--version").stdout.startswith(b"finack ")


@test
def a_full_disk_gets_one_line():
    with open("/dev/full", "wb") as full:
        for args in ([], ["--json"], ["--watch", "--json"]):
            run = finack(*args, stdout=full)
            assert run.returncode == 2 and b"No space left" in run.stderr, run


@test
def names_with_control_characters():
    name = "\x1b[31mred\n\"<b>"
    with socket.socket(socket.AF_UNIX) as listener, open("/proc/self/comm", "r+") as comm:
        listener.bind("\0" + name + "\x07")
        listener.listen()
        before = comm.read().strip()
        try:
            comm.write(name)
            comm.flush()
            text, value = finack().stdout, report()
        finally:
            comm.write(before)
            comm.flush()
    assert not re.search(rb"[^\n -~]", text), text
    assert b'\\x1b[31mred\\x0a"<b>[' in text and b"red\\x0a\"<b>\\x07 " in text, text
    (row,) = [row for row in value["sockets"] if row["proto"] == "unix"]
    assert row["holders"][0]["command"] == '\\x1b[31mred\\x0a"<b>', row
    assert row["local"]["name"] == '@\\x1b[31mred\\x0a"<b>\\x07', row


@test
def names_with_zero_bytes():
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        one.bind(b"\0name\0one")
        two.bind(b"\0name\0two\0")
        names = {row["local"]["name"] for row in sockets("--proto", "unix")}
    assert names == {"@name@one", "@name@two@"}, names


@test
def without_root():
    with connection() as (client, server), Python(
            "s = socket.create_server(('127.0.0.1', 0)); say('here'); wait()",
            **as_nobody()) as program, for_all() as command:
        program.read()
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        def run(*args):
            return subprocess.run([command, "ps", *args], capture_output=True, timeout=60,
                                  check=False, **as_nobody())
        value = json.loads(run("--json").stdout)
        check_schema(value)
        value["sockets"] = [s for s in value["sockets"] if s["state"] != "TIME_WAIT"]
        leaked = [row for row in value["sockets"] if row["verdict"] == "leaked"]
        assert len(value["sockets"]) == 3 and len(leaked) == 1, value
        assert value["counts"]["invisible-holder"] == 0, value
        if as_nobody():
            assert leaked[0]["holders"] == [], leaked
            assert value["not_looked_at"]["processes"] >= 2, value
            (own,) = [row for row in value["sockets"] if row["state"] == "LISTEN"]
            assert own["holders"][0]["pid"] == program.pid, own
            assert re.search(rb"not looked at: the descriptors of \d+ processes: no permission",
                             run().stdout), run()
            blind = json.loads(run("--json", "--netns", "all").stdout)["not_looked_at"]
            assert blind["namespaces_of_processes"] >= 2, blind
            assert re.search(rb"not looked at: the network namespaces of \d+ processes",
                             run("--netns", "all").stdout), run("--netns", "all")
            denied = run("--pid", str(os.getpid()))
            assert denied.returncode == 2 and b"no permission" in denied.stderr, denied
            denied = run("--netns", str(os.getpid()))
            assert denied.returncode == 2 and b"ermission" in denied.stderr, denied


@test
def processes_that_die_while_being_read():
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            pairs = [socket.socketpair() for _ in range(10)]
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            for pair in pairs:
                for sock in pair:
                    sock.close()
            os.waitpid(pid, 0)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(30):
            run = finack("--json")
            assert run.returncode in (0, 1) and not run.stderr, run
            counts = json.loads(run.stdout)["counts"]
            bad = {name: n for name, n in counts.items() if n and name not in (
                "fine", "parked", "leaked", "half-closed", "held")}  # for a moment, indeed
            assert not bad, counts
    finally:
        stop.set()
        thread.join()


@test
def as_many_sockets_as_there_may_be():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    many = min(hard - 100, 20000) // 2
    with contextlib.ExitStack() as stack, select.epoll() as watched:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        for _ in range(many):
            client = stack.enter_context(socket.create_connection(listener.getsockname()))
            server = stack.enter_context(listener.accept()[0])
            reset_at_close(server)
            watched.register(client, select.EPOLLIN)
            watched.register(server, select.EPOLLIN)
        value = json.loads(finack("--json", "--state", "established,listen").stdout)
        assert value["counts"]["fine"] == len(value["sockets"]) == 2 * many + 1, value["counts"]
        text = finack("--state", "established,listen").stdout.decode()
        assert text.count("\n") == 2 * many + 3 and f"{2 * many + 1} sockets: " in text, text[-200:]


if __name__ == "__main__":
    sys.exit(main())
