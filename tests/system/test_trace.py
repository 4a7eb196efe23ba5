#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`finack trace` on programs that do one thing each, on real programs, and against strace.

usage: test_trace.py FINACK SCHEMA TRACED CHURN        (prints TAP)
"""

import collections
import contextlib
import os
import pty
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time

import tap
from tap import test
from trace_support import (
    FILL, FINACK, TRACED, CHURN, PYTHON, OPENS, run, check_document, trace, story, ghosts, in_order,
    expect_line, program,
)

# ---- one thing each ----

@test
def a_socket_from_birth_to_last_reference():
    document = trace(TRACED, "plain")
    (one,) = document["sockets"]
    assert story(document) == ["made", "closed", "unreferenced", "finished", "gone"]
    in_order(one, "requested", "released", "unreferenced", "finished", "gone")
    assert one["proof"] == "witness" and one["held"] == "no" and one["origin"] == "made"
    assert (one["family"], one["type"], one["protocol"]) == ("inet", "stream", "tcp")
    assert document["exit"] == {"status": 0, "signal": None} and not document["detached"]


@test
def copies_count():
    document = trace(TRACED, "copies")
    words = story(document)
    # dup3 closed what its number was: of the same socket, so that nothing else is told.
    assert words[:5] == ["made"] + 4 * ["duplicated"], words
    assert words[5:] == 4 * ["closed"] + ["unreferenced", "finished", "gone"], words
    numbers = [e["fd"] for e in document["events"] if e["kind"] == "duplicated"]
    assert 100 in numbers and 200 in numbers


@test
def left_open_is_a_ghost_descriptor():
    document = trace(TRACED, "left_open", status=1)
    (one,) = document["sockets"]
    assert ghosts(document) == ["descriptor"] and document["ghosts"] == 1
    assert one["closed"]["call"] == "exit" and one["stages"]["requested"] is None


@test
def how_a_stream_ends_at_execve_is_not_known():
    document = trace(PYTHON, "-c", """if True:
        import os, socket
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        pair = socket.socketpair()
        os.execvp("true", ["true"])
    """)
    assert [s["closed"]["call"] for s in document["sockets"]] == 5 * ["execve"], document
    assert [s["end"] for s in document["sockets"]] == ["none"] + 4 * ["kernel"], document


@test
def who_is_killed_leaves_no_ghost():
    document = trace(TRACED, "killed")
    assert document["exit"] == {"status": None, "signal": "SIGKILL"}
    assert ghosts(document) == [] and document["sockets"][0]["closed"]["call"] == "killed"


@test
def a_child_that_holds_it_is_a_ghost_description():
    document = trace(TRACED, "held_by_child", status=1)
    assert ghosts(document) == ["description"]
    assert story(document)[:4] == ["made", "inherited", "closed", "closed"]
    (one,) = document["sockets"]
    assert one["stages"]["released"] - one["stages"]["requested"] > 200e6
    assert one["first_closed"]["call"] == "close" and one["closed"]["call"] == "exit"
    assert one["first_closed"]["pid"] == one["made"]["pid"] != one["closed"]["pid"]


@test
def a_child_that_closes_it_is_none():
    assert ghosts(trace(TRACED, "handed_to_child")) == []


@test
def an_epoll_entry_left_behind_is_a_ghost_registration():
    document = trace(TRACED, "left_in_epoll", status=1)
    assert ghosts(document) == ["registration"]
    assert story(document).count("registered") == 1  # the second failed


@test
def registered_and_unregistered():
    document = trace(TRACED, "unregistered")
    assert story(document)[:4] == ["made", "registered", "unregistered", "closed"]
    in_order(document["sockets"][0], "unwatched", "released", "unreferenced")


@test
def execve_closes_what_is_cloexec():
    document = trace(TRACED, "through_exec", status=1)
    assert [s["closed"]["call"] for s in document["sockets"]] == ["exit", "execve"]
    assert [s["closed"]["command"] for s in document["sockets"]] == ["true", "true"]


@test
def vfork_threads_and_tables():
    document = trace(TRACED, "by_vfork")
    assert story(document)[:4] == ["made", "inherited", "closed", "closed"]
    assert trace(TRACED, "exec_in_thread")["sockets"][0]["closed"]["call"] == "execve"
    assert story(trace(TRACED, "leader_ends"))[:3] == ["made", "closed", "unreferenced"]
    document = trace(TRACED, "own_table")
    assert story(document)[:4] == ["made", "closed", "closed", "unreferenced"]
    assert len({e["tid"] for e in document["events"] if e["kind"] == "closed"}) == 2


@test
def close_range_closes():
    document = trace(TRACED, "range")
    assert {s["closed"]["call"] for s in document["sockets"]} == {"close_range"}


@test
def a_socket_in_flight_is_held():
    document = trace(TRACED, "in_flight")
    assert story(document, 3)[:5] == ["made", "closed", "received", "closed", "unreferenced"]
    (passed,) = [s for s in document["sockets"] if s["id"] == 3]
    assert passed["stages"]["unreferenced"] - passed["stages"]["requested"] > 200e6


@test
def a_close_that_waits_is_over_before_what_it_closed():
    """The socket was in flight, so that its last reference was waited for already."""
    document = trace(PYTHON, "-c", FILL + """if True:
        import os, socket, struct
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1))
        fill(client)
        one, two = socket.socketpair()
        socket.send_fds(one, [b"x"], [client.fileno()])
        client.close()
        os.close(socket.recv_fds(two, 1, 1)[1][0])
    """)
    (client,) = [s for s in document["sockets"] if "received" in story(document, s["id"])]
    words = story(document, client["id"])
    assert words[words.index("received"):][:3] == ["received", "closed", "unreferenced"], words


@test
def a_filter_of_the_programs_own_holds():
    assert len(trace(TRACED, "own_filter")["sockets"]) == 1


@test
def io_uring_is_said():
    (note,) = trace(TRACED, "ring")["notes"]
    assert "io_uring" in note


@test
def signals_arrive():
    assert trace(TRACED, "signalled")["exit"]["status"] == 0


@test
def names_are_escaped():
    document = trace(TRACED, "strange_name")
    assert document["sockets"][0]["made"]["command"] == '\\x1b[31m\\x0a"<b>'
    done = run("--", TRACED, "strange_name")
    assert b"\x1b" not in done.stderr and b"\\x1b[31m" in done.stderr


# ---- connections ----

CLIENT = FILL + """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.recv(1, socket.MSG_PEEK if sys.argv[2] == "unread" else 0)
if sys.argv[2] == "flood":
    fill(s)
