# SPDX-License-Identifier: MIT
"""A loop that ends leaves nothing, lets closes end that are in progress, and names what it cut."""

import asyncio
import contextlib
import dataclasses
import gc
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar

import pytest
from peers import Certificate, Peer, Peers, Seen, Temper

import finack

BOUND = 30.0
MANY = bytes(32 << 20)
SHORT = finack.Policy(flush=0.3, farewell=0.3, total=5)
PATIENT = finack.Policy(flush=BOUND, farewell=BOUND, linger=BOUND, total=BOUND)


class Noting(asyncio.Protocol):
    """Counts what it was told."""

    def __init__(self) -> None:
        self.made = self.lost = 0
        self.fd = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made += 1
        self.transport = transport
        self.fd = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1

    def check(self) -> None:
        assert (self.made, self.lost) == (1, 1)
        with pytest.raises(OSError):
            os.fstat(self.fd)


class Ended:
    """The warnings of one end, and the seconds it took."""

    def __init__(self) -> None:
        self.caught: list[warnings.WarningMessage] = []
        self.seconds = 0.0

    @property
    def text(self) -> str:
        """That of the one warning."""
        found = [str(one.message) for one in self.caught]
        assert len(found) == 1, found
        left = any(word in found[0] for word in ("never", "listening", "watched", "unclosed"))
        assert self.caught[0].category is (ResourceWarning if left else RuntimeWarning)
        return found[0]


@contextlib.contextmanager
def ending() -> Iterator[Ended]:
    ended = Ended()
    with warnings.catch_warnings(record=True) as ended.caught:
        warnings.simplefilter("always")
        begin = time.monotonic()
        yield ended
        ended.seconds = time.monotonic() - begin
    assert ended.seconds < BOUND


def end(
    main: Callable[[], Coroutine[Any, Any, None]],
    policy: finack.Policy | None = None,
    debug: bool = False,
) -> Ended:
    """The loop is closed at once after main()."""
    loop = finack.EventLoop(policy=policy)
    loop.set_debug(debug)
    loop.slow_callback_duration = BOUND
    try:
        loop.run_until_complete(main())
    finally:
        with ending() as ended:
            loop.close()
    return ended


async def connect(peer: Peer, count: int = 1, **options: Any) -> Noting:
    """Once the peer has so many, since in TLS it has something to say after we are ready."""
    loop = asyncio.get_running_loop()
    address = peer.address
    if isinstance(address, str):
        await loop.create_unix_connection(Noting, address)
    _, noting = await loop.create_connection(Noting, address[0], int(address[1]), **options)
    assert peer.opened(count) >= count
    return noting


def secure(certificate: Certificate) -> dict[str, Any]:
    return {"ssl": certificate.client_context(), "server_hostname": "localhost"}


# ---- what was never closed ----


@pytest.mark.parametrize("debug", [False, True])
def test_never_closed(peers: Peers, certificate: Certificate, debug: bool) -> None:
    plain, tls = peers.listen("mute"), peers.listen("mute", tls=certificate)
    made: list[Noting] = []

    async def main() -> None:
        made.append(await connect(plain))
        made.append(await connect(tls, **secure(certificate)))

    ended = end(main, debug=debug)
    for one, peer in zip(made, (plain, tls), strict=True):
        one.check()
        names = rf"tcp 127.0.0.1:\d+ -> 127.0.0.1:{peer.address[1]} fd {one.fd}"
        place = r", made at \S*test_loop_end.py:\d+ in connect" if debug else ""
        assert re.search(f"{names}{place}, never closed", ended.text)
    assert ended.seconds < SHORT.total
    assert plain.seen(1) == [Seen(0, False, "eof", False)]
    assert tls.seen(1)[0].close_notify is False


def test_server(peers: Peers) -> None:
    """The listener is named and gone, and so is what it accepted."""
    accepted: list[Noting] = []
    where: list[tuple[str, int]] = []

    def protocol() -> Noting:
        accepted.append(Noting())
        return accepted[-1]

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        where.append(server.sockets[0].getsockname())
        peer = peers.connect("clean", where[0], 3)
        await asyncio.to_thread(peer.opened, 3)
        while len(accepted) < 3 or not all(one.made for one in accepted):
            await asyncio.sleep(0.01)

    ended = end(main, debug=True)
    for one in accepted:
        one.check()
    assert ended.text.count("never closed") == 4 and ended.text.count("listening") == 1
    assert len(re.findall(r"made at \S*test_loop_end.py:\d+ in test_server", ended.text)) == 4
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where[0])


