# SPDX-License-Identifier: MIT
"""What the extension offers to the modules in Python."""

import errno
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from finack import Policy, _core

Pair = tuple[socket.socket, socket.socket]
POLICY = Policy()._as_tuple()


@pytest.fixture
def tcp() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        a = socket.create_connection(server.getsockname())
        b = server.accept()[0]
    with a, b:
        yield a, b


def refused(call: object, *args: object) -> int:
    assert callable(call)
    with pytest.raises(OSError) as error:
        call(*args)
    assert error.value.errno is not None
    return error.value.errno


def closed_number() -> int:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    return read


# ---- close ----


def test_close_in_order(tcp: Pair) -> None:
    a, b = tcp
    b.sendall(b"never read")
    b.shutdown(socket.SHUT_WR)
    values = _core.close(a.detach(), POLICY)
    assert values[:5] == ("graceful", "none", "fin", False, 0)
    assert len(values) == 17 and len(values[7]) == len(_core.STAGES) == 12
    assert values[10] == 10  # discarded
    assert b.recv(1) == b""


def test_close_waits_without_the_lock(tcp: Pair) -> None:
    """The peer is a thread of this interpreter."""
    a, b = tcp

    def answer() -> None:
        b.recv(1)
        b.shutdown(socket.SHUT_WR)

    peer = threading.Thread(target=answer)
    peer.start()
    assert _core.close(a.detach(), Policy(linger=60, total=60)._as_tuple())[0] == "graceful"
    peer.join()


def test_close_counts_from_the_request(tcp: Pair) -> None:
    a, b = tcp
    b.shutdown(socket.SHUT_WR)
    released = _core.STAGES.index("released")
    assert _core.close(a.detach(), POLICY, time.monotonic() - 5)[7][released] > 4_900_000_000


def test_close_of_no_descriptor() -> None:
    assert refused(_core.close, closed_number(), POLICY) == errno.EBADF
    with open(os.devnull) as file:
        assert refused(_core.close, file.fileno(), POLICY) == errno.EOPNOTSUPP
    with pytest.raises(TypeError, match="_as_tuple"):
        _core.close(0, [])  # type: ignore[arg-type]


# ---- identity ----


def test_identity_survives_a_copy_and_not_a_close(tcp: Pair) -> None:
    a, b = tcp
    identity = _core.identify(a.fileno())
    assert identity[0] > 0 and identity[1:] == os.fstat(a.fileno())[2:0:-1]
    copy = os.dup(a.fileno())
    assert _core.is_same(copy, identity) and not _core.is_same(b.fileno(), identity)
    os.dup2(b.fileno(), copy)
    assert not _core.is_same(copy, identity)
    os.close(copy)
    assert not _core.is_same(copy, identity)


def test_identity_of_what_is_no_socket() -> None:
    read, write = os.pipe()
    assert _core.identify(read)[0] == 0 and _core.is_same(write, _core.identify(read))
    os.close(read)
    os.close(write)
    assert refused(_core.identify, read) == errno.EBADF
    with open(os.devnull) as file:
        assert refused(_core.identify, file.fileno()) == errno.EOPNOTSUPP


def test_holders(tcp: Pair) -> None:
    a, _ = tcp
    copy = os.dup(a.fileno())
    found = _core.holders(_core.identify(a.fileno()))
    os.close(copy)
    with open("/proc/self/comm") as file:
        command = file.read().rstrip("\n")
    assert sorted(found) == [(os.getpid(), fd, command) for fd in sorted((a.fileno(), copy))]
    assert _core.holders((1, 2, 3)) == []
    with pytest.raises(TypeError, match="identify"):
        _core.holders(3)  # type: ignore[arg-type]


# ---- the witness ----


def test_witness(tcp: Pair) -> None:
    a, b = tcp
    witness = _core.Witness()
    first, second = witness.add(a.fileno()), witness.add(b.fileno())
    number = a.fileno()
    copy = os.dup(number)
    a.close()
    os.dup2(b.fileno(), number)
    third = witness.add(number)
    assert len({first, second, third}) == 3
    assert [witness.held(token) for token in (first, second, third)] == [True, True, True]
    os.dup2(copy, number)
    assert witness.add(number) == first  # the same description under the same number
    os.close(number)
    os.close(copy)
    assert [witness.held(token) for token in (first, second, third)] == [False, True, True]
    witness.close()
    witness.close()
    with pytest.raises(ValueError, match="closed"):
        witness.held(first)