if sys.argv[2] == "shut":
    s.shutdown(socket.SHUT_WR)
    s.recv(1)
s.close()
"""


def with_server(how, meet):
    """Traces a client of ours; `meet` is what its server does with the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        results = []

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                connection.sendall(b"x")
                results.append(meet(connection))

        thread = threading.Thread(target=serve)
        thread.start()
        document = trace(PYTHON, "-c", CLIENT, str(port), how)
        thread.join()
    (client,) = [s for s in document["sockets"] if s["remote"] == f"127.0.0.1:{port}"]
    return document, client, results[0]


def read_end(connection):
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return "reset"


@test
def end_as_the_peer_sees_it():
    document, client, seen = with_server("read", read_end)
    assert seen == b"" and client["end"] == "fin" and client["connected"] is not None
    assert "connected" in story(document, client["id"])
    document, client, seen = with_server("unread", read_end)
    assert seen == "reset" and client["end"] == "reset" and client["unread"] == 1
    document, client, seen = with_server("shut", read_end)
    assert seen == b"" and client["end"] in ("fin", "kernel")  # over, if the peer was quicker
    assert "shut" in story(document, client["id"])
    in_order(client, "requested", "shut", "released", "unreferenced", "finished")


@test
def a_peer_that_does_not_read_is_a_ghost_connection():
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"x")
                done.wait(60)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            document = trace(PYTHON, "-c", CLIENT, str(port), "flood", status=1)
        finally:
            done.set()
            thread.join()
    assert ghosts(document) == ["connection"]
    (client,) = [s for s in document["sockets"] if s["ghosts"]]
    assert client["state"] == "FIN_WAIT1" and client["end"] == "kernel" and client["unacked"] > 65536


