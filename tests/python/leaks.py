# SPDX-License-Identifier: MIT
"""Does the same many times; the references and blocks of memory must not grow.

usage: leaks.py NAME

Run alone in a process, so that nothing else allocates. References are counted by a debug build of
CPython alone.
"""

import asyncio
import contextlib
import functools
import gc
import itertools
import os
import pathlib
import selectors
import socket
import ssl
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from peers import Certificate

import finack
from finack import _core

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Thing:
    """Is counted by gc.get_objects() while it is alive."""


def use(selector: finack.ProxySelector) -> None:
    a, b = socket.socketpair()
    seen: list[object] = []
    observer = lambda event, key: seen.append((event, key))  # noqa: E731
    selector.add_observer(observer)
    data = Thing()
    selector.register(a, READ, data)
    selector.register(b.fileno(), READ | WRITE, data=data)
    selector.modify(a, WRITE, Thing())
    selector.modify(a, WRITE, Thing())
    selector.select(0)
    selector.get_key(a)
    dict(selector.get_map())
    list(selector.get_map().items())
    selector.get_map().get(b)
    selector.unregister(fileobj=a)
    selector.remove_observer(observer)
    a.close()
    b.close()


def native() -> None:
    with finack.ProxySelector() as selector:
        use(selector)
        selector.thing = selector  # type: ignore[attr-defined] # a cycle


def dropped() -> None:
    """Never closed."""
    use(finack.ProxySelector())


def wrapped() -> None:
    inner = selectors.PollSelector()
    a, b = socket.socketpair()
    inner.register(a, READ, Thing())
    with finack.ProxySelector(inner) as selector:
        use(selector)
    a.close()
    b.close()


def errors() -> None:
    with finack.ProxySelector() as selector:
        a, b = socket.socketpair()
        selector.register(a, READ)
        attempts: list[Callable[[], object]] = [
            lambda: selector.register(a, READ, Thing()),
            lambda: selector.register(Thing(), READ),  # type: ignore[arg-type]
            lambda: selector.register(b, 7, Thing()),
            lambda: selector.register(10**20, READ, Thing()),
            lambda: selector.register(-(10**20), READ, Thing()),
            lambda: selector.modify(b, READ, Thing()),
            lambda: selector.unregister(b),
            lambda: selector.get_key(b),
            lambda: selector.get_map()[b],
            lambda: selector.select(float("nan")),
            lambda: selector.select(1e20),
            lambda: finack.ProxySelector(Thing()),  # type: ignore[arg-type]
            lambda: selector.remove_observer(print),
            lambda: selector.add_observer(Thing()),  # type: ignore[arg-type]
            lambda: selector.__init__(),  # type: ignore[misc]
        ]
        for attempt in attempts:
            with contextlib.suppress(Exception):
                attempt()
                raise SystemExit("an error was expected")
        a.close()
        b.close()


def stale() -> None:
    """A key that is dropped because its number means another file."""
    with finack.ProxySelector() as selector:
        a, b = socket.socketpair()
        c = socket.socket()
        copy = a.dup()
        b.send(b"x")
        selector.register(a.fileno(), READ, Thing())
        os.dup2(c.fileno(), a.fileno())
        if a.fileno() in selector.get_map():
            raise SystemExit("the key was not dropped")
        selector.select(0)
        for sock in (a, b, c, copy):
            sock.close()


def loop() -> None:
    loop = asyncio.SelectorEventLoop(finack.ProxySelector())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


async def left_open() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    transports = [(await loop.create_connection(asyncio.Protocol, *address))[0] for _ in range(2)]
    waiting = loop.create_task(finack.await_fd_close(transports[0].get_extra_info("socket")))
    await asyncio.sleep(0)
    transports[0].abort()
    await waiting
    finack.hold(asyncio.sleep(0, Thing()))


def event_loop() -> None:
    loop = finack.EventLoop()
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    loop.run_until_complete(left_open())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it is left open on purpose
        loop.close()


def closes() -> None:
    a, b = socket.socketpair()
    with a.makefile("rb"), contextlib.suppress(OSError):
        finack.close(a, finack.Policy(linger=0))
    finack.close(a).as_dict()
    with finack.closing(b, finack.Policy(courtesy="prompt")):
        pass


