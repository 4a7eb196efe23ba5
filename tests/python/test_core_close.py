# SPDX-License-Identifier: MIT
"""_core.Close, the close that a driver in Python takes from step to step."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import finack
from finack import _core

PATIENT = finack.Policy(linger=60, total=60)


@pytest.fixture
def closes() -> Iterator[_core.CloseSet]:
    made = _core.CloseSet()
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours, theirs:
        yield ours, theirs


def begin(
    closes: _core.CloseSet,
    sock: socket.socket,
    policy: finack.Policy = PATIENT,
    *,
    layered: bool = True,
    blind: bool = False,
    owner: object = None,
) -> _core.Close:
    fd = os.dup(sock.fileno())
    return _core.Close(closes, fd, policy._as_tuple(), owner, layered, blind, None)


def test_the_steps(closes: _core.CloseSet, ends: Any) -> None:
    ours, theirs = ends
    close = begin(closes, ours, owner="mine")
    assert close.stream
    assert close.run() == close.run() == "flush"
    assert close.tell("again", bytes=7) == "wait"
    assert 0 < close.left <= 5
    assert closes.poll() == ["mine"]
    assert close.tell("ready", progress=True) == "flush"
    assert close.tell("done") == "notify"
    assert close.tell("skip") == "detach"
    ours.close()
    assert close.tell("done") == "wait"
    theirs.close()
    assert closes.poll() == ["mine"]
    assert close.tell("ready") == "unwatch"
    fd = close.fileno()
    assert close.tell("done") == "finish" == close.run()
    assert close.fileno() == -1
    with pytest.raises(OSError):
        os.fstat(fd)
    receipt = finack.Receipt._from_core(close.receipt())
    assert (receipt.outcome, receipt.end, receipt.held) == ("graceful", "fin", False)
    assert not receipt.unverifiable


def test_a_unix_peer_can_send_no_more(closes: _core.CloseSet) -> None:
    """Whoever holds the socket beside us would not read it: its peer must not wait for room."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        close = begin(closes, ours, finack.Policy(flush=0, proof_wait=0))
        assert (close.run(), close.tell("again", bytes=7)) == ("flush", "wait")
        assert close.tell("deadline", bytes=7) == "detach"
        assert theirs.send(b"x") == 1
        assert (close.tell("done"), close.tell("again")) == ("read", "unwatch")
        with pytest.raises(BrokenPipeError):
            theirs.send(b"x")
        close.tell("abort")


def test_the_answer_under_full(closes: _core.CloseSet, ends: Any) -> None:
    ours, theirs = ends
    policy = finack.Policy(courtesy="full", farewell=60, linger=60, total=60)
    close = begin(closes, ours, policy, blind=True)
    close.run()
    assert close.tell("done") == "notify"
    assert close.tell("done") == "read"
    assert close.tell("again") == "wait"
    assert close.tell("ready") == "read"
    assert close.tell("answer") == "detach"
    theirs.close()
    ours.close()
    assert close.tell("done") in ("wait", "unwatch")
    while (step := close.run()) != "finish":
        closes.poll()
        close.tell("ready" if step == "wait" else "done")
    receipt = finack.Receipt._from_core(close.receipt())
    assert receipt.outcome == "graceful"
    assert "answered" in receipt.stages


def test_the_answer_that_came_before(closes: _core.CloseSet, ends: Any) -> None:
    ours, _ = ends
    close = begin(
        closes, ours, finack.Policy(courtesy="full", farewell=60, linger=60, total=60), blind=True
    )
    close.run()
    close.tell("done")
    close.note_answer()
    assert close.tell("done") == "detach"


def test_the_answer_is_unverifiable_once_detached(closes: _core.CloseSet, ends: Any) -> None:
    ours, theirs = ends
    close = begin(closes, ours, blind=True)
    for step in ("flush", "notify", "detach"):
        assert close.run() == step
        close.tell("done")
    theirs.close()
    ours.close()
    while (step := close.run()) != "finish":
        closes.poll()
        close.tell("ready" if step == "wait" else "done")
    receipt = finack.Receipt._from_core(close.receipt())
    assert receipt.outcome == "graceful"
    assert receipt.unverifiable == {"answered"}


def test_dropped_bytes_reset(closes: _core.CloseSet, ends: Any) -> None:
    ours, theirs = ends
    close = begin(closes, ours, finack.Policy(flush=0))
    assert close.run() == "flush"
    assert close.tell("again", bytes=7) == "wait"
    assert close.tell("deadline") == "unwatch"
    with pytest.raises(ConnectionResetError):
        theirs.recv(1)
    ours.close()
    assert close.tell("done") == "finish"
    receipt = finack.Receipt._from_core(close.receipt())
    assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "flush", "reset")
    assert receipt.unsent == receipt.lost == 7


def test_a_deadline_that_has_not_come(closes: _core.CloseSet, ends: Any) -> None:
    close = begin(closes, ends[0])
    close.run()
    close.tell("again", bytes=7)
    assert close.tell("deadline") == "wait"


