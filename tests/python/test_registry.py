# SPDX-License-Identifier: MIT
"""close_all() and ghosts()."""

import asyncio
import contextlib
import json
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from peers import Certificate, Peers

import finack
from finack import CloseReport, Ghost, Policy, Receipt
from finack._report.recent import recent
from finack._sockets import descriptors
from finack._sockets.places import places
from finack._sockets.transports import connections

uvloop.new_event_loop().close()  # the first one of a process opens a pipe for signals, for good


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Of other tests' closes the kernel may still be at work."""
    recent.closes.clear()
    yield
    assert not recent.listeners


@pytest.fixture(params=[asyncio.SelectorEventLoop, finack.EventLoop], ids=["stock", "finack"])
def new_loop(request: pytest.FixtureRequest) -> Any:
    return request.param


def run(new_loop: Callable[[], Any], main: Any) -> Any:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        a = socket.create_connection(server.getsockname())
        return a, server.accept()[0]


# ---- close_all ----


def test_close_all(new_loop: Callable[[], Any], peers: Peers) -> None:
    """Connections of all kinds, and the server with what it accepted."""
    before = descriptors.sockets()
    peer = peers.listen("clean")

    async def main() -> CloseReport:
        kept: list[Any] = []  # a StreamWriter that is dropped closes its transport
        server = await asyncio.start_server(lambda *pair: kept.append(pair), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(10):
            kept.append(await asyncio.open_connection(*peer.address))
            kept.append(await asyncio.open_connection(*address))
        report = await finack.close_all(60, Policy(farewell=60, linger=60, total=60))
        assert not server.sockets and (await finack.close_all(0)).receipts == ()
        return report

    report = run(new_loop, main())
    assert report.outcomes == {"graceful": 31} and report.stragglers == ()
    assert report.elapsed < 60
    assert sum("released" in receipt.stages for receipt in report.receipts) == 31
    assert descriptors.added(before, descriptors.sockets()) == {}
    seen = peer.seen(10)
    assert [one.end for one in seen] == ["eof"] * 10


def test_close_all_with_a_deadline(
    new_loop: Callable[[], Any], peers: Peers, certificate: Certificate
) -> None:
    """Those that don't end are cut, all by one deadline, and named."""
    peer = peers.listen("deaf")
    before = descriptors.sockets()

    async def main() -> CloseReport:
        writers = [(await asyncio.open_connection(*peer.address))[1] for _ in range(3)]
        for writer in writers:
            writer.write(b"x" * (16 << 20))
        return await finack.close_all(0.5, Policy(flush=60, total=60))

    begun = time.monotonic()
    places.start()
    try:
        report = run(new_loop, main())
    finally:
        places.stop()
    assert report.elapsed >= 0.5 and time.monotonic() - begun < 20
    assert report.outcomes == {"timed_out": 3} and len(report.stragglers) == 3
    assert report.lost > 3 << 20
    for straggler in report.stragglers:
        assert straggler.socket.startswith("tcp 127.0.0.1:") and straggler.fd > 0
        assert straggler.made and ".main" in straggler.made
        assert straggler.receipt in report.receipts
    assert [one.end for one in peer.seen(3)] == ["reset"] * 3
    assert descriptors.added(before, descriptors.sockets()) == {}


def test_close_all_of_what_is_accepted_meanwhile(new_loop: Callable[[], Any]) -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        with socket.socket() as client:
            client.connect(server.sockets[0].getsockname())
            report = await finack.close_all(30, Policy(linger=0))
            client.settimeout(60)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        assert len(report.receipts) in (1, 2)  # perhaps the kernel had it alone

    before = descriptors.sockets()
    run(new_loop, main())
    assert descriptors.added(before, descriptors.sockets()) == {}


def test_close_all_of_one_that_does_not_let_go(peers: Peers) -> None:
    """It is closed once, and not waited for."""
    peer = peers.listen("clean")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport: Any = (await loop.create_connection(asyncio.Protocol, *peer.address))[0]
        transport.abort = transport.close = transport.resume_reading = lambda: None
        report = await asyncio.wait_for(finack.close_all(5), 20)
        assert [receipt.tombstone for receipt in report.receipts] == [True]
        del transport.abort
        transport.abort()

    run(asyncio.SelectorEventLoop, main())
    peer.stop()


def test_where_a_connection_with_tls_was_made(certificate: Certificate) -> None:
    """The line of the program; of one that a server accepted, the server's."""

    async def main() -> None:
        server = await asyncio.start_server(
            lambda *_: None, "127.0.0.1", 0, ssl=certificate.server_context()
        )
        _, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=certificate.client_context(),
            server_hostname="localhost",
        )
        made = {c.transport: c.made for c in connections(asyncio.get_running_loop())}
        assert "test_registry.py" in (made.pop(writer.transport) or "")
        assert all("the server that accepted it" in (place or "") for place in made.values())
        await finack.close_all(5)

    places.start()
    try:
        run(finack.EventLoop, main())
    finally:
        places.stop()