def test_server_stops_listening_first() -> None:
    """What the loop still waits for finds nobody to connect to."""
    refused: list[bool] = []

    async def visit(server: asyncio.Server, address: tuple[str, int]) -> None:
        while server.is_serving():
            await asyncio.sleep(0)
        with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, address)
        refused.append(True)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        finack.hold(visit(server, server.sockets[0].getsockname()))

    assert "listening" in end(main).text
    assert refused


def test_datagrams() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))

    assert re.search(r"udp 127.0.0.1:\d+ fd \d+, never closed", end(main).text)


def test_nothing_to_tell(peers: Peers) -> None:
    peer = peers.listen("clean")

    async def main() -> None:
        (await connect(peer)).transport.close()

    assert not end(main).caught


def test_warnings_are_errors(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It doesn't take the place of what the program has to say."""
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    peer = peers.listen("mute")
    loop = finack.EventLoop()
    noting = loop.run_until_complete(connect(peer))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.close()
    assert loop.is_closed()
    (one,) = ignored
    assert one.exc_type is ResourceWarning and "never closed" in str(one.exc_value)
    ignored.clear()
    noting.check()


class Again(Noting):
    """Connects anew whenever it has lost its connection."""

    all: ClassVar[list["Again"]] = []
    tasks: ClassVar[list[asyncio.Task[Any]]] = []
    where: tuple[str, int] = ("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.all.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.create_connection(Again, *self.where))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.tasks.append(task)


def test_reconnects(peers: Peers) -> None:
    peer = peers.listen("clean")
    Again.where = (peer.address[0], int(peer.address[1]))
    loop = finack.EventLoop()
    loop.run_until_complete(loop.create_connection(Again, *Again.where))
    with ending() as ended:
        loop.close()
    assert ended.seconds < SHORT.total
    for one in Again.all:
        assert (one.made, one.lost) == (1, 1)
    Again.all.clear()
    Again.tasks.clear()


# ---- closes in progress ----


def test_flushes(peers: Peers) -> None:
    peer = peers.listen("clean")

    async def main() -> None:
        noting = await connect(peer)
        assert isinstance(noting.transport, asyncio.Transport)
        noting.transport.write(MANY)
        noting.transport.close()

    assert not end(main).caught
    assert peer.seen(1) == [Seen(len(MANY), False, "eof", False)]


def test_deaf(peers: Peers) -> None:
    """Bytes are lost: the peer gets RST, and the program is told."""
    peer = peers.listen("deaf")
    made: list[Noting] = []

    async def main() -> None:
        made.append(await connect(peer))
        assert isinstance(made[0].transport, asyncio.Transport)
        made[0].transport.write(MANY)
        made[0].transport.close()

    ended = end(main, SHORT)
    made[0].check()
    assert re.search(r"still closing, \d+ bytes unsent", ended.text)
    assert peer.seen(1)[0].end == "reset"


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("temper", ["clean", "mute"])
def test_tls(peers: Peers, certificate: Certificate, temper: Any, count: int) -> None:
    peer = peers.listen(temper, tls=certificate, delay=0.05)
    made: list[Noting] = []

    async def main() -> None:
        for number in range(count):
            made.append(await connect(peer, number + 1, **secure(certificate)))
        for one in made:
            one.transport.close()

    ended = end(main, finack.Policy(farewell=BOUND if temper == "clean" else 0.3, total=BOUND))
    for one in made:
        one.check()
    if temper == "clean":
        assert not ended.caught
    else:
        assert ended.text.count("still closing") == count
    assert peer.seen(count) == [Seen(0, True, "eof", False)] * count


def test_layer_on_layer(certificate: Certificate) -> None:
    """TLS in TLS, both ends of which are in this loop; the client closes, and that is all."""
    served: list[asyncio.StreamWriter] = []
    lost: list[str] = []

    class Inner(Noting):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.append("client")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(certificate.server_context())
        served.append(writer)
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        lost.append("server")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificate.server_context())
        address = server.sockets[0].getsockname()
        outer, _ = await loop.create_connection(asyncio.Protocol, *address, **secure(certificate))
        noting = Inner()
        inner = await loop.start_tls(
            outer, noting, certificate.client_context(), server_hostname="localhost"
        )
        assert isinstance(inner, asyncio.Transport)
        while not served:
            await asyncio.sleep(0.01)
        inner.write(b"hello")
        inner.close()
        server.close()

    assert not end(main, PATIENT).caught
    assert sorted(lost) == ["client", "server"]


def test_queue() -> None:
    """What is queued runs, and what that queues, for 16 turns."""
    ran: list[int] = []

    def step(number: int) -> None:
        ran.append(number)
        asyncio.get_running_loop().call_soon(step, number + 1)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(step, 1)

    assert not end(main).caught
    assert ran[:16] == list(range(1, 17)) and len(ran) <= 18


def test_spinning(peers: Peers) -> None:
    peer = peers.listen("mute")
    made: list[Noting] = []
    tasks: list[asyncio.Task[None]] = []

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    async def main() -> None:
        made.append(await connect(peer))
        tasks.append(asyncio.get_running_loop().create_task(spin()))

    ended = end(main, finack.Policy(total=BOUND))
    assert "never closed" in ended.text and ended.seconds < BOUND / 3
    made[0].check()
    tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]