def holders() -> None:
    a, b = socket.socketpair()
    copy = a.dup()
    _core.holders(_core.identify(b.fileno()))
    str(finack.close(a, finack.Policy(courtesy="prompt", proof_wait=0)))
    copy.close()
    b.close()
    finack.ghosts()  # forgets what is over


def core() -> None:
    a, b = socket.socketpair()
    identity = _core.identify(a.fileno())
    _core.is_same(b.fileno(), identity)
    _core.handed(a.fileno())
    _core.taken(a.fileno())
    _core.taken(-1)  # nothing is
    _core.inside(a.fileno())
    _core.release(os.dup(a.fileno()), time.monotonic())
    _core.release(os.dup(a.fileno()), time.monotonic(), bool, [])
    _core.examine(a.fileno(), finack.Policy()._as_tuple())
    witness = _core.Witness()
    token = witness.add(a.fileno())
    witness.add(a.fileno())
    witness.held(token)
    attempts: list[Callable[[], object]] = [
        lambda: _core.close(-1, finack.Policy()._as_tuple()),
        lambda: _core.close(lambda: Thing(), finack.Policy()._as_tuple()),  # type: ignore
        lambda: _core.close(lambda: 10**20, finack.Policy()._as_tuple()),
        lambda: _core.close(a.fileno(), (Thing(),)),  # type: ignore[arg-type]
        lambda: _core.close(a.fileno(), Thing()),  # type: ignore[arg-type]
        lambda: _core.close(a.fileno(), finack.Policy()._as_tuple(), Thing()),  # type: ignore
        lambda: _core.reset(a.fileno()),
        lambda: _core.examine(-1, finack.Policy()._as_tuple()),
        lambda: _core.identify(-1),
        lambda: _core.is_same(3, Thing()),  # type: ignore[arg-type]
        lambda: _core.holders((1, 2, Thing())),  # type: ignore[arg-type]
        lambda: _core.handed(-1),
        lambda: _core.release(-1, Thing()),  # type: ignore[call-overload]
        lambda: _core.inside(Thing()),  # type: ignore[arg-type]
        lambda: _core.Witness(Thing()),  # type: ignore[call-arg]
        lambda: witness.add(-1),
        lambda: witness.held(Thing()),  # type: ignore[arg-type]
    ]
    for attempt in attempts:
        with contextlib.suppress(Exception):
            attempt()
            raise SystemExit("an error was expected")
    a.close()
    b.close()
    witness.close()


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    with tempfile.TemporaryDirectory() as folder:
        certificate = Certificate.make(pathlib.Path(folder))
        return certificate.server_context(), certificate.client_context()


def tls() -> None:
    a, b = socket.socketpair()
    server, client = contexts()
    ours = client.wrap_socket(a, server_hostname="localhost", do_handshake_on_connect=False)
    thread = threading.Thread(target=ours.do_handshake)
    thread.start()
    theirs = server.wrap_socket(b, server_side=True)
    thread.join()
    theirs.send(b"unread")
    finack.close(ours, finack.Policy(courtesy="full", farewell=0, linger=0))
    finack.close(theirs, finack.Policy(courtesy="full"))


def system_call(thread: int | None) -> list[str]:
    """Its first argument, if it is in one. pathlib would intern parts of its path for good."""
    with open(f"/proc/self/task/{thread}/syscall") as file:
        return file.read().split()[1:2]


def tombs() -> None:
    """A thread inside that isn't woken."""
    a, b = socket.socketpair()
    a.setblocking(True)
    thread = threading.Thread(target=a.recv, args=(1,))
    thread.start()
    while f"{a.fileno():#x}" not in system_call(thread.native_id):
        pass
    finack.close(a, finack.Policy(scope="descriptor", proof="released"))
    b.send(b"x")
    thread.join()
    for other in threading.enumerate():
        if other.name == "finack-reaper":
            other.join()
    b.close()


def steps() -> None:
    """Closes taken from step to step: to the end, aborted, dropped half-way, never begun."""
    closes = _core.CloseSet()
    policy = finack.Policy(linger=0, proof_wait=0)._as_tuple()
    for end in ("done", "abort", "drop"):
        a, b = socket.socketpair()
        close = _core.Close(closes, os.dup(a.fileno()), policy, Thing(), True, True, 1.0)
        step = close.run()
        close.tell("again", bytes=3)
        closes.poll()
        step = close.tell("abort" if end == "abort" else "ready", progress=True)
        a.close()
        while end != "drop" and step != "finish":
            with contextlib.suppress(ValueError):
                close.tell("nonsense")
            step = close.tell("deadline" if step == "wait" else "done")
        close.receipt()
        b.close()
    for wrong in (policy[1:], (9, *policy[1:]), None):
        with contextlib.suppress(TypeError, OSError):
            _core.Close(closes, 0, wrong, Thing(), True, False, None)  # type: ignore[arg-type]
    closes.close()