def test_what_is_handed_over_is_forgotten() -> None:
    """When the last one who asked for it has left; then nothing is noted."""

    def hand_over() -> None:
        a, b = tcp()
        with b, socket.socket(fileno=os.dup(a.fileno())):
            finack.close(a, Policy(scope="descriptor"))

    recent.ask_for_handed_over()
    recent.ask_for_handed_over()
    hand_over()
    recent.nobody_asks()
    assert len(recent.handed_over) == 1
    recent.nobody_asks()
    assert not recent.handed_over
    hand_over()
    assert not recent.handed_over


def test_close_all_on_uvloop() -> None:
    """The servers; of the connections those that are known."""

    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        report = await finack.close_all(30)
        assert len(report.receipts) == 1 and not server.is_serving()

    run(uvloop.new_event_loop, main())


def test_close_all_of_nothing(new_loop: Callable[[], Any]) -> None:
    own = type("OwnServer", (asyncio.AbstractServer,), {})()  # with none of the methods
    report = run(new_loop, finack.close_all())
    del own
    assert report.receipts == () and str(report).startswith("0 closed in 0.")


def test_close_all_cancelled(new_loop: Callable[[], Any], peers: Peers) -> None:
    peer = peers.listen("mute")
    before = descriptors.sockets()

    async def main() -> None:
        _, writer = await asyncio.open_connection(*peer.address)
        task = asyncio.create_task(finack.close_all(60, Policy(linger=60, total=60)))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert writer.transport.is_closing()

    run(new_loop, main())
    assert descriptors.added(before, descriptors.sockets()) == {}


