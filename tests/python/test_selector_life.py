# SPDX-License-Identifier: MIT
"""ProxySelector amid forks, threads, signals, asyncio, and the interpreter's end."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from selector_lab import READ, WRITE, Pair

import finack

# ---- fork, threads, signals ----


def in_child(script: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            script()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_child_leaves_the_parent_alone(selector: finack.ProxySelector, pair: Pair) -> None:
    key = selector.register(pair[0], READ)
    selector.register(pair[1], READ)

    def child() -> None:
        for call in (lambda: selector.register(0, READ), lambda: selector.select(0)):
            with pytest.raises(ChildProcessError, match="forked"):
                call()
        assert selector.modify(pair[0], WRITE).events == WRITE
        assert selector.unregister(pair[0]).events == WRITE
        assert pair[0] not in selector.get_map() and pair[1] in selector.get_map()
        selector.close()

    in_child(child)
    pair[1].send(b"x")
    assert selector.select(5) == [(key, READ)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_child_that_closes_the_loop(selector: finack.ProxySelector) -> None:
    """The loop's own pipe stays in the parent's set, so that its threads still wake it."""
    loop = asyncio.SelectorEventLoop(selector)
    in_child(loop.close)
    answer = loop.run_until_complete(
        asyncio.wait_for(loop.run_in_executor(None, lambda: "here"), timeout=10)
    )
    assert answer == "here"
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_register_while_another_thread_waits(native: finack.ProxySelector, pair: Pair) -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(native.select(10)))
    thread.start()
    key = native.register(pair[0], WRITE)
    thread.join()
    assert results == [[(key, WRITE)]]


def test_close_while_another_thread_waits(native: finack.ProxySelector, pair: Pair) -> None:
    results: list[Any] = []
    native.register(pair[0], READ)
    epoll = native.fileno()
    thread = threading.Thread(target=lambda: results.append(native.select(10)))
    thread.start()
    while not blocked_in_epoll(thread):
        pass
    native.close()
    assert os.readlink(f"/proc/self/fd/{epoll}").endswith("[eventpoll]")  # not reused meanwhile
    pair[1].send(b"x")
    thread.join()
    assert results == [[]]


def blocked_in_epoll(thread: threading.Thread) -> bool:
    with open(f"/proc/self/task/{thread.native_id}/wchan", encoding="ascii") as wchan:
        return "poll" in wchan.read()


def alarm_when_blocked() -> threading.Thread:
    """Once this thread waits in epoll."""
    here = threading.current_thread()
    assert here.ident

    def alarm(ident: int = here.ident) -> None:
        while not blocked_in_epoll(here):
            pass
        signal.pthread_kill(ident, signal.SIGALRM)

    thread = threading.Thread(target=alarm)
    thread.start()
    return thread


def test_signal_without_exception(native: finack.ProxySelector, pair: Pair) -> None:
    """The wait goes on; the handler makes it end."""
    key = native.register(pair[0], READ)
    usual = signal.signal(signal.SIGALRM, lambda *_: pair[1].send(b"x"))
    thread = alarm_when_blocked()
    assert native.select(10) == [(key, READ)]
    thread.join()
    signal.signal(signal.SIGALRM, usual)


def test_signal_with_exception(native: finack.ProxySelector) -> None:
    def handler(*_: Any) -> None:
        raise ZeroDivisionError

    usual = signal.signal(signal.SIGALRM, handler)
    with pytest.raises(ZeroDivisionError):
        thread = alarm_when_blocked()
        native.select(10)
    thread.join()
    signal.signal(signal.SIGALRM, usual)


# ---- asyncio, and the interpreter ----


async def echo(rounds: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = server.sockets[0].getsockname()
        for _ in range(rounds):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()


def test_asyncio(selector: finack.ProxySelector) -> None:
    seen: list[str] = []
    selector.add_observer(lambda event, key: seen.append(event))
    loop = asyncio.SelectorEventLoop(selector)
    loop.set_debug(True)
    loop.run_until_complete(echo(20))
    loop.close()
    assert selector.get_map() is None
    assert seen.count("register") == seen.count("unregister") > 40


def test_asyncio_reader_after_silent_close() -> None:
    """Closed without remove_reader, the number used again: the stock selector fails here."""
    loop = asyncio.SelectorEventLoop(finack.ProxySelector())
    a, b = socket.socketpair()
    c, d = socket.socketpair()
    loop.add_reader(a.fileno(), print)
    os.dup2(c.fileno(), a.fileno())
    woken = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    loop.add_reader(a.fileno(), wake)
    d.send(b"x")
    loop.run_until_complete(asyncio.wait_for(woken, 10))
    loop.remove_reader(a.fileno())
    loop.close()
    for sock in (a, b, c, d):
        sock.close()


@pytest.mark.parametrize(
    "script",
    [
        "import finack; s = finack.ProxySelector(); s.register(0, 1); s.me = s",
        "import finack, sys; sys.keep = finack.ProxySelector(); del sys.modules['finack._core']",
        "import finack, asyncio; asyncio.SelectorEventLoop(finack.ProxySelector()).close()",
        "import sys, finack; finack.ProxySelector\n"
        "del sys.modules['finack'], sys.modules['finack._core']\n"
        "import finack as again; assert again.ProxySelector is not finack.ProxySelector\n"
        "again.ProxySelector().close(); finack.ProxySelector().close()",
    ],
)
def test_interpreter_ends_well(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
