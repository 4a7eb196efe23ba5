# SPDX-License-Identifier: MIT
"""A signal comes while a blocking close waits."""

import functools
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from blocking import FOREVER, Inside, assert_closed, is_free, until
from peers import Certificate, Peers
from test_blocking_tls import tls_client

import finack
from finack import Policy

PATIENT = Policy(flush=FOREVER, farewell=FOREVER, linger=FOREVER, total=FOREVER)
SOON = 10.0  # seconds; much less than FOREVER
PACKAGE = os.path.dirname(finack.__file__) + os.sep


class Told(Exception):
    """What the program's own handler raises."""


def pair_of(kind: str) -> tuple[socket.socket, socket.socket]:
    if kind == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


@contextmanager
def signalled(number: signal.Signals, when: Callable[[], object]) -> Iterator[None]:
    """Sent to this process from another thread, once `when()` returns."""

    def send() -> None:
        when()
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < SOON
    thread.join(FOREVER)
    assert not thread.is_alive()


def check(error: BaseException, sock: socket.socket, number: int) -> finack.Receipt:
    """The exception's receipt is the receipt."""
    receipt: finack.Receipt = error.receipt  # type: ignore[attr-defined]
    assert receipt is finack.close(sock)
    assert receipt.outcome == "aborted" and receipt.held is False
    assert_closed(sock)
    assert is_free(number)
    return receipt


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("through", ["close", "closing"])
def test_interrupted(kind: str, through: str) -> None:
    ours, theirs = pair_of(kind)
    number = ours.fileno()
    with theirs:
        # Its FIN tells that the close is under way, and waits for the peer's.
        with (
            signalled(signal.SIGINT, lambda: theirs.recv(1)),
            pytest.raises(KeyboardInterrupt) as e,
        ):
            if through == "close":
                finack.close(ours, PATIENT)
            else:
                with finack.closing(ours, PATIENT):
                    pass
        receipt = check(e.value, ours, number)
        assert "shut" in receipt.stages and "released" in receipt.stages


def test_interrupted_while_it_flushes() -> None:
    """A thread would go on sending to a peer that does not read: bytes are lost, and it is told."""
    ours, theirs = pair_of("tcp")
    number = ours.fileno()
    with theirs:
        sender = Inside(ours, lambda sock: sock.sendall(bytes(32 << 20)))
        given_up = functools.partial(until, lambda: ours.fileno() < 0)
        with signalled(signal.SIGINT, given_up), pytest.raises(KeyboardInterrupt) as e:
            finack.close(ours, PATIENT)
        assert isinstance(sender.left(), OSError)
        receipt = check(e.value, ours, number)
        assert receipt.end == "reset" and receipt.unsent > 0
        with pytest.raises(ConnectionResetError):
            while theirs.recv(1 << 20):
                pass


@pytest.mark.parametrize("exact", [False, True])
def test_interrupted_in_tls(peers: Peers, certificate: Certificate, exact: bool) -> None:
    peer = peers.listen("mute", tls=certificate)
    sock = tls_client(peer.address, certificate, exact=exact)
    number = sock.fileno()
    begun = functools.partial(until, lambda: sock.gettimeout() == 0)
    with signalled(signal.SIGINT, begun), pytest.raises(KeyboardInterrupt) as e:
        finack.close(sock, PATIENT)
    check(e.value, sock, number)
    assert len(peer.seen(1)) == 1
    peer.stop()


class Interrupt:
    """Ctrl-C at a line of the package, counted from the call: a function for sys.settrace()."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __call__(self, frame: FrameType, event: str, arg: object) -> "Interrupt":
        if event == "line" and frame.f_code.co_filename.startswith(PACKAGE):
            self.left -= 1
            if self.left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def interrupted_at(line: int, sock: socket.socket) -> BaseException | None:
    """In a generator: CPython goes on handling what a traced line handled when the trace raised,
    and what comes later would have that as its context."""

    def close() -> Iterator[BaseException | None]:
        interrupt = None
        sys.settrace(Interrupt(line))
        try:
            finack.close(sock, Policy(proof_wait=0, find_holders=False))
        except KeyboardInterrupt as error:
            interrupt = error
        finally:
            sys.settrace(None)
        yield interrupt

    return next(close())


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
def test_interrupted_at_each_line(kind: str, peers: Peers, certificate: Certificate) -> None:
    """The socket is as it was, or is closed and the exception has the receipt."""
    peer = peers.listen("clean", tls=certificate)
    for line in itertools.count():
        ours: socket.socket
        if kind == "tls":
            ours = tls_client(peer.address, certificate)
        else:
            ours, theirs = pair_of(kind)
            theirs.close()
        number = ours.fileno()
        error = interrupted_at(line, ours)
        if error is None:
            break
        if hasattr(error, "receipt"):
            assert is_free(number) or error.receipt.tombstone  # who is inside could not be asked
            assert finack.close(ours) is error.receipt
            until(functools.partial(is_free, number))
        else:
            assert ours.fileno() == number
            assert finack.close(ours).outcome == "graceful"
    assert line > 50
    assert sys.exc_info() == (None, None, None)


def test_a_handler_raises() -> None:
    def handle(number: int, frame: object) -> None:
        raise Told

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        ours, theirs = pair_of("tcp")
        number = ours.fileno()
        with theirs:
            with signalled(signal.SIGUSR1, lambda: theirs.recv(1)), pytest.raises(Told) as e:
                finack.close(ours, PATIENT)
            check(e.value, ours, number)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_does_not_raise_runs_at_once() -> None:
    """And the close goes on."""
    ours, theirs = pair_of("tcp")
    before = signal.signal(signal.SIGUSR1, lambda *_: theirs.close())
    try:
        with signalled(signal.SIGUSR1, lambda: theirs.recv(1)):
            receipt = finack.close(ours, PATIENT)
        assert receipt.outcome == "graceful" and "eof" in receipt.stages
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_in_another_thread_nothing_is_interrupted() -> None:
    """Handlers run in the main thread."""
    ours, theirs = pair_of("tcp")
    seen: list[finack.Receipt] = []
    closer = threading.Thread(target=lambda: seen.append(finack.close(ours, PATIENT)))
    closer.start()
    interrupted = pytest.raises(KeyboardInterrupt)
    with theirs, interrupted, signalled(signal.SIGINT, lambda: theirs.recv(1)):
        threading.Event().wait(FOREVER)
    until(lambda: bool(seen))
    closer.join()
    assert seen[0].outcome == "graceful"
