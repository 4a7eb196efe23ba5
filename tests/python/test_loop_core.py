# SPDX-License-Identifier: MIT
"""The loop's core in C: handles, turns, timers, and what programs make anew."""

import asyncio
import contextvars
import functools
import gc
import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

import finack


@pytest.fixture
def loop() -> Iterator[finack.EventLoop]:
    made = finack.EventLoop()
    yield made
    made.close()


def turn(loop: asyncio.AbstractEventLoop) -> None:
    loop.stop()
    loop.run_forever()


# ---- handles ----


def test_handles_are_asyncios(loop: finack.EventLoop) -> None:
    soon, later = loop.call_soon(print), loop.call_later(60, print, 1)
    assert isinstance(soon, asyncio.Handle) and not isinstance(soon, asyncio.TimerHandle)
    assert isinstance(later, asyncio.TimerHandle)
    assert repr(soon) == "<Handle print()>" and "print(" in repr(later)
    assert later > loop.call_later(30, print) and later.when() > 0
    weakref.ref(soon)


@pytest.mark.parametrize("count", range(8))
def test_arguments(loop: finack.EventLoop, count: int) -> None:
    seen: list[Any] = []
    handle = loop.call_soon(lambda *args: seen.append(args), *range(count))
    assert handle._args == tuple(range(count))
    turn(loop)
    assert seen == [tuple(range(count))]


def test_a_turn_runs_what_was_queued_when_it_began(loop: finack.EventLoop) -> None:
    seen: list[int] = []

    def again(n: int) -> None:
        seen.append(n)
        loop.call_soon(again, n + 10)

    loop.call_soon(again, 1)
    loop.call_soon(again, 2)
    turn(loop)
    assert seen == [1, 2]
    turn(loop)
    assert seen == [1, 2, 11, 12]


def test_a_cancelled_handle_lets_go_at_once(loop: finack.EventLoop) -> None:
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    soon = loop.call_soon(print, thing)
    later = loop.call_later(60, print, thing)
    del thing
    assert loop._scheduled == [later]
    soon.cancel()
    later.cancel()
    assert gone() is None and soon.cancelled() and later.cancelled()
    assert loop._scheduled == []
    later.cancel()
    turn(loop)


def test_timers_in_any_order(loop: finack.EventLoop) -> None:
    base = loop.time()
    seen: list[int] = []
    handles = [
        loop.call_at(base + (n * 7919 % 1000) / 1e6, seen.append, n * 7919 % 1000)
        for n in range(1000)
    ]
    for handle in handles[::3]:
        handle.cancel()
    kept = sorted(n * 7919 % 1000 for n in range(1000) if n % 3)
    loop.call_at(base + 0.002, loop.stop)
    loop.run_forever()
    assert seen == kept


def test_context(loop: finack.EventLoop) -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)
    context, seen = contextvars.copy_context(), []
    context.run(var.set, 1)
    loop.call_soon(lambda: seen.append(var.get()), context=context)
    var.set(2)
    loop.call_soon(lambda: seen.append(var.get()))
    var.set(3)
    turn(loop)
    assert seen == [1, 2]
    handle = loop.call_soon(print, context=context)
    assert handle._context is context  # type: ignore[attr-defined]
    handle.cancel()


@pytest.mark.parametrize("debug", [False, True])
def test_what_a_callback_raises(loop: finack.EventLoop, debug: bool) -> None:
    told: list[dict[str, Any]] = []
    loop.set_debug(debug)
    loop.set_exception_handler(lambda _, context: told.append(context))
    handle = loop.call_soon(divmod, 1, 0)
    seen: list[int] = []
    loop.call_soon(seen.append, 1)
    turn(loop)
    assert seen == [1] and told[0]["handle"] is handle
    assert isinstance(told[0]["exception"], ZeroDivisionError)
    assert told[0]["message"].startswith("Exception in callback divmod(")
    assert ("source_traceback" in told[0]) == debug
    if debug:
        assert told[0]["source_traceback"][-1].name == "test_what_a_callback_raises"
    told.clear()


