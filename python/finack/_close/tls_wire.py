# SPDX-License-Identifier: MIT
"""What OpenSSL reads and writes in the farewell, in place of the socket."""

import contextlib
import errno
import os
import resource
import socket
from typing import Literal, NamedTuple

_CHUNK = 65536


Said = Literal["done", "again", "skip", "failed"]


class Read(NamedTuple):
    """What came of reading through TLS: what to tell the close."""

    event: Literal["bytes", "again", "answer", "end", "broken", "failed"]
    bytes: int = 0
    error: int = 0


class Wire:
    """A socket pair under the number that OpenSSL knows; what is sent and comes passes through it.

    So OpenSSL never meets the end of the stream, which it was told by Python to take for the peer's
    close_notify (OP_IGNORE_UNEXPECTED_EOF): what it takes for one now is one. And what it has to
    send is seen, instead of guessed from its errors.

    OSError: there are no descriptors for it, or the number is not allowed any more, so that nothing
    can be put on it (dup2(2)).
    """

    def __init__(self, number: int) -> None:
        if number >= resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._number = number
        self._input = self._output = b""
        self.fed = False  # whether OpenSSL got anything since begin()
        with contextlib.ExitStack() as made:
            self._stream = made.enter_context(socket.socket(fileno=os.dup(number)))
            self._ours, self._theirs = socket.socketpair()
            made.pop_all()
        for end in self._ours, self._theirs:
            end.setblocking(False)

    def begin(self) -> None:
        """From now on nobody else may use the number."""
        os.dup2(self._theirs.fileno(), self._number, inheritable=False)

    def end(self) -> None:
        """Give the number back to the socket; it is fine if begin() was not called."""
        if self._stream.fileno() >= 0:
            os.dup2(self._stream.fileno(), self._number, inheritable=False)
            self.discard()

    def discard(self) -> None:
        for end in self._stream, self._ours, self._theirs:
            end.close()

    def feed(self) -> int | None:
        """Give OpenSSL what came: its bytes; 0: the stream has ended; None: nothing came.

        OSError: as recv(2).
        """
        try:
            data = self._input or self._stream.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        if data:
            self.fed = True
            self._input = data[self._ours.send(data) :]
        return len(data)

    def collect(self) -> bool:
        """Take what OpenSSL has written; False: nothing."""
        with contextlib.suppress(BlockingIOError):
            self._output = self._ours.recv(_CHUNK)
        return bool(self._output)

    def send(self) -> bool:
        """Send that; False: the kernel has no room for all of it yet. OSError: as send(2)."""
        if not self._output:
            return True
        with contextlib.suppress(OSError):  # not TCP
            # Else Nagle's algorithm holds it back until the peer's delayed ACK.
            self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sent = self._stream.send(self._output, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        self._output = self._output[sent:]
        return not self._output