# ---- real programs, and the referee ----

def tell_calls(document):
    """(call, how often): of the program's own calls."""
    calls = collections.Counter()
    for event in document["events"]:
        if event["kind"] in OPENS:
            calls[event["call"]] += 1
        elif event["kind"] == "shut":
            calls["shutdown"] += 1
        elif event["kind"] == "closed" and event["call"] == "close":
            calls["close"] += 1
    return calls


def whole_lines(path):
    """strace's lines, those of a call in two pieces joined."""
    begun = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            thread, text = line.rstrip("\n").split(maxsplit=1)
            if text.endswith("<unfinished ...>"):
                begun[thread] = text[: -len("<unfinished ...>")]
                continue
            resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", text)
            yield begun.pop(thread) + resumed.group(1) if resumed else text


def strace_calls(*command):
    calls = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "strace")
        subprocess.run(["strace", "-f", "--seccomp-bpf", "-y", "-o", path, "-e",
                        "trace=socket,socketpair,accept,accept4,shutdown,close", *command],
                       stdout=subprocess.DEVNULL, timeout=300, check=False)
        for line in whole_lines(path):
            match = re.match(r"(\w+)\((.*)\) += (-?\d+)", line)
            if not match:
                continue
            name, args, result = match.group(1), match.group(2), int(match.group(3))
            is_socket = re.match(r"\d+<socket:", args)
            if name == "socketpair" and result == 0:
                calls[name] += 2
            elif name in ("socket", "accept", "accept4") and result >= 0 or name == "shutdown":
                calls[name] += 1
            elif name == "close" and is_socket:
                calls[name] += 1
    return calls


def compare(*command):
    """A thread that is kept from leaving a call makes a ghost of a socket that another closed."""
    document = trace(*command, status=None)
    ours, theirs = tell_calls(document), strace_calls(*command)
    assert ours == theirs, (ours, theirs)
    assert sum(theirs.values()) > 0
    return document


@test
def strace_saw_the_same():
    compare(CHURN, "100")
    document = compare(CHURN, "200", "3", "20")
    assert document["exit"]["status"] == 0
    assert all(s["stages"]["unreferenced"] is not None for s in document["sockets"])
    assert {s["proof"] for s in document["sockets"]} == {"witness"}
    compare(TRACED, "copies")
    compare(PYTHON, "-c", "import socket\nwith socket.socket() as s: pass\nsocket.socketpair()")


GO = """package main

import ("fmt"; "io"; "net")

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { panic(err) }
	done := make(chan bool)
	go func() {
		for i := 0; i < 20; i++ {
			c, err := l.Accept()
			if err != nil { panic(err) }
			io.Copy(io.Discard, c)
			c.Close()
		}
		done <- true
	}()
	for i := 0; i < 20; i++ {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil { panic(err) }
		fmt.Fprint(c, "hello")
		c.Close()
	}
	<-done
	l.Close()
}
"""


@test
def a_go_program():
    with tempfile.TemporaryDirectory() as folder:
        program(folder, "main.go", GO, "go", "build", "-o", "main")
        document = trace(f"{folder}/main")
    accepted = [s for s in document["sockets"] if s["origin"] == "accepted"]
    connected = [s for s in document["sockets"] if s["origin"] == "made" and s["remote"]]
    assert len(accepted) == 20 and len(connected) >= 20 and ghosts(document) == []
    assert all(s["proof"] == "witness" and s["held"] == "no" for s in document["sockets"])
    assert all("registered" in story(document, s["id"]) for s in accepted)