def test_who_leaves_leaves_the_rest_queued(loop: finack.EventLoop) -> None:
    seen: list[int] = []
    loop.call_soon(sys.exit, 3)
    loop.call_soon(seen.append, 1)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert seen == []
    turn(loop)
    assert seen == [1]


# ---- wrong calls ----


def test_wrong_calls_change_nothing(loop: finack.EventLoop) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: loop.call_soon(),  # type: ignore[call-arg]
        lambda: loop.call_soon(print, file=1),  # type: ignore[call-arg]
        lambda: loop.call_later(None, print),  # type: ignore[arg-type]
        lambda: loop.call_later("1", print),  # type: ignore[arg-type]
        lambda: loop.call_later(1),  # type: ignore[call-arg]
        lambda: loop.call_at(None, print),  # type: ignore[arg-type]
        lambda: loop.call_at("1", print),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert len(loop._ready) == 0 and loop._scheduled == []


def test_names_as_in_asyncio(loop: finack.EventLoop) -> None:
    seen: list[int] = []
    call: Any = functools.partial(seen.append, 1)
    loop.call_soon(callback=call)
    loop.call_later(delay=0, callback=call)
    loop.call_at(when=0, callback=call)
    turn(loop)
    assert seen == [1, 1, 1]


def test_a_closed_loop_refuses() -> None:
    loop = finack.EventLoop()
    loop.call_later(60, print)
    loop.close()
    for call in (loop.call_soon, loop.call_soon_threadsafe):
        with pytest.raises(RuntimeError, match="closed"):
            call(print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_later(1, print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()
    never = finack.EventLoop.__new__(finack.EventLoop)
    with pytest.raises(RuntimeError, match="closed"):
        never.call_soon(print)


def test_debug_mode_checks(loop: finack.EventLoop) -> None:
    async def coroutine() -> None: ...

    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines"):
        loop.call_soon(coroutine)
    with pytest.raises(TypeError, match="callable"):
        loop.call_later(1, 1)  # type: ignore[arg-type]
    wrong: list[BaseException] = []

    def elsewhere() -> None:
        try:
            loop.call_soon(print)
        except RuntimeError as error:
            wrong.append(error)

    async def main() -> None:
        await asyncio.to_thread(elsewhere)

    loop.run_until_complete(main())
    assert len(wrong) == 1


class Slow(asyncio.Protocol):
    """What takes long in a method that the loop calls by itself."""

    def __init__(self, method: str) -> None:
        setattr(self, method, lambda *_: time.sleep(0.02))


@pytest.mark.parametrize(
    "method", ["connection_made", "data_received", "eof_received", "connection_lost"]
)
def test_debug_mode_tells_of_slow_protocols(
    method: str, loop: finack.EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01

    async def main() -> None:
        server = await loop.create_server(lambda: Slow(method), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert any("Transport" in one and " took 0.0" in one for one in caplog.messages)


def test_debug_mode_says_whose_callback_was_slow(
    loop: finack.EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01

    async def main() -> None:
        one, other = socket.socketpair()
        with other:
            transport, _ = await loop.create_connection(lambda: Slow("data_received"), sock=one)
            other.send(b"x")
            while "Slow object" not in caplog.text:
                await asyncio.sleep(0)
            transport.close()

    loop.run_until_complete(asyncio.wait_for(main(), 20))
    assert "fd=" in caplog.text


# ---- what wakes it ----


def test_another_thread_wakes_it(loop: finack.EventLoop) -> None:
    def later() -> None:
        loop.call_soon_threadsafe(loop.stop)

    for _ in range(20):
        thread = threading.Timer(0.001, later)
        thread.start()
        loop.run_forever()
        thread.join()


def test_signals(loop: finack.EventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_an_interrupt_while_nothing_but_c_runs(loop: finack.EventLoop) -> None:
    """A call_soon() that calls for itself: no instruction of Python's is run between."""
    again: Any = functools.partial(loop.call_soon)
    again.__setstate__((loop.call_soon, (again,), {}, None))
    loop.call_soon(again)
    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    finally:
        signal.signal(signal.SIGINT, old)
        timer.join()
        again.__setstate__((print, (), {}, None))


# ---- made anew by a subclass, or by hand ----


def test_stands_in_as_asyncios_does(loop: finack.EventLoop) -> None:
    """What is awaited of a stand-in for asyncio's loop is awaited of one for this."""

    def awaited(kind: type) -> set[str]:
        made = mock.create_autospec(kind, instance=True)
        public = [name for name in dir(asyncio.SelectorEventLoop) if not name.startswith("_")]
        return {name for name in public if isinstance(getattr(made, name), mock.AsyncMock)}

    assert awaited(finack.EventLoop) == awaited(asyncio.SelectorEventLoop)


def test_connecting_by_a_stand_in(loop: finack.EventLoop) -> None:
    with mock.patch.object(loop, "create_connection", autospec=True, return_value=(1, 2)):
        made = loop.create_connection(asyncio.Protocol, "127.0.0.1", 1)
        assert loop.run_until_complete(made) == (1, 2)


class Fast(finack.EventLoop):
    """Its clock goes on by itself."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.soon = self.turns = 0
        super().__init__()

    def time(self) -> float:
        self.clock += 100
        return self.clock

    def call_soon(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self.soon += 1
        return super().call_soon(*args, **kwargs)

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()


def test_a_subclass_is_honoured() -> None:
    loop = Fast()

    async def main() -> None:
        await asyncio.sleep(30)

    begun = time.monotonic()
    loop.run_until_complete(main())
    assert time.monotonic() - begun < 20 and loop.clock > 30
    assert loop.soon >= 3 and loop.turns >= 3
    loop.close()


class Counting(finack.EventLoop):
    """Looks at all timers."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[tuple[Any, ...]] = []

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, **options: Any
    ) -> Any:
        self.timers.append(args)
        return super().call_at(when, callback, *args, **options)


def test_call_later_goes_by_a_call_at_of_the_programs() -> None:
    loop, seen = Counting(), []
    context = contextvars.copy_context()
    loop.call_later(0, lambda *args: seen.append(args), 1, 2)
    loop.call_later(0, lambda *args: seen.append(args), *range(9))
    loop.call_later(delay=0, callback=loop.stop, context=context)
    loop.run_forever()
    assert loop.timers == [*seen, ()] == [(1, 2), tuple(range(9)), ()]
    loop.close()


def test_call_later_goes_by_a_call_at_on_the_loop(loop: finack.EventLoop) -> None:
    with mock.patch.object(loop, "call_at", wraps=loop.call_at) as call_at:
        loop.call_later(0, loop.stop)
        loop.run_forever()
    call_at.assert_called_once()


def test_a_turn_made_anew_by_hand(loop: finack.EventLoop) -> None:
    stock, turns = loop._run_once, []

    def counted() -> None:
        turns.append(1)
        stock()

    loop._run_once = counted  # type: ignore[method-assign]
    loop.run_until_complete(asyncio.sleep(0))
    assert turns
    del loop._run_once


class Turned(finack.EventLoop):
    """Turns as asyncio has them, which take timers out of `_scheduled` with heapq."""

    _run_once = asyncio.BaseEventLoop._run_once  # type: ignore[attr-defined]


def test_a_turn_that_takes_timers_by_itself() -> None:
    loop = Turned()
    seen: list[Any] = []
    for n in range(20):
        loop.call_later(n / 2000, seen.append, n)
    loop.call_later(0.002, seen.append, "cancelled").cancel()
    loop.call_later(0.001, lambda: loop.call_later(0.001, seen.append, "late"))
    kept = loop.call_later(60, seen.append, "never")

    async def all_seen() -> None:
        while len(seen) < 21:
            await asyncio.sleep(0.001)

    loop.run_until_complete(all_seen())
    assert sorted(one for one in seen if one != "late") == list(range(20))
    assert seen.count("late") == 1 and loop._scheduled == [kept]
    loop._scheduled.clear()
    assert loop._scheduled == []
    loop.close()


def test_handles_of_asyncios_own_make(loop: finack.EventLoop) -> None:
    seen: list[int] = []
    handles = [asyncio.Handle(seen.append, (n,), loop) for n in range(3)]
    handles[1].cancel()
    for handle in handles:
        loop._ready.append(handle)
    assert len(loop._ready) == 3 and handles[0] in loop._ready
    turn(loop)
    assert seen == [0, 2]
    first, last = loop.call_soon(print), loop.call_soon(print)
    assert loop._ready.pop() is last and loop._ready.popleft() is first
    with pytest.raises(IndexError):
        loop._ready.popleft()


def test_task_factory(loop: finack.EventLoop) -> None:
    made: list[Any] = []

    def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
        made.append(asyncio.Task(coro, loop=loop, **kwargs))
        return made[-1]

    async def main() -> Any:
        return await asyncio.create_task(asyncio.sleep(0, 5), name="named")

    loop.set_task_factory(factory)
    assert loop.run_until_complete(main()) == 5
    assert len(made) == 2 and made[1].get_name() == "named"
    loop.set_task_factory(None)
    assert loop.run_until_complete(main()) == 5 and len(made) == 2


# ---- what a program puts on a transport ----


async def stream(sock: socket.socket) -> asyncio.BaseTransport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    return transport


async def datagrams(sock: socket.socket) -> asyncio.BaseTransport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock)
    return transport


def udp_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    theirs.bind(("127.0.0.1", 0))
    ours.connect(theirs.getsockname())
    return ours, theirs


@pytest.mark.parametrize(
    "pair, make, name",
    [(socket.socketpair, stream, "write"), (udp_pair, datagrams, "sendto")],
)
@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, finack.EventLoop])
def test_a_transport_takes_what_a_program_puts_on_it(
    pair: Callable[[], tuple[socket.socket, socket.socket]],
    make: Callable[[socket.socket], Any],
    name: str,
    factory: Callable[[], Any],
) -> None:
    async def main() -> "weakref.ref[Any]":
        ours, theirs = pair()
        with theirs:
            theirs.setblocking(False)
            transport = await make(ours)
            before = dict(vars(transport))
            noted: list[bytes] = []
            setattr(transport, name, noted.append)
            transport.itself = transport
            getattr(transport, name)(b"not sent")
            assert noted == [b"not sent"]
            assert vars(transport).keys() - before.keys() == {name, "itself"}
            delattr(transport, name)
            getattr(transport, name)(b"sent")
            assert await asyncio.get_running_loop().sock_recv(theirs, 100) == b"sent"
            transport.close()
        return weakref.ref(transport)

    with asyncio.Runner(loop_factory=factory) as runner:
        gone = runner.run(main())
    gc.collect()
    assert gone() is None


def test_a_writer_calls_what_was_put_on_its_transport() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            _, writer = await asyncio.open_connection(sock=ours)
            noted: list[bytes] = []
            transport: Any = writer.transport
            transport.write = noted.append
            for n in range(100):
                writer.write(b"%d" % n)
            assert noted == [b"%d" % n for n in range(100)]
            writer.close()
            await writer.wait_closed()

    finack.run(main())


# ---- life ----


def test_a_loop_with_work_queued_is_collected() -> None:
    loop = finack.EventLoop()
    loop.call_soon(id, loop)
    loop.call_later(60, loop.stop)
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_handles_outlive_their_loop() -> None:
    loop = finack.EventLoop()
    handles: list[Any] = [loop.call_soon(print, n) for n in range(200)]
    handles += [loop.call_later(n, print, n) for n in range(200)]
    loop.close()
    gone = weakref.ref(loop)
    del loop
    for handle in handles:
        handle.cancel()
        repr(handle)
    handles.clear()
    del handle
    gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_child_does_not_wake_its_parent(loop: finack.EventLoop) -> None:
    child = os.fork()
    if child == 0:
        loop.call_soon_threadsafe(print)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    with pytest.raises(BlockingIOError):
        os.read(loop._open_wake(), 8)
