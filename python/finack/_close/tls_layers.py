# SPDX-License-Identifier: MIT
"""The TLS layers of a transport, spoken through once the transport has let its socket go.

A loop ends TLS in its own way: it may hold close_notify back, drop what OpenSSL has written, or
stop reading. So the close says the farewell and reads the answer itself, by the transport's own
OpenSSL objects, on its own descriptor.

Of uvloop they are what its protocol refers to, as the garbage collector tells.
"""

import contextlib
import errno
import gc
import socket
from typing import Any, NamedTuple

from finack import _core, _private
from finack._close.bounded_tls import lowest
from finack._close.owners import InPlace
from finack._close.tls_wire import Read, Said
from finack._sockets.names import borrowed
from finack._sockets.transports import layers
from finack._tls import ssl

_CHUNK = 65536


class Layer(NamedTuple):
    """One layer of TLS, past its handshake."""

    tls: ssl.SSLObject
    incoming: Any
    outgoing: Any


class _InC:
    """What a session in C reads and writes, once its transport has let the socket go."""

    pending = 0  # the transport counts them

    def __init__(self, lower: "_core.Transport") -> None:
        self._lower = lower
        self.write = lower._feed
        lower._collect()  # from now on it is kept

    def read(self) -> bytes:
        return self._lower._collect()


class _Still(InPlace):
    """In place of the lowest layer's protocol, so that nothing more is written there."""

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass


class Stack:
    """The layers of one transport, the lowest first, and the transport that owns the socket."""

    def __init__(self, lower: Any, found: list[Layer]) -> None:
        self.lower = lower
        self._layers = found
        self._output = b""
        self._taken = False  # what OpenSSL writes is ours to send
        self._early = 0  # bytes of input that were thrown away before anybody asked

    def hold(self) -> None:
        """No input is read any more by the loop, so that it sees no end and drops nothing."""
        with contextlib.suppress(Exception):  # uvloop's refuses when it is closing
            self.lower.pause_reading()

    def pending(self) -> int:
        """Bytes below what the uppermost transport counts."""
        between: int = sum(layer.outgoing.pending for layer in self._layers[:-1])
        return between + self._below() + len(self._output)

    def send(self, fd: int) -> Said:
        """Give the kernel what the loop might not send any more."""
        if self.lower.is_closing():
            self._take()
            self._collect()
        if not self._output:
            return "done"
        if self._below():
            return "again"  # that comes first
        return self._send(fd)

    def _take(self) -> None:
        if not self._taken:
            self._taken = True
            with contextlib.suppress(Exception):  # it is gone
                self.lower.set_protocol(_Still(self.lower.get_protocol()))

    def _below(self) -> int:
        with contextlib.suppress(Exception):  # it is closed
            return int(self.lower.get_write_buffer_size())
        return 0

    def _collect(self) -> None:
        """What OpenSSL has written, through all layers."""
        data = b""
        for layer in reversed(self._layers):
            if data:
                layer.tls.write(data)
            data = layer.outgoing.read()
        self._output += data

    def _send(self, fd: int) -> Said:
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        with borrowed(fd) as sock, contextlib.suppress(BlockingIOError):
            self._output = self._output[sock.send(self._output, flags) :]
        return "again" if self._output else "done"

    # ---- the farewell ----

    def say_farewell(self) -> bool:
        """Write close_notify; False: it can't be said, in a handshake or after an error.

        If the transport has written it already, there is nothing more to write. SSL_shutdown(3)
        fails for good if input is ahead of the answer.
        """
        ahead = self._read(b"")
        self._early = ahead.bytes if ahead else 0
        try:
            self._layers[-1].tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (OSError, ValueError):
            return False
        self._collect()
        return True

    # ---- the answer ----

    def read(self, fd: int, most: int) -> Read:
        """Throw away what has come, and look for the peer's close_notify."""
        found = Read("bytes", self._early) if self._early else self._read(b"")
        self._early = 0
        while not found:
            if most <= 0:
                return Read("end")  # what is left is only looked at
            try:
                with borrowed(fd) as sock:
                    data = sock.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return Read("again")
            except OSError as error:
                return Read("failed", 0, error.errno or errno.EIO)
            if not data:
                return Read("end")
            found = self._read(data)
        return found

    def _read(self, data: bytes) -> Read | None:
        """Upwards through the layers; None: there is nothing for whoever is above."""
        try:
            for layer in self._layers:
                if data:
                    layer.incoming.write(data)
                data, ended = _plain(layer.tls)
                if ended and not data:
                    return Read("answer" if layer is self._layers[-1] else "end")
        except ssl.SSLError:
            return Read("broken", 0, errno.EBADMSG)
        return Read("bytes", len(data)) if data else None


