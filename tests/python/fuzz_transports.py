# SPDX-License-Identifier: MIT
"""What fuzz_core.py does to transports in C: streams, plain and with TLS, and datagrams.

Their loops are turned by hand.
"""

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import finack
from finack import _core

SIZES = (0, 1, 100, 20_000, 70_000, 500_000)
UNIX = socket.AF_UNIX
HOSTS: dict[int, Any] = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0), UNIX: ""}
INFO = ("socket", "sockname", "peername", "peercert", "cipher", "ssl_object", "sslcontext", "x")


class Protocol(asyncio.Protocol):
    """Answers each call by calls of its own."""

    def __init__(self, chaos: Any) -> None:
        self.chaos = chaos

    def __del__(self) -> None:
        self.chaos.disturb()

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name != "chaos":
            self.chaos.disturb()  # while the loop looks a method up
        return object.__getattribute__(self, name)

    def connection_made(self, transport: Any) -> None:
        self.chaos.keep(transport)
        self.chaos.disturb()

    def data_received(self, data: bytes) -> None:
        self.chaos.disturb()

    def eof_received(self) -> Any:
        self.chaos.disturb()
        return self.chaos.choice([True, False, None, self.chaos.evil()])

    def pause_writing(self) -> None:
        self.chaos.disturb()

    def resume_writing(self) -> None:
        self.chaos.disturb()

    def connection_lost(self, error: BaseException | None) -> None:
        self.chaos.disturb()


