# SPDX-License-Identifier: MIT
"""An EventLoop that notes every close of its transports, from close() to the release."""

import functools
import time
from dataclasses import replace
from typing import Any, NamedTuple

from finack import _core, _private
from finack._close import aclose
from finack._close.bounded_tls import lowest, unsent
from finack._close.unseen import kind_of, unseen
from finack._loop.loop import EventLoop
from finack._policy import Policy
from finack._report.recent import recent
from finack._sockets.names import name_of
from finack._sockets.transports import transport_with, uppermost

_PROMPT, _ABORT = Policy(courtesy="prompt"), Policy(courtesy="abort")


class _Made(NamedTuple):
    """What is not to be had any more when the other end has gone."""

    identity: "_core.Identity"
    socket: str


class _Timed:
    """Before the class of a transport that owns a socket."""

    _sock: Any
    _sock_fd: int
    _finack_made: _Made
    _finack_begun: float | None = None
    _finack_forced = False
    _finack_unsent = 0

    def _begin(self) -> None:
        if self._finack_begun is None:
            self._finack_begun = time.monotonic()

    def close(self) -> None:
        self._begin()
        super().close()  # type: ignore[misc]

    def _force_close(self, exc: BaseException | None) -> None:
        self._begin()
        if not self._finack_forced:
            self._finack_forced = True
            self._finack_unsent = unsent(self)
        super()._force_close(exc)  # type: ignore[misc]

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        self._begin()
        driven = aclose.is_at_work(uppermost(self))  # and has a receipt of its own
        try:
            super()._call_connection_lost(exc)  # type: ignore[misc]
        finally:
            if not driven:
                self._note(exc)

    def _note(self, exc: BaseException | None) -> None:
        made, begun = self._finack_made, self._finack_begun or 0.0
        receipt = unseen(
            _ABORT if exc is None and self._finack_forced else _PROMPT,
            kind_of(self),
            begun,
            None if _core.is_same(self._sock_fd, made.identity) else time.monotonic(),
            why=exc,
            name=made.socket,
        )
        receipt = replace(receipt, unsent=self._finack_unsent)
        if isinstance(exc, OSError):
            receipt = replace(receipt, error=exc)
        recent.note(receipt, made.identity)


class _TimedLayer:
    """Before the class of a TLS transport: the close begins here."""

    def close(self) -> None:
        _begin(lowest(self))
        super().close()  # type: ignore[misc]

    def abort(self) -> None:
        _begin(lowest(self))
        super().abort()  # type: ignore[misc]


def _begin(lower: Any) -> None:
    if isinstance(lower, _Timed | _core.SocketTransport):
        lower._begin()


@functools.cache
def _timed_class(kind: type) -> type:
    first = _TimedLayer if issubclass(kind, _private.TlsTransport) else _Timed
    return type(kind.__name__, (first, kind), {"__module__": kind.__module__})


def _timed(transport: Any) -> Any:
    kind = type(transport)
    if isinstance(transport, _core.SocketTransport):
        return transport  # its closes have receipts
    if not issubclass(kind, _Timed | _TimedLayer):
        transport.__class__ = _timed_class(kind)  # type: ignore[arg-type]
    if isinstance(transport, _Timed):
        fd = _private.own_fd(transport)
        transport._finack_made = _Made(_core.identify(fd), name_of(fd))
    return transport


class TimedLoop(EventLoop):
    """As EventLoop; closes that nobody awaits are noted too."""

    @property
    def _in_c(self) -> bool:  # type: ignore[override]
        """Otherwise the class of a transport is changed."""
        return self._by_policy

    def _make_socket_transport(self, *args: Any, **kwargs: Any) -> Any:
        return _timed(super()._make_socket_transport(*args, **kwargs))

    def _make_datagram_transport(self, *args: Any, **kwargs: Any) -> Any:
        return _timed(super()._make_datagram_transport(*args, **kwargs))

    def _make_ssl_transport(self, sock: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        upper = super()._make_ssl_transport(sock, *args, **kwargs)
        _timed(transport_with(self, sock.fileno()))
        return _timed(upper)

    async def start_tls(self, *args: Any, **kwargs: Any) -> Any:
        """As in asyncio."""
        return _timed(await super().start_tls(*args, **kwargs))
