# SPDX-License-Identifier: MIT
"""TLS of asyncio's own kind, whose close ends by ssl_shutdown_timeout in any case.

asyncio cancels its timer as soon as the peer's close_notify is there, and has none where the peer
ended without one. All that is private to asyncio.sslproto and used here is the same in CPython 3.11
to 3.13.
"""

import asyncio
import contextlib
from asyncio import sslproto
from typing import Any

from finack import _core
from finack._transports import layers

_CLOSING = (sslproto.SSLProtocolState.FLUSHING, sslproto.SSLProtocolState.SHUTDOWN)


class BoundedTLS(sslproto.SSLProtocol):
    """The timer runs from close() until the transport below has let go."""

    _loop: Any
    _transport: Any
    _shutdown_timeout_handle: Any
    _ssl_shutdown_timeout: float

    def _start_shutdown(self) -> None:
        super()._start_shutdown()
        self._arm()

    def _on_shutdown_complete(self, shutdown_exc: BaseException | None) -> None:
        """Keep the timer, which the stock method would cancel."""
        self._arm()
        timer, self._shutdown_timeout_handle = self._shutdown_timeout_handle, None
        super()._on_shutdown_complete(shutdown_exc)  # type: ignore[misc]
        self._shutdown_timeout_handle = timer

    def _arm(self) -> None:
        if self._shutdown_timeout_handle is None and self._transport is not None:
            self._shutdown_timeout_handle = self._loop.call_later(
                self._ssl_shutdown_timeout, self._check_shutdown_timeout
            )

    def _check_shutdown_timeout(self) -> None:
        self._shutdown_timeout_handle = None
        if self._transport is not None:
            cut(lowest(self._transport), TimeoutError("SSL shutdown timed out"))


def bound(transport: Any) -> Any:
    """Make the close of this transport one with a bound, if it is TLS of asyncio's own kind."""
    protocol: Any = getattr(transport, "_ssl_protocol", None)
    if getattr(protocol, "__class__", None) is sslproto.SSLProtocol:
        protocol.__class__ = BoundedTLS
        if transport.is_closing() or protocol._state in _CLOSING:
            protocol._arm()
    return transport


def lowest(transport: Any) -> Any:
    """The transport that owns the socket."""
    while (protocol := getattr(transport, "_ssl_protocol", None)) and protocol._transport:
        transport = protocol._transport
    return transport


def is_closing(lower: Any) -> bool:
    """Whether the close of this connection is in progress, be it in a layer above."""
    if lower.is_closing():
        return True
    protocol = lower.get_protocol()
    for layer in layers(lower):
        above = layer._app_transport
        if layer._state in _CLOSING or (above is not None and above.is_closing()):
            return True
        protocol = layer._app_protocol
    return isinstance(protocol, asyncio.BaseTransport) and protocol.is_closing()


def unsent(lower: Any) -> int:
    """Bytes that the kernel doesn't have yet, those in TLS layers included."""
    above: int = sum(layer._get_write_buffer_size() for layer in layers(lower))
    return above + int(lower.get_write_buffer_size())


def cut(lower: Any, error: Exception | None = None) -> None:
    """Have it released in the next turn; with bytes unsent the peer gets RST: FIN would lie."""
    if unsent(lower):
        sock = lower.get_extra_info("socket")
        with contextlib.suppress(OSError):  # what is no stream can't be reset
            _core.reset(sock.fileno())
    lower._force_close(error)
