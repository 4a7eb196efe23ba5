# SPDX-License-Identifier: MIT
"""Peers of every temper, in a process of their own, which tell afterwards what they saw.

>>> with Peers() as peers:
...     peer = peers.listen("mute")
...     sock = socket.create_connection(peer.address)
...     sock.sendall(b"hello")
...     sock.close()
...     peer.seen(1)
[Seen(received=5, close_notify=False, end='eof', reset_after=False)]

A peer's temper shows once its connections are open: after accept or connect, the TLS handshake and
the opening exchange (`opening`: "http" answers one request, "websocket" one handshake).

clean   reads; answers close_notify with its own, and the end with its own end
mute    reads, but answers nothing and never ends
deaf    never reads again (and its receive buffer is small)
flood   reads, and sends for ever
echo    a clean one that sends back what it reads

A deaf one that was told to `act("notify")` has sent its own end and still doesn't read.
"""

import base64
import contextlib
import hashlib
import heapq
import io
import json
import pathlib
import re
import resource
import selectors
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Temper = Literal["clean", "mute", "deaf", "flood", "echo"]
Opening = Literal["", "http", "websocket"]
Act = Literal["notify", "fin", "reset"]
Address = tuple[str, int] | str

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
SMALL = 4096
CHUNK = bytes(65536)
HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HTTP_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
WEBSOCKET_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(frozen=True)
class Seen:
    """What a peer saw of one connection.

    `received` counts bytes of the application, the opening exchange included. `end` is how the
    stream ended for the peer: "eof", "reset", "open" for not at all. `reset_after`: EOF came first,
    and a reset after it.
    """

    received: int
    close_notify: bool
    end: Literal["eof", "reset", "open"]
    reset_after: bool


@dataclass(frozen=True)
class Certificate:
    """A server's certificate for localhost, 127.0.0.1 and ::1, and who signed it."""

    chain: pathlib.Path
    authority: pathlib.Path

    @classmethod
    def make(cls, folder: pathlib.Path) -> "Certificate":
        import trustme

        authority = trustme.CA()
        made = cls.of(folder)
        server = authority.issue_cert("localhost", "127.0.0.1", "::1")
        server.private_key_and_cert_chain_pem.write_to_path(str(made.chain))
        authority.cert_pem.write_to_path(str(made.authority))
        return made

    @classmethod
    def of(cls, folder: pathlib.Path) -> "Certificate":
        """What was made there."""
        return cls(folder / "chain.pem", folder / "authority.pem")

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain)
        return honest(context)

    def client_context(self) -> ssl.SSLContext:
        return honest(ssl.create_default_context(cafile=str(self.authority)))


def honest(context: ssl.SSLContext) -> ssl.SSLContext:
    """Without this a truncated stream looks like one that ended."""
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


# ---- in the test's process ----


