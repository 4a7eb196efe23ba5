# SPDX-License-Identifier: MIT
"""The peers that other tests rely on are as bad as they are said to be."""

import pathlib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from peers import HTTP_REQUEST, WEBSOCKET_REQUEST, Certificate, Opening, Peer, Peers, Seen

MANY = bytes(16 << 20)


@contextmanager
def connected(peer: Peer, timeout: float = 20) -> Iterator[socket.socket]:
    family = socket.AF_UNIX if isinstance(peer.address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(timeout)
        sock.connect(peer.address)
        yield sock
    peer.stop()


def secure(sock: socket.socket, certificate: Certificate) -> ssl.SSLSocket:
    context = certificate.client_context()
    return context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)


def end(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


def fill(sock: socket.socket) -> None:
    """Until nothing more is taken."""
    sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        sock.sendall(MANY)
    sock.settimeout(20)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def test_clean(peers: Peers, tmp_path: pathlib.Path) -> None:
    for unix in (None, tmp_path / "unix"):
        peer = peers.listen("clean", unix=unix)
        with connected(peer) as sock:
            sock.sendall(b"hello")
            end(sock)
            assert sock.recv(1) == b""
            assert peer.seen(1) == [Seen(5, False, "eof", False)]


def test_clean_with_tls(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("clean", tls=certificate)
    with connected(peer) as plain, secure(plain, certificate) as sock:
        sock.sendall(b"hello")
        raw = sock.unwrap()
        assert raw.recv(1) == b""
        raw.close()
        assert peer.seen(1) == [Seen(5, True, "eof", False)]


def test_truncated(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("clean", tls=certificate)
    with connected(peer) as plain, secure(plain, certificate) as sock:
        end(sock)
        assert peer.seen(1) == [Seen(0, False, "eof", False)]


def test_late_answer(peers: Peers) -> None:
    peer = peers.listen("clean", delay=0.2)
    with connected(peer) as sock:
        start = time.monotonic()
        end(sock)
        assert sock.recv(1) == b""
        assert time.monotonic() - start >= 0.2


def test_echo(peers: Peers) -> None:
    peer = peers.listen("echo")
    with connected(peer) as sock:
        sock.sendall(b"hello")
        assert sock.recv(9) == b"hello"
        end(sock)
        assert sock.recv(1) == b""


def test_mute(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("mute", tls=certificate)
    with connected(peer) as plain, secure(plain, certificate) as sock:
        sock.sendall(bytes(1000))
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.unwrap()
        end(sock)
        assert peer.seen(1) == [Seen(1000, True, "eof", False)]


def test_deaf(peers: Peers) -> None:
    peer = peers.listen("deaf")
    with connected(peer) as sock:
        fill(sock)
        reset(sock)
        seen = peer.seen(1)[0]
        assert seen.end == "reset" and seen.received < len(MANY)


def test_notify_then_deaf(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("deaf", tls=certificate)
    with connected(peer) as plain, secure(plain, certificate) as sock:
        assert peer.opened(1) == 1
        peer.act("notify")
        assert sock.recv(1) == b""
        fill(sock)
        peer.act("fin")
        assert socket.socket.recv(sock, 1) == b""
        peer.act("reset")
        with pytest.raises(OSError):
            socket.socket.sendall(sock, MANY)


def test_flood(peers: Peers) -> None:
    peer = peers.listen("flood")
    with connected(peer) as sock:
        sock.sendall(b"hello")
        end(sock)
        for _ in range(100):
            assert sock.recv(65536)
        assert peer.seen(1) == [Seen(5, False, "eof", False)]


def test_reset_after_the_end(peers: Peers) -> None:
    peer = peers.listen("mute")
    with connected(peer) as sock:
        assert peer.opened(1) == 1
        end(sock)
        reset(sock)
        assert peer.seen(1) == [Seen(0, False, "eof", True)]


@pytest.mark.parametrize(
    ("opening", "asked", "status"),
    [("http", HTTP_REQUEST, b"200"), ("websocket", WEBSOCKET_REQUEST, b"101")],
)
def test_opening(peers: Peers, opening: Opening, asked: bytes, status: bytes) -> None:
    peer = peers.listen("deaf", opening=opening)
    with connected(peer) as sock:
        assert peer.opened(1, timeout=0.1) == 0
        sock.sendall(asked)
        assert sock.recv(999).split()[1] == status
        assert peer.opened(1) == 1


def test_clients(peers: Peers, certificate: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = peers.connect("clean", listener.getsockname(), 3, tls=True, opening="http")
        for _ in range(3):
            plain, _ = listener.accept()
            plain.settimeout(20)
            with certificate.server_context().wrap_socket(plain, server_side=True) as sock:
                assert sock.recv(999) == HTTP_REQUEST
                sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                sock.unwrap()
        assert peer.seen(3) == [Seen(19, True, "eof", False)] * 3