STATIC = """#include <sys/socket.h>
#include <unistd.h>
int main(void) { int fd = socket(AF_INET6, SOCK_DGRAM, 0); return close(fd); }
"""


@test
def a_static_binary():
    with tempfile.TemporaryDirectory() as folder:
        program(folder, "main.c", STATIC, "cc", "-static", "-o", "main")
        document = trace(f"{folder}/main")
    (one,) = document["sockets"]
    assert (one["family"], one["protocol"]) == ("inet6", "udp")
    assert story(document) == ["made", "closed", "unreferenced", "finished", "gone"]


@test
def curl():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            connection, _ = listener.accept()
            with connection:
                while b"\r\n\r\n" not in connection.recv(65536):
                    pass
                connection.sendall(b"HTTP/1.0 204 No Content\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        document = trace("curl", "-s", f"http://127.0.0.1:{port}/")
        thread.join()
    (client,) = [s for s in document["sockets"] if s["remote"] == f"127.0.0.1:{port}"]
    assert client["held"] == "no" and client["stages"]["unreferenced"] is not None
    assert ghosts(document) == []


# ---- signals, and whoever is killed ----

class Patient:
    """A traced program that makes a socket, closes it and says so when it is asked."""

    def __init__(self, *options):
        self.trace = subprocess.Popen([FINACK, "trace", *options, "--", TRACED, "on_demand"],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True)
        assert self.trace.stdout.readline() == "ready\n"
        self.pids = children(self.trace.pid)

    def works(self):
        self.trace.stdin.write("x\n")
        self.trace.stdin.flush()
        return self.trace.stdout.readline() == "sockets work\n"

    def finish(self):
        """The command ends when nobody can ask it any more."""
        self.trace.stdin.close()
        with self.trace.stdout, self.trace.stderr:
            text = self.trace.stderr.read()
            return self.trace.wait(30), text


def stat_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        head, rest = file.read().rsplit(")", 1)
    return head.split("(", 1)[1], rest.split()


def children(pid):
    found = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit():
                name, fields = stat_of(entry)
                if int(fields[1]) == pid:
                    found[name] = int(entry)
    return found


@test
def interrupt_detaches_and_prints():
    for number in signal.SIGINT, signal.SIGTERM:
        patient = Patient()
        assert patient.works()
        patient.trace.send_signal(number)
        assert patient.trace.wait(30) == 0
        assert patient.works() and patient.works()  # the filter is there still
        _, text = patient.finish()
        assert "the command goes on" in text and "#3 closed" in text, text


@test
def who_kills_the_front_does_not_hurt_the_command():
    patient = Patient()
    patient.trace.kill()
    assert patient.trace.wait(30) == -signal.SIGKILL
    assert patient.works() and patient.works()
    patient.finish()


@test
def who_kills_the_tracer_does_not_hurt_the_command():
    patient = Patient()
    assert patient.works()
    os.kill(patient.pids["finack tracer"], signal.SIGKILL)
    # The line says that the front has taken over.
    assert any("the tracer was killed" in line for line in patient.trace.stderr)
    assert patient.works() and patient.works()
    assert patient.finish()[0] == 2


@test
def who_kills_the_command_gets_its_receipts():
    patient = Patient()
    assert patient.works()
    os.kill(patient.pids["traced"], signal.SIGKILL)
    status, text = patient.finish()
    assert status == 0 and "killed by SIGKILL" in text and "#1 closed 3 by killed" in text, text


@test
def a_stopped_command_stays_stopped():
    patient = Patient()
    os.kill(patient.pids["traced"], signal.SIGSTOP)
    limit = time.monotonic() + 30
    while stat_of(patient.pids["traced"])[1][0] not in "tT":
        assert time.monotonic() < limit
    os.kill(patient.pids["traced"], signal.SIGCONT)
    assert patient.works()
    assert patient.finish()[0] == 0


def on_terminal(*command):
    """finack with a terminal of its own; (pid, the terminal's other side)."""
    pid, terminal = pty.fork()
    if pid == 0:
        mode = termios.tcgetattr(0)
        mode[3] |= termios.NOFLSH  # ^C sends the signal first, and then flushes what came since
        termios.tcsetattr(0, termios.TCSANOW, mode)
        os.execv(FINACK, [FINACK, "trace", "--", *command])
    return pid, terminal


def read_until(terminal, word):
    """Text up to a word, or to the end of everything."""
    text = b""
    while word is None or word not in text:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # EIO: the last of the other side has gone
            break
        text += part
    return text


@test
def control_c_ends_the_command_before_our_eyes():
    pid, terminal = on_terminal(TRACED, "on_demand")
    read_until(terminal, b"ready")
    os.write(terminal, b"\x03")
    text = read_until(terminal, None)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"#1 closed 3 by killed" in text and b"killed by SIGINT" in text, text


@test
def a_second_control_c_detaches_at_once():
    script = 'trap "" INT; echo begun; while read line; do echo "$line answered"; done'
    pid, terminal = on_terminal("sh", "-c", script)
    read_until(terminal, b"begun")
    os.write(terminal, b"\x03")
    os.write(terminal, b"one\n")
    read_until(terminal, b"one answered")
    os.write(terminal, b"\x03")
    assert b"the command goes on" in read_until(terminal, b"goes on")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)


