# SPDX-License-Identifier: MIT
"""What a reader copies runs, and does what it says."""

import pathlib
import subprocess
import sys

import pytest
from peers import Certificate, Peers, Seen, Temper

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "python"
SAID = "connection made\nHTTP/1.1 200 OK\nconnection lost: None\n"


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Every warning is seen; but not what asyncio's debug mode says of a slow machine."""
    command = [sys.executable, "-W", "always", str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("temper", ["clean", "mute"])
def test_own_tls_transport(peers: Peers, certificate: Certificate, temper: Temper) -> None:
    """The transport gets to say goodbye; one that gets no answer ends by its own timer."""
    peer = peers.listen(temper, tls=certificate, opening="http", delay=0.05)
    done = run("own_tls_transport.py", *peer.address, certificate.authority)
    assert (done.stdout, done.stderr, done.returncode) == (SAID, "", 0)
    request = f"GET / HTTP/1.1\r\nHost: {peer.address[0]}\r\n\r\n"
    assert peer.seen(1) == [Seen(len(request), True, "eof", False)]


def test_own_tls_transport_usage() -> None:
    done = run("own_tls_transport.py")
    assert done.returncode == 1 and "usage: own_tls_transport.py HOST PORT" in done.stderr


def test_hang_up(peers: Peers) -> None:
    peer = peers.listen("clean")
    done = run("hang_up.py", peer.address[1])
    assert done.stdout.startswith("graceful, end=fin, held=no: flushed=")
    assert (done.stderr, done.returncode) == ("", 0)
    assert peer.seen(1) == [Seen(len(b"GET / HTTP/1.0\r\n\r\n"), False, "eof", False)]
