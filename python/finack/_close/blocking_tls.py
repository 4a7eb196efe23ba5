# SPDX-License-Identifier: MIT
"""The farewell of an ssl.SSLSocket, for the blocking close."""

import contextlib
import errno
import functools
import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

from finack import _core, _openssl, _private
from finack._close.tls_wire import Read, Wire
from finack._receipt import Receipt
from finack._sockets.descriptors import is_lack
from finack._tls import REFUSALS, ssl

_COURTESY, _SCOPE, _TOTAL, _DRAIN = 0, 1, 7, 10  # in a policy's tuple
_PAUSE = 0.005  # seconds between looks at the threads inside; nothing else tells when they leave
_CHUNK = 65536


class _Closed:
    """In place of the SSL object: a thread that comes now finds the socket closed.

    Without one the socket would read and write what is on the wire.
    """

    def __getattr__(self, name: str) -> NoReturn:
        raise OSError(errno.EBADF, "the socket is being closed")


def take_over(sock: socket.socket, policy: "_core.PolicyTuple", kept: list[Any]) -> "Tls | None":
    """Keep the program from using TLS any more; None: there is no farewell to say.

    `kept` gets what the core's close() comes to, if that is asked.
    """
    layer = _private.tls_of_socket(sock)
    if layer is None or not isinstance(sock, ssl.SSLSocket):
        return None
    _private.replace_tls_of_socket(sock, _Closed())
    wanted = policy[_COURTESY] != _core.COURTESIES.index("abort")
    if wanted and policy[_SCOPE] != _core.SCOPES.index("descriptor"):
        return Tls(sock, layer, kept)
    return None


def users_of(sock: socket.socket) -> tuple[()] | tuple[Callable[[], bool]]:
    """What tells the core who is inside besides those in calls; nothing for a plain socket."""
    return (functools.partial(in_use, sock),) if isinstance(sock, ssl.SSLSocket) else ()


def in_use(sock: ssl.SSLSocket) -> bool:
    """Whether a thread is inside OpenSSL: between two system calls nothing else tells."""
    own = threading.get_ident()
    tops = [top for thread, top in _private.top_frames().items() if thread != own]
    return any(_is_below(top, sock) for top in tops)


def _is_below(frame: FrameType | None, sock: ssl.SSLSocket) -> bool:
    """A handler of a signal may run on top of a method of the socket."""
    while frame:
        if frame.f_code.co_filename == ssl.__file__ and frame.f_locals.get("self") is sock:
            return True
        frame = frame.f_back
    return False


def _is_in_the_way(error: OSError) -> bool:
    """Whether a record that is half written is: what only the program could complete.

    Then OpenSSL refuses to write anything else, by a reason, or since 3.2 the alert by waiting,
    though there is room.
    """
    reason = getattr(error, "reason", None)
    return isinstance(error, ssl.SSLWantWriteError) or reason in REFUSALS


