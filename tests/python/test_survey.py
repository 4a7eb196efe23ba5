# SPDX-License-Identifier: MIT
"""What a survey of this process says, and the text in which `finack attach` gets it."""

import asyncio
import contextlib
import json
import os
import pathlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from asyncio_lab import LOOPS_IN_PYTHON, Run

from finack._report.survey import _json, answer, survey

KEPT: list[Any] = []  # no task leads here


class Box:
    def __init__(self, thing: Any) -> None:
        self.thing = thing


@contextlib.asynccontextmanager
async def stream() -> AsyncIterator[int]:
    """One that is in KEPT; its inode."""
    ours, theirs = socket.socketpair()
    inode = os.fstat(ours.fileno()).st_ino
    with theirs:
        KEPT.extend(await asyncio.open_connection(sock=ours))
        try:
            yield inode
        finally:
            _, writer = KEPT
            KEPT.clear()
            writer.close()
            await writer.wait_closed()


async def hold(take: Callable[[], Any]) -> None:
    thing = take()
    await asyncio.Event().wait()
    del thing


@contextlib.asynccontextmanager
async def task(main: Coroutine[Any, Any, Any], name: str = "it") -> AsyncIterator[None]:
    """As far as it comes by itself."""
    running = asyncio.create_task(main, name=name)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not running.done()
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


def connection(said: dict[str, Any], inode: int) -> dict[str, Any]:
    [found] = [entry for entry in said["connections"] if entry["inode"] == inode]
    assert isinstance(found, dict)
    return found


def users(said: dict[str, Any], entry: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((said["tasks"][use["task"]]["name"], use["how"]) for use in entry["tasks"])


WAYS: dict[str, Callable[[], Any]] = {
    "reader": lambda: KEPT[0],
    "writer": lambda: KEPT[1],
    "transport": lambda: KEPT[1].transport,
    "socket": lambda: KEPT[1].get_extra_info("socket"),
    "list": lambda: [KEPT[1]],
    "dict of lists": lambda: {1: [KEPT[1]]},
    "object": lambda: Box(KEPT[0]),
    "method": lambda: KEPT[1].write,
}


@pytest.mark.parametrize("way", WAYS)
def test_who_has_it(run: Run, way: str) -> None:
    """Whatever a variable leads to it by; but not three steps away."""

    async def main() -> None:
        async with stream() as inode:
            async with task(hold(lambda: [[[KEPT[1]]]])):
                said = survey()
                assert users(said, connection(said, inode)) == []
            async with task(hold(WAYS[way])):
                said = survey()
                assert users(said, connection(said, inode)) == [("it", "has")]

    run(main())


def test_who_has_it_more_directly(run: Run) -> None:
    """All that are no farther than others."""

    async def main() -> None:
        far, near = hold(WAYS["list"]), hold(WAYS["writer"])
        async with stream() as inode, task(far, "far"), task(hold(WAYS["object"]), "as far"):
            said = survey()
            assert users(said, connection(said, inode)) == [("as far", "has"), ("far", "has")]
            async with task(near, "near"):
                said = survey()
                assert users(said, connection(said, inode)) == [("near", "has")]

    run(main())


async def drain() -> None:
    KEPT[1].write(bytes(4 << 20))
    await KEPT[1].drain()


WAITS: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
    "read": lambda: KEPT[0].read(),
    "drain": drain,
}


@pytest.mark.parametrize("what", WAITS)
def test_who_waits_for_it(run: Run, what: str) -> None:
    """That one alone, though others have it."""

    async def main() -> None:
        async with stream() as inode:
            async with task(hold(WAYS["writer"])), task(WAITS[what]()):
                said = survey()
                assert users(said, connection(said, inode)) == [("it", "waits")]
                assert (connection(said, inode)["unsent"] > 0) == (what == "drain")
            KEPT[1].transport.abort()

    run(main())


@pytest.mark.parametrize("run", LOOPS_IN_PYTHON, indirect=True)  # uvloop's has no future of it
def test_a_server(run: Run) -> None:
    """Who waits for its end; one that is closed is none."""

    async def main() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        inode = os.fstat(server.sockets[0].fileno()).st_ino
        async with task(server.serve_forever()):
            said = survey()
            [one] = said["servers"]
            assert [place["inode"] for place in one["sockets"]] == [inode]
            assert users(said, one) == [("it", "waits")]
            assert said["loops"][one["loop"]]["running"] is True
        server.close()
        await asyncio.sleep(0)
        assert survey()["servers"] == []

    run(main())


def test_loops_of_two_threads(run: Run) -> None:
    """Each thing is of the loop that has it."""
    found: list[int] = []
    outer: Any = None

    async def other(begun: asyncio.Event, ends: threading.Event) -> None:
        async with stream() as inode:
            found.append(inode)
            outer.call_soon_threadsafe(begun.set)
            await asyncio.to_thread(ends.wait)

    async def main() -> None:
        nonlocal outer
        outer = asyncio.get_running_loop()
        begun, ends = asyncio.Event(), threading.Event()
        thread = threading.Thread(target=run, args=(other(begun, ends),), name="second")
        thread.start()
        try:
            await begun.wait()
            said = survey()
            assert len(said["loops"]) == 2 and not said["cut"]
            loop = said["loops"][connection(said, found[0])["loop"]]
            assert loop["running"] is True
            assert loop["thread"] == (None if run.loop == "uvloop" else "second")
            names = [
                said["loops"][one["loop"]]["thread"]
                for one in said["tasks"]
                if "main" in one["coroutine"]
            ]
            assert names == [None if run.loop == "uvloop" else "MainThread"]
        finally:
            ends.set()
            await asyncio.to_thread(thread.join)

    run(main())


# ---- the text ----

TEXTS = ['say "a\\b"', "a\nb\x7f\0", "\xe4\u20ac", "\U0001f600 \U0010ffff", "\ud7ff\ue000", " ~"]


@pytest.mark.parametrize("text", TEXTS)
def test_text(text: str) -> None:
    """It is JSON, of the letters that every encoding has."""
    value: Any = {text: [text, None, True, False, 0, -7, {}, []], "1": {"2": text}}
    written = _json(value)
    assert written.isascii() and written.isprintable()
    assert json.loads(written) == value


def test_text_of_what_is_no_letter() -> None:
    assert [json.loads(_json(text)) for text in ("a\ud800b", "\udfff")] == ["a?b", "?"]


def test_answer(tmp_path: pathlib.Path) -> None:
    """Into a file that is there, and into no other."""
    path, link, gone = (tmp_path / name for name in ("answer", "link", "gone"))
    path.touch()
    link.symlink_to(path)
    answer(str(gone))
    answer(str(link))
    assert not gone.exists() and path.read_text() == ""
    answer(str(path))
    said = json.loads(path.read_text())
    assert said.keys() == survey().keys() and said["cut"] is False
