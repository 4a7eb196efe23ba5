# SPDX-License-Identifier: MIT
"""Closing blocking sockets."""

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from finack import _core
from finack._close import blocking_tls
from finack._close.remembered import remembered
from finack._policy import Policy, checked
from finack._receipt import Receipt
from finack._report.recent import recent
from finack._sockets.names import name_of_socket

_Socket = TypeVar("_Socket", bound=socket.socket)
_REAP_MIN, _REAP_MAX = 0.01, 1.0  # seconds between looks at who is still inside


def close(sock: socket.socket, policy: Policy | None = None) -> Receipt:
    """Close a socket as a bounded process, and return what happened.

    Takes a socket.socket of any kind, blocking or not. Blocks for policy.total and
    policy.proof_wait seconds at most, without holding up other threads. On return the descriptor is
    free, and every use of the socket, or of a file that makefile() made, raises OSError. Bytes that
    such a file has buffered are not written: flush it first, or its flush() and close() raise
    OSError.

    An ssl.SSLSocket sends its close_notify first, and under courtesy "full" waits for the peer's.
    Neither is done in a handshake, or after an error of TLS. After a send() that raised
    SSLWantWriteError half a record is missing, and the peer gets RST.

    A thread inside a call on the socket is woken: recv() and accept() end with b"" or OSError. A
    thread inside send() has policy.flush seconds to pass its bytes to the kernel; if it can't, the
    peer gets RST, since FIN would mean that nothing is missing. If a thread doesn't leave in time,
    a dead descriptor keeps the number until it does (`tombstone` in the receipt).

    Closing again, from whatever thread, returns the same receipt.

    In the main thread signal handlers run meanwhile. If one raises, as on Ctrl-C, the close is
    aborted, and the exception has the receipt as its attribute `receipt`.

    policy
        None: Policy().

    TypeError: no socket or no policy. OSError: EBADF, the socket was closed by other means;
    EOPNOTSUPP, a kind that can't be closed this way. In these cases it is unchanged.

    >>> ours, theirs = socket.socketpair()
    >>> receipt = close(ours, Policy(linger=0))
    >>> receipt.end, theirs.recv(1)
    ('fin', b'')
    >>> theirs.close()
    """
    course = _Course(sock, _check(sock, policy))
    try:
        with remembered.turn(sock):
            return remembered.recall(sock) or course.run()
    except BaseException as error:
        receipt = course.interrupted()
        if receipt is not None:
            error.receipt = receipt  # type: ignore[attr-defined]
        raise


def closing(sock: _Socket, policy: Policy | None = None) -> AbstractContextManager[_Socket]:
    """Close a socket at the end of a with block, however the block ends.

    close() returns the receipt afterwards. The block itself may close the socket.

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
    return _block(sock, policy)


@contextmanager
def _block(sock: _Socket, policy: Policy | None) -> Iterator[_Socket]:
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
    return checked(policy)._as_tuple()


class _Course:
    """One close. Wherever an interrupt comes, what it came to is known."""

    name: str
    identity: "_core.Identity"

    def __init__(self, sock: socket.socket, policy: "_core.PolicyTuple") -> None:
        self.sock, self.policy = sock, policy
        self.requested = time.monotonic()
        self.shared = False
        self.begun = False  # the program can't use the socket any more
        self.tls: blocking_tls.Tls | None = None
        self.kept: list[Any] = []  # what the core's close() came to, and what a handler raised
        self.receipt: Receipt | None = None
        self.noted = False

    def run(self) -> Receipt:
        """OSError: it is as it was."""
        sock = self.sock
        if sock.fileno() < 0:
            raise OSError(
                errno.EBADF, "the socket is closed already, and there is no receipt of it"
            )
        self.shared = _core.examine(sock.fileno(), self.policy)
        self.name = name_of_socket(sock)
        self.identity = _core.identify(sock.fileno())
        self.begun = True
        self.tls = blocking_tls.take_over(sock, self.policy, self.kept)
        if self.tls:
            self.tls.close(self.policy, self.requested)
        else:
            self.close(self.policy)
        receipt = self.finish()
        for error in self.kept[1:]:  # of a signal's handler
            raise error
        return receipt

    def close(self, policy: "_core.PolicyTuple") -> None:
        give_up = super(socket.socket, self.sock).detach
        users = blocking_tls.users_of(self.sock)
        _core.close(give_up, policy, self.requested, self.kept, *users)

    def finish(self) -> Receipt:
        if self.receipt is None:
            self.receipt = self.tls.receipt(self.name) if self.tls else self.plain()
        remembered.remember(self.sock, self.receipt)
        socket.socket.close(self.sock)  # it has no number any more; now it knows
        if self.receipt.tombstone or "released" not in self.receipt.stages:
            _Reaper.start()
        if not self.noted:
            self.noted = True
            recent.note(self.receipt, self.identity, shared=self.shared)
        return self.receipt

    def plain(self) -> Receipt:
        return Receipt._from_core(self.kept[0], socket=self.name)

    def interrupted(self) -> Receipt | None:
        """An exception came, wherever that was. None: nothing has happened, or it can't be told."""
        if not self.begun:
            return None
        if self.sock.fileno() >= 0:
            self.close((_core.COURTESIES.index("abort"), *self.policy[1:]))
        return self.finish() if self.tls or self.kept else None


class _Reaper:
    """Releases the numbers that threads are inside of, mostly tombstones, when they have left."""

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
            cls._running = _core.reap() > 0
            return cls._running

    @classmethod
    def _after_fork(cls) -> None:
        cls._lock = threading.Lock()
        cls._running = False
        _core.reap()  # no thread but this one is in the child


os.register_at_fork(after_in_child=_Reaper._after_fork)
