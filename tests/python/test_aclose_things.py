# SPDX-License-Identifier: MIT
"""aclose() of what is not a connected transport: writers, servers, datagrams, plain sockets."""

import asyncio
import contextlib
import dataclasses
import errno
import os
import pathlib
import socket
import struct
from typing import Any

import pytest
from asyncio_lab import (
    LOOPS_IN_PYTHON,
    MEGABYTES,
    PATIENT,
    QUICK,
    Lab,
    Run,
    fileno,
    no_descriptors,
    our_end,
    seen,
)
from peers import Certificate, Peer, Peers, Seen

import finack
from finack._sockets import transports


def pair(kind: socket.SocketKind = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(False)
    return ours, theirs


async def connected(address: Any) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address)
    return sock


async def is_refused(task: asyncio.Task[Any], *errors: int) -> None:
    """It is woken, with an error of the socket's."""
    await asyncio.wait({task}, timeout=10)
    assert task.done(), "it was never woken"
    error = task.exception()
    assert isinstance(error, OSError)
    assert error.errno in (errors or (errno.EBADF,))


class Guests(list[asyncio.StreamWriter]):
    """Of a server: those whom it has accepted. A writer that is dropped closes its transport."""

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.append(writer)

    async def are(self, count: int) -> None:
        """A client is connected as soon as the kernel says so; uvloop accepts one in a turn."""
        while len(self) < count:
            await asyncio.sleep(0.001)


# ---- stream writers ----


def test_writer(run: Run, peers: Peers) -> None:
    async def main() -> None:
        peer = peers.listen("clean")
        reader, writer = await asyncio.open_connection(*peer.address)
        reading = asyncio.create_task(reader.read())
        async with finack.aclosing(writer, PATIENT):
            writer.write(b"hello")
        assert await reading == b""
        assert (await finack.aclose(writer)).outcome == "graceful"
        assert await finack.closed(writer) is await finack.aclose(writer.transport)
        await writer.wait_closed()
        assert await seen(peer) == Seen(5, False, "eof", False)

    run(main())


# ---- datagrams ----


def test_datagrams(run: Run) -> None:
    """What was buffered is sent first."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.settimeout(10)
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=peer.getsockname()
            )
            for number in range(50):
                transport.sendto(bytes([number]))
            receipt = await finack.aclose(transport)
            assert fileno(transport) == -1
            assert (receipt.outcome, receipt.end, receipt.held) == ("graceful", "none", False)
            assert "flushed" in receipt.stages
            assert [peer.recv(10) for _ in range(50)] == [bytes([n]) for n in range(50)]

    run(main())


def test_datagrams_that_nobody_takes(tmp_path: pathlib.Path) -> None:
    """Only a Unix socket's peer can hold datagrams up."""

    async def main() -> None:
        path = str(tmp_path / "peer")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.bind(path)
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=path, family=socket.AF_UNIX
            )
            for _ in range(1000):
                transport.sendto(bytes(1000))
            receipt = await finack.aclose(transport, QUICK)
            assert (receipt.outcome, receipt.phase) == ("timed_out", "flush")
            assert receipt.unsent > 0

    asyncio.run(main())


# ---- servers ----


