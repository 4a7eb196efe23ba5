# SPDX-License-Identifier: MIT
"""The farewell of an ssl.SSLSocket, for the blocking close."""

import contextlib
import errno
import math
import os
import select
import socket
import ssl
import sys
import threading
import time
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

from finack import _core
from finack._owners import taken
from finack._receipt import Receipt
from finack._wire import Wire

_COURTESY, _SCOPE, _TOTAL, _DRAIN = 0, 1, 7, 10  # in a policy's tuple
_PAUSE = 0.005  # seconds between looks at the threads inside; nothing else tells when they leave
_CHUNK = 65536
_LACK = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class _Closed:
    """In place of the SSL object: a thread that comes now finds the socket closed.

    Without one the socket would read and write what is on the wire.
    """

    def __getattr__(self, name: str) -> NoReturn:
        raise OSError(errno.EBADF, "the socket is being closed")


def take_over(sock: socket.socket, policy: "_core.PolicyTuple") -> "_Tls | None":
    """Keep the program from using TLS any more; None: there is no farewell to say."""
    layer = getattr(sock, "_sslobj", None)
    if layer is None or not isinstance(sock, ssl.SSLSocket):
        return None
    sock._sslobj = _Closed()  # type: ignore[attr-defined]
    wanted = policy[_COURTESY] != _core.COURTESIES.index("abort")
    if wanted and policy[_SCOPE] != _core.SCOPES.index("descriptor"):
        return _Tls(sock, layer)
    return None


def reap() -> int:
    """Free the numbers that threads have left; how many remain."""
    for tls in _stuck[:]:
        if not tls.in_use():
            _stuck.remove(tls)
            _core.release(tls.tomb, 0)
    return len(_stuck)