def test_witness_refuses() -> None:
    witness = _core.Witness()
    assert refused(witness.add, closed_number()) == errno.EBADF
    witness.close()
    with pytest.raises(TypeError, match="no arguments"):
        _core.Witness(1)  # type: ignore[call-arg]


def test_witness_is_not_shared_with_a_child(tcp: Pair) -> None:
    a, _ = tcp
    witness = _core.Witness()
    child = os.fork()
    if child == 0:
        try:
            os._exit(refused(witness.add, a.fileno()))
        finally:
            os._exit(255)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.ECHILD
    witness.close()


# ---- RST and counters ----


def test_reset_reaches_the_peer_at_once(tcp: Pair) -> None:
    a, b = tcp
    copy = os.dup(a.fileno())
    assert _core.reset(a.fileno()) is True
    assert refused(b.recv, 1) == errno.ECONNRESET
    os.close(copy)


def test_reset_of_what_has_none() -> None:
    a, b = socket.socketpair()
    with a, b, socket.socket() as fresh:
        assert refused(_core.reset, a.fileno()) == errno.EOPNOTSUPP
        assert refused(_core.reset, fresh.fileno()) == errno.ENOTCONN
        assert refused(_core.reset, closed_number()) == errno.EBADF


def test_counters_of_bytes(tcp: Pair) -> None:
    a, _ = tcp
    assert (_core.handed(a.fileno()), _core.taken(a.fileno())) == (0, 0)
    a.setblocking(False)
    sent = 0
    while select.select([], [a], [], 0)[1]:
        sent += a.send(bytes(65536))
    assert _core.handed(a.fileno()) == _core.taken(a.fileno()) == sent
    unix, other = socket.socketpair()
    with unix, other:
        assert _core.handed(unix.fileno()) is None
        assert _core.taken(unix.fileno()) == 0
        unix.send(b"x")
        assert _core.taken(unix.fileno()) > 0
    assert refused(_core.handed, closed_number()) == errno.EBADF
    assert _core.taken(closed_number()) == 0


# ---- who is inside, and tombs ----


class Users:
    """Those that use a number between two calls."""

    def __init__(self, error: Exception | None = None) -> None:
        self.inside = True
        self.error = error
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        assert _core.reap() >= 0  # it may come from here too
        if self.error:
            raise self.error
        return self.inside


def is_dead(number: int) -> bool:
    return os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")


def test_who_is_inside_keeps_the_number(tcp: Pair) -> None:
    a, b = tcp
    users, numbers = [Users() for _ in range(3)], [a.detach(), os.dup(b.fileno()), b.detach()]
    for one, number in zip(users, numbers, strict=True):
        assert _core.release(number, time.monotonic(), one, []) is False
        assert is_dead(number)
    assert _core.reap() == 3
    users[1].inside = False
    assert _core.reap() == 2
    assert [os.path.exists(f"/proc/self/fd/{number}") for number in numbers] == [True, False, True]
    users[0].inside = users[2].inside = False
    assert _core.reap() == _core.reap() == 0
    gone = [weakref.ref(one) for one in users]
    del users, one
    assert not any(one() for one in gone)
    assert not any(os.path.exists(f"/proc/self/fd/{number}") for number in numbers)


def test_who_leaves_in_time_is_waited_for(tcp: Pair) -> None:
    a, _ = tcp
    users, number = Users(), a.detach()
    timer = threading.Timer(0.01, lambda: setattr(users, "inside", False))
    timer.start()
    assert _core.release(number, time.monotonic() + 60, users, []) is True
    timer.join()
    assert users.asked > 2 and _core.reap() == 0
    assert not os.path.exists(f"/proc/self/fd/{number}")


def test_where_it_cant_be_told_somebody_may_be_inside(tcp: Pair) -> None:
    a, _ = tcp
    users, number = Users(KeyError("first")), a.detach()
    raised: list[BaseException] = []
    assert _core.release(number, time.monotonic(), users, raised) is False
    assert raised == [users.error] and users.asked > 1
    users.error, users.inside = None, False
    assert is_dead(number) and _core.reap() == 0
