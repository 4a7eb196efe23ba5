# SPDX-License-Identifier: MIT
"""Closing blocking sockets: what the caller, the threads and the peer see."""

import contextlib
import errno
import io
import os
import pathlib
import resource
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peers import Certificate, Peer, Peers, Seen

import finack
from finack import Policy, _core

Pair = tuple[socket.socket, socket.socket]
FOREVER = 60.0  # a bound for what ends at once


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


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + FOREVER
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Inside:
    """A thread that calls something with a socket; used once it is in the system call."""

    def __init__(self, sock: socket.socket, call: Callable[[socket.socket], object]) -> None:
        self.sock, self.call, self.fd = sock, call, sock.fileno()
        self.result: object = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        until(self.is_inside)

    def run(self) -> None:
        try:
            self.result = self.call(self.sock)
        except OSError as error:
            self.result = error

    def is_inside(self) -> bool:
        """As /proc tells: in a call on the number, or in poll(2)."""
        text = pathlib.Path(f"/proc/self/task/{self.thread.native_id}/syscall").read_text()
        words = text.split()
        polls = words[0] in ("7", "73", "271") and int(words[2], 16) == 1
        return len(words) > 2 and (polls or int(words[1], 16) == self.fd)

    def left(self) -> object:
        self.thread.join(FOREVER)
        assert not self.thread.is_alive()
        return self.result


def is_free(fd: int) -> bool:
    return not os.path.exists(f"/proc/self/fd/{fd}")


def assert_closed(sock: socket.socket) -> None:
    uses: list[Callable[[], object]] = [
        lambda: sock.recv(1),
        lambda: sock.send(b"x"),
        lambda: sock.getpeername(),
        lambda: sock.shutdown(socket.SHUT_WR),
    ]
    for use in uses:
        with pytest.raises(OSError) as error:
            use()
        assert error.value.errno == errno.EBADF
    assert sock.fileno() == -1


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
        receipt = finack.close(sock, Policy(drain=1 << 18))
    assert (receipt.outcome, receipt.phase) == ("timed_out", "linger")
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


def test_a_thread_in_send_may_finish(tcp: Pair) -> None:
    """All that it was sending arrives, and then FIN."""
    a, b = tcp
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
    until(lambda: all(t.name != "finack-reaper" for t in threading.enumerate()))


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
    until(lambda: all(t.name != "finack-reaper" for t in threading.enumerate()))


# ---- fork ----


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


# ---- TLS ----


def tls_client(address: Any, certificate: Certificate, *, exact: bool = False) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(certificate.authority))
    if exact:
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context.wrap_socket(socket.create_connection(address), server_hostname="localhost")


@pytest.mark.parametrize("courtesy", ["prompt", "orderly", "full"])
@pytest.mark.parametrize("timeout", [None, 0, 5])
def test_tls(peers: Peers, certificate: Certificate, courtesy: Any, timeout: float | None) -> None:
    peer = peers.listen("clean", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        sock.sendall(b"hello")
        sock.settimeout(timeout)
        number = sock.fileno()
        receipt = finack.close(sock, Policy(courtesy=courtesy, farewell=FOREVER, linger=FOREVER))
        assert is_free(number)
        assert_closed(sock)
    assert receipt.outcome == ("prompt" if courtesy == "prompt" else "graceful")
    assert {"notified", "shut", "released", "unreferenced"} <= set(receipt.stages)
    assert ("answered" in receipt.stages) == (courtesy == "full")
    assert receipt.held is False
    if courtesy != "prompt":
        assert receipt.end == "fin" and receipt.lost == 0
    seen = peer.seen(1)[0]
    assert (seen.received, seen.close_notify) == (5, True)
    # Its own farewell may come after a prompt close.
    assert seen.end == "eof" or courtesy == "prompt"
    peer.stop()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("act", ["notify", "fin"])
def test_tls_under_full_tells_an_answer_from_an_end(
    peers: Peers, certificate: Certificate, act: Any, exact: bool
) -> None:
    """Also where OpenSSL was told to take any end for an answer, as Python does by itself."""
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate, exact=exact) as sock:
        thread = threading.Thread(target=act_on_end, args=(peer, act))
        thread.start()
        policy = Policy(courtesy="full", farewell=FOREVER, linger=0.01, total=FOREVER)
        receipt = finack.close(sock, policy)
        thread.join()
    assert ("answered" in receipt.stages) == (act == "notify")
    assert receipt.outcome == ("timed_out" if act == "notify" else "truncated")
    peer.stop()


def act_on_end(peer: Peer, act: Any) -> None:
    peer.opened(1)
    peer.act(act)


def test_tls_under_full_waits_no_longer_than_allowed(
    peers: Peers, certificate: Certificate
) -> None:
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        receipt = finack.close(sock, Policy(courtesy="full", farewell=0.05, linger=0.05))
    assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "farewell", "fin")
    assert peer.seen(1) == [Seen(0, close_notify=True, end="eof", reset_after=False)]
    peer.stop()