class _Tls:
    """One close. The number stays the socket's as long as the SSL object is used, and then goes."""

    engine: _core.Close
    wire: Wire

    def __init__(self, sock: ssl.SSLSocket, layer: Any) -> None:
        self.sock = sock
        self.layer = layer
        self.left = 0  # bytes of input that may be thrown away yet
        self.until = 0.0
        self.full = self.looking = self.tombstone = False
        self.tomb = -1  # the number, if a thread in OpenSSL has it still
        self.answered = self.deaf = False  # deaf: it can't be read any more
        self.said = ""  # what SSL_shutdown(3) came to
        self.taken = 0
        self.exact = not sock.context.options & ssl.OP_IGNORE_UNEXPECTED_EOF

    def close(self, policy: "_core.PolicyTuple", requested: float, name: str) -> Receipt:
        self.left = policy[_DRAIN]
        self.full = policy[_COURTESY] == _core.COURTESIES.index("full")
        self.until = requested + policy[_TOTAL] / 1000
        self.wait_for_receivers()
        try:
            values = self.run(policy, requested)
        except OSError as error:
            if error.errno not in _LACK or self.sock.fileno() < 0:
                raise
            self.sock.settimeout(0)
            with contextlib.suppress(OSError):
                self.layer.shutdown()
            values = _core.close(self.give_up, policy, requested)
        receipt = Receipt._from_core(values, socket=name)
        return replace(receipt, tombstone=True) if self.tombstone else receipt

    def run(self, policy: "_core.PolicyTuple", requested: float) -> "_core.ReceiptTuple":
        news = _core.CloseSet()
        try:
            self.engine = self.begin(news, policy, requested)
            action = self.engine.run()
            while action != "finish":
                action = self.do(action, news)
            return self.engine.receipt()
        except BaseException:
            if hasattr(self, "engine"):
                self.cut()
            raise
        finally:
            if hasattr(self, "wire"):
                self.wire.discard()
            news.close()

    def begin(
        self, news: _core.CloseSet, policy: "_core.PolicyTuple", requested: float
    ) -> _core.Close:
        number = self.sock.fileno()
        copy = os.dup(number)
        try:
            self.wire = Wire(number)
            return _core.Close(news, copy, policy, self, True, True, requested)
        except BaseException:
            os.close(copy)
            raise

    def do(self, action: str, news: _core.CloseSet) -> str:
        match action:
            case "wait":
                return self.wait(news)
            case "flush":
                return self.flush()
            case "notify":
                return self.notify()
            case "read":
                return self.read()
            case "unwatch":
                self.release()
        return self.engine.tell("done")

    def cut(self) -> None:
        """Without waiting: an interrupt came."""
        self.until = 0
        action = self.engine.tell("abort")
        while action != "finish":
            self.release()
            action = self.engine.tell("abort" if action == "wait" else "done")

    def give_up(self) -> int:
        return super(socket.socket, self.sock).detach()

    def release(self) -> None:
        if self.sock.fileno() < 0:
            return
        self.wire.end()
        if self.is_stuck():
            self.engine.entomb(self.sock.fileno())
            self.tomb = self.give_up()
            _stuck.append(self)
        self.tombstone = self.tomb >= 0 or not _core.release(self.give_up(), self.until)

    def wait(self, news: _core.CloseSet) -> str:
        poll = select.poll()
        poll.register(news.fileno(), select.POLLIN)
        while (left := self.engine.left) > 0:
            span = min(left, _PAUSE) if self.looking else left
            poll.poll(math.ceil(span * 1000))
            if news.poll() or self.looking:
                break
        else:
            return self.engine.tell("deadline")
        before, self.taken = self.taken, taken(self.engine.fileno())
        return self.engine.tell("ready", progress=self.taken != before)

    # ---- threads inside ----

    def in_use(self) -> bool:
        """Whether a thread is inside OpenSSL: between two system calls nothing else tells."""
        own = threading.get_ident()
        tops = [top for thread, top in sys._current_frames().items() if thread != own]
        return any(self.is_below(top) for top in tops)

    def is_below(self, frame: FrameType | None) -> bool:
        """A handler of a signal may run on top of a method of the socket."""
        while frame:
            if frame.f_code.co_filename == ssl.__file__ and frame.f_locals.get("self") is self.sock:
                return True
            frame = frame.f_back
        return False

    def look_inside(self) -> tuple[bool, int]:
        """Whether threads only send, and their bytes; those that receive are woken.

        That forfeits the rest of the input: there is no other way.
        """
        receiving, sending, unsent = _core.inside(self.sock.fileno())
        if receiving:
            with contextlib.suppress(OSError):
                super(ssl.SSLSocket, self.sock).shutdown(socket.SHUT_RD)
        return sending > 0 and not receiving, unsent

    def is_stuck(self) -> bool:
        """Whether a thread stays in OpenSSL, and not in a call that can be ended."""
        while self.in_use() and not any(_core.inside(self.sock.fileno())[:2]):
            if time.monotonic() >= self.until:
                return True
            time.sleep(_PAUSE)
        return False

    def wait_for_receivers(self) -> None:
        while self.in_use() and time.monotonic() < self.until:
            sending, _ = self.look_inside()
            if sending:
                return  # flush waits for those
            time.sleep(_PAUSE)

    def flush(self) -> str:
        self.looking = self.in_use()
        if not self.looking:
            return self.engine.tell("done")
        _, unsent = self.look_inside()
        return self.engine.tell("again", bytes=unsent, write=True)

    # ---- the farewell ----

    def say_farewell(self) -> str:
        """SSL_shutdown(3), which looks for the answer too in what it has; what to tell."""
        result = "skip"
        try:
            self.layer.shutdown()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            result = "broken"  # half a record of the program's stands in the way
        except OSError:
            self.deaf = True  # there is other input, or TLS had failed
        else:
            self.note_answer()
        return "done" if self.wire.collect() else result

    def note_answer(self) -> None:
        """Of an end that the program has read, as much as can be known by now."""
        if self.answered or (not self.wire.fed and self.was_answer()):
            self.engine.note_answer()
        else:
            self.deaf = True

    def notify(self) -> str:
        if not self.said:
            self.sock.settimeout(0)
            self.wire.begin()
            if self.full:
                self.discard()
            self.said = self.say_farewell()
        if self.said != "done":
            return self.engine.tell(self.said, error=errno.EBADMSG)
        try:
            return self.engine.tell("done" if self.wire.send() else "again", write=True)
        except OSError as error:
            return self.engine.tell("failed", error=error.errno or errno.EIO)

    def discard(self) -> None:
        """Data ahead of the answer would make SSL_shutdown(3) fail for good."""
        result = self.receive()
        self.answered = result == "answer"
        self.deaf = result == "end"

    # ---- the answer ----

    def read(self) -> str:
        if self.deaf:
            return self.engine.tell("end" if self.has_ended() else "again")
        result, _, error = self.receive().partition(" ")
        return self.engine.tell(result, error=int(error or 0))

    def receive(self) -> str:
        """Throw away what has come; what to tell."""
        while self.left > 0:
            try:
                data = self.layer.read(_CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                came = self.wire.feed()
                if not came:
                    return "again" if came is None else "end"
                self.left -= came
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError:
                return f"failed {errno.EBADMSG}"
            if not data:
                return "answer" if self.wire.fed or self.was_answer() else "end"
        return "again"

    def has_ended(self) -> bool:
        poll = select.poll()
        poll.register(self.engine.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def was_answer(self) -> bool:
        """Whether the end that the program has read was close_notify, if that can be known."""
        return self.exact or not self.has_ended()


_stuck: list[_Tls] = []