def test_stopped_over_and_over(peers: Peers, certificate: Certificate) -> None:
    """A program that stops the loop does not stop its end."""
    peer = peers.listen("clean", tls=certificate, delay=0.2)
    made: list[Noting] = []

    def stop() -> None:
        loop = asyncio.get_running_loop()
        loop.stop()
        loop.call_later(0.01, stop)

    async def main() -> None:
        made.append(await connect(peer, **secure(certificate)))
        made[0].transport.close()
        asyncio.get_running_loop().call_later(0.01, stop)

    assert not end(main, PATIENT).caught
    made[0].check()
    assert peer.seen(1) == [Seen(0, True, "eof", False)]


def test_interrupted(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("mute", tls=certificate)
    made: list[Noting] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    loop = finack.EventLoop(policy=PATIENT)

    async def main() -> None:
        made.append(await connect(peer, **secure(certificate)))
        made[0].transport.close()
        loop.call_later(0.05, interrupt)

    loop.run_until_complete(main())
    with ending() as ended, pytest.raises(KeyboardInterrupt):
        loop.close()
    assert "still closing" in ended.text
    made[0].check()


@pytest.mark.parametrize("temper", ["clean", "mute"])
def test_aclose(peers: Peers, certificate: Certificate, temper: Temper) -> None:
    """One that nobody waits for any more gets to its end, or to that of its own policy."""
    peer = peers.listen(temper, tls=certificate, delay=0.2)
    made: list[Noting] = []
    tasks: list[asyncio.Task[finack.Receipt]] = []

    async def main() -> None:
        made.append(await connect(peer, **secure(certificate)))
        policy = PATIENT if temper == "clean" else finack.Policy(linger=0.5)
        tasks.append(asyncio.create_task(finack.aclose(made[0].transport, policy)))
        await asyncio.sleep(0)

    assert not end(main, finack.Policy(farewell=0.01, total=BOUND)).caught
    made[0].check()
    assert tasks[0].result().outcome == ("graceful" if temper == "clean" else "timed_out")
    assert peer.seen(1) == [Seen(0, True, "eof", False)]


def test_aclose_cut(peers: Peers) -> None:
    """Its own policy would let it go on."""
    peer = peers.listen("mute")
    made: list[Noting] = []
    tasks: list[asyncio.Task[finack.Receipt]] = []

    async def main() -> None:
        made.append(await connect(peer))
        policy = finack.Policy(linger=BOUND, total=BOUND)
        tasks.append(asyncio.create_task(finack.aclose(made[0].transport, policy)))
        await asyncio.sleep(0)

    assert "still closing" in end(main, finack.Policy(total=0.3)).text
    made[0].check()
    assert tasks[0].result().outcome == "aborted"
    assert len(peer.seen(1)) == 1


def test_abort_policy(peers: Peers) -> None:
    peer = peers.listen("deaf")
    made: list[Noting] = []

    async def main() -> None:
        made.append(await connect(peer))
        assert isinstance(made[0].transport, asyncio.Transport)
        made[0].transport.write(MANY)
        made[0].transport.close()

    ended = end(main, dataclasses.replace(PATIENT, courtesy="abort"))
    assert ended.seconds < BOUND / 2
    made[0].check()
    assert peer.seen(1)[0].end == "reset"


# ---- what is not the loop's ----


def test_watched_sockets() -> None:
    """They stay open: unwatched, and named."""
    one, two = socket.socketpair()
    three, four = socket.socketpair()
    tasks: list[asyncio.Task[bytes]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        one.setblocking(False)
        three.setblocking(False)
        loop.add_reader(one, lambda: None)
        tasks.append(loop.create_task(loop.sock_recv(three, 1)))
        await asyncio.sleep(0)

    selector = finack.ProxySelector()
    gone: list[int] = []
    selector.add_observer(lambda event, key: gone.append(key.fd) if event == "unregister" else None)
    loop = finack.EventLoop(selector)
    loop.run_until_complete(main())
    with ending() as ended:
        loop.close()
    assert {one.fileno(), three.fileno()} < set(gone)
    for sock in (one, three):
        assert re.search(f"unix - -> - fd {sock.fileno()}, still watched", ended.text)
    two.sendall(b"x")
    four.sendall(b"x")
    assert one.recv(1) == three.recv(1) == b"x"
    tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    for sock in (one, two, three, four):
        sock.close()


@pytest.mark.parametrize("tls", [False, True])
def test_inside_another_loop(peers: Peers, certificate: Certificate, tls: bool) -> None:
    """Nothing is waited for: closes in progress are cut too."""
    peer = peers.listen("mute", tls=certificate if tls else None)
    inner = finack.EventLoop()
    options = secure(certificate) if tls else {}
    made = [inner.run_until_complete(connect(peer, **options)) for _ in range(2)]

    async def main() -> None:
        made[0].transport.close()
        with ending() as ended:
            inner.close()
        assert ended.text.count("never closed") == 1
        assert ended.text.count("still closing") == tls
        for one in made:
            one.check()
        assert asyncio.get_running_loop().is_running()

    asyncio.run(main())
    assert len(peer.seen(2)) == 2


class Leave(BaseException):
    """Which asyncio takes for an error like any other."""


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("error", [ValueError, Leave, KeyboardInterrupt, SystemExit])
def test_connection_lost_raises(inside: bool, error: type[BaseException]) -> None:
    """The others are released all the same."""

    class Raising(Noting):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            raise error

    loop = finack.EventLoop()
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    made, theirs = [], []

    async def begin() -> None:
        for _ in range(3):
            a, b = socket.socketpair()
            made.append((await loop.create_connection(Raising, sock=a))[1])
            theirs.append(b)

    async def main() -> None:
        loop.close()

    loop.run_until_complete(begin())
    leaves = error in (KeyboardInterrupt, SystemExit)
    with ending() as ended, pytest.raises(error) if leaves else contextlib.nullcontext():
        asyncio.run(main()) if inside else loop.close()
    assert loop.is_closed() and ended.text.count("never closed") == 3
    for one in made:
        one.check()
    for sock in theirs:
        sock.settimeout(BOUND)
        assert sock.recv(1) == b""
        sock.close()
    assert [type(problem["exception"]) for problem in problems] == [error] * 3 * (not leaves)


@pytest.mark.parametrize("turns", range(4))
def test_inside_another_loop_a_socket(turns: int) -> None:
    """One that aclose() has taken from its owner."""
    inner = finack.EventLoop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    number = ours.fileno()
    tasks = []

    async def begin() -> None:
        tasks.append(asyncio.create_task(finack.aclose(ours)))
        for _ in range(turns):
            await asyncio.sleep(0)

    inner.run_until_complete(begin())

    async def main() -> None:
        with ending() as ended:
            inner.close()
        assert "still closing" in ended.text

    asyncio.run(main())
    with pytest.raises(OSError):
        os.fstat(number)
    theirs.settimeout(BOUND)
    assert theirs.recv(1) == b""
    theirs.close()
    tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]


# ---- where nothing may run ----


def test_forked_child(peers: Peers) -> None:
    """The child's close() leaves the parent's loop and its connections alone."""
    peer = peers.listen("clean")
    loop = finack.EventLoop()
    noting = loop.run_until_complete(connect(peer))
    ran: list[str] = []
    loop.call_soon(ran.append, "x")
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                loop.close()
            if loop.is_closed() and not ran and not caught and noting.lost == 0:
                os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    async def main() -> None:
        assert isinstance(noting.transport, asyncio.Transport)
        noting.transport.write(b"hello")
        assert await asyncio.get_running_loop().run_in_executor(None, os.getpid) == os.getpid()
        noting.transport.close()
        await asyncio.get_running_loop().shutdown_default_executor()

    loop.run_until_complete(main())
    with ending() as ended:
        loop.close()
    assert not ended.caught
    assert ran == ["x"]
    noting.check()
    assert peer.seen(1) == [Seen(5, False, "eof", False)]


def test_collected(peers: Peers) -> None:
    ran: list[str] = []
    loop = finack.EventLoop()
    loop.call_soon(ran.append, "x")
    with ending() as ended:
        del loop
        gc.collect()
    assert ended.text.startswith("unclosed event loop") and not ran


AT_EXIT = """
import asyncio, sys, finack
loop = finack.EventLoop()
async def main():
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    sys.kept = server, await asyncio.open_connection(*server.sockets[0].getsockname())
    asyncio.get_running_loop().call_soon(print, "ran")
loop.run_until_complete(main())
sys.kept_loop = loop
print("end")
"""


def test_interpreter_shutdown() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=BOUND
    )
    assert (done.returncode, done.stdout.split()[-1], done.stderr) == (0, "end", "")


