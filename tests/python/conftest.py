# SPDX-License-Identifier: MIT
"""What all tests share: a check that nothing is left open."""

import ctypes
import fcntl
import gc
import os
import pathlib
import socket
import struct
from collections.abc import Iterator

import pytest
from asyncio_lab import lab, run
from peers import Certificate, Peers
from selector_lab import native, pair, selector

__all__ = ["lab", "native", "pair", "run", "selector"]  # fixtures


_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _SIOCSIFADDR, _IFF_UP = 0x8914, 0x8916, 1


def pytest_configure() -> None:
    """Have a network of our own, if we may.

    The number of connections in TIME_WAIT is bounded for a network, and the suites of several
    interpreters run at a time: beyond the bound, a connection is forgotten that is being watched.
    """
    if ctypes.CDLL(None).unshare(_CLONE_NEWNET) < 0:
        return
    # Where there is but 127.0.0.1, getaddrinfo(3) with AI_ADDRCONFIG doesn't find even that.
    other = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton("192.0.2.1"))
    with socket.socket() as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        fcntl.ioctl(sock, _SIOCSIFADDR, struct.pack("16s16s", b"lo:1", other))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A skip counts as a failure: what is for other releases of CPython is left out here."""
    others = {item for item in items if is_for_others(item)}
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


WITHOUT_EVENT_LOOP = ("test_blocking_tls", "test_peers", "test_private")


def is_for_others(item: pytest.Item) -> bool:
    """For another release, or the same as with the other kind of TLS."""
    given = item.callspec.params if isinstance(item, pytest.Function) and has_params(item) else {}
    if given.get("certificate") == "python" and (
        given.get("run", "finack") != "finack"
        or given.get("lab", "tls") in ("tcp", "unix")
        or pathlib.Path(item.path).stem in WITHOUT_EVENT_LOOP
    ):
        return True
    return not all(mark.args[0] for mark in item.iter_markers("only_if"))


def has_params(item: pytest.Function) -> bool:
    return hasattr(item, "callspec")


def pytest_collection_finish() -> None:
    """What has been imported by now stays: no collection needs to look at it again."""
    gc.collect()
    gc.freeze()


def descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # that of listdir() itself
    return found


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    gc.collect()
    before = descriptors()
    yield
    gc.collect()
    after = descriptors()
    assert after == before, f"left open or closed: {set(after.items()) ^ set(before.items())}"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=["c", "python"])
def certificate(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, files: Certificate
) -> Certificate:
    """Who has one is run with both kinds of TLS that EventLoop has."""
    monkeypatch.setenv("FINACK_TLS", request.param)
    return files


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    with Peers() as process:
        yield process