@pytest.mark.parametrize("courtesy", ["orderly", "full"])
def test_tls_with_unread_input_says_farewell(
    peers: Peers, certificate: Certificate, courtesy: Any
) -> None:
    """ssl's unwrap() fails with APPLICATION_DATA_AFTER_CLOSE_NOTIFY."""
    peer = peers.listen("echo", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        sock.sendall(b"hello")
        assert sock.recv(1) == b"h"
        sock.sendall(bytes(100_000))
        until(lambda: _core.outstanding(sock.fileno()) == 0)
        receipt = finack.close(sock, Policy(courtesy=courtesy, linger=FOREVER, farewell=FOREVER))
    assert receipt.outcome == "graceful" and "notified" in receipt.stages
    seen = peer.seen(1)[0]
    assert (seen.received, seen.close_notify, seen.end) == (100_005, True, "eof")
    peer.stop()


def test_tls_deaf_peer(peers: Peers, certificate: Certificate) -> None:
    """Its window is closed: nothing more can be told, and the close ends all the same."""
    peer = peers.listen("deaf", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        sock.settimeout(0)
        with contextlib.suppress(ssl.SSLWantWriteError):
            while True:
                sock.send(bytes(16384))
        policy = Policy(farewell=0.05, linger=0.05, orphan="reset")
        receipt = finack.close(sock, policy)
    assert receipt.outcome == "timed_out" and receipt.end == "reset" and receipt.unacked > 0
    assert peer.seen(1)[0].end == "reset"
    peer.stop()


@pytest.mark.parametrize("timeout", [None, FOREVER])
@pytest.mark.parametrize("courtesy", ["orderly", "full"])
def test_tls_thread_in_recv_wakes(
    peers: Peers, certificate: Certificate, courtesy: Any, timeout: float | None
) -> None:
    """It can only be woken by an end of the stream, after which OpenSSL may say no farewell."""
    peer = peers.listen("clean", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        sock.settimeout(timeout)
        thread = Inside(sock, lambda s: s.recv(1))
        receipt = finack.close(sock, Policy(courtesy=courtesy))
        assert thread.left() == b"" or isinstance(thread.result, OSError)
    assert receipt.held is False and not receipt.tombstone
    seen = peer.seen(1)[0]
    assert seen.end == "eof" and seen.close_notify == ("notified" in receipt.stages)
    peer.stop()


@pytest.mark.parametrize("timeout", [None, FOREVER])
def test_tls_thread_in_send_may_finish(
    peers: Peers, certificate: Certificate, timeout: float | None
) -> None:
    size = 8_000_000
    peer = peers.listen("deaf", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        sock.settimeout(timeout)
        thread = Inside(sock, lambda s: s.sendall(bytes(size)))
        seen: list[Seen] = []
        reader = threading.Thread(target=lambda: seen.extend(peer.seen(1)))
        reader.start()  # it reads everything from now on
        receipt = finack.close(sock, Policy(flush=FOREVER, linger=FOREVER, total=FOREVER))
        assert thread.left() is None
        reader.join()
    assert receipt.outcome == "graceful"
    assert seen == [Seen(size, close_notify=True, end="eof", reset_after=False)]
    peer.stop()


def test_tls_thread_that_cant_finish_sending(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("deaf", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        thread = Inside(sock, lambda s: s.sendall(bytes(20_000_000)))
        receipt = finack.close(sock, Policy(flush=0.05))
        assert isinstance(thread.left(), OSError)
    assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "flush", "reset")
    assert receipt.unsent > 0 and receipt.held is False
    assert peer.seen(1)[0].end == "reset"
    peer.stop()


def test_tls_before_the_handshake(peers: Peers) -> None:
    peer = peers.listen("clean")
    with ssl.create_default_context().wrap_socket(
        socket.create_connection(peer.address),  # type: ignore[arg-type]
        server_hostname="localhost",
        do_handshake_on_connect=False,
    ) as sock:
        receipt = finack.close(sock)
        assert_closed(sock)
    assert receipt.outcome == "graceful" and "notified" not in receipt.stages
    assert peer.seen(1) == [Seen(0, close_notify=False, end="eof", reset_after=False)]
    peer.stop()


@pytest.mark.parametrize("policy", [Policy(courtesy="abort"), Policy(scope="descriptor")])
def test_tls_without_farewell(peers: Peers, certificate: Certificate, policy: Policy) -> None:
    peer = peers.listen("clean", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        receipt = finack.close(sock, policy)
        assert_closed(sock)
    assert "notified" not in receipt.stages
    seen = peer.seen(1)[0]
    assert not seen.close_notify
    assert seen.end == "reset" or policy.courtesy != "abort"  # session tickets are left unread
    peer.stop()


def test_tls_with_no_descriptor_left(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("clean", tls=certificate)
    with tls_client(peer.address, certificate) as sock, no_descriptors():
        receipt = finack.close(sock)
    assert receipt.outcome == "graceful" and receipt.held is None
    assert peer.seen(1) == [Seen(0, close_notify=True, end="eof", reset_after=False)]
    peer.stop()


def test_with_no_descriptor_left(tcp: Pair) -> None:
    a, b = tcp
    b.shutdown(socket.SHUT_WR)
    with no_descriptors():
        receipt = finack.close(a)
    assert receipt.outcome == "graceful" and receipt.held is None
    assert "unreferenced" in receipt.unverifiable
    assert b.recv(1) == b""


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_tls_of_a_file(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("clean", tls=certificate)
    sock = tls_client(peer.address, certificate)
    with sock.makefile("rb") as file:
        number = sock.fileno()
        assert finack.close(sock).outcome == "graceful" and is_free(number)
        with pytest.raises(OSError):
            file.read(1)
    peer.stop()


def test_an_interrupt_leaves_nothing_behind(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        number = sock.fileno()
        timer = threading.Thread(target=interrupt_once_notified, args=(sock,))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            finack.close(sock, Policy(courtesy="full", farewell=FOREVER, total=FOREVER))
        timer.join()
        assert is_free(number)
    assert peer.seen(1)[0].end == "reset"
    peer.stop()


def interrupt_once_notified(sock: ssl.SSLSocket) -> None:
    until(lambda: sock.gettimeout() == 0)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
