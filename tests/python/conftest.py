# SPDX-License-Identifier: MIT
"""What all tests share: a check that nothing is left open."""

import gc
import os
from collections.abc import Iterator

import pytest
from asyncio_lab import lab, run
from peers import Certificate, Peers

__all__ = ["lab", "run"]  # fixtures


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
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    with Peers() as process:
        yield process
