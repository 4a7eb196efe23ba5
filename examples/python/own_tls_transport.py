#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A TLS transport of one's own, over PyOpenSSL, that ends before its loop does.

usage: own_tls_transport.py HOST PORT CAFILE

Its close() returns at once and only schedules callbacks: close_notify must be sent, and the peer's
awaited, for which the loop has to go on. A program that closes the transport and ends, as those do
whose HTTP client doesn't wait, would cut that. finack.hold() keeps the loop for it, within the
bounds of the policy.
"""

import asyncio
import sys
from collections.abc import Callable

from OpenSSL import SSL

import finack

ANSWER_TIMEOUT = 3.0  # seconds


class TLSTransport(asyncio.Transport, asyncio.Protocol):
    """A transport to the protocol above, and a protocol to the transport below."""

    def __init__(self, connection: SSL.Connection, protocol: asyncio.Protocol) -> None:
        """Begin with connection_made()."""
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._protocol = protocol
        self._closing = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.ready: asyncio.Future[None] = self._loop.create_future()

    # ---- from below ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._below = transport
        self._connection.set_connect_state()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """TLS records, whole or not."""
        self._connection.bio_write(data)
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The one below is closed: so is this one."""
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionResetError("closed in the handshake"))
        else:
            self._protocol.connection_lost(exc)
        self._ended.set_result(None)

    def _go_on(self) -> None:
        try:
            if not self.ready.done():
                self._connection.do_handshake()
                self.ready.set_result(None)
                self._protocol.connection_made(self)
            while True:
                data = self._connection.recv(65536)
                if not self._closing:
                    self._protocol.data_received(data)
        except SSL.WantReadError:
            self._flush()
        except SSL.ZeroReturnError:  # the peer's close_notify
            self._flush()
            self._loop.call_soon(self._answered)
        except SSL.Error:
            self._flush()
            self._below.abort()

    def _flush(self) -> None:
        try:
            while True:
                self._below.write(self._connection.bio_read(65536))
        except SSL.WantReadError:
            pass  # that was all

    # ---- from above ----

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send in records."""
        if not self._closing:
            self._connection.sendall(data)
            self._flush()

    def is_closing(self) -> bool:
        """Whether close() was called."""
        return self._closing

    def close(self) -> None:
        """Only schedule; what comes is awaited by nobody but the loop."""
        if not self._closing:
            self._closing = True
            finack.hold(self._ended)
            self._loop.call_soon(self._notify)

    def abort(self) -> None:
        """Don't say goodbye."""
        self._closing = True
        self._below.abort()

    # ---- the close, step by step ----

    def _notify(self) -> None:
        self._connection.shutdown()
        self._flush()
        self._timer = self._loop.call_later(ANSWER_TIMEOUT, self._below.close)
        self._ended.add_done_callback(lambda _: self._timer.cancel())

    def _answered(self) -> None:
        self.close()
        self._loop.call_soon(self._below.close)


async def connect(
    factory: Callable[[], asyncio.Protocol], host: str, port: int, context: SSL.Context
) -> TLSTransport:
    """Like loop.create_connection()."""
    connection = SSL.Connection(context, None)
    connection.set_tlsext_host_name(host.encode())
    _, transport = await asyncio.get_running_loop().create_connection(
        lambda: TLSTransport(connection, factory()), host, port
    )
    await transport.ready
    return transport


class Fetch(asyncio.Protocol):
    """Says what it is told."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Is called once."""
        print("connection made")
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Take the first piece."""
        if not self.answer.done():
            self.answer.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Is called once too."""
        print(f"connection lost: {exc}")


async def main(host: str, port: int, authority: str) -> None:
    """Ask for a page, close, and don't wait."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(authority)
    context.set_verify(SSL.VERIFY_PEER)
    fetch = Fetch()
    transport = await connect(lambda: fetch, host, port, context)
    transport.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    print((await fetch.answer).split(b"\r\n")[0].decode())
    transport.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    finack.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