def test_server_with_a_connection_that_was_reset_a_moment_ago(run: Run) -> None:
    """Before the loop has heard of it: it is one of the server's, and the worst."""

    async def main() -> None:
        guests = Guests()
        server = await finack.start_server(guests, "127.0.0.1", 0)
        peer = socket.create_connection(server.sockets[0].getsockname())
        await guests.are(1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        receipt = await finack.aclose(server)
        assert (receipt.outcome, receipt.stragglers) == ("reset", ())

    run(main())


def test_server(run: Run, peers: Peers) -> None:
    """It stops listening, and its connections are closed with it."""

    async def main() -> None:
        guests = Guests()
        server = await finack.start_server(guests, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clean, mute = peers.connect("clean", address, 5), peers.connect("mute", address, 5)
        assert await asyncio.to_thread(clean.opened, 5) == 5
        assert await asyncio.to_thread(mute.opened, 5) == 5
        await guests.are(10)
        await asyncio.to_thread(clean.act, "notify")  # so that no answer is waited for
        receipt = await finack.aclose(server, QUICK)
        assert not server.is_serving()
        assert (receipt.outcome, receipt.phase) == ("timed_out", "linger")  # as the worst of them
        assert receipt.held is False
        assert receipt.socket == "tcp {}:{}".format(*address)
        assert len(receipt.stragglers) == 5
        for straggler in receipt.stragglers:
            assert straggler.receipt is not None
            assert straggler.receipt.outcome == "timed_out"
        assert await finack.aclose(server) is receipt
        assert await finack.closed(server) is receipt
        for peer in (clean, mute):
            ends = await asyncio.to_thread(peer.seen, 5)
            assert ends == [Seen(0, False, "eof", False)] * 5
            peer.stop()
        with pytest.raises(ConnectionRefusedError):
            await connected(address)

    run(main())


def test_server_without_time(run: Run, peers: Peers) -> None:
    """However little time there is, its connections are closed when aclose() returns."""

    async def main() -> None:
        server, made, peer = await server_of_three(peers)
        receipt = await finack.aclose(server, finack.Policy(total=0, linger=0))
        assert receipt.outcome == "timed_out"
        assert len(receipt.stragglers) == 3
        assert all(fileno(writer.transport) < 0 for writer in made)
        await asyncio.to_thread(peer.seen, 3)  # each has read an end
        peer.stop()

    run(main())


def test_server_with_tls(run: Run, peers: Peers, certificate: Certificate) -> None:
    async def main() -> None:
        guests = Guests()
        server = await finack.start_server(guests, "127.0.0.1", 0, ssl=certificate.server_context())
        peer = peers.connect("clean", server.sockets[0].getsockname(), 5, tls=True)
        assert await asyncio.to_thread(peer.opened, 5) == 5
        await guests.are(5)
        receipt = await finack.aclose(server, PATIENT)
        assert not receipt.stragglers
        ends = await asyncio.to_thread(peer.seen, 5)
        assert ends == [Seen(0, True, "eof", False)] * 5
        peer.stop()

    run(main())


def test_server_hands_its_queue_over(run: Run, peers: Peers) -> None:
    """Scope connection: who got through is told of the end, not reset."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        server = await loop.create_server(asyncio.Protocol, sock=listener, start_serving=False)
        peer = peers.connect("mute", listener.getsockname(), 3)
        assert await asyncio.to_thread(peer.opened, 3) == 3
        receipt = await finack.aclose(server, finack.Policy(scope="connection", linger=1))
        assert receipt.accepted == 3
        ends = await asyncio.to_thread(peer.seen, 3)
        assert ends == [Seen(0, False, "eof", False)] * 3
        peer.stop()

    run(main())


def test_unix_server(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        server = await finack.start_unix_server(Guests(), tmp_path / "server")
        fd = server.sockets[0].fileno()
        receipt = await finack.aclose(server)
        assert "released" in receipt.stages
        with pytest.raises(OSError):
            os.fstat(fd)

    run(main())


def test_two_listening_sockets(run: Run) -> None:
    async def main() -> None:
        server = await finack.start_server(Guests(), ["127.0.0.1", "::1"], 0)
        assert len(server.sockets) == 2
        receipt = await finack.aclose(server)
        assert receipt.socket.count("tcp") == 2
        assert {"released", "unreferenced"} <= {*receipt.stages}

    run(main())


def test_server_cancelled(run: Run, peers: Peers) -> None:
    async def main() -> None:
        guests = Guests()
        server = await finack.start_server(guests, "127.0.0.1", 0)
        peer = peers.connect("mute", server.sockets[0].getsockname(), 3)
        await guests.are(3)
        close = asyncio.create_task(finack.aclose(server, PATIENT))
        await our_end(peer, 3)
        close.cancel()
        with pytest.raises(asyncio.CancelledError):
            await close
        ends = await asyncio.to_thread(peer.seen, 3)
        assert all(end.end == "reset" or end.reset_after for end in ends)
        peer.stop()

    run(main())


async def server_of_three(peers: Peers) -> tuple[Any, Guests, Peer]:
    """A server, what it has accepted, and the deaf peer of that."""
    guests = Guests()
    server = await finack.start_server(guests, "127.0.0.1", 0)
    peer = peers.connect("deaf", server.sockets[0].getsockname(), 3)
    await guests.are(3)
    return server, guests, peer


@pytest.mark.parametrize("turns", [1, 2, 3, 4, 6])
def test_server_cancelled_early(run: Run, peers: Peers, turns: int) -> None:
    """Its connections are cut whether their closes have begun or not."""

    async def main() -> None:
        others = {ghost.socket for ghost in finack.ghosts()}  # of closes before this test
        server, made, peer = await server_of_three(peers)
        transports = [writer.transport for writer in made]
        transports[0].write(MEGABYTES)
        numbers = [server.sockets[0].fileno(), *map(fileno, transports)]
        address = server.sockets[0].getsockname()
        close = asyncio.create_task(finack.aclose(server))
        for _ in range(turns):
            await asyncio.sleep(0)
        close.cancel()
        for _ in range(3):  # in the first of them the task is told
            await asyncio.sleep(0)
        for number in numbers:
            with pytest.raises(OSError):
                os.fstat(number)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        with pytest.raises(asyncio.CancelledError):
            await close
        assert {ghost.socket for ghost in finack.ghosts()} <= others
        ends = await asyncio.to_thread(peer.seen, 3)
        assert all(end.end == "reset" or end.reset_after for end in ends)
        assert max(end.received for end in ends) < len(MEGABYTES)
        peer.stop()

    run(main())


@pytest.mark.parametrize("scope", ["default", "connection"])
def test_server_without_descriptors(run: Run, peers: Peers, scope: Any) -> None:
    """From the first to the last step; what it can't look at is unverifiable."""

    async def main() -> None:
        server, made, peer = await server_of_three(peers)
        made[2].transport.write(MEGABYTES)
        with no_descriptors():
            receipt = await finack.aclose(server, dataclasses.replace(QUICK, scope=scope))
        assert [fileno(writer.transport) for writer in made] == [-1] * 3
        assert (receipt.outcome, receipt.held) == ("timed_out", None)
        assert "unreferenced" in receipt.unverifiable
        receipts = [s.receipt for s in receipt.stragglers if s.receipt]
        assert sorted((r.phase, r.end) for r in receipts) == [
            ("flush", "reset"),
            ("linger", "fin"),
            ("linger", "fin"),
        ]
        assert receipt.unsent == max(r.unsent for r in receipts) > 0
        ends = await asyncio.to_thread(peer.seen, 3)
        assert {end.end for end in ends if end.received} == {"reset"}
        peer.stop()

    run(main())


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("closed", ["by finack", "before", "cancelled"])
def test_server_that_is_accepting(run: Run, closed: str, turns: int) -> None:
    """A connection that has no transport yet is closed with its server."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await finack.start_server(Guests(), "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.settimeout(10)
            for _ in range(turns):
                await asyncio.sleep(0)
            if closed == "before":
                server.close()
            close = asyncio.create_task(finack.aclose(server, QUICK))
            if closed == "cancelled":
                await asyncio.sleep(0)
                close.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await close
                for _ in range(4):
                    await asyncio.sleep(0)
            else:
                await close
            if run.loop != "uvloop":
                assert not connections_of(loop)
            if run.loop != "uvloop" and closed == "cancelled":
                with pytest.raises(ConnectionResetError):
                    await asyncio.to_thread(client.recv, 1)
            elif run.loop != "uvloop" or closed == "by finack":
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.to_thread(client.recv, 1) == b""

    run(main())


def connections_of(loop: Any) -> list[Any]:
    return [t for t in loop._transports.values() if not t.is_closing()]


def test_server_with_silent_clients_of_tls(
    run: Run, peers: Peers, certificate: Certificate
) -> None:
    """They are in their handshake for as long as they like."""

    async def main() -> None:
        server = await finack.start_server(
            Guests(), "127.0.0.1", 0, ssl=certificate.server_context()
        )
        address = server.sockets[0].getsockname()
        with contextlib.ExitStack() as clients:
            silent = [clients.enter_context(socket.create_connection(address)) for _ in range(3)]
            while len(transports.connections(asyncio.get_running_loop())) < 3:
                await asyncio.sleep(0.001)
            receipt = await finack.aclose(server, QUICK)
            assert len(receipt.stragglers) == 3
            for client in silent:
                client.settimeout(10)
                assert await asyncio.to_thread(client.recv, 1) == b""

    run(main())


# ---- sockets used with loop.sock_* ----


def test_socket(run: Run, peers: Peers) -> None:
    async def main() -> None:
        peer = peers.listen("clean")
        sock = await connected(peer.address)
        await asyncio.get_running_loop().sock_sendall(sock, b"hello")
        receipt = await finack.aclose(sock, PATIENT)
        assert sock.fileno() == -1
        assert (receipt.outcome, receipt.end, receipt.held) == ("graceful", "fin", False)
        assert await finack.aclose(sock) is receipt
        assert await seen(peer) == Seen(5, False, "eof", False)

    run(main())


def test_socket_with_a_reader_waiting(run: Run, peers: Peers) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        peer = peers.listen("mute")
        sock = await connected(peer.address)
        reading = asyncio.create_task(loop.sock_recv(sock, 100))
        await asyncio.sleep(0)
        receipt = await finack.aclose(sock, QUICK)
        assert receipt.outcome == "timed_out"
        if run.loop == "uvloop":
            assert await asyncio.wait_for(reading, 10) == b""
        else:
            await is_refused(reading)
        assert await seen(peer) == Seen(0, False, "eof", False)

    run(main())


def test_socket_with_a_writer_waiting(run: Run, peers: Peers) -> None:
    """loop.sock_sendall() goes on while the peer reads."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        peer = peers.listen("clean")
        sock = await connected(peer.address)
        writing = asyncio.create_task(loop.sock_sendall(sock, MEGABYTES))
        await asyncio.sleep(0)
        receipt = await finack.aclose(sock, PATIENT)
        await writing
        assert (receipt.outcome, receipt.end) == ("graceful", "fin")
        assert await seen(peer) == Seen(len(MEGABYTES), False, "eof", False)

    run(main())


def test_socket_with_a_writer_that_never_ends(run: Run, peers: Peers) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        peer = peers.listen("deaf")
        sock = await connected(peer.address)
        writing = asyncio.create_task(loop.sock_sendall(sock, MEGABYTES))
        await asyncio.sleep(0)
        receipt = await finack.aclose(sock, QUICK)
        await is_refused(writing, errno.EPIPE, errno.ECONNRESET, errno.EBADF)
        assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "flush", "reset")
        assert (await seen(peer)).end == "reset"

    run(main())


@pytest.mark.parametrize("kind", ["listening", "datagram"])
def test_socket_that_is_no_stream(run: Run, kind: str) -> None:

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if kind == "listening":
            sock = socket.create_server(("127.0.0.1", 0))
            sock.setblocking(False)
            waiting: asyncio.Task[Any] = asyncio.create_task(loop.sock_accept(sock))
        else:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            waiting = asyncio.create_task(loop.sock_recv(sock, 10))
        await asyncio.sleep(0)
        receipt = await finack.aclose(sock)
        assert (sock.fileno(), receipt.held) == (-1, False)
        await is_refused(waiting)

    run(main())


def test_socket_that_others_hold(run: Run, peers: Peers) -> None:
    """Scope descriptor: whoever waits in this process is told, the other holders notice nothing."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        peer = peers.listen("echo")
        sock = await connected(peer.address)
        other = socket.socket(fileno=os.dup(sock.fileno()))
        other.setblocking(False)
        waiting = asyncio.create_task(loop.sock_recv(sock, 10))
        await asyncio.sleep(0)
        receipt = await finack.aclose(sock, finack.Policy(scope="descriptor", proof_wait=0))
        assert (sock.fileno(), receipt.end, receipt.held) == (-1, "none", True)
        await is_refused(waiting)
        await loop.sock_sendall(other, b"still here")
        assert await loop.sock_recv(other, 100) == b"still here"
        await finack.aclose(other, QUICK)
        peer.stop()

    run(main())


def test_socket_cancelled(run: Run, peers: Peers) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        peer = peers.listen("mute")
        sock = await connected(peer.address)
        fd = sock.fileno()
        reading = asyncio.create_task(loop.sock_recv(sock, 100))
        close = asyncio.create_task(finack.aclose(sock, PATIENT))
        await our_end(peer)
        close.cancel()
        for _ in range(4):
            await asyncio.sleep(0)
        assert close.cancelled()
        with pytest.raises(OSError):
            os.fstat(fd)
        if run.loop != "uvloop":
            await is_refused(reading)
        done, _ = await asyncio.wait({reading}, timeout=10)
        assert done and (reading.exception() or reading.result() == b"")
        end = await seen(peer)
        assert end.end == "reset" or end.reset_after

    run(main())


@pytest.mark.parametrize("turns", range(8))
def test_socket_cancelled_early(run: Run, turns: int) -> None:
    """What the reader was to be told is not told to one that has gone meanwhile."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        number = ours.fileno()
        reading = asyncio.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        close = asyncio.create_task(finack.aclose(ours, finack.Policy(courtesy="prompt")))
        for _ in range(turns):
            await asyncio.sleep(0)
        close.cancel()
        reading.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        if turns == 0:  # it had not begun
            ours.close()
        with pytest.raises(OSError):
            os.fstat(number)
        theirs.close()

    run(main())


def test_socket_cancelled_wakes_its_reader(run: Run) -> None:
    """Its kernel has no news for a reader of a Unix socket whose close is broken off."""

    async def main() -> None:
        ours, theirs = pair()
        reading = asyncio.create_task(asyncio.get_running_loop().sock_recv(ours, 100))
        close = asyncio.create_task(finack.aclose(ours, PATIENT))
        await asyncio.sleep(0)
        close.cancel()
        done, _ = await asyncio.wait({reading}, timeout=10)
        assert done and (reading.exception() or reading.result() == b"")
        theirs.close()

    run(main())


def test_socket_never_connected(run: Run) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        receipt = await finack.aclose(sock)
        assert (receipt.end, receipt.held) == ("none", False)
        sock = socket.socket()
        sock.close()
        assert "released" in (await finack.aclose(sock)).stages

    run(main())


@pytest.mark.parametrize("run", LOOPS_IN_PYTHON, indirect=True)
def test_socket_of_a_transport(run: Run, peers: Peers) -> None:
    """The transport is closed with it."""

    async def main() -> None:
        peer = peers.listen("clean")
        sock = await connected(peer.address)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
        receipt = await finack.aclose(sock, PATIENT)
        assert receipt is await finack.aclose(transport)
        assert (fileno(transport), receipt.outcome) == (-1, "graceful")
        assert await finack.aclose(sock) is receipt
        assert await seen(peer) == Seen(0, False, "eof", False)

    run(main())


def test_socket_with_the_number_of_an_old_transport(run: Run) -> None:
    """A program may keep a transport for long after its close."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, other = pair()
        number = first.fileno()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=first)
        other.close()
        await finack.aclose(transport)
        ours, theirs = pair()
        if theirs.fileno() == number:
            ours, theirs = theirs, ours
        assert ours.fileno() == number
        watching = asyncio.create_task(finack.closed(ours))
        await asyncio.sleep(0)
        receipt = await finack.aclose(ours, QUICK)
        assert (receipt.end, ours.fileno()) == ("fin", -1)
        assert await watching is receipt
        theirs.setblocking(True)
        theirs.settimeout(10)
        assert theirs.recv(1) == b""
        theirs.close()

    run(main())


# ---- closed ----


def test_closed(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        watch = asyncio.create_task(finack.closed(transport))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not watch.done()
        transport.close()
        receipt = await watch
        assert fileno(transport) == -1
        assert recorder.calls[-1] == "lost"
        assert {"released", "unreferenced"} <= {*receipt.stages}
        assert receipt.held is False
        assert await finack.closed(transport) is receipt
        assert await finack.aclose(transport) is receipt
        peer.stop()

    run(main())


def test_closed_without_descriptors(run: Run, lab: Lab) -> None:
    """Whether anything else refers to the socket can't be told then, but by the engine."""

    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        with no_descriptors():
            watch = asyncio.create_task(finack.closed(transport))
            await asyncio.sleep(0)
            transport.close()
            receipt = await watch
        assert fileno(transport) == -1
        assert "released" in receipt.stages
        blind = not lab.by_engine(run)
        assert receipt.held is (None if blind else False)
        assert ("unreferenced" in receipt.unverifiable) == blind
        peer.stop()

    run(main())


def test_closed_after_close(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        transport.write(MEGABYTES)
        transport.close()
        receipt = await finack.closed(transport)
        assert (fileno(transport), recorder.calls[-1]) == (-1, "lost")
        assert receipt.held is False
        assert await seen(peer) == Seen(len(MEGABYTES), lab.tls, "eof", False)

    run(main())


def test_closed_when_gone(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, recorder = await lab.connect("clean")
        transport.abort()
        while recorder.calls[-1] != "lost" or fileno(transport) >= 0:
            await asyncio.sleep(0)
        receipt = await finack.closed(transport)
        held = False if lab.by_engine(run) else None
        assert ("released" in receipt.stages, receipt.held) == (True, held)
        peer.stop()

    run(main())


def test_closed_while_held(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        other = os.dup(fileno(transport))
        transport.abort()
        receipt = await finack.closed(transport)
        assert (receipt.held, "unreferenced" in receipt.stages) == (True, False)
        os.close(other)
        peer.stop()

    run(main())


def test_closed_by_aclose(run: Run, lab: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        watch = asyncio.create_task(finack.closed(transport))
        await asyncio.sleep(0)
        receipt = await finack.aclose(transport, PATIENT)
        assert await watch is receipt
        peer.stop()

    run(main())


def test_closed_cancelled(run: Run, lab: Lab) -> None:
    """The close goes on."""

    async def main() -> None:
        peer, transport, _ = await lab.connect("clean")
        close = asyncio.create_task(finack.aclose(transport, PATIENT))
        await asyncio.sleep(0)
        watch = asyncio.create_task(finack.closed(transport))
        await asyncio.sleep(0)
        watch.cancel()
        assert (await close).outcome == "graceful"
        peer.stop()

    run(main())


def test_closed_socket(run: Run) -> None:
    async def main() -> None:
        ours, theirs = pair()
        watch = asyncio.create_task(finack.closed(ours))
        await asyncio.sleep(0)
        ours.close()
        assert "released" in (await watch).stages
        theirs.close()

    run(main())


# ---- hole punching ----


@pytest.mark.parametrize("times", [100])
def test_hole_punching(run: Run, peers: Peers, times: int) -> None:
    """The same address and port at once, to the same peer, a hundred times running."""

    async def main() -> None:
        peer = peers.listen("clean")
        local = ("127.0.0.1", 0)
        policy = dataclasses.replace(PATIENT, rebindable=True)
        for _ in range(times):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind(local)
            local = sock.getsockname()
            await asyncio.get_running_loop().sock_connect(sock, peer.address)
            _, writer = await asyncio.open_connection(sock=sock)
            writer.write(b"hello")
            receipt = await finack.aclose(writer, policy)
            assert (receipt.outcome, receipt.end) == ("graceful", "fin")
        ends = await asyncio.to_thread(peer.seen, times)
        assert ends == [Seen(5, False, "eof", False)] * times
        peer.stop()

    run(main())