# ---- run() ----


def test_run(peers: Peers) -> None:
    peer = peers.listen("mute")
    made: list[Noting] = []

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, finack.EventLoop) and loop.get_debug()
        made.append(await connect(peer))
        return 42

    with ending() as ended:
        assert finack.run(main(), debug=True, policy=SHORT) == 42
    assert "never closed" in ended.text
    made[0].check()


def test_run_error(peers: Peers) -> None:
    peer = peers.listen("mute")
    made: list[Noting] = []

    async def main() -> None:
        made.append(await connect(peer))
        raise LookupError

    with ending() as ended, pytest.raises(LookupError):
        finack.run(main())
    assert "never closed" in ended.text
    made[0].check()


def test_run_bad_input() -> None:
    async def main() -> None:
        coroutine = main()
        with pytest.raises(RuntimeError, match="while a loop is running"):
            finack.run(coroutine)
        coroutine.close()

    finack.run(main())
    with pytest.raises(ValueError, match="coroutine was expected"):
        finack.run(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a finack\.Policy, not float"):
        finack.EventLoop(policy=1.5)  # type: ignore[arg-type]


def test_close_while_running() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            asyncio.get_running_loop().close()

    finack.run(main())


def test_no_descriptor_for_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is of it goes quietly."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for more in range(3):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, hard))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    finack.EventLoop()
                gc.collect()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert told == caught == []


def test_close_twice() -> None:
    loop = finack.EventLoop()
    loop.close()
    loop.close()


def test_signal_handlers() -> None:
    """As in asyncio they are removed."""
    before = signal.getsignal(signal.SIGUSR1)
    loop = finack.EventLoop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) in (before, signal.SIG_DFL)


def test_unix(peers: Peers, tmp_path: pathlib.Path) -> None:
    """A Unix socket can't be reset: what was lost is told."""
    peer = peers.listen("deaf", unix=tmp_path / "socket")

    async def main() -> None:
        assert isinstance(peer.address, str)
        _, writer = await asyncio.open_unix_connection(peer.address)
        writer.write(MANY)
        writer.close()

    assert re.search(r"still closing, \d+ bytes unsent", end(main, SHORT).text)
    assert peer.seen(1)[0].end == "eof"
