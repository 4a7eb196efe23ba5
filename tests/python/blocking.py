# SPDX-License-Identifier: MIT
"""What the tests of blocking sockets share."""

import contextlib
import errno
import fcntl
import itertools
import os
import pathlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

FOREVER = 60.0  # a bound for what ends at once


def until(condition: Callable[[], bool]) -> None:
    """For what nothing tells: where a thread is, or that another one has closed a number."""
    end = time.monotonic() + FOREVER
    while not condition():
        assert time.monotonic() < end
        os.sched_yield()


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
        assert not isinstance(self.result, TimeoutError), "nobody has woken it"
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


@contextlib.contextmanager
def no_descriptors(*, spare: int = 0) -> Iterator[None]:
    """But for so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = (number for number in range(soft) if is_free(number))
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, spare, None)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def descriptors_below(number: int) -> Iterator[None]:
    """None is allowed from there on; one that is open stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def at_a_high_number(sock: socket.socket) -> socket.socket:
    """In its place, so that descriptors_below() it leaves enough."""
    with sock:
        return socket.socket(fileno=fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, 900))