def test_close_all_without_descriptors(new_loop: Callable[[], Any]) -> None:
    """The same close, but for what it can't see."""

    async def main() -> None:
        a, b = tcp()
        by_engine = isinstance(asyncio.get_running_loop(), finack.EventLoop)
        with b:
            _, writer = await asyncio.open_connection(sock=a)
            writer.write(bytes(16 << 20))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                report = await finack.close_all(30, Policy(flush=0.2))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert writer.transport.get_extra_info("socket").fileno() == -1
            with pytest.raises(ConnectionResetError):  # since bytes are missing
                while b.recv(1 << 20):
                    pass
        assert report.outcomes == {"timed_out": 1} and report.lost > 0
        receipt = report.receipts[0]
        assert (receipt.phase, receipt.end) == ("flush", "reset")
        assert receipt.held is (False if by_engine else None)
        assert receipt.socket[:4] == "tcp "

    before = descriptors.sockets()
    run(new_loop, main())
    assert descriptors.added(before, descriptors.sockets()) == {}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("1",), TypeError, "timeout must be a number of seconds, not str"),
        ((-1,), ValueError, "timeout must be 0 to 86400 seconds"),
        ((1, "orderly"), TypeError, "policy must be a finack.Policy or None, not str"),
    ],
)
def test_close_all_says_what_it_takes(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        asyncio.run(finack.close_all(*arguments))


def test_close_all_without_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        finack.close_all(1).send(None)


def test_report() -> None:
    straggler = finack.Straggler("tcp 127.0.0.1:1", 7)
    receipts = (Receipt(outcome="reset", unsent=3), Receipt(outcome="graceful"))
    report = CloseReport((*receipts, Receipt(outcome="graceful")), (straggler,), 1.5)
    assert str(report) == (
        "3 closed in 1.500 s: 2 graceful, 1 reset; stragglers: 1: tcp 127.0.0.1:1 fd 7"
    )
    data = json.loads(json.dumps(report.as_dict()))
    assert data["outcomes"] == {"graceful": 2, "reset": 1} and data["lost"] == 3
    assert len(data["receipts"]) == 3 and data["stragglers"][0]["fd"] == 7


# ---- ghosts ----


def only() -> Ghost:
    found = finack.ghosts()
    assert len(found) == 1, found
    return found[0]


def test_no_ghost_of_a_reset(new_loop: Callable[[], Any]) -> None:
    """The kernel has nothing more to do for it, and it is no more looked at."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            _, writer = await asyncio.open_connection(*server.getsockname())
            receipt = await finack.aclose(writer, Policy(courtesy="abort"))
            assert receipt.end == "reset" and not recent.closes
        assert finack.ghosts() == []

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def test_names_of_holders_are_escaped() -> None:
    """A process calls itself as it likes."""
    holder = finack.Holder(1, 2, "a\n\x1b[31m")
    told = Ghost("description", "tcp", "held", holders=(holder,)).as_dict()["holders"]
    assert told == finack.Receipt(outcome="prompt", holders=(holder,)).as_dict()["holders"]
    assert told[0]["command"].isprintable()


def test_no_ghosts() -> None:
    a, b = tcp()
    with a, b:
        assert finack.ghosts() == []


def test_transport_that_is_closing(new_loop: Callable[[], Any]) -> None:
    async def main() -> None:
        a, b = tcp()
        with b:
            _, writer = await asyncio.open_connection(sock=a)
            fd, name = a.fileno(), f"127.0.0.1:{b.getsockname()[1]}"
            writer.write(b"x" * (16 << 20))
            assert finack.ghosts() == []
            writer.close()
            ghost = only()
            assert (ghost.kind, ghost.fd) == ("descriptor", fd)
            assert ghost.detail == "the transport is closing" and name in ghost.socket
            assert str(ghost).startswith(f"ghost descriptor: {ghost.socket}, fd {fd}: the ")
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            assert finack.ghosts() == []

    run(new_loop, main())


def test_transport_of_a_closed_loop() -> None:
    a, b = tcp()
    with b:
        loop = asyncio.SelectorEventLoop()
        _, writer = loop.run_until_complete(asyncio.open_connection(sock=a))
        loop.close()
        assert only().detail == "its loop is closed"
        writer.transport._sock.close()  # type: ignore[attr-defined]
        assert finack.ghosts() == []
        writer.transport._sock = None  # type: ignore[attr-defined]


def test_file_that_is_open() -> None:
    a, b = tcp()
    with b:
        file = a.makefile("rb")
        places.start()
        a.close()
        ghost = only()
        places.stop()
        assert ghost.detail == "close() was called, and a file of makefile() is open"
        file.close()
        assert finack.ghosts() == []


def test_registration() -> None:
    a, b = tcp()
    with b, select.epoll() as poller:
        poller.register(a, select.EPOLLIN)
        copy = os.dup(a.fileno())
        fd = a.fileno()
        a.close()
        ghost = only()
        assert (ghost.kind, ghost.fd) == ("registration", fd)
        assert ghost.socket.startswith("tcp 127.0.0.1:")
        assert f"epoll fd {poller.fileno()}; fd {copy} of this process" in ghost.detail
        os.close(copy)
        assert finack.ghosts() == []


def forked() -> tuple[int, int]:
    """A child that holds what this process has open, until the pipe is closed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    return pid, write


def test_held_by_a_child() -> None:
    a, b = tcp()
    pid, pipe = forked()
    with b:
        receipt = finack.close(a, Policy(linger=0, proof_wait=0))
        assert receipt.held
        ghost = only()
        assert ghost.kind == "description" and [h.pid for h in ghost.holders] == [pid]
        assert ghost.age is not None and ghost.age >= 0 and str(pid) in str(ghost)
        assert json.loads(json.dumps(ghost.as_dict()))["holders"][0]["pid"] == pid
        os.close(pipe)
        os.waitpid(pid, 0)
        ghost = only()  # we have ended, the peer has not
        assert (ghost.kind, ghost.detail) == ("connection", "FIN_WAIT2, 0 bytes not acknowledged")
    assert finack.ghosts() == [] and not recent.closes


def test_held_by_a_child_after_aclose(new_loop: Callable[[], Any]) -> None:
    async def main() -> None:
        a, b = tcp()
        _, writer = await asyncio.open_connection(sock=a)
        pid, pipe = forked()
        with b:
            await finack.aclose(writer, Policy(linger=0, proof_wait=0))
            ghost = only()
            assert [h.pid for h in ghost.holders] == [pid]
        os.close(pipe)
        os.waitpid(pid, 0)

    run(new_loop, main())


@pytest.mark.parametrize("kind", ["unix", "tcp", "tcp6", "udp"])
def test_held_in_a_message(kind: str) -> None:
    carrier, other = socket.socketpair()
    if kind == "unix":
        a, b = socket.socketpair()
    elif kind == "udp":
        a, b = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
        a.bind(("127.0.0.1", 0))
    else:
        family = socket.AF_INET6 if kind == "tcp6" else socket.AF_INET
        address = ("::1" if kind == "tcp6" else "127.0.0.1", 0)
        with socket.create_server(address, family=family) as server:
            a = socket.socket(family)
            a.connect(server.getsockname()[:2])
            b = server.accept()[0]
    with carrier, other, b:
        socket.send_fds(carrier, [b"x"], [a.fileno()])
        assert finack.close(a, Policy(linger=0, proof_wait=0)).held
        ghost = only()
        assert ghost.kind == "description" and ghost.holders == ()
        assert ghost.detail.startswith("held by a thread inside a call, a message")
        for fd in socket.recv_fds(other, 1, 1)[1]:
            os.close(fd)
    assert finack.ghosts() == []


def test_connection() -> None:
    """The kernel goes on to send what a peer doesn't take."""
    a, b = tcp()
    with b:
        a.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                a.send(b"x" * 65536)
        receipt = finack.close(a, Policy(linger=0))
        assert receipt.unacked > 0 and receipt.end == "kernel"
        ghost = only()
        assert ghost.kind == "connection" and ghost.detail.startswith("FIN_WAIT1, ")
        assert ghost.socket == receipt.socket and ghost.fd is None
        b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    deadline = time.monotonic() + 60
    while finack.ghosts():
        assert time.monotonic() < deadline


def test_a_close_says_where_it_was_made(peers: Peers, certificate: Certificate) -> None:
    """Nobody had asked for the place before the socket object was without a descriptor."""
    peer = peers.listen("clean", tls=certificate)
    heard: list[str] = []

    def listener(_: Receipt, made: object) -> None:
        heard.append(str(made))

    async def main() -> None:
        context = certificate.client_context()
        _, writer = await asyncio.open_connection(
            *peer.address, ssl=context, server_hostname="localhost"
        )
        await finack.aclose(writer, Policy(courtesy="prompt"))

    places.start()
    recent.listen(listener)
    try:
        run(finack.EventLoop, main())
    finally:
        recent.unlisten(listener)
        places.stop()
    assert len(heard) == 1 and ".main" in heard[0]
    peer.stop()


def test_memory_is_bounded() -> None:
    receipt = Receipt(outcome="prompt", socket="tcp 127.0.0.1:1 -> 127.0.0.1:2")
    for _ in range(1000):
        recent.note(receipt, (1, 2, 3))
    assert len(recent.closes) == 256
    assert finack.ghosts() == [] and not recent.closes


def test_ghosts_while_a_socket_is_made() -> None:
    """Another thread may be between the two steps of that."""
    half = socket.socket.__new__(socket.socket)
    super(socket.socket, half).__init__()
    assert half.fileno() >= 0 and not hasattr(half, "_closed")
    assert finack.ghosts() == []
    os.close(half.detach())


def test_ghosts_from_another_thread() -> None:
    a, b = tcp()
    file = a.makefile()
    a.close()
    found: list[Ghost] = []
    thread = threading.Thread(target=lambda: found.extend(finack.ghosts()))
    thread.start()
    thread.join()
    assert [ghost.kind for ghost in found] == ["descriptor"]
    file.close()
    b.close()


def test_a_reset_is_over() -> None:
    """Nothing is left of it to look for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        finack.close(sock, finack.Policy(courtesy="abort"))
        assert not recent.closes and finack.ghosts() == []


def test_what_is_no_connection_leaves_none() -> None:
    """The peer of a Unix socket, of a listening one and of UDP is waited for by nobody."""
    policy = finack.Policy(courtesy="prompt")
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        finack.close(ours, policy)
        theirs.close()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.connect(("127.0.0.1", 9))
    for sock in (datagrams, socket.create_server(("127.0.0.1", 0))):
        finack.close(sock, policy)
    assert not recent.closes


def test_what_was_handed_over_is_no_ghost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        copy = sock.dup()
        receipt = finack.close(sock, finack.Policy(scope="descriptor"))
        assert receipt.held and finack.ghosts() == []
        copy.close()