class Tls:
    """One close. The number stays the socket's as long as the SSL object is used, and then goes."""

    engine: _core.Close
    wire: Wire

    def __init__(self, sock: ssl.SSLSocket, layer: Any, kept: list[Any]) -> None:
        self.sock = sock
        self.layer = layer
        self.kept = kept
        self.left = 0  # bytes of input that may be thrown away yet
        self.early = 0  # those that were before anybody asked
        self.until = 0.0
        self.looking = self.tombstone = False
        self.said = ""  # what SSL_shutdown(3) came to
        self.taken = 0
        self.exact = not sock.context.options & ssl.OP_IGNORE_UNEXPECTED_EOF

    def close(self, policy: "_core.PolicyTuple", requested: float) -> None:
        self.left = policy[_DRAIN]
        self.until = requested + policy[_TOTAL] / 1000
        try:
            self.wait_for_receivers()
            self.run(policy, requested)
        except OSError as error:
            if not is_lack(error) or self.sock.fileno() < 0:
                raise
            self.close_without_descriptors(policy, requested)

    def close_without_descriptors(self, policy: "_core.PolicyTuple", requested: float) -> None:
        self.sock.settimeout(0)
        broken = self.is_half_written()
        if not broken:
            with contextlib.suppress(OSError):
                self.layer.shutdown()
        _core.close(
            self.give_up, policy, requested, self.kept, functools.partial(in_use, self.sock), broken
        )

    def receipt(self, name: str) -> Receipt:
        values = self.kept[0] if self.kept else self.engine.receipt()
        receipt = Receipt._from_core(values, socket=name)
        return replace(receipt, tombstone=True) if self.tombstone else receipt

    def run(self, policy: "_core.PolicyTuple", requested: float) -> None:
        news = _core.CloseSet()
        number, copy = self.sock.fileno(), -1
        try:
            copy = os.dup(number)
            self.wire = Wire(number)
            self.engine = _core.Close(news, copy, policy, self, True, False, requested)
            action = self.engine.run()
            while action != "finish":
                action = self.do(action, news)
        except BaseException:
            if hasattr(self, "engine"):
                self.cut()
            elif copy >= 0:
                os.close(copy)
            raise
        finally:
            if hasattr(self, "wire"):
                self.wire.discard()
            news.close()

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
        try:
            action = self.engine.tell("abort")
        except ValueError:
            return  # it has ended
        while action != "finish":
            self.release()
            action = self.engine.tell("abort" if action == "wait" else "done")

    def give_up(self) -> int:
        return super(socket.socket, self.sock).detach()

    def release(self) -> None:
        if self.sock.fileno() < 0:
            return
        self.wire.end()
        raised: list[BaseException] = []  # by a signal's handler
        inside = functools.partial(in_use, self.sock)
        # In one line: no handler runs once the number is given up.
        released = _core.release(self.give_up(), self.until, inside, raised)
        self.tombstone = released is False
        if released is None:
            self.engine.note_kept()
        for error in raised:
            raise error

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
        before, self.taken = self.taken, _core.taken(self.engine.fileno())
        return self.engine.tell("ready", progress=self.taken != before)

    # ---- threads inside ----

    def look_inside(self) -> tuple[bool, int]:
        """Whether threads only send, and their bytes; those that receive are woken.

        That forfeits the rest of the input: there is no other way.
        """
        receiving, sending, unsent = _core.inside(self.sock.fileno())
        if receiving:
            with contextlib.suppress(OSError):
                super(ssl.SSLSocket, self.sock).shutdown(socket.SHUT_RD)
        return sending > 0 and not receiving, unsent

    def wait_for_receivers(self) -> None:
        while in_use(self.sock) and time.monotonic() < self.until:
            sending, _ = self.look_inside()
            if sending:
                return  # flush waits for those
            time.sleep(_PAUSE)

    def flush(self) -> str:
        self.looking = in_use(self.sock)
        if not self.looking:
            return self.engine.tell("done")
        _, unsent = self.look_inside()
        return self.engine.tell("again", bytes=unsent, write=True)

    # ---- the farewell ----

    def notify(self) -> str:
        if not self.said:
            self.sock.settimeout(0)
            self.wire.begin()
            self.said = self.say_farewell()
        if self.said != "done":
            return self.engine.tell(self.said, error=errno.EBADMSG)
        try:
            return self.engine.tell("done" if self.wire.send() else "again", write=True)
        except OSError as error:
            return self.engine.tell("failed", error=error.errno or errno.EIO)

    def say_farewell(self) -> str:
        """What to tell. SSL_shutdown(3) looks for the answer too, and fails for good at data."""
        if self.is_half_written():
            return "broken"
        if self.layer.version() is None:  # in the handshake, or after an error
            return "skip" if self.layer.cipher() is None else "mute"
        if not self.discard():
            self.wire.collect()  # an alert: why it has failed
            with contextlib.suppress(OSError):
                self.wire.send()
            return "mute"
        return self.shut()

    def shut(self) -> str:
        try:
            self.layer.shutdown()
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            if _is_in_the_way(error):
                return "broken"
            # There is more input than may be thrown away.
            return "done" if self.wire.collect() else "mute"
        self.wire.collect()
        return "done"  # if there was nothing to send, the program had said it

    def is_half_written(self) -> bool:
        """Whether a record of the program's is: it stands in the way of everything else.

        Where OpenSSL can't be asked a write of nothing tells: not after the program's own unwrap(),
        see shut(), nor, from CPython 3.14.10 on, once the peer's end has come.
        """
        known = _openssl.is_half_written(self.layer)
        if known is not None:
            return known
        if self.layer.cipher() is None:  # a write would go on with the handshake
            return False
        try:
            self.layer.write(b"")
        except OSError as error:
            return _is_in_the_way(error)
        return False

    def discard(self) -> bool:
        """What is ahead of the answer; False: it is no TLS."""
        while (found := self.receive()).event == "bytes":
            self.early += found.bytes
        if found.event == "answer":
            self.engine.note_answer()
        return found.event != "broken"

    # ---- the answer ----

    def read(self) -> str:
        if self.early:  # first, and alone: more may have come meanwhile
            found, self.early = Read("bytes", self.early), 0
        else:
            found = self.receive()
        return self.engine.tell(found.event, bytes=found.bytes, error=found.error)

    def receive(self) -> Read:
        """Throw away what has come."""
        while True:
            try:
                data = self.layer.read(_CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if (found := self.feed()) is not None:
                    return found
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError:
                return Read("broken", 0, errno.EBADMSG)
            if data:
                self.left -= len(data)
                return Read("bytes", len(data))
            return Read("answer" if self.wire.fed or self.was_answer() else "end")

    def feed(self) -> Read | None:
        """Give OpenSSL what has come; None: there was something."""
        if self.left <= 0:
            return Read("end")  # what is left is only looked at
        try:
            came = self.wire.feed()
        except OSError as error:
            return Read("failed", 0, error.errno or errno.EIO)
        if came is None:
            return Read("again")
        return None if came else Read("end")

    def has_ended(self) -> bool:
        poll = select.poll()
        poll.register(self.engine.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def was_answer(self) -> bool:
        """Whether the end that the program has read was close_notify, if that can be known."""
        return self.exact or not self.has_ended()
