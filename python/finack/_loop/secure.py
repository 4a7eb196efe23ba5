# SPDX-License-Identifier: MIT
"""Which TLS connections of the loop are in C, and what of them is easier said in Python.

All that can be, unless FINACK_TLS is "python". TLS in C takes the SSL of an ordinary
ssl.SSLObject, which must be reachable, see _openssl.py. Where it isn't, and for classes that make
reading and writing anew, TLS is asyncio's sslproto over a transport in C all the same.
"""

import contextlib
import functools
import os
from asyncio import constants, streams
from collections.abc import Hashable
from typing import Any

from finack import _core, _private
from finack._loop.streams import Streams, in_context
from finack._openssl import why_not
from finack._tls import ssl


@functools.cache
def _is_plain(kind: Hashable) -> bool:
    """Does OpenSSL alone read and write for this kind of SSLObject?"""
    return (
        isinstance(kind, type)
        and issubclass(kind, ssl.SSLObject)
        and _private.same_tls(kind, ssl.SSLObject)
    )


class Secure(Streams):
    """A loop whose TLS connections are in C too, where that can be."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As asyncio's; FINACK_TLS is looked at."""
        self._wants_tls = os.environ.get("FINACK_TLS") != "python"
        super().__init__(*args, **kwargs)

    @property
    def tls(self) -> str:
        """How TLS is done: "c", or "python", by asyncio's sslproto."""
        return "c" if self._wants_tls and self._native and why_not() is None else "python"

    # ---- making ----

    def _wrap(self, context: Any, server_side: bool, hostname: Any) -> Any:
        """An SSLObject whose session is one for C, else None.

        What somebody raises who is told of its messages is raised by CPython's own methods alone.
        """
        if self.tls != "c" or not self._in_c or _private.watches_tls(context):
            return None
        one = context.wrap_bio(
            ssl.MemoryBIO(),
            ssl.MemoryBIO(),
            server_side=server_side,
            server_hostname=None if server_side else hostname or None,
        )
        kind: Any = type(one)
        fits = _is_plain(kind) and _core.is_known_session(_private.session_of(one))
        return one if fits else None

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: Any = None,
        extra: Any = None,
        server: Any = None,
        ssl_handshake_timeout: Any = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: Any = constants.SSL_SHUTDOWN_TIMEOUT,
        **more: Any,
    ) -> Any:
        times = _times(ssl_handshake_timeout, ssl_shutdown_timeout)
        if not sslcontext:
            sslcontext = _private.default_context(server_side=server_side, hostname=server_hostname)
        one = self._wrap(sslcontext, server_side, server_hostname)
        if one is None or not self._plain:
            return super()._make_ssl_transport(
                rawsock,
                protocol,
                sslcontext,
                waiter,
                server_side=server_side,
                server_hostname=server_hostname,
                extra=extra,
                server=server,
                ssl_handshake_timeout=times[0],
                ssl_shutdown_timeout=times[1],
                **more,
            )
        self._prepare(rawsock)
        tls = (one, sslcontext, *times, server_side)
        make = self._make_tls_transport
        if (context := more.get("context")) is not None:
            make = in_context(context, make)
        return make(rawsock, protocol, waiter, extra, server, tls)

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: Any = None,
        ssl_handshake_timeout: Any = None,
        ssl_shutdown_timeout: Any = None,
    ) -> Any:
        """As in asyncio; a transport in C is its own successor. None: it was closed meanwhile."""
        if type(transport) is _core.Transport and isinstance(sslcontext, ssl.SSLContext):
            times = _times(ssl_handshake_timeout, ssl_shutdown_timeout)
            one = self._wrap(sslcontext, server_side, server_hostname)
            if one is not None:
                waiter = self.create_future()
                early = _early(protocol) if server_side else bytearray()
                tls = (one, sslcontext, *times, server_side)
                if transport._start_tls(protocol, waiter, bytes(early), tls):
                    early.clear()
                    try:
                        await waiter
                    except BaseException:
                        transport.close()
                        raise
                    finally:
                        del waiter  # its error's traceback would lead back to it
                    return transport if transport.get_extra_info("ssl_object") else None
        return await super().start_tls(
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    def _start_serving(
        self,
        protocol_factory: Any,
        sock: Any,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: Any = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: Any = constants.SSL_SHUTDOWN_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        if sslcontext and self._accepts_in_c(sock) and self._has_own("_make_ssl_transport"):
            times = _times(ssl_handshake_timeout, ssl_shutdown_timeout)
            wrap = functools.partial(self._wrap, sslcontext, True, None)
            probe = None
            with contextlib.suppress(Exception):  # it is each connection's to fail
                probe = self._wrap(sslcontext, True, None)
            if probe is not None:
                layer = functools.partial(self._layer, sslcontext, None, True, None, times)
                tls = (wrap, layer, sslcontext, *times)
                self._serve(protocol_factory, sock, server, backlog, kwargs.get("context"), tls)
                return
        super()._start_serving(
            protocol_factory,
            sock,
            sslcontext,
            server,
            backlog,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
            **kwargs,
        )

    def _has_own(self, name: str) -> bool:
        """Not a subclass of the program's."""
        owner = next(kind for kind in type(self).__mro__ if name in kind.__dict__)
        return name not in self.__dict__ and owner.__module__.startswith("finack.")

    def _eof_has_no_effect(self) -> None:
        _private.tls_logger().warning(
            "returning true from eof_received() has no effect when using ssl"
        )


def _times(handshake: Any, shutdown: Any) -> tuple[float, float]:
    """As asyncio takes them."""
    if handshake is None:
        handshake = constants.SSL_HANDSHAKE_TIMEOUT
    elif handshake <= 0:
        raise ValueError(f"ssl_handshake_timeout should be a positive number, got {handshake}")
    if shutdown is None:
        shutdown = constants.SSL_SHUTDOWN_TIMEOUT
    elif shutdown <= 0:
        raise ValueError(f"ssl_shutdown_timeout should be a positive number, got {shutdown}")
    return handshake, shutdown


def _early(protocol: Any) -> bytearray:
    """What a stream has read already belongs to the handshake; asyncio came to that in 3.15."""
    ahead = _private.read_ahead(protocol)
    if ahead is None or not isinstance(protocol, streams.StreamReaderProtocol):
        return bytearray()
    return ahead
