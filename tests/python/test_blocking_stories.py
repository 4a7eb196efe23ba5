# SPDX-License-Identifier: MIT
"""What people ran into with blocking sockets, and the end of the interpreter."""

import contextlib
import gc
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

import finack
from finack import Policy

FOREVER = 60.0


def test_a_file_is_closed_and_the_peer_waits_for_the_end() -> None:
    """close() of the file, or of the socket, closes nothing as long as the other is there."""
    ours, theirs = socket.socketpair()
    file = ours.makefile("rwb")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(theirs.makefile("rb").read()))
    reader.start()
    file.write(b"last words")
    file.close()
    assert finack.close(ours, Policy(courtesy="prompt")).held is False
    reader.join(FOREVER)
    assert got == [b"last words"]
    theirs.close()


def test_a_socket_is_closed_and_its_file_is_still_there() -> None:
    ours, theirs = socket.socketpair()
    file = ours.makefile("rb")
    ours.close()
    theirs.settimeout(0)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)  # the story
    theirs.settimeout(FOREVER)
    assert finack.close(ours, Policy(courtesy="prompt")).held is False
    assert theirs.recv(1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read(1)
    theirs.close()


def test_a_reader_is_blocked_while_another_thread_closes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs = server.accept()[0]
    inside = threading.Event()
    got: list[bytes] = []

    def read() -> None:
        inside.set()
        with contextlib.suppress(OSError):
            got.append(ours.recv(1))

    reader = threading.Thread(target=read)
    reader.start()
    inside.wait(FOREVER)
    receipt = finack.close(ours, Policy(courtesy="prompt"))
    reader.join(FOREVER)
    # It may have been about to begin: then the socket was closed already.
    assert not reader.is_alive() and got in ([b""], []) and receipt.held is False
    assert theirs.recv(1) == b""
    theirs.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("courtesy", ["abort", "prompt", "orderly"])
def test_the_peer_has_a_zero_window_and_the_socket_is_discarded(courtesy: str) -> None:
    """Nobody reads here any more; the peer must not wait for ever for room to send."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs = server.accept()[0]
    theirs.setblocking(False)
    sent = 0
    while True:
        try:
            sent += theirs.send(bytes(1 << 16))
        except BlockingIOError:
            break
    theirs.setblocking(True)
    ended: list[object] = []

    def send() -> None:
        try:
            while True:
                theirs.sendall(bytes(1 << 16))
        except OSError as error:
            ended.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    receipt = finack.close(ours, Policy(courtesy=courtesy, drain=1 << 18))  # type: ignore[arg-type]
    sender.join(FOREVER)
    assert not sender.is_alive() and isinstance(ended[0], ConnectionError)
    assert receipt.held is False and sent > 0
    theirs.close()


def test_a_socket_in_a_cycle_is_closed_without_a_collection() -> None:
    gc.disable()
    try:
        ours, theirs = socket.socketpair()
        cycle: list[object] = [ours]
        cycle.append(cycle)
        assert finack.close(ours, Policy(courtesy="prompt")).held is False
        assert theirs.recv(1) == b""
        theirs.close()
    finally:
        gc.enable()


# ---- the end of the interpreter ----

PARTS = {
    "at exit": """
        a, b = socket.socketpair()
        atexit.register(lambda: print(finack.close(a, finack.Policy(linger=0)).end))
    """,
    "in a destructor": """
        class Last:
            def __del__(self, close=finack.close, policy=finack.Policy(linger=0), write=os.write):
                write(1, close(self.sock, policy).end.encode())
        last = Last()
        last.sock, last.peer = socket.socketpair()
    """,
    "a daemon thread closes": """
        a, b = socket.socketpair()
        policy = finack.Policy(linger=60, total=60)
        threading.Thread(target=finack.close, args=(a, policy), daemon=True).start()
        b.recv(1)
        print("fin")
    """,
    "a daemon thread is inside": """
        a, b = socket.socketpair()
        thread = threading.Thread(target=a.recv, args=(1,), daemon=True)
        thread.start()
        path = f"/proc/self/task/{thread.native_id}/syscall"
        while open(path).read().split()[1:2] != [hex(a.fileno())]:
            pass
        atexit.register(lambda: print(finack.close(a, finack.Policy(linger=0)).end))
    """,
    "a tombstone stays": """
        a, b = socket.socketpair()
        thread = threading.Thread(target=a.recv, args=(1,), daemon=True)
        thread.start()
        path = f"/proc/self/task/{thread.native_id}/syscall"
        while open(path).read().split()[1:2] != [hex(a.fileno())]:
            pass
        print(finack.close(a, finack.Policy(scope="descriptor", proof="released")).tombstone)
    """,
}


@pytest.mark.parametrize("part", PARTS)
def test_the_interpreter_ends_in_peace(part: str) -> None:
    head = "import atexit, os, socket, sys, threading\nimport finack\n"
    script = head + textwrap.dedent(PARTS[part])
    command = [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FOREVER)
    said = "True" if part == "a tombstone stays" else "fin"
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, said, "")
