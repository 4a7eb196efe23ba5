# SPDX-License-Identifier: MIT
"""TLS of asyncio's own kind, whose close ends by ssl_shutdown_timeout in any case.

asyncio cancels its timer as soon as the peer's close_notify is there, and has none where the peer
ended without one.
"""

import asyncio
import contextlib
from asyncio import sslproto
from typing import Any

from finack import _core, _private
from finack._close.owners import number_of
from finack._sockets.transports import layers


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
        """Keep the timer, which the stock method would cancel; since 3.14.10 it makes another."""
        self._arm()
        timer, self._shutdown_timeout_handle = self._shutdown_timeout_handle, None
        super()._on_shutdown_complete(shutdown_exc)  # type: ignore[misc]
        if self._shutdown_timeout_handle is not None:
            self._shutdown_timeout_handle.cancel()
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
    protocol = _private.layer_of(transport)
    if getattr(protocol, "__class__", None) is sslproto.SSLProtocol:
        protocol.__class__ = BoundedTLS
        if transport.is_closing() or _private.ends(protocol):
            protocol._arm()
    return transport


def lowest(transport: Any) -> Any:
    """The transport that owns the socket."""
    while (layer := _private.layer_of(transport)) and (lower := _private.below(layer)):
        transport = lower
    return transport


def is_closing(lower: Any) -> bool:
    """Whether the close of this connection is in progress, be it in a layer above."""
    if lower.is_closing():
        return True
    protocol = lower.get_protocol()
    for layer in layers(lower):
        above = _private.above(layer)
        if _private.ends(layer) or (above is not None and above.is_closing()):
            return True
        protocol = _private.protocol_above(layer)
    return isinstance(protocol, asyncio.BaseTransport) and protocol.is_closing()


def unsent(lower: Any) -> int:
    """Bytes that the kernel doesn't have yet, those in TLS layers included."""
    above: int = sum(_private.buffered(layer) for layer in layers(lower))
    return above + int(lower.get_write_buffer_size())


def drop(lower: Any, fd: int, *, reset: bool = False) -> int:
    """How many bytes the kernel won't be given any more.

    If there are any, or if asked to, the close ends in RST: a FIN would say that the peer has
    everything.
    """
    left = 0
    with contextlib.suppress(AttributeError):  # nothing is behind it any more
        left = unsent(lower)
    if left or reset:
        with contextlib.suppress(OSError):  # closed, or no stream
            _core.reset(fd)
    return left


def cut(lower: Any, error: Exception | None = None) -> None:
    """Have it released in the next turn; with bytes unsent the peer gets RST."""
    drop(lower, number_of(lower))
    _private.force_close(lower, error)
