# SPDX-License-Identifier: MIT
"""Closing blocking sockets: what the caller, the threads and the peer see."""

import asyncio
import contextlib
import errno
import io
import os
import pathlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from blocking import (
    FOREVER,
    Inside,
    assert_closed,
    at_a_high_number,
    descriptors_below,
    is_free,
    no_descriptors,
    until,
)
from peers import Peers

import finack
from finack import Policy

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def tcp() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        a = socket.create_connection(server.getsockname())
        b = server.accept()[0]
    with a, b:
        yield a, b


@pytest.fixture(params=["tcp", "unix", "tcp6"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    if request.param == "unix":
        a, b = socket.socketpair()
    else:
        six = request.param == "tcp6"
        family, host = (socket.AF_INET6, "::1") if six else (socket.AF_INET, "127.0.0.1")
        with socket.create_server((host, 0), family=family) as server:
            a = socket.create_connection(server.getsockname()[:2])
            b = server.accept()[0]
    with a, b:
        yield a, b


# ---- one thread ----


def test_close(pair: Pair) -> None:
    a, b = pair
    number = a.fileno()
    b.sendall(b"never read")
    b.shutdown(socket.SHUT_WR)
    a.sendall(b"hello")
    receipt = finack.close(a)
    assert is_free(number)
    assert receipt.outcome == "graceful" and receipt.end == "fin" and receipt.held is False
    assert receipt.discarded == 10 and receipt.lost == 0
    assert {"shut", "acked", "released", "unreferenced"} <= set(receipt.stages)
    # A Unix socket whose peer is open still doesn't tell who ended the input.
    assert "eof" in (receipt.unverifiable if a.family == socket.AF_UNIX else receipt.stages)
    assert (b.recv(9), b.recv(9)) == (b"hello", b"")
    assert_closed(a)
    assert "closed" in repr(a)


@pytest.mark.parametrize("timeout", [None, 0, 5])
def test_a_timeout_of_the_program_changes_nothing(tcp: Pair, timeout: float | None) -> None:
    a, b = tcp
    b.shutdown(socket.SHUT_WR)
    a.settimeout(timeout)
    assert finack.close(a).outcome == "graceful"
    assert b.recv(1) == b""


def test_the_receipt_names_the_socket(tcp: Pair, tmp_path: pathlib.Path) -> None:
    a, b = tcp
    prompt = Policy(courtesy="prompt")
    here, there = a.getsockname()[1], b.getsockname()[1]
    assert finack.close(a, prompt).socket == f"tcp 127.0.0.1:{here} -> 127.0.0.1:{there}"
    path = str(tmp_path / "so\ncket")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        name = path.replace("\n", "\\x0a")
        assert finack.close(unix, prompt).socket == f"unix {name}"
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        udp.bind(("::1", 0))
        port = udp.getsockname()[1]
        assert finack.close(udp, prompt).socket == f"udp [::1]:{port}"


def test_a_mute_peer_is_waited_for_no_longer_than_allowed(peers: Peers) -> None:
    peer = peers.listen("mute")
    with socket.create_connection(peer.address) as sock:  # type: ignore[arg-type]
        sock.sendall(b"hello")
        receipt = finack.close(sock, Policy(linger=0.05))
    assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "linger", "fin")
    seen = peer.seen(1)[0]
    assert (seen.received, seen.end, seen.reset_after) == (5, "eof", False)
    peer.stop()


def test_a_flood_is_thrown_away_up_to_the_bound(peers: Peers) -> None:
    peer = peers.listen("flood")
    with socket.create_connection(peer.address) as sock:  # type: ignore[arg-type]
        receipt = finack.close(sock, Policy(drain=1 << 18, linger=FOREVER, total=FOREVER))
    assert (receipt.outcome, receipt.phase) == ("bounded", "linger")
    assert receipt.discarded >= 1 << 18
    peer.stop()


def test_abort_resets(tcp: Pair) -> None:
    a, b = tcp
    receipt = finack.close(a, Policy(courtesy="abort"))
    assert (receipt.outcome, receipt.end) == ("aborted", "reset")
    with pytest.raises(ConnectionResetError):
        b.recv(1)


def test_a_listening_socket_and_datagrams() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    assert finack.close(listener).held is False
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    socket.create_server(address, reuse_port=False).close()
    for kind in (socket.AF_INET, socket.AF_UNIX):
        with socket.socket(kind, socket.SOCK_DGRAM) as datagrams:
            receipt = finack.close(datagrams)
            assert (receipt.outcome, receipt.end, receipt.held) == ("graceful", "none", False)


def test_scope_connection_serves_who_waits_in_the_queue() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(listener.getsockname()) as client:
        receipt = finack.close(listener, Policy(scope="connection"))
        assert receipt.accepted == 1
        assert client.recv(1) == b""


def test_a_copy_is_seen_and_named(tcp: Pair) -> None:
    a, b = tcp
    with a.dup() as copy:
        receipt = finack.close(a, Policy(courtesy="prompt", proof_wait=0.01))
        assert receipt.held is True and receipt.search == "found"
        assert [(h.pid, h.fd) for h in receipt.holders] == [(os.getpid(), copy.fileno())]
        assert f"held by {os.getpid()}/" in str(receipt)
        assert b.recv(1) == b""  # FIN, all the same


def test_scope_descriptor_leaves_the_connection_alone(tcp: Pair) -> None:
    a, b = tcp
    with a.dup() as copy:
        assert finack.close(a, Policy(scope="descriptor", proof_wait=0)).held is True
        copy.sendall(b"on")
        assert b.recv(2) == b"on"


# ---- twice, and bad input ----


def test_closing_twice_gives_the_same_receipt(tcp: Pair) -> None:
    a, _ = tcp
    first = finack.close(a, Policy(courtesy="prompt"))
    assert finack.close(a) is first
    assert finack.close(a, Policy(courtesy="abort")) is first


def test_two_threads_get_the_same_receipt(tcp: Pair) -> None:
    a, b = tcp
    receipts: list[finack.Receipt] = []
    threads = [
        threading.Thread(target=lambda: receipts.append(finack.close(a, Policy(linger=FOREVER))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert b.recv(1) == b""
    b.close()
    for thread in threads:
        thread.join()
    assert receipts[0] is receipts[1] and receipts[0].outcome == "graceful"


def test_both_ways_of_closing_give_the_same_receipt() -> None:
    for first, second in ((True, False), (False, True)):
        a, b = socket.socketpair()
        a.setblocking(False)
        b.close()

        async def main(now: bool, a: socket.socket = a) -> finack.Receipt:
            return finack.close(a) if now else await finack.aclose(a)

        receipt = asyncio.run(main(first))
        assert asyncio.run(main(second)) is receipt


@pytest.mark.parametrize("what", [None, 3, "socket", io.BytesIO(), object()])
def test_what_is_no_socket(what: Any) -> None:
    text = f"a socket.socket is needed, not {type(what).__name__}"
    for call in (finack.close, finack.closing):
        with pytest.raises(TypeError, match=text):
            call(what)


def test_what_is_no_policy(tcp: Pair) -> None:
    a, _ = tcp
    wrong: Any = {"linger": 1}
    for call in (finack.close, finack.closing):
        with pytest.raises(TypeError, match=r"finack\.Policy or None, not dict"):
            call(a, wrong)
    assert a.fileno() >= 0


def test_a_socket_that_is_closed_or_given_away(tcp: Pair) -> None:
    a, b = tcp
    a.close()
    number = b.detach()
    for sock in (a, b):
        with pytest.raises(OSError, match="closed already") as error:
            finack.close(sock)
        assert error.value.errno == errno.EBADF
    os.close(number)


def test_a_kind_that_cant_be_closed_stays_as_it_is() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        number = sock.fileno()
        with pytest.raises(OSError) as error:
            finack.close(sock)
        assert error.value.errno == errno.EOPNOTSUPP
        assert sock.fileno() == number and sock.getsockname()


# ---- with closing() ----


def test_closing(tcp: Pair) -> None:
    a, b = tcp
    b.shutdown(socket.SHUT_WR)
    with finack.closing(a) as same:
        assert same is a
        a.sendall(b"x")
    assert finack.close(a).outcome == "graceful"
    assert (b.recv(2), b.recv(2)) == (b"x", b"")


def test_closing_after_an_exception_or_a_close(tcp: Pair) -> None:
    a, b = tcp
    with pytest.raises(ZeroDivisionError), finack.closing(a, Policy(courtesy="prompt")):
        _ = 1 / 0
    assert finack.close(a).outcome == "prompt"
    with finack.closing(b):
        b.close()


# ---- makefile() ----


@pytest.mark.parametrize("mode", ["rb", "wb", "rwb", "r", "w", "rw"])
def test_files_hold_nothing_up_and_end_with_the_socket(pair: Pair, mode: Any) -> None:
    a, b = pair
    number = a.fileno()
    file = a.makefile(mode)
    finack.close(a, Policy(courtesy="prompt"))
    assert is_free(number) and b.recv(1) == b""
    with pytest.raises(OSError):
        file.write(b"x" if "b" in mode else "x") if "w" in mode else file.read(1)
        file.flush()
    with contextlib.suppress(OSError):  # what can't be written is told once more
        file.close()


def test_what_a_file_has_buffered_is_not_lost_in_silence(tcp: Pair) -> None:
    a, b = tcp
    file = a.makefile("wb")
    file.write(b"buffered")
    finack.close(a, Policy(courtesy="prompt"))
    assert b.recv(1) == b""
    with pytest.raises(OSError) as error:
        file.flush()
    assert error.value.errno == errno.EBADF
    with pytest.raises(OSError):
        file.close()


def test_a_file_never_reads_what_got_the_number(tcp: Pair) -> None:
    a, _ = tcp
    number = a.fileno()
    file = a.makefile("rb")
    finack.close(a, Policy(courtesy="prompt"))
    read, write = os.pipe()
    assert number in (read, write)
    os.write(write, b"a stranger's")
    with pytest.raises(OSError):
        file.read(1)
    assert os.read(read, 20) == b"a stranger's"
    os.close(read)
    os.close(write)
    file.close()


# ---- threads inside ----


@pytest.mark.parametrize("timeout", [None, FOREVER])
def test_a_thread_in_recv_wakes(pair: Pair, timeout: float | None) -> None:
    a, b = pair
    a.settimeout(timeout)
    a.sendall(b"hello")
    thread = Inside(a, lambda sock: sock.recv(1))
    number = a.fileno()
    receipt = finack.close(a, Policy(linger=FOREVER, total=FOREVER))
    assert is_free(number) and receipt.held is False and not receipt.tombstone
    assert thread.left() == b"" or isinstance(thread.result, OSError)
    assert receipt.outcome == "graceful" and "eof" in receipt.unverifiable
    assert (b.recv(9), b.recv(9)) == (b"hello", b"")


def test_a_thread_in_recv_of_a_file_wakes(tcp: Pair) -> None:
    a, b = tcp
    with a.makefile("rb") as file:
        thread = Inside(a, lambda _: file.readline())
        assert finack.close(a).held is False
        assert thread.left() == b"" and b.recv(1) == b""


def test_a_thread_in_accept_wakes() -> None:
    for policy in (Policy(), Policy(scope="connection"), Policy(courtesy="abort")):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = Inside(listener, lambda sock: sock.accept())
            receipt = finack.close(listener, policy)
            assert receipt.held is False and not receipt.tombstone
            assert isinstance(thread.left(), OSError)


@pytest.mark.parametrize("kind", [socket.AF_INET, socket.AF_UNIX])
def test_a_thread_in_recv_of_datagrams_wakes(kind: int) -> None:
    with socket.socket(kind, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0) if kind == socket.AF_INET else "")
        thread = Inside(sock, lambda s: s.recv(1))
        receipt = finack.close(sock)
        assert receipt.held is False and not receipt.tombstone
        assert thread.left() == b"" or isinstance(thread.result, OSError)


def test_many_threads_wake(tcp: Pair) -> None:
    a, b = tcp
    threads = [Inside(a, lambda sock: sock.recv(1)) for _ in range(8)]
    assert finack.close(a).held is False
    assert [thread.left() for thread in threads] == [b""] * 8
    assert b.recv(1) == b""


def test_abort_wakes_with_an_error(tcp: Pair) -> None:
    a, b = tcp
    thread = Inside(a, lambda sock: sock.recv(1))
    receipt = finack.close(a, Policy(courtesy="abort"))
    assert (receipt.outcome, receipt.end, receipt.held) == ("aborted", "reset", False)
    thread.left()
    with pytest.raises(ConnectionResetError):
        b.recv(1)


def may_finish(a: socket.socket, b: socket.socket) -> None:
    size = 20_000_000
    thread = Inside(a, lambda sock: sock.sendall(bytes(size)))
    received = 0

    def read() -> None:
        nonlocal received
        while data := b.recv(1 << 20):
            received += len(data)
        b.close()

    reader = threading.Thread(target=read)
    reader.start()
    policy = Policy(flush=FOREVER, linger=FOREVER, total=FOREVER)
    receipt = finack.close(a, policy)
    assert (receipt.outcome, receipt.end, receipt.lost) == ("graceful", "fin", 0)
    reader.join()
    assert thread.left() is None and received == size


def test_a_thread_in_send_may_finish() -> None:
    """All that it was sending arrives, and then FIN; again and again, since it is a matter of
    what the thread is about when it is looked at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(30):
            may_finish(socket.create_connection(server.getsockname()), server.accept()[0])


def test_a_thread_that_cant_finish_sending_ends_in_reset(tcp: Pair) -> None:
    a, b = tcp
    thread = Inside(a, lambda sock: sock.sendall(bytes(20_000_000)))
    receipt = finack.close(a, Policy(flush=0.05))
    assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "flush", "reset")
    assert 0 < receipt.unsent <= 20_000_000 and receipt.held is False
    assert isinstance(thread.left(), OSError)
    with pytest.raises(ConnectionResetError):
        while b.recv(1 << 20):
            pass


def test_a_thread_between_two_sends_ends_in_reset(tcp: Pair) -> None:
    """With a timeout CPython waits in poll(2), and finds the number gone when it may go on."""
    a, b = tcp
    a.settimeout(FOREVER)
    thread = Inside(a, lambda sock: sock.sendall(bytes(20_000_000)))
    receipt = finack.close(a)
    assert (receipt.outcome, receipt.end, receipt.held) == ("error", "reset", False)
    assert receipt.error and receipt.error.errno == errno.ECANCELED
    assert isinstance(thread.left(), OSError)
    with pytest.raises(ConnectionResetError):
        while b.recv(1 << 20):
            pass


def test_a_thread_elsewhere_doesnt_forfeit_the_input(tcp: Pair) -> None:
    a, b = tcp
    other, far = socket.socketpair()
    thread = Inside(other, lambda sock: sock.recv(1))
    b.sendall(b"unread")
    b.shutdown(socket.SHUT_WR)
    receipt = finack.close(a)
    assert receipt.outcome == "graceful" and receipt.discarded == 6
    assert "eof" in receipt.stages
    far.send(b"x")
    assert thread.left() == b"x"
    other.close()
    far.close()


def test_busy_threads_dont_hold_it_up(tcp: Pair) -> None:
    a, b = tcp
    b.shutdown(socket.SHUT_WR)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    receipt = finack.close(a)
    stop.set()
    for thread in threads:
        thread.join()
    assert receipt.outcome == "graceful" and not receipt.tombstone


@pytest.mark.parametrize("timeout", [None, FOREVER])
def test_no_thread_reads_what_got_the_number(timeout: float | None) -> None:
    """The thread is anywhere: before, in and after the call, when the number is given anew."""
    got: set[bytes | None] = set()
    policy = Policy(courtesy="prompt", proof="released")

    def read(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := sock.recv(1):
                got.add(data)

    for turn in range(300):
        a, b = socket.socketpair()
        a.settimeout(timeout)
        number = a.fileno()
        b.send(b"ours" * (turn % 3))
        thread = threading.Thread(target=read, args=(a,))
        thread.start()
        receipt = finack.close(a, policy)
        strangers = [socket.socketpair() for _ in range(2)]
        assert receipt.tombstone or number in [end.fileno() for pair in strangers for end in pair]
        for pair in strangers:
            for end in pair:
                end.send(b"x")
        thread.join()
        for end in (b, *strangers[0], *strangers[1]):
            end.close()
    assert b"x" not in got


RUNNING = """
import hashlib, os, socket, threading
import finack
thread = threading.Thread(
    target=hashlib.pbkdf2_hmac, args=("sha256", b"x", b"x", 2**31 - 1), daemon=True
)
thread.start()
while not open(f"/proc/self/task/{thread.native_id}/syscall").read().startswith("running"):
    pass
a, b = socket.socketpair()
b.shutdown(socket.SHUT_WR)
receipt = finack.close(a, finack.Policy(total=20))
print(receipt.outcome, receipt.tombstone, receipt.stages["released"] < 10, flush=True)
os._exit(0)
"""


def test_a_thread_that_runs_without_the_lock_doesnt_hold_it_up() -> None:
    """It never comes to rest, where it could be seen not to be inside."""
    done = subprocess.run([sys.executable, "-c", RUNNING], capture_output=True, text=True)
    assert done.stdout == "graceful False True\n"


def join_reaper() -> None:
    for thread in threading.enumerate():
        if thread.name == "finack-reaper":
            thread.join(FOREVER)
            assert not thread.is_alive()


def test_a_thread_that_stays_leaves_a_tombstone(tcp: Pair) -> None:
    """With scope descriptor nothing ends, so that the thread goes on."""
    a, b = tcp
    number = a.fileno()
    thread = Inside(a, lambda sock: sock.recv(1))
    receipt = finack.close(a, Policy(scope="descriptor", proof_wait=0))
    assert receipt.tombstone and receipt.held is True
    assert receipt.search in ("invisible", "blind")  # the latter where /proc hides processes
    assert os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")
    b.send(b"x")
    assert thread.left() == b"x"
    until(lambda: is_free(number))
    join_reaper()


def test_a_number_beyond_the_limit_stays_open(tcp: Pair) -> None:
    """No tombstone can be put on it, and the receipt does not say that it was released."""
    a, b = tcp
    with at_a_high_number(a) as high:
        number = high.fileno()
        thread = Inside(high, lambda sock: sock.recv(1))
        with descriptors_below(number):
            receipt = finack.close(high, Policy(scope="descriptor", proof_wait=0))
        assert receipt.outcome == "error"
        assert isinstance(receipt.error, OSError) and receipt.error.errno == errno.EMFILE
        assert "released" not in receipt.stages and "released" not in receipt.unverifiable
        assert receipt.held is True and not receipt.tombstone
        assert high.fileno() == -1 and not is_free(number)
        b.send(b"x")
        assert thread.left() == b"x"
        until(lambda: is_free(number))
        join_reaper()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_workers_listening_socket_survives() -> None:
    """A thread in accept isn't worth the end of a listening socket that others serve too."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    number = listener.fileno()
    go, ready = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go[1])
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    thread = Inside(listener, lambda sock: sock.accept())
    receipt = finack.close(listener, Policy(proof_wait=0))
    assert receipt.tombstone
    client = socket.create_connection(address)
    accepted: Any = thread.left()
    until(lambda: is_free(number))
    for end in (*go, *ready):
        os.close(end)
    os.waitpid(child, 0)
    client.close()
    accepted[0].close()
    join_reaper()


# ---- fork ----


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_closes_for_itself(tcp: Pair) -> None:
    a, b = tcp
    finack.close(socket.socket())
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            receipt = finack.close(a, Policy(scope="descriptor", proof_wait=0))
            status = 0 if receipt.held and a.fileno() == -1 else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    a.sendall(b"on")
    assert b.recv(2) == b"on"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_fork_while_a_thread_closes(tcp: Pair) -> None:
    a, b = tcp
    thread = threading.Thread(target=finack.close, args=(a, Policy(linger=FOREVER, total=FOREVER)))
    thread.start()
    assert b.recv(1) == b""  # it is in the midst of it
    child = os.fork()
    if child == 0:
        status = 1
        try:
            finack.close(a)  # nobody holds the lock here; it is given up already
        except OSError:
            status = 0
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    b.close()
    thread.join()


# ---- no descriptors ----


def test_with_no_descriptor_left(tcp: Pair) -> None:
    a, b = tcp
    b.shutdown(socket.SHUT_WR)
    with no_descriptors():
        receipt = finack.close(a)
    assert receipt.outcome == "graceful" and receipt.held is None
    assert "unreferenced" in receipt.unverifiable
    assert b.recv(1) == b""