@test
def no_privilege_is_needed():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for program_ in FINACK, TRACED:
            shutil.copy(program_, folder)
        as_nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
        done = subprocess.run([f"{folder}/finack", "trace", "--json", f"{folder}/traced", "in_flight"],
                              capture_output=True, timeout=300, check=False, **as_nobody)
        assert done.returncode == 0 and done.stderr == b"", done
        assert {s["proof"] for s in check_document(done.stdout)["sockets"]} == {"witness"}


@test
def parents_that_are_heard_of_late():
    done = run(TRACED, "births")
    assert done.returncode == 0, done.stderr[-500:]
    assert b" inherited " not in done.stderr and b"one descriptor" not in done.stderr


# ---- bad input ----

@test
def bad_usage_is_one_line():
    expect_line(run(), "which command")
    expect_line(run("--frob", "true"), "--frob")
    expect_line(run("-p", "0"), "'0'")
    expect_line(run("-p", "x1"), "'x1'")
    expect_line(run("-p", "1", "true"), "exclude")
    expect_line(run("-o", "", "true"), "-o")
    expect_line(run("-o"), "-o")
    expect_line(run("-o", "page", "--html", "page", "true"), "--html")
    expect_line(run("--", "/no/such\033program"), "/no/such\\x1bprogram", "No such file")
    expect_line(run("-o", "/no/such/folder/file", "true"), "/no/such/folder")


@test
def a_dead_pid_is_one_line():
    with subprocess.Popen(["true"]) as child:
        pass
    expect_line(run("-p", str(child.pid)), f"no process {child.pid}")


@test
def a_full_disk_leaves_no_half_file():
    expect_line(run("-o", "/dev/full", "true"), "No space left")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "out")

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))

        expect_line(run("-o", path, TRACED, "plain", preexec_fn=limit), path)
        assert os.listdir(folder) == []


@test
def help_and_version():
    assert run("--help").stdout.startswith(b"usage: finack trace")
    assert run("--version").stdout.startswith(b"finack ")


@test
def the_commands_own_options_are_its_own():
    done = run("echo", "--json", "-p", "1")
    assert done.returncode == 0 and done.stdout == b"--json -p 1\n"


@test
def json_without_a_file_goes_to_stdout():
    done = run("--json", TRACED, "plain")
    assert done.returncode == 0 and done.stderr == b""
    assert check_document(done.stdout)["command"] == [TRACED, "plain"]


sys.exit(tap.main())