@pytest.mark.parametrize("steps", [[], ["done"], ["done", "skip"], ["done", "skip", "done"]])
def test_abort(closes: _core.CloseSet, ends: Any, steps: list[str]) -> None:
    ours, theirs = ends
    close = begin(closes, ours)
    close.run()
    for step in steps:
        close.tell(step)
    assert close.tell("abort") == "unwatch"
    ours.close()
    assert close.tell("done") == "finish"
    receipt = finack.Receipt._from_core(close.receipt())
    assert (receipt.outcome, receipt.end) == ("aborted", "reset")
    if len(steps) < 3:
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)


def test_wrong_answers(closes: _core.CloseSet, ends: Any) -> None:
    close = begin(closes, ends[0])
    assert close.run() == "flush"
    for wrong in ("skip", "ready", "deadline", "answer", "end", "nonsense"):
        with pytest.raises(ValueError, match="no answer to flush"):
            close.tell(wrong)
    assert close.run() == "flush"


def test_a_failure_leaves_the_descriptor(closes: _core.CloseSet, ends: Any) -> None:
    fd = ends[0].fileno()
    policy = PATIENT._as_tuple()
    wrong: list[tuple[Any, ...]] = [
        (closes, 10**6, policy, None, True, False, None),
        (closes, fd, (9, *policy[1:]), None, True, False, None),
        (closes, fd, policy[1:], None, True, False, None),
        (closes, fd, policy, None, True, False, "now"),
        (None, fd, policy, None, True, False, None),
        (closes, fd, policy),
    ]
    for arguments in wrong:
        with pytest.raises((OSError, TypeError)):
            _core.Close(*arguments)
    with open(os.devnull) as file, pytest.raises(OSError) as caught:
        _core.Close(closes, file.fileno(), policy, None, True, False, None)
    assert caught.value.errno == errno.EOPNOTSUPP
    assert ends[0].getpeername()


def test_dropped_half_way(closes: _core.CloseSet, ends: Any) -> None:
    """Its descriptor is released, and the set has forgotten it."""
    ours, _ = ends
    close = begin(closes, ours)
    close.run()
    close.tell("again", bytes=1)
    fd = close.fileno()
    del close
    with pytest.raises(OSError):
        os.fstat(fd)
    assert closes.poll() == []


def test_a_set_that_is_closed(ends: Any) -> None:
    closes = _core.CloseSet()
    close = begin(closes, ends[0])
    closes.close()
    closes.close()
    for call in (close.run, closes.poll, closes.fileno, lambda: close.tell("abort")):
        with pytest.raises(ValueError, match="this CloseSet is closed"):
            call()
    with pytest.raises(TypeError):
        _core.CloseSet(1)  # type: ignore[call-arg]


def test_a_forked_child_touches_nothing(closes: _core.CloseSet, ends: Any) -> None:
    close = begin(closes, ends[0], owner="mine")
    close.run()
    child = os.fork()
    if not child:
        try:
            close.tell("abort")
        except ChildProcessError:
            del close
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert closes.poll() == ["mine"]
    assert close.tell("done") == "notify"


def test_a_tombstone(closes: _core.CloseSet, ends: Any) -> None:
    """The owner keeps its number, which means nothing any more."""
    ours, _ = ends
    close = begin(closes, ours)
    close.run()
    close.tell("abort")
    identity = _core.identify(ours.fileno())
    close.entomb(ours.fileno())
    assert not _core.is_same(ours.fileno(), identity)
    assert close.tell("done") == "finish"
    receipt = finack.Receipt._from_core(close.receipt())
    assert (receipt.held, receipt.tombstone) == (False, True)
    with pytest.raises(OSError):
        ours.send(b"x")


def test_many_at_once(closes: _core.CloseSet) -> None:
    """One witness serves all; those that are held are told from those that are not."""
    pairs = [socket.socketpair() for _ in range(100)]
    held = [os.dup(ours.fileno()) for ours, _ in pairs[::2]]
    made = [begin(closes, ours, owner=n) for n, (ours, _) in enumerate(pairs)]
    for close, (ours, theirs) in zip(made, pairs, strict=True):
        close.run()
        close.tell("abort")
        ours.close()
        theirs.close()
    steps = [close.tell("done") for close in made]
    assert steps[1::2] == ["finish"] * 50
    for close in made[::2]:
        while close.run() != "finish":
            close.tell("abort")
    answers = [finack.Receipt._from_core(close.receipt()).held for close in made]
    assert answers == [True, False] * 50
    for fd in held:
        os.close(fd)


def test_threads(closes: _core.CloseSet, ends: Any) -> None:
    """A receipt with a search for holders lets other threads run meanwhile."""
    ours, _ = ends
    close = begin(closes, ours, finack.Policy(proof_wait=0))
    close.run()
    assert close.tell("abort") == "unwatch"
    assert close.tell("done") == "finish"
    receipts: list[Any] = []
    threads = [threading.Thread(target=lambda: receipts.append(close.receipt())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(receipt[3] is True for receipt in receipts)