class Datagrams(Protocol):
    """That of a datagram transport."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.chaos.disturb()

    def error_received(self, error: Exception) -> None:
        self.chaos.disturb()


class Buffered(Protocol, asyncio.BufferedProtocol):
    """With a buffer of its own."""

    def get_buffer(self, hint: int) -> Any:
        self.chaos.disturb()
        sizes = [bytearray(size) for size in (1, 3, 10, 70_000)]
        return self.chaos.choice([*sizes, b"", None, self.chaos.evil()])

    def buffer_updated(self, count: int) -> None:
        self.chaos.disturb()


def protocol(chaos: Any) -> Any:
    if chaos.likely(0.1):
        return chaos.evil()
    return chaos.choice([Protocol, Protocol, Buffered])(chaos)


# ---- making ----


def secure(chaos: Any, server_side: bool) -> ssl.SSLContext:
    """With callbacks, which run inside of OpenSSL.

    What stays of a round, transports and descriptors too, is CPython's: of the exceptions that
    _msg_callback raises in one call of OpenSSL it keeps the last, and never lets go of the others.
    """
    made = chaos.certificate
    context: ssl.SSLContext = made.server_context() if server_side else made.client_context()
    if chaos.likely(0.3):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if chaos.likely(0.3):
        context._msg_callback = lambda *_: disturb_unraised(chaos)  # type: ignore[attr-defined]
    if server_side and chaos.likely(0.5):
        context.sni_callback = lambda *_: chaos.disturb()
    return context


def disturb_unraised(chaos: Any) -> None:
    """CPython 3.15 calls the next callback while the exception of this one is set."""
    try:
        chaos.disturb()
    except Exception:
        if sys.version_info < (3, 15):
            raise


def transports(chaos: Any) -> Any:
    """Both ends of a connection, on one loop or two."""
    ends = socket.socketpair()
    kinds = chaos.choice([(False, False), (True, True), (True, True), (True, False)])
    made = None
    try:
        for end, encrypted, server_side in zip(ends, kinds, (False, True), strict=True):
            end.setblocking(False)
            if chaos.likely(0.3):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            loop = chaos.thing(finack.EventLoop)
            if made is None or chaos.likely(0.9):
                made = make(chaos, loop, end, encrypted, server_side)
            else:
                chaos.keep(end)
    except BaseException:
        for end in ends:
            with suppress(OSError):
                end.close()
        raise
    return made


def make(chaos: Any, loop: Any, sock: socket.socket, encrypted: bool, server_side: bool) -> Any:
    if not encrypted:
        return loop._make_socket_transport(sock, protocol(chaos))
    made = loop._make_ssl_transport(
        sock,
        protocol(chaos),
        secure(chaos, server_side),
        loop.create_future(),
        server_side=server_side,
        server_hostname=None if server_side else "localhost",
        ssl_handshake_timeout=chaos.choice([60, 0.001]),
        ssl_shutdown_timeout=chaos.choice([60, 0.001]),
    )
    return made


def odd_transport(chaos: Any) -> Any:
    """With arguments that no program gives."""
    loop, sock = chaos.thing(finack.EventLoop), chaos.thing(socket.socket)
    sock.setblocking(False)
    return loop._make_transport(
        sock,
        protocol(chaos),
        chaos.choice([None, None, loop.create_future(), chaos.evil()]),
        chaos.choice([None, {}, chaos.evil()]),
        chaos.choice([None, None, chaos.evil()]),
    )


def begin_tls(chaos: Any) -> None:
    """On one that is plain, or is used already."""
    transport = chaos.thing(_core.Transport)
    server_side = chaos.likely(0.5)
    context = secure(chaos, server_side)
    name = None if server_side else "localhost"
    session = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side, name)
    given = chaos.choice([session, session, session, chaos.thing(), None])
    future = transport._loop.create_future()
    transport._start_tls(protocol(chaos), future, b"", (given, context, 60, 60, server_side))


def datagrams(chaos: Any) -> Any:
    """Some that send to each other; a full queue of a Unix socket holds them up."""
    family = chaos.choice([*HOSTS])
    ends = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
    made = None
    for end in ends:
        end.setblocking(False)
        with suppress(OSError):  # no IPv6
            end.bind(HOSTS[family])
    for end, other in zip(ends, reversed(ends), strict=True):
        if chaos.likely(0.3):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        if chaos.likely(0.5):
            end.connect(other.getsockname())
        if chaos.likely(0.1):
            end.shutdown(chaos.choice([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))
        loop = chaos.thing(finack.EventLoop)
        if loop is None or chaos.likely(0.2):
            chaos.keep(end)
            continue
        address = chaos.choice([None, None, other.getsockname(), chaos.evil()])
        waiter = chaos.choice([None, loop.create_future(), chaos.evil()])
        extra = chaos.choice([None, {}, {chaos.evil(): 1, "peername": chaos.evil()}, chaos.evil()])
        used = chaos.choice([Datagrams(chaos), Datagrams(chaos), protocol(chaos)])
        made = loop._make_datagram_transport(end, used, address, waiter, extra)
        chaos.keep(made)
    return made


# ---- using ----


def data(chaos: Any) -> Any:
    filled = bytes(chaos.choice(SIZES))
    kinds = [filled, filled, filled, memoryview(filled), bytearray(filled)]
    return chaos.choice([*kinds, chaos.evil(), chaos.thing(), None])


def send_to(chaos: Any) -> None:
    transport, other = (chaos.thing(_core.DatagramTransport) for _ in range(2))
    name = other.get_extra_info("sockname")
    odd = [("127.0.0.1", 10**20), ("127.0.0.1\0", 9), ("::1", 1, 2, 3), (), "x" * 300, b"\0x"]
    others = [None, chaos.thing(), chaos.evil(), ("::1", chaos.evil()), chaos.choice(odd)]
    for _ in range(chaos.choice([1, 1, 20])):
        transport.sendto(data(chaos), chaos.choice([name, name, name, *others]))


def write(chaos: Any) -> None:
    transport = chaos.thing(_core.Transport)
    if chaos.likely(0.7):
        transport.write(data(chaos))
    else:
        transport.writelines([data(chaos) for _ in range(chaos.choice([0, 2, 70]))])


def use_transport(chaos: Any) -> Any:
    transport: Any = chaos.thing(_core.SocketTransport)  # streams alone have some of these
    limits = [chaos.choice([None, 0, 10, 400_000, chaos.evil()]) for _ in range(2)]
    wanted: Callable[[], Any] = chaos.choice(
        [
            *(2 * [lambda: transport.close()]),
            lambda: transport.abort(),
            lambda: transport.write_eof(),
            lambda: transport.pause_reading(),
            *(2 * [lambda: transport.resume_reading()]),
            lambda: transport.set_protocol(chaos.choice([protocol(chaos), chaos.thing()])),
            lambda: transport.set_write_buffer_limits(*limits),
            lambda: transport.get_write_buffer_size() and None,
            lambda: transport.get_extra_info(chaos.choice([*INFO, chaos.evil()]), chaos.evil()),
            lambda: setattr(
                transport, "_extra", chaos.choice([{}, {chaos.evil(): 1}, chaos.evil()])
            ),
            lambda: repr(transport) and None,
            lambda: transport._force_close(
                chaos.choice([None, OSError(5, "x"), chaos.evil(), chaos.thing()])
            ),
            lambda: transport._call_connection_lost(chaos.choice([None, OSError(), ValueError()])),
            lambda: transport._close_by(chaos.policy(), chaos.thing(finack.EventLoop)),
            lambda: transport._make_empty_waiter(),
            lambda: transport._reset_empty_waiter(),
            lambda: transport._lend(),
            lambda: transport._take_back(),
            lambda: transport._close_plainly(),
            lambda: transport._begin(),
            lambda: transport._deadline(),
            lambda: transport._try_again(),
            lambda: transport._collect() and None,
            lambda: transport._feed(bytes(10)),
            lambda: transport._ending,
        ]
    )
    return wanted()


def use_ending(chaos: Any) -> Any:
    ending = chaos.thing(_core.SocketTransport)._ending if chaos.likely(0.5) else None
    ending = ending or chaos.thing(_core.Ending)
    return chaos.choice(
        [
            lambda: ending.wait(),
            lambda: next(ending.__await__()),
            lambda: ending.__await__().close(),
            lambda: ending.__await__().throw(KeyError()),
            lambda: ending.abort(),
            lambda: ending.receipt() and None,
            lambda: ending.names() and None,
            lambda: repr((ending.identity, ending.prompt, ending.over)) and None,
            lambda: ending.force(),
            lambda: ending(),
        ]
    )()


def use_connections(chaos: Any) -> Any:
    loop, sock = chaos.thing(finack.EventLoop), chaos.thing(socket.socket)
    odd = chaos.evil()
    factory = chaos.choice([lambda: protocol(chaos), odd])
    wanted: Callable[[], Any] = chaos.choice(
        [
            lambda: loop._serve(factory, sock, None, chaos.choice([0, 1, 100]), None, None),
            lambda: loop._serve(factory, chaos.file(), odd, 9, odd, odd),
            lambda: loop._unserve(chaos.number()),
            lambda: loop._connect(factory, *sock.getsockname()),
            lambda: loop._connect(factory, "127.0.0.1", 1),
            lambda: loop._set_close(chaos.choice([None, chaos.policy()]), chaos.choice([0, 2, 3])),
            lambda: loop._force_closes(),
            lambda: loop._records() and None,
            lambda: chaos.choice([*loop._own_transports(), None]),
            lambda: loop._transport_of(chaos.number()),
            lambda: setattr(loop, "_listeners", chaos.choice([None, [odd]])),
            lambda: setattr(loop, "_on_closed", chaos.choice([None, odd])),
        ]
    )
    return wanted()


def use_coroutine(chaos: Any) -> Any:
    made = chaos.thing(Coroutine)
    return chaos.choice(
        [lambda: made.send(None), lambda: made.close(), lambda: made.throw(ValueError)]
    )()


def use_session(chaos: Any) -> None:
    """What a program may do with ssl_object, which no thread has in hand."""
    session = chaos.thing(_core.Transport).get_extra_info("ssl_object")
    if not chaos.threads:
        chaos.choice([session.read, session.unwrap, lambda: session.write(b"x"), session.cipher])()


def turns(chaos: Any) -> None:
    """Some of each loop, so that what they say to each other gets there."""
    if chaos.threads:
        return
    for _ in range(chaos.choice([1, 5, 20])):
        for loop in [one for one in chaos.things if isinstance(one, finack.EventLoop)]:
            with suppress(RuntimeError):
                loop.stop()
                loop.run_forever()


OPERATIONS: list[Callable[[Any], Any]] = [
    *(6 * [transports, turns, write]),
    *(12 * [use_transport]),
    *(3 * [odd_transport, use_ending]),
    *(2 * [use_connections, use_coroutine]),
    begin_tls,
    use_session,
    datagrams,
    *(3 * [send_to]),
]