class Peers:
    """The process of the peers. Its calls block: from a coroutine, `await asyncio.to_thread(…)`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Peers":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.communicate(timeout=30)

    def kill(self) -> None:
        """Without a farewell to anybody; stop() is still to be called."""
        self._process.kill()
        self._process.wait()

    def ask(self, do: str, **arguments: object) -> Any:
        assert self._process.stdin and self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def listen(
        self,
        temper: Temper,
        *,
        tls: Certificate | None = None,
        opening: Opening = "",
        host: str = "127.0.0.1",
        unix: pathlib.Path | None = None,
        delay: float = 0,
    ) -> "Peer":
        """Serve. `delay`: seconds that a clean one takes to answer our end."""
        reply = self.ask(
            "listen",
            temper=temper,
            chain=str(tls.chain) if tls else None,
            opening=opening,
            where=str(unix) if unix else [host, 0],
            delay=delay,
        )
        where = reply["where"]
        return Peer(self, reply["peer"], where if isinstance(where, str) else (where[0], where[1]))

    def connect(
        self,
        temper: Temper,
        address: Address,
        count: int = 1,
        *,
        tls: bool = False,
        opening: Opening = "",
        delay: float = 0,
    ) -> "Peer":
        """Open `count` connections to our server; returns at once, see `opened`."""
        reply = self.ask(
            "connect",
            temper=temper,
            where=address,
            count=count,
            tls=tls,
            opening=opening,
            delay=delay,
        )
        return Peer(self, reply["peer"], address)


@dataclass(frozen=True)
class Peer:
    """One peer and all its connections."""

    peers: Peers
    number: int
    address: Address

    def opened(self, count: int, timeout: float = 20) -> int:
        """Wait until so many connections are open; how many are."""
        return int(self.peers.ask("opened", peer=self.number, count=count, timeout=timeout))

    def told(self, count: int, timeout: float = 20) -> int:
        """Wait until one that is not deaf was told so many ends, by close_notify or FIN."""
        return int(self.peers.ask("told", peer=self.number, count=count, timeout=timeout))

    def act(self, what: Act) -> None:
        """On every connection: "notify" sends close_notify (FIN without TLS), "fin" FIN alone."""
        self.peers.ask("act", peer=self.number, what=what)

    def seen(self, count: int, timeout: float = 20) -> list[Seen]:
        """Read everything there is, deaf or not, until `count` have ended; then drop them all."""
        reply = self.peers.ask("seen", peer=self.number, count=count, timeout=timeout)
        return [Seen(**one) for one in reply]

    def stop(self) -> None:
        """Drop all connections and listen no more."""
        self.peers.ask("stop", peer=self.number)


# ---- in the process of the peers ----


class Party:
    """One peer: a temper, and its connections."""

    def __init__(self, loop: "Loop", request: dict[str, Any]) -> None:
        self.loop = loop
        self.temper: Temper = request["temper"]
        self.opening: Opening = request["opening"]
        self.delay: float = request["delay"]
        self.context: ssl.SSLContext | None = None
        self.listener: socket.socket | None = None
        self.links: list[Link] = []

    def listen(self, chain: str | None, where: list[Any] | str) -> Address:
        if chain:
            self.context = honest(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self.context.load_cert_chain(chain)
        listener = self.listener = self.socket(where)
        listener.bind(where if isinstance(where, str) else tuple(where))
        listener.listen(4096)
        self.loop.selector.register(listener, READ, self.accept)
        address: Address = listener.getsockname()
        return address

    def connect(self, tls: bool, where: list[Any] | str, count: int) -> None:
        if tls:
            self.context = honest(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
        for _ in range(count):
            sock = self.socket(where)
            sock.connect_ex(where if isinstance(where, str) else tuple(where))
            self.links.append(Link(self, sock, serving=False))

    def socket(self, where: list[Any] | str) -> socket.socket:
        family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
        if family != socket.AF_UNIX and ":" in where[0]:
            family = socket.AF_INET6
        sock = socket.socket(family)
        sock.setblocking(False)
        if self.temper == "deaf":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        return sock

    def accept(self, _mask: int) -> None:
        assert self.listener
        try:
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                self.links.append(Link(self, sock, serving=True))
        except BlockingIOError:
            pass

    def catch_up(self) -> None:
        """What came before a request counts, even if the request was seen first."""
        if self.listener:
            self.accept(READ)
        for link in self.links:
            link.ready(READ)

    def opened(self) -> int:
        return sum(link.open and link.end != "reset" for link in self.links)

    def ended(self) -> int:
        return sum(link.end != "open" for link in self.links)

    def told(self) -> int:
        return sum(link.close_notify or link.end != "open" for link in self.links)

    def drop(self) -> None:
        for link in self.links:
            link.close()
        self.links.clear()

    def stop(self) -> None:
        self.drop()
        if self.listener:
            self.loop.selector.unregister(self.listener)
            self.listener.close()
            self.listener = None


class Link:
    """One connection of a peer."""

    def __init__(self, party: Party, sock: socket.socket, *, serving: bool) -> None:
        self.party, self.sock, self.serving = party, sock, serving
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls: ssl.SSLObject | None = None
        if party.context:
            self.tls = party.context.wrap_bio(self.incoming, self.outgoing, server_side=serving)
        self.out = bytearray()
        self.head = b""
        self.secure = self.asked = self.open = self.looking = self.notified = False
        self.shut = self.fin_sent = False
        self.received = 0
        self.close_notify = self.reset_after = False
        self.end: Literal["eof", "reset", "open"] = "open"
        self.mask = 0
        self.watch(READ | WRITE)

    # What it reads.

    def ready(self, mask: int) -> None:
        self.proceed()
        if mask & READ and self.sock.fileno() >= 0:
            self.read()
            self.proceed()

    def read(self) -> None:
        try:
            while self.wants_to_read():
                data = self.sock.recv(65536)
                if not data:
                    self.end = "eof"
                    self.party.loop.later(self.party.delay, self.answer_end)
                elif self.tls:
                    self.incoming.write(data)
                    self.read_tls(self.tls)
                else:
                    self.application(data)
        except BlockingIOError:
            pass
        except OSError:
            self.was_reset()

    def read_tls(self, tls: ssl.SSLObject) -> None:
        try:
            if not self.secure:
                tls.do_handshake()
                self.secure = True
            while data := tls.read(65536):
                self.application(data)
            self.close_notify = True
            self.party.loop.later(self.party.delay, self.answer_end)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            print(f"peer: {error}", file=sys.stderr)
        self.out += self.outgoing.read()

    def application(self, data: bytes) -> None:
        self.received += len(data)
        if self.party.temper == "echo" and self.open:
            self.send(data)
        if not self.open and self.party.opening:
            self.head += data
            if b"\r\n\r\n" in self.head:
                if self.serving:
                    self.send(answer(self.party.opening, self.head))
                self.open = True

    def was_reset(self) -> None:
        self.reset_after = self.end == "eof"
        if self.end == "open":
            self.end = "reset"
        self.out.clear()
        self.unwatch()

    # What it sends.

    def send(self, data: bytes) -> None:
        if self.shut:
            return
        if self.tls:
            if self.notified:
                return
            self.tls.write(data)
            data = self.outgoing.read()
        self.out += data

    def notify(self) -> None:
        """Our end: close_notify or, without TLS, FIN."""
        if not self.tls:
            self.fin()
        elif not self.notified and self.secure:
            self.notified = True
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
            self.out += self.outgoing.read()
            self.proceed()

    def fin(self) -> None:
        self.shut = True
        self.proceed()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def answer_end(self) -> None:
        if self.party.temper in ("clean", "echo") and self.sock.fileno() >= 0:
            self.notify()
            self.fin()

    def proceed(self) -> None:
        """Send what there is to send, and watch for what comes next."""
        if self.sock.fileno() < 0 or self.end == "reset" or self.reset_after:
            return
        try:
            self.begin()
            while self.out:
                del self.out[: self.sock.send(self.out)]
            if self.shut and not self.fin_sent:
                self.fin_sent = True
                self.sock.shutdown(socket.SHUT_WR)
            if self.party.temper == "flood" and self.open:
                self.send(CHUNK)
        except BlockingIOError:
            pass
        except OSError:
            self.was_reset()
            return
        self.watch((READ if self.wants_to_read() else 0) | (WRITE if self.out else 0))

    def begin(self) -> None:
        """The handshake and the opening exchange."""
        if self.tls and not self.secure and not self.asked and not self.serving:
            self.asked = True
            self.read_tls(self.tls)
        if self.open or (self.tls and not self.secure):
            return
        if not self.party.opening:
            self.open = True
        elif not self.serving and not self.head:
            self.head = b" "
            self.send(HTTP_REQUEST if self.party.opening == "http" else WEBSOCKET_REQUEST)

    # Whether it is watched.

    def wants_to_read(self) -> bool:
        deaf = self.party.temper == "deaf" and self.open and not self.looking
        return self.end == "open" and not deaf

    def watch(self, mask: int) -> None:
        if mask == self.mask:
            return
        selector = self.party.loop.selector
        if not mask:
            selector.unregister(self.sock)
        elif not self.mask:
            selector.register(self.sock, mask, self.ready)
        else:
            selector.modify(self.sock, mask, self.ready)
        self.mask = mask

    def unwatch(self) -> None:
        self.watch(0)

    def close(self) -> None:
        self.unwatch()
        self.sock.close()

    def look(self) -> None:
        self.looking = True
        self.read()
        self.proceed()

    def seen(self) -> Seen:
        if self.end == "eof" and self.sock.fileno() >= 0 and not self.reset_after:
            self.reset_after = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        return Seen(self.received, self.close_notify, self.end, self.reset_after)


def answer(opening: Opening, head: bytes) -> bytes:
    if opening == "http":
        return HTTP_ANSWER
    key = re.search(rb"(?i)\r\nsec-websocket-key: *(\S+)", head)
    assert key
    digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


class Loop:
    """Serves the requests that come on stdin, one at a time, and the connections."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.requests = io.FileIO(0)
        self.parties: list[Party] = []
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.running = True
        self.waiting: tuple[Callable[[], bool], float, Callable[[], Any]] | None = None

    def later(self, delay: float, call: Callable[[], None]) -> None:
        if not delay:
            call()
            return
        self.count += 1
        heapq.heappush(self.timers, (time.monotonic() + delay, self.count, call))

    def run(self) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.selector.register(self.requests, READ, self.request)
        while self.running:
            for key, mask in self.selector.select(self.pause()):
                if key.fd in self.selector.get_map():
                    key.data(mask)
            while self.timers and self.timers[0][0] <= time.monotonic():
                heapq.heappop(self.timers)[2]()
            self.check()

    def pause(self) -> float | None:
        ends = [due for due, _, _ in self.timers[:1]]
        if self.waiting:
            ends.append(self.waiting[1])
        return max(0, min(ends) - time.monotonic()) if ends else None

    def check(self) -> None:
        """Answer the request that waits, when it is fulfilled or late."""
        if self.waiting and (self.waiting[0]() or time.monotonic() >= self.waiting[1]):
            result = self.waiting[2]
            self.waiting = None
            print(json.dumps(result()), flush=True)

    def request(self, _mask: int) -> None:
        line = self.requests.readline()
        if not line:
            self.running = False
            return
        request = json.loads(line)
        getattr(self, "do_" + request["do"])(request)

    def reply(self, value: object) -> None:
        print(json.dumps(value), flush=True)

    def do_listen(self, request: dict[str, Any]) -> None:
        party = Party(self, request)
        where = party.listen(request["chain"], request["where"])
        self.parties.append(party)
        self.reply({"peer": len(self.parties) - 1, "where": where})

    def do_connect(self, request: dict[str, Any]) -> None:
        party = Party(self, request)
        party.connect(request["tls"], request["where"], request["count"])
        self.parties.append(party)
        self.reply({"peer": len(self.parties) - 1})

    def do_opened(self, request: dict[str, Any]) -> None:
        self.wait_for(self.parties[request["peer"]].opened, request)

    def do_told(self, request: dict[str, Any]) -> None:
        self.wait_for(self.parties[request["peer"]].told, request)

    def wait_for(self, count: Callable[[], int], request: dict[str, Any]) -> None:
        until = time.monotonic() + request["timeout"]
        self.waiting = (lambda: count() >= request["count"], until, count)

    def do_seen(self, request: dict[str, Any]) -> None:
        party = self.parties[request["peer"]]
        until = time.monotonic() + request["timeout"]

        def result() -> list[dict[str, Any]]:
            seen = [asdict(link.seen()) for link in party.links]
            party.drop()
            return seen

        party.catch_up()
        for link in party.links:
            link.look()
        self.waiting = (lambda: party.ended() >= request["count"], until, result)

    def do_act(self, request: dict[str, Any]) -> None:
        party = self.parties[request["peer"]]
        party.catch_up()
        for link in party.links:
            getattr(link, request["what"])()
        self.reply(None)

    def do_stop(self, request: dict[str, Any]) -> None:
        self.parties[request["peer"]].stop()
        self.reply(None)


if __name__ == "__main__":
    Loop().run()