def _plain(tls: ssl.SSLObject) -> tuple[bytes, bool]:
    """All that can be read, and whether close_notify is behind it."""
    parts = []
    try:
        while part := tls.read(_CHUNK):
            parts.append(part)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return b"".join(parts), False
    except ssl.SSLZeroReturnError:
        pass
    return b"".join(parts), True


def stack_of(transport: Any) -> Stack | None:
    """None: there is no TLS, or not yet, or it is of a kind that is not known."""
    found = _of_uvloop(transport) if _knows_uvloop(transport) else _of_asyncio(transport)
    if found and all(layer.tls.version() for layer in found._layers):
        return found
    return None


def was_cut(transport: Any) -> bool:
    """Whether asyncio's TLS met the peer's FIN without close_notify before, and ended by that."""
    layer = _private.layer_of(transport)
    tls = _private.tls_of(layer)[0] if layer and _private.has_met_fin(layer) else None
    if tls is None or tls.version() is None:
        return False
    with contextlib.suppress(ssl.SSLError):
        return not _plain(tls)[1]
    return False


def _of_asyncio(transport: Any) -> Stack | None:
    lower = lowest(transport)
    if not hasattr(lower, "get_protocol"):
        return None
    protocols = layers(lower)
    found = [Layer(*tls) for tls in map(_private.tls_of, protocols) if tls[0]]
    if not found or len(found) != len(protocols):
        return None
    if isinstance(lower, _core.Transport) and lower._is_tls:
        wire = _InC(lower)
        found.insert(0, Layer(lower.get_extra_info("ssl_object"), wire, wire))
    return Stack(lower, found)


def _knows_uvloop(transport: Any) -> bool:
    return _protocol_of_uvloop(transport) is not None


def _protocol_of_uvloop(transport: Any) -> Any:
    with contextlib.suppress(AttributeError):
        return transport.get_extra_info("uvloop.sslproto")
    return None


def _of_uvloop(transport: Any) -> Stack | None:
    found: list[Layer] = []
    while (protocol := _protocol_of_uvloop(transport)) is not None:
        members = gc.get_referents(protocol)
        tls = [member for member in members if isinstance(member, ssl.SSLObject)]
        incoming, outgoing = _bio(members, "write"), _bio(members, "read")
        below = [member for member in members if _is_below(member, protocol)]
        if not (tls and incoming and outgoing and below):
            return None
        found.insert(0, Layer(tls[0], incoming, outgoing))
        transport = below[0]
    return Stack(transport, found)


def _bio(members: list[Any], method: str) -> ssl.MemoryBIO | None:
    """The one of which it keeps this method."""
    for member in members:
        owner = getattr(member, "__self__", None)
        if isinstance(owner, ssl.MemoryBIO) and member.__name__ == method:
            return owner
    return None


def _is_below(member: Any, protocol: Any) -> bool:
    """Whether it is a transport, and not the one above, which leads to the protocol too."""
    kind = type(member)
    if not kind.__module__.startswith("uvloop") or not hasattr(kind, "get_write_buffer_size"):
        return False
    return _protocol_of_uvloop(member) is not protocol
