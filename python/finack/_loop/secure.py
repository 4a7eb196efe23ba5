# SPDX-License-Identifier: MIT
"""Which TLS connections of the loop are in C, and what of them is easier said in Python.

All that can be, unless FINACK_TLS is "python". TLS in C takes the SSL of an ordinary
ssl.SSLObject, which must be reachable, see _openssl.py. Where it isn't, and for classes that make
reading and writing anew, TLS is asyncio's sslproto over a transport in C all the same.
"""

import contextlib
import functools
import os
from asyncio import constants, sslproto, streams
from typing import Any

from finack import _core, _private
from finack._loop.streams import Streams, in_context
from finack._openssl import why_not
from finack._tls import ssl


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
        fits = (
            isinstance(one, ssl.SSLObject)
            and _private.same_tls(type(one), ssl.SSLObject)
            and _core.is_known_session(_private.session_of(one))
        )
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
            layer = self._layer(sslcontext, waiter, server_side, server_hostname, times, protocol)
            self._make_socket_transport(rawsock, layer, extra=extra, server=server, **more)
            return _private.above(layer)
        self._prepare(rawsock)
        tls = (one, sslcontext, *times, server_side)
        make = in_context(more.get("context"), self._make_tls_transport)
        return make(rawsock, protocol, waiter, extra, server, tls)

    def _layer(
        self, context: Any, waiter: Any, server: bool, name: Any, times: Any, protocol: Any
    ) -> Any:
        """TLS of asyncio's, over a transport in C."""
        made: Any = sslproto.SSLProtocol
        return made(
            self,
            protocol,
            context,
            waiter,
            server,
            name,
            ssl_handshake_timeout=times[0],
            ssl_shutdown_timeout=times[1],
        )

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
        if self._accepts_in_c(sock):
            times = ssl_handshake_timeout, ssl_shutdown_timeout
            tls = self._tls_in_c(sslcontext, *times) if sslcontext else None
            if tls or not sslcontext:
                self._serve(protocol_factory, sock, server, backlog, kwargs.get("context"), tls)
                return
        super()._start_serving(  # type: ignore[misc]
            protocol_factory,
            sock,
            sslcontext,
            server,
            backlog,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
            **kwargs,
        )

    def _tls_in_c(self, context: Any, handshake: Any, shutdown: Any) -> Any:
        """What makes TLS of the connections that are accepted; None: asyncio has to."""
        if not self._has_own("_make_ssl_transport"):
            return None
        times = _times(handshake, shutdown)
        wrap = functools.partial(self._wrap, context, True, None)
        probe = None
        with contextlib.suppress(Exception):  # it is each connection's to fail
            probe = wrap()
        if probe is None:
            return None
        layer = functools.partial(self._layer, context, None, True, None, times)
        return wrap, layer, context, *times

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
