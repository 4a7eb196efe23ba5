# SPDX-License-Identifier: MIT
"""Names of sockets, and the places where they were made."""

import asyncio
import gc
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import Certificate

from finack._sockets import descriptors
from finack._sockets.audit import audit
from finack._sockets.describe import describe, state
from finack._sockets.places import _PRUNE_AT_LEAST, EVENT, Places

HERE = os.path.relpath(__file__)


@pytest.fixture
def places() -> Iterator[Places]:
    places = Places()
    places.start()
    yield places
    places.stop()


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


# ---- names ----


def test_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert describe(server.fileno()) == f"tcp 127.0.0.1:{port} listening"
        assert state(server.fileno()) == "LISTEN"
        with socket.create_connection(server.getsockname()) as a, server.accept()[0] as b:
            other = a.getsockname()[1]
            assert describe(b.fileno()) == f"tcp 127.0.0.1:{port} -> 127.0.0.1:{other}"
            assert state(b.fileno()) == "ESTABLISHED"
            a.shutdown(socket.SHUT_WR)
            assert b.recv(1) == b"" and state(b.fileno()) == "CLOSE_WAIT"


def test_version_6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert describe(server.fileno()) == f"tcp [::1]:{server.getsockname()[1]} listening"


def test_others(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert describe(sock.fileno()) == f"udp 127.0.0.1:{sock.getsockname()[1]}"
        assert state(sock.fileno()) == ""
    with socket.socket(socket.AF_UNIX) as sock:
        assert describe(sock.fileno()) == "unix -"
        sock.bind(f"{tmp_path}/\x1bx")
        sock.listen()
        assert describe(sock.fileno()) == f"unix {tmp_path}/\\x1bx listening"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{tmp_path}/\x1bx")
            assert describe(client.fileno()) == f"unix - -> {tmp_path}/\\x1bx"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0finack-{os.getpid()}")
        assert describe(sock.fileno()) == f"unix @finack-{os.getpid()}"


def test_no_socket() -> None:
    with open(os.devnull) as file:
        fd = file.fileno()
        assert describe(fd) == f"descriptor {fd}" and state(fd) == ""
        assert file.read() == ""  # it is open still
    assert describe(fd) == f"descriptor {fd}" and state(fd) == ""


# ---- places ----


def test_place(places: Places) -> None:
    with socket.socket() as sock, socket.socket() as other:
        assert (places.place_of(inode(sock)) or "").startswith(f"{HERE}:")
        assert (places.place_of(inode(sock)) or "").endswith(" in test_place")
        assert places.place_of(inode(other)) == places.place_of(inode(sock))
    assert places.place_of(0) is None


def test_place_in_a_coroutine(places: Places, certificate: Certificate) -> None:
    """Also through layers that wrap the socket, and of what the loop accepts."""

    async def main() -> None:
        accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        server = await asyncio.start_server(
            lambda reader, writer: accepted.put_nowait(writer), "127.0.0.1", 0
        )
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            other = await accepted.get()
            found = [places.place_of(inode(w.get_extra_info("socket"))) for w in (writer, other)]
            writer.close()
            other.close()
            await asyncio.gather(writer.wait_closed(), other.wait_closed())
        assert (found[0] or "").endswith(".<locals>.main")
        assert (found[1] or "").endswith(".<locals>.main (the server that accepted it)")

    asyncio.run(main())


def test_place_of_what_is_wrapped(places: Places) -> None:
    sock = socket.socket()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with context.wrap_socket(sock, do_handshake_on_connect=False) as wrapped:
        line = test_place_of_what_is_wrapped.__code__.co_firstlineno + 1
        assert f":{line} in " in (places.place_of(inode(wrapped)) or "")


def test_a_look_at_a_socket_makes_none(places: Places) -> None:
    audit.unlisten(EVENT, places._made)
    with socket.socket() as sock:
        audit.listen(EVENT, places._made)
        describe(sock.fileno())
        assert places.place_of(inode(sock)) is None


def test_place_in_a_thread(places: Places) -> None:
    made = []
    thread = threading.Thread(target=lambda: made.append(socket.socket()))
    thread.start()
    thread.join()
    with made[0]:
        assert (places.place_of(inode(made[0])) or "").endswith("<lambda>")


def test_places_of_closed_sockets_are_forgotten(places: Places) -> None:
    with socket.socket() as sock:
        for _ in range(4 * _PRUNE_AT_LEAST):
            socket.socket().close()
        assert len(places._found) <= _PRUNE_AT_LEAST + 1 and len(places._new) <= 2
        assert places.place_of(inode(sock))
        many = [socket.socket() for _ in range(1000)]
        places.place_of(0)
        for one in many:
            one.close()


def test_nobody_listens() -> None:
    places = Places()
    places.start()
    places.start()
    places.stop()
    with socket.socket() as sock:
        assert places.place_of(inode(sock))
        places.stop()
        assert places.place_of(inode(sock)) is None
    assert EVENT not in audit._listeners


def test_a_listener_that_fails_forbids_nothing() -> None:
    calls = []

    def listener(args: object) -> None:
        calls.append(args)
        raise RuntimeError

    audit.listen("socket.__new__", listener)
    socket.socket().close()
    audit.unlisten("socket.__new__", listener)
    audit.unlisten("socket.__new__", listener)
    socket.socket().close()
    assert len(calls) == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_tells_nobody() -> None:
    """Its sockets are its own: what listens in the parent knows nothing of them."""
    reading, writing = os.pipe()

    def listener(args: object) -> None:
        os.write(writing, b"x")

    audit.listen(EVENT, listener)
    socket.socket().close()
    child = os.fork()
    if child == 0:
        socket.socket().close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    audit.unlisten(EVENT, listener)
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b"x"


# ---- the table ----


def test_table() -> None:
    gc.collect()
    before = descriptors.sockets()
    with socket.socket() as sock:
        copy = os.dup(sock.fileno())
        after = descriptors.sockets()
        assert descriptors.added(before, after) == {inode(sock): {sock.fileno(), copy}}
        assert descriptors.added(after, before) == {}
        os.close(copy)
    assert descriptors.sockets() == before


def test_objects_without_a_socket(places: Places) -> None:
    """A program may keep as many as it likes: each is looked at twice."""
    kept = [socket.socket() for _ in range(3)]
    for sock in kept:
        sock.close()
    places.settle()
    places.settle()
    assert places._new == [] and len(kept) == 3