def aclose() -> None:
    """Transports closed by aclose(), one of them cancelled, on finack's loop."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for cancel in (False, True):
            a, b = socket.socketpair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)
            task = asyncio.create_task(finack.aclose(transport, finack.Policy(linger=0)))
            watch = asyncio.create_task(finack.closed(transport))
            await asyncio.sleep(0)
            if cancel:
                task.cancel()
            await asyncio.wait([task, watch])
            b.close()

    with asyncio.Runner(loop_factory=finack.EventLoop) as runner:
        runner.run(main())


class Odd(asyncio.DatagramProtocol, Thing):
    """Raises in each call."""

    def datagram_received(self, data: bytes, addr: object) -> None:
        raise ValueError(Thing())

    error_received = datagram_received  # type: ignore[assignment] # of one argument too few


def datagrams() -> None:
    """Sent, refused, kept in the buffer; closed in each way, one left to the end of the loop."""

    async def main(folder: str) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, what: None)
        made: list[Any] = []
        for number in range(5):
            name = f"{folder}/{number}"
            transport, _ = await loop.create_datagram_endpoint(
                Odd, local_addr=name, family=socket.AF_UNIX
            )
            made.append(transport)
            for _ in range(20):
                transport.sendto(b"x" * 100, f"{folder}/0")
        internet: Any
        internet, _ = await loop.create_datagram_endpoint(Odd, remote_addr=("127.0.0.1", 1))
        internet.sendto(b"refused")
        for attempt in (("localhost\0", 1), Thing(), None):
            with contextlib.suppress(Exception):
                internet.sendto(b"x")
            with contextlib.suppress(Exception):
                internet.sendto(b"x", attempt)
        made[0].pause_reading()
        await asyncio.sleep(0)
        made[0].resume_reading()
        made[1].close()
        made[2].abort()
        made[3].get_extra_info("socket")
        await asyncio.gather(*map(finack.aclose, made[:4]))

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # some are left open on purpose
        with asyncio.Runner(loop_factory=finack.EventLoop) as runner:
            runner.run(main(folder))


SCRIPTS = {
    f.__name__: f
    for f in (
        native,
        dropped,
        wrapped,
        errors,
        stale,
        loop,
        event_loop,
        closes,
        holders,
        core,
        tls,
        tombs,
        steps,
        aclose,
        datagrams,
    )
}
ROUNDS = 60
SLOW = {"holders": 4}  # it searches all of /proc
WINDOWS = 10


class Footprint(NamedTuple):
    """What there is of each kind."""

    blocks: int
    references: int
    things: int
    descriptors: int


def footprint() -> Footprint:
    gc.collect()
    things = sum(isinstance(o, Thing) for o in gc.get_objects())
    references = getattr(sys, "gettotalrefcount", int)()
    return Footprint(sys.getallocatedblocks(), references, things, len(os.listdir("/proc/self/fd")))


def main() -> None:
    warnings.simplefilter("error", ResourceWarning)
    work, rounds = SCRIPTS[sys.argv[1]], SLOW.get(sys.argv[1], ROUNDS)
    marks = []
    for _ in range(WINDOWS + 1):
        for _ in range(rounds):
            work()
        marks.append(footprint())
    check(marks, rounds)


def check(marks: list[Footprint], rounds: int) -> None:
    """Footprints with so many rounds between two of them.

    The interpreter's free lists fill up now and then, and it keeps names for good; what leaks grows
    all the time, by a block a round at the least.
    """
    steps = [[after[i] - before[i] for i in (0, 1)] for before, after in itertools.pairwise(marks)]
    growth = max(map(min, zip(*steps, strict=True)))
    if growth > rounds * 4 // 5 or len({mark[2:] for mark in marks}) > 1:
        raise SystemExit(f"it grows: {marks}")


if __name__ == "__main__":
    main()
