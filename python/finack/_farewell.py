# SPDX-License-Identifier: MIT
"""The farewell of an ssl.SSLSocket, for the blocking close."""

import contextlib
import errno
import math
import os
import select
import socket
import ssl
import time
from dataclasses import replace
from typing import Any, NoReturn

from finack import _core
from finack._receipt import Receipt

_COURTESY, _SCOPE, _TOTAL, _DRAIN = 0, 1, 7, 10  # in a policy's tuple
_PAUSE = 0.005  # seconds between looks at the threads inside; nothing else tells when they leave
_CHUNK = 65536
_PEEK = 1 << 20
_LACK = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_DATA_AFTER = "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
_ALERT, _ALERT_MAX = 21, 21  # the type of a record, up to TLS 1.2, and the length since


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


class _Tls:
    """One close. The number stays the socket's as long as the SSL object is used, and then goes."""

    engine: _core.Close

    def __init__(self, sock: ssl.SSLSocket, layer: Any) -> None:
        self.sock = sock
        self.layer = layer
        self.left = 0  # bytes of input that may be thrown away yet
        self.until = 0.0
        self.full = self.looking = self.tombstone = False
        self.answered = self.deaf = False  # deaf: it can't be read any more
        self.taken = 0
        self.exact = not sock.context.options & ssl.OP_IGNORE_UNEXPECTED_EOF

    def close(self, policy: "_core.PolicyTuple", requested: float, name: str) -> Receipt:
        self.left = policy[_DRAIN]
        self.full = policy[_COURTESY] == _core.COURTESIES.index("full")
        self.until = requested + policy[_TOTAL] / 1000
        self.wake_receivers()
        try:
            values = self.run(policy, requested)
        except OSError as error:
            if error.errno not in _LACK or self.sock.fileno() < 0:
                raise
            self.say_farewell()
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
            news.close()

    def begin(
        self, news: _core.CloseSet, policy: "_core.PolicyTuple", requested: float
    ) -> _core.Close:
        copy = os.dup(self.sock.fileno())
        try:
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
        action = self.engine.tell("abort")
        while action != "finish":
            self.release()
            action = self.engine.tell("abort" if action == "wait" else "done")

    def give_up(self) -> int:
        return super(socket.socket, self.sock).detach()

    def release(self) -> None:
        if self.sock.fileno() >= 0:
            self.tombstone = not _core.release(self.give_up(), self.until)

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
        taken, self.taken = self.taken, _taken(self.engine.fileno())
        return self.engine.tell("ready", progress=self.taken != taken)

    # ---- threads inside ----

    def wake_receivers(self) -> None:
        """Forfeits the rest of the input, as there is no other way."""
        shut = False
        while _core.inside(self.sock.fileno())[0] and time.monotonic() < self.until:
            if not shut:
                shut = True
                with contextlib.suppress(OSError):
                    super(ssl.SSLSocket, self.sock).shutdown(socket.SHUT_RD)
            time.sleep(_PAUSE)

    def flush(self) -> str:
        _, sending, unsent = _core.inside(self.sock.fileno())
        self.looking = sending > 0
        if not sending:
            return self.engine.tell("done")
        return self.engine.tell("again", bytes=unsent, write=True)

    # ---- the farewell ----

    def say_farewell(self) -> str:
        """SSL_shutdown(3), without waiting; what to tell, and whether it can be read still."""
        self.sock.settimeout(0)
        try:
            self.layer.shutdown()
        except ssl.SSLWantReadError:
            return "done"
        except ssl.SSLWantWriteError:
            return "again"
        except ssl.SSLError as error:
            # It has looked for the answer too, and found something else.
            self.deaf = True
            sent = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
            return "done" if sent or error.reason == _DATA_AFTER else "skip"
        except OSError as error:
            return f"failed {error.errno}"
        return "answered"

    def notify(self) -> str:
        self.sock.settimeout(0)
        if self.full:
            self.discard()
        ended, raw = self.has_ended(), self.peek() or b""
        result, _, error = self.say_farewell().partition(" ")
        if result == "answered":
            # SSL_shutdown(3) has read on, and takes any end for an answer if it was told to.
            if self.answered or (not self.deaf and self.is_answer(ended, raw)):
                self.engine.note_answer()
            else:
                self.deaf = True
            result = "done"
        return self.engine.tell(result, error=int(error or 0), write=True)

    def discard(self) -> None:
        """Data ahead of the answer would make SSL_shutdown(3) fail for good, as an end would."""
        if self.has_ended() and not _ends_in_alert(self.peek() or b""):
            return
        result = "more"
        while self.left > 0 and result == "more":
            result = self.receive()
        self.answered = result == "answer"
        self.deaf = result == "end"

    # ---- the answer ----

    def read(self) -> str:
        if self.deaf:
            return self.engine.tell("end" if self.has_ended() else "again")
        result = "more"
        while self.left > 0 and result == "more":
            result = self.receive()
        result, _, error = result.partition(" ")
        return self.engine.tell("again" if result == "more" else result, error=int(error or 0))

    def receive(self) -> str:
        """Throw some input away; what to tell, or "more"."""
        ended, raw = self.has_ended(), self.peek()
        if not raw and not self.layer.pending():
            return "again" if raw is None else "end"
        try:
            data = self.layer.read(_CHUNK)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return "more"
        except ssl.SSLZeroReturnError:
            data = b""
        except ssl.SSLEOFError:
            return "end"
        except OSError as error:
            code = errno.EBADMSG if isinstance(error, ssl.SSLError) else error.errno
            return f"failed {code or errno.EIO}"
        self.left -= len(data)
        if data:
            return "more"
        return "answer" if self.is_answer(ended, raw or b"") else "end"

    def peek(self) -> bytes | None:
        """What is on the wire; empty: the end of it; None: nothing yet."""
        try:
            return super(ssl.SSLSocket, self.sock).recv(
                _PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def has_ended(self) -> bool:
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def is_answer(self, ended: bool, raw: bytes) -> bool:
        """Whether the end that OpenSSL tells of is close_notify: it may take any end for one.

        `raw` is what was on the wire before, all there will ever be if the stream had ended.
        """
        return self.exact or not ended or _ends_in_alert(raw)


def _ends_in_alert(raw: bytes) -> bool:
    """As far as can be told from outside: TLS 1.3 hides the type, and not the length."""
    at = kind = length = 0
    while at + 5 <= len(raw):
        kind, length = raw[at], int.from_bytes(raw[at + 3 : at + 5])
        at += 5 + length
    return 0 < at == len(raw) and (kind == _ALERT or length <= _ALERT_MAX)


def _taken(fd: int) -> int:
    """A number that changes when bytes are given to the kernel."""
    handed = _core.handed(fd)
    return _core.outstanding(fd) if handed is None else handed
