# SPDX-License-Identifier: MIT
"""Closing blocking sockets."""

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from finack import _core, _farewell, _recent, _remember
from finack._names import name_of
from finack._policy import Policy
from finack._receipt import Receipt

_Socket = TypeVar("_Socket", bound=socket.socket)
_REAP_MIN, _REAP_MAX = 0.01, 1.0  # seconds between looks at who is still inside


def close(sock: socket.socket, policy: Policy | None = None) -> Receipt:
    """Close a socket as a bounded process, and tell what happened.

    Takes a socket.socket of any kind, blocking or not. Blocks for policy.total and
    policy.proof_wait seconds at most, without holding up other threads. On return the number is
    free, and every use of the socket, or of a file that makefile() made, raises OSError. What such
    a file has buffered is not written: flush it first, or its flush() and close() raise OSError.

    An ssl.SSLSocket sends its close_notify first, and under courtesy "full" waits for the peer's.
    That is left out in a handshake, and after an error of TLS. After a send() that raised
    SSLWantWriteError half a record is missing, and the peer gets RST.

    A thread inside a call on the socket is woken: recv() and accept() end with b"" or OSError. If
    one is inside send(), it has policy.flush seconds to bring its bytes to the kernel; if it can't,
    the peer gets RST, since FIN would tell it that nothing is missing. A thread that doesn't come
    out in time leaves a dead descriptor on the number until it does (`tombstone` in the receipt).

    Closing again, from whatever thread, returns the same receipt.

    policy
        None: Policy().

    TypeError: no socket or no policy. OSError: EBADF, the socket was closed by other means;
    EOPNOTSUPP, a kind that can't be closed this way. It is as it was then.

    >>> ours, theirs = socket.socketpair()
    >>> receipt = close(ours, Policy(linger=0))
    >>> receipt.end, theirs.recv(1)
    ('fin', b'')
    >>> theirs.close()
    """
    values = _check(sock, policy)
    with _remember.turn(sock):
        receipt = _remember.recall(sock)
        if receipt is None:
            receipt = _close(sock, values)
            _remember.remember(sock, receipt)
    return receipt


def closing(sock: _Socket, policy: Policy | None = None) -> AbstractContextManager[_Socket]:
    """Close a socket at the end of a with block, however the block ends.

    The receipt is what close() returns afterwards. It is fine if the block itself closes the
    socket.

    >>> ours, theirs = socket.socketpair()
    >>> with closing(ours, Policy(linger=0)):
    ...     _ = ours.send(b"x")
    >>> theirs.recv(2), theirs.recv(2)
    (b'x', b'')
    >>> close(ours).end
    'fin'
    >>> theirs.close()
    """
    _check(sock, policy)
    return _closing(sock, policy)


@contextmanager
def _closing(sock: _Socket, policy: Policy | None) -> Iterator[_Socket]:
    try:
        yield sock
    finally:
        if sock.fileno() >= 0:
            close(sock, policy)


def _check(sock: object, policy: object) -> "_core.PolicyTuple":
    if not isinstance(sock, socket.socket):
        raise TypeError(
            f"a socket.socket is needed, not {type(sock).__name__}"
            " (transports, streams and servers of asyncio: await finack.aclose())"
        )
    if policy is None:
        policy = Policy()
    if not isinstance(policy, Policy):
        raise TypeError(f"policy must be a finack.Policy or None, not {type(policy).__name__}")
    return policy._as_tuple()


def _close(sock: socket.socket, policy: "_core.PolicyTuple") -> Receipt:
    requested = time.monotonic()
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, "the socket is closed already, and there is no receipt of it")
    _core.examine(sock.fileno(), policy)
    name = name_of(sock.fileno())
    identity = _core.identify(sock.fileno())
    tls = _farewell.take_over(sock, policy)
    if tls:
        receipt = tls.close(policy, requested, name)
    else:
        values = _core.close(super(socket.socket, sock).detach, policy, requested)
        receipt = Receipt._from_core(values, socket=name)
    socket.socket.close(sock)  # it has no number any more; now it knows
    if receipt.tombstone:
        _Reaper.start()
    _recent.note(receipt, identity)
    return receipt


class _Reaper:
    """Releases the numbers under tombstones when the threads have left."""

    _lock = threading.Lock()
    _running = False

    @classmethod
    def start(cls) -> None:
        with cls._lock:
            if not cls._running:
                threading.Thread(target=cls._run, name="finack-reaper", daemon=True).start()
                cls._running = True

    @classmethod
    def _run(cls) -> None:
        pause = _REAP_MIN
        while cls._goes_on():
            time.sleep(pause)
            pause = min(2 * pause, _REAP_MAX)

    @classmethod
    def _goes_on(cls) -> bool:
        with cls._lock:
            cls._running = _core.reap() + _farewell.reap() > 0
            return cls._running

    @classmethod
    def _after_fork(cls) -> None:
        cls._lock = threading.Lock()
        cls._running = False
        _core.reap()  # no thread but this one is in the child
        _farewell.reap()


os.register_at_fork(after_in_child=_Reaper._after_fork)
