# SPDX-License-Identifier: MIT
"""An EventLoop that notes every close of its transports, from close() to the release.

What is private to asyncio's transports and used here is the same in CPython 3.11 to 3.13: a
transport on a socket ends in `_call_connection_lost`, which closes `_sock`, and is forced there by
`_force_close`.
"""

import time
from asyncio import sslproto
from typing import Any, NamedTuple

from finack import _aclose, _core, _recent
from finack._loop import EventLoop
from finack._names import name_of
from finack._receipt import Outcome, Phase, Receipt
from finack._tls import lowest, unsent
from finack._transports import uppermost

_UNKNOWN = frozenset({"shut", "acked", "eof", "unreferenced"})


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
        driven = _aclose.is_at_work(uppermost(self))  # and has a receipt of its own
        try:
            super()._call_connection_lost(exc)  # type: ignore[misc]
        finally:
            if not driven:
                self._note(exc)

    def _note(self, exc: BaseException | None) -> None:
        made, begun = self._finack_made, self._finack_begun or 0.0
        stages = {"requested": 0.0}
        if not _core.is_same(self._sock_fd, made.identity):
            stages["released"] = time.monotonic() - begun
        outcome, phase = _judge(exc, self._finack_forced)
        receipt = Receipt(
            outcome=outcome,
            phase=phase,
            end="kernel",
            stages=stages,
            unverifiable=_UNKNOWN,
            unsent=self._finack_unsent,
            error=exc if isinstance(exc, OSError) else None,
            socket=made.socket,
        )
        _recent.note(receipt, made.identity)


def _judge(exc: BaseException | None, forced: bool) -> tuple[Outcome, Phase | None]:
    match exc:
        case None:
            return ("aborted", None) if forced else ("prompt", None)
        case TimeoutError():
            return "timed_out", "farewell"
        case ConnectionError():
            return "reset", None
        case _:
            return "error", None


class _TimedLayer:
    """Before the class of a TLS transport: the close begins here."""

    def close(self) -> None:
        _begin(lowest(self))
        super().close()  # type: ignore[misc]

    def abort(self) -> None:
        _begin(lowest(self))
        super().abort()  # type: ignore[misc]


def _begin(lower: Any) -> None:
    if isinstance(lower, _Timed):
        lower._begin()


def _timed_class(kind: type) -> type:
    first = _TimedLayer if issubclass(kind, sslproto._SSLProtocolTransport) else _Timed
    return type(kind.__name__, (first, kind), {"__module__": kind.__module__})


_classes: dict[type, type] = {}


def _timed(transport: Any) -> Any:
    kind = type(transport)
    if not issubclass(kind, _Timed | _TimedLayer):
        if kind not in _classes:
            _classes[kind] = _timed_class(kind)
        transport.__class__ = _classes[kind]
    if isinstance(transport, _Timed):
        fd = transport._sock_fd
        transport._finack_made = _Made(_core.identify(fd), name_of(fd))
    return transport


class TimedLoop(EventLoop):
    """As EventLoop; closes that nobody awaits are noted too."""

    def _make_socket_transport(self, *args: Any, **kwargs: Any) -> Any:
        return _timed(super()._make_socket_transport(*args, **kwargs))  # type: ignore[misc]

    def _make_datagram_transport(self, *args: Any, **kwargs: Any) -> Any:
        return _timed(super()._make_datagram_transport(*args, **kwargs))  # type: ignore[misc]

    def _make_ssl_transport(self, sock: Any, *args: Any, **kwargs: Any) -> Any:
        upper = super()._make_ssl_transport(sock, *args, **kwargs)
        _timed(self._transports[sock.fileno()])
        return _timed(upper)

    async def start_tls(self, *args: Any, **kwargs: Any) -> Any:
        """As in asyncio."""
        return _timed(await super().start_tls(*args, **kwargs))
