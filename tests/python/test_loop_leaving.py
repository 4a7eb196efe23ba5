# SPDX-License-Identifier: MIT
"""A callback that ends the loop's run, by Ctrl-C or SystemExit: the next run goes on with the rest.

An edge comes once: what the kernel has told of before must not be forgotten. Each story is told on
asyncio's loop too.
"""

import asyncio
import contextlib
import gc
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peers import Certificate

import finack

BOUND = 20.0
SOME = bytes(100_000)
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "stock": asyncio.SelectorEventLoop,
    "finack": finack.EventLoop,
    "as asyncio closes": lambda: finack.EventLoop(close_policy=None),
}


class Leave(SystemExit):
    """Raised by a callback once."""


class Story:
    """A loop, and what its callbacks were told."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.told: list[Any] = []
        self.left = 0
        self.leaves_at: set[Any] = set()
        self.pursued = False

    def note(self, what: Any) -> None:
        """Leave at those of `leaves_at`, the first time."""
        self.told.append(what)
        if self.pursued:
            self.loop.stop()
        if what in self.leaves_at:
            self.leaves_at.remove(what)
            self.left += 1
            raise Leave

    def until(self, so: Callable[[], Any]) -> None:
        """Run it again and again; each callback ends a run."""
        self.pursued = True
        end = self.loop.time() + BOUND
        guard = self.loop.call_at(end, self.loop.stop)
        while not so():
            with contextlib.suppress(Leave):
                self.loop.run_forever()
            assert self.loop.time() < end, f"nothing more came behind {self.told}"
        guard.cancel()
        self.pursued = False

    def run(self, main: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(main, BOUND))


@pytest.fixture(params=LOOPS)
def story(request: pytest.FixtureRequest) -> Iterator[Story]:
    made = Story(LOOPS[request.param]())
    yield made
    with contextlib.suppress(Leave):
        made.run(asyncio.sleep(0))
    made.loop.close()
    gc.collect()


class Stream(asyncio.Protocol):
    def __init__(self, story: Story) -> None:
        self.story = story

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.story.note("made")

    def data_received(self, data: bytes) -> None:
        self.story.note(len(data))

    def eof_received(self) -> None:
        self.story.note("eof")

    def pause_writing(self) -> None:
        self.story.told.append("pause")

    def resume_writing(self) -> None:
        self.story.note("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.story.note("lost")


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, story: Story) -> None:
        self.story = story

    def get_buffer(self, sizehint: int) -> bytearray:
        self.story.note("buffer")
        return bytearray(10)

    def buffer_updated(self, nbytes: int) -> None:
        self.story.note(nbytes)

    def eof_received(self) -> None:
        self.story.note("eof")


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, story: Story) -> None:
        self.story = story

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.story.note(data)

    def error_received(self, exc: Exception) -> None:
        self.story.note(type(exc))


def connected(story: Story, protocol: Any) -> Any:
    ours, theirs = socket.socketpair()
    transport, made = story.run(story.loop.create_connection(lambda: protocol, sock=ours))
    assert made is protocol
    story.told.clear()
    return transport, theirs


@pytest.mark.parametrize("at", ["made", 1, "eof"])
def test_a_stream(story: Story, at: Any) -> None:
    ours, theirs = socket.socketpair()
    theirs.send(b"x")
    theirs.shutdown(socket.SHUT_WR)
    story.leaves_at = {at}
    connecting = story.loop.create_task(
        story.loop.create_connection(lambda: Stream(story), sock=ours)
    )
    story.until(lambda: "lost" in story.told)
    again = ["eof"] * (at == "eof")  # as asyncio, whose event is still there
    assert story.told == ["made", 1, "eof", *again, "lost"]
    assert story.run(connecting)[0].is_closing()
    assert story.left == 1
    theirs.close()


@pytest.mark.parametrize("at", ["buffer", 10, 5])
def test_a_buffered_stream(story: Story, at: Any) -> None:
    _, theirs = connected(story, Buffered(story))
    story.leaves_at = {at}
    theirs.send(bytes(25))
    theirs.shutdown(socket.SHUT_WR)
    story.until(lambda: "eof" in story.told)
    assert [count for count in story.told if count != "buffer"] == [10, 10, 5, "eof"]
    assert story.left == 1
    theirs.close()


@pytest.mark.parametrize("story", ["finack", "as asyncio closes"], indirect=True)
@pytest.mark.parametrize("eof", [False, True])
def test_what_was_written(story: Story, eof: bool) -> None:
    """resume_writing() leaves when all is sent: the end that was asked for comes.

    asyncio's own transport stumbles over the empty buffer then.
    """
    transport, theirs = connected(story, Stream(story))
    theirs.setblocking(False)
    story.leaves_at = {"resume"}
    while "pause" not in story.told:
        transport.write(SOME)
    if eof:
        transport.write_eof()
    story.loop.add_reader(theirs, story.loop.stop)
    got: list[int] = []

    def is_over() -> bool:
        with contextlib.suppress(BlockingIOError):
            while not got or got[-1]:
                got.append(len(theirs.recv(1 << 20)))
        return bool(got and got[-1] == 0) if eof else "resume" in story.told

    story.until(is_over)
    assert story.left == 1 and sum(got) % len(SOME) == 0
    story.loop.remove_reader(theirs)
    transport.close()
    story.until(lambda: "lost" in story.told)
    theirs.close()


@pytest.mark.parametrize("at", ["factory", "made"])
def test_a_listening_socket(story: Story, at: str) -> None:
    def make() -> Stream:
        story.note("factory")
        return Stream(story)

    async def serve() -> Any:
        return await story.loop.create_server(make, "127.0.0.1", 0)

    server = story.run(serve())
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(4)]
    story.leaves_at = {at}
    story.until(lambda: story.told.count("made") == 4 - (at == "factory"))
    assert story.left == 1 and story.told.count("factory") == 4
    for client in clients:
        client.close()
    story.until(lambda: story.told.count("lost") == story.told.count("made"))
    server.close()


def test_datagrams(story: Story) -> None:
    transport, _ = story.run(
        story.loop.create_datagram_endpoint(lambda: Datagrams(story), local_addr=("127.0.0.1", 0))
    )
    all_of_them = [bytes([number]) for number in range(5)]
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        for data in all_of_them:
            peer.sendto(data, transport.get_extra_info("sockname"))
    story.leaves_at = {all_of_them[0], all_of_them[3]}
    story.until(lambda: len(story.told) == len(all_of_them))
    assert story.told == all_of_them and story.left == 2
    transport.close()


def test_datagrams_behind_an_error(story: Story) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        name = peer.getsockname()
    transport, _ = story.run(
        story.loop.create_datagram_endpoint(lambda: Datagrams(story), remote_addr=name)
    )
    transport.sendto(b"to nobody")
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(name)
        peer.sendto(b"from somebody", transport.get_extra_info("sockname"))
    story.leaves_at = {ConnectionRefusedError}
    story.until(lambda: b"from somebody" in story.told)
    assert story.told == [ConnectionRefusedError, b"from somebody"] and story.left == 1
    transport.close()


def test_datagrams_behind_one_that_is_refused(story: Story, tmp_path: pathlib.Path) -> None:
    names = [str(tmp_path / name) for name in ("full", "other")]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        for sock, name in zip((full, other), names, strict=True):
            sock.bind(name)
        transport, _ = story.run(
            story.loop.create_datagram_endpoint(lambda: Datagrams(story), family=socket.AF_UNIX)
        )
        while transport.get_write_buffer_size() == 0:
            transport.sendto(b"much", names[0])
        transport.sendto(b"to nobody", str(tmp_path / "nobody"))
        transport.sendto(b"more", names[1])
        story.leaves_at = {FileNotFoundError}
        full.settimeout(BOUND)
        full.recv(10)
        story.loop.add_reader(other, story.loop.stop)
        story.until(lambda: story.left)
        other.setblocking(False)

        def has_come() -> bool:
            with contextlib.suppress(BlockingIOError):
                return other.recv(10) == b"more"
            return False

        story.until(has_come)
        story.loop.remove_reader(other)
        transport.abort()


def test_connecting(story: Story) -> None:
    """Who leaves in connection_made() hears of the connection's end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        story.leaves_at = {"made"}
        connecting = story.loop.create_task(
            story.loop.create_connection(lambda: Stream(story), *listening.getsockname())
        )
        story.until(lambda: story.left)
        peer, _ = listening.accept()
        peer.close()
        story.until(lambda: "lost" in story.told)
        with contextlib.suppress(Leave):
            story.run(connecting)


@pytest.mark.parametrize("at", ["made", 1])
@pytest.mark.parametrize("policy", [None, finack.Policy()])
def test_tls(at: Any, policy: finack.Policy | None, files: Certificate) -> None:
    """The peer's bytes and its end are there when the handshake is over.

    In C: asyncio's sslproto forgets what it has taken in, on its own loop too.
    """
    loop = finack.EventLoop(close_policy=policy)
    assert loop.tls == "c"
    story = Story(loop)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        writer.close()

    async def begin() -> Any:
        context = files.server_context()
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        return server, server.sockets[0].getsockname()

    server, (host, port) = story.run(begin())
    story.leaves_at = {at}
    context = files.client_context()
    connecting = story.loop.create_task(
        story.loop.create_connection(
            lambda: Stream(story), host, port, ssl=context, server_hostname="localhost"
        )
    )
    story.until(lambda: "lost" in story.told)
    assert story.told == ["made", 1, "eof", "lost"] and story.left == 1
    story.run(connecting)
    server.close()
    story.loop.close()
