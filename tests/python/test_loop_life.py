# SPDX-License-Identifier: MIT
"""EventLoop from its making to its freeing: children, subclasses, pipes, what keeps it alive."""

import asyncio
import contextlib
import gc
import heapq
import os
import socket
import subprocess
import sys
import textwrap
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import finack

Main = Callable[[], Any]
BOUND = 30


async def turns(many: int = 20) -> None:
    for _ in range(many):
        await asyncio.sleep(0)


# ---- freed ----


class Factory:
    """Of tasks, and anything else that a loop keeps."""

    def __call__(self, loop: Any, coro: Any, **options: Any) -> Any:
        return asyncio.Task(coro, loop=loop, **options)


def test_what_a_loop_keeps_goes_with_it() -> None:
    loop, gone = finack.EventLoop(), []
    loop.close()
    for name in ("_on_closed", "_listeners", "_note_left", "_placed", "_selector"):
        kept = Factory()
        gone.append(weakref.ref(kept))
        setattr(loop, name, kept)
    factory = Factory()
    gone.append(weakref.ref(factory))
    loop.set_task_factory(factory)
    del loop, kept, factory
    gc.collect()
    assert [one() for one in gone] == [None] * 6


async def nothing() -> None:
    await turns(1)


async def a_close() -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await finack.aclose(writer)
    await finack.aclose(server)


async def a_wait() -> None:
    ours, theirs = socket.socketpair()
    waiter = asyncio.ensure_future(finack.await_fd_close(ours))
    await turns(2)
    ours.close()
    theirs.close()
    await waiter


async def a_hold() -> None:
    finack.hold(asyncio.sleep(0.01))


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("main", [nothing, a_close, a_wait, a_hold])
def test_freed_at_once(main: Main, debug: bool) -> None:
    """By the last reference to it, without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=finack.EventLoop, debug=debug) as runner:
            runner.run(main())
            alive = weakref.ref(runner.get_loop())
        del runner
        assert alive() is None
    finally:
        gc.enable()


# ---- subclasses ----


class Counting(finack.EventLoop):
    """Sees each of its turns."""

    turns = 0

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()


async def count() -> int:
    """The turns that were seen while ten passed and somebody waited for a close."""
    loop: Any = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    waiter = asyncio.ensure_future(loop.await_fd_close(ours))
    await asyncio.sleep(0)
    before = loop.turns
    await turns(10)
    seen: int = loop.turns - before
    ours.close()
    theirs.close()
    await waiter
    return seen


def test_a_turn_of_a_subclass() -> None:
    with asyncio.Runner(loop_factory=Counting) as runner:
        assert runner.run(count()) == 10


def test_a_turn_put_on_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """As nest_asyncio does it."""

    class Patched(finack.EventLoop):
        turns = 0

    stock: Any = asyncio.base_events.BaseEventLoop

    def run_once(self: Any) -> None:
        self.turns += 1
        stock._run_once(self)

    monkeypatch.setattr(Patched, "_run_once", run_once)
    with asyncio.Runner(loop_factory=Patched) as runner:
        assert runner.run(count()) == 10


def turn_of_nest_asyncio(loop: Any) -> None:
    ready = loop._ready
    loop._process_events(loop._selector.select(0 if ready else 0.01))
    while loop._scheduled and loop._scheduled[0]._when < loop.time():
        ready.append(heapq.heappop(loop._scheduled))
    for _ in range(len(ready)):
        if ready:
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("whose", ["asyncio", "nest_asyncio"])
def test_connections_in_turns_of_another_make(whose: str, debug: bool) -> None:
    """Steps of the loop's own are run by them too: what is accepted, and the proof of a close."""

    class Patched(finack.EventLoop):
        pass

    loop: Any = Patched
    stock: Any = asyncio.base_events.BaseEventLoop
    loop._run_once = stock._run_once if whose == "asyncio" else turn_of_nest_asyncio

    async def main() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        receipt = await finack.aclose(writer)
        assert receipt.outcome == "graceful" and receipt.held is False
        assert (await finack.aclose(server)).outcome == "graceful"

    with asyncio.Runner(loop_factory=Patched, debug=debug) as runner:
        runner.run(asyncio.wait_for(main(), 60))


def test_a_turn_put_on_the_loop() -> None:
    """It is there again when nobody waits any more."""
    loop: Any = Counting()
    seen: list[int] = []

    def run_once() -> None:
        seen.append(1)
        Counting._run_once(loop)

    loop._run_once = run_once
    try:
        assert loop.run_until_complete(count()) == 10
        assert len(seen) == loop.turns and loop._run_once is run_once
    finally:
        loop.close()


def test_running_it_twice() -> None:
    """Refused, and the loop that runs is as it was."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        assert loop.is_running() and asyncio.get_running_loop() is loop
        await turns()

    finack.run(main())


# ---- a child ----


def in_child(source: str) -> str:
    """What a program printed that must end well."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def test_a_daemon() -> None:
    """The loop was made before the fork, and is used in the child alone."""
    said = in_child("""
        import asyncio, os, signal, socket
        import finack

        loop = finack.EventLoop()
        ours, theirs = socket.socketpair()
        loop.add_reader(ours, lambda: print(ours.recv(9)))
        loop.add_signal_handler(signal.SIGUSR1, lambda: print("signal"))
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.run_in_executor(None, print, "before"))
        read, write = os.pipe()
        if os.fork():
            os.close(write)
            os.read(read, 1)  # until the child has ended
            os._exit(0)

        async def main():
            theirs.send(b"hello")
            os.kill(os.getpid(), signal.SIGUSR1)
            await loop.run_in_executor(None, print, "executor")
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            await finack.aclose(writer)
            await finack.aclose(server)
            loop.remove_reader(ours)

        loop.run_until_complete(main())
        loop.remove_signal_handler(signal.SIGUSR1)
        loop.close()
        print("ended")
        """)
    for word in ("b'hello'", "signal", "executor", "ended"):
        assert word in said


def test_a_child_and_a_loop_that_goes_on() -> None:
    """What a child runs does not reach the parent's loop."""
    said = in_child("""
        import asyncio, os, socket
        import finack

        loop = finack.EventLoop()
        ours, theirs = socket.socketpair()
        got = []
        loop.add_reader(ours, lambda: got.append(ours.recv(1)))
        child = os.fork()
        if not child:
            loop.run_until_complete(asyncio.sleep(0.01))
            loop.remove_reader(ours)
            loop.close()
            os._exit(0)
        os.waitpid(child, 0)
        theirs.send(b"x")
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.remove_reader(ours)
        loop.close()
        print(got)
        """)
    assert said == "[b'x']\n"


def test_a_child_and_another_selector() -> None:
    """It says why it can't be used."""
    said = in_child("""
        import asyncio, os, selectors, sys
        import finack

        loop = finack.EventLoop(finack.ProxySelector(selectors.EpollSelector()))
        child = os.fork()
        if not child:
            try:
                loop.run_forever()
            except ChildProcessError as error:
                print(error, flush=True)
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        loop.close()
        """)
    assert "belongs to the process that forked this one" in said


# ---- pipes ----


def pipes() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        if link.startswith(("pipe:", "anon_inode:[pidfd]")):
            found.add(f"{fd} {link}")
    return found


def ended(main: Main, policy: finack.Policy | None = None, *, debug: bool = False) -> list[str]:
    """Runs it on a loop of its own; what that warned of at its end."""
    loop = finack.EventLoop(policy=policy)
    loop.set_debug(debug)
    loop.run_until_complete(main())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
    return [str(one.message) for one in caught]


def test_pipes_of_a_subprocess() -> None:
    kept: list[Any] = []
    before = pipes()

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        kept.append(process)

    (text,) = ended(main, debug=True)
    assert pipes() == before
    pid = kept[0].pid
    for stream in ("stdin", "stdout"):
        assert f"pipe, {stream} of process {pid} fd " in text
    assert text.count("never closed") == 2 and text.count("test_loop_life.py:") == 2
    with contextlib.suppress(ChildProcessError):  # in the loop's last turns, if it was quick
        os.waitpid(pid, 0)
    kept[0]._transport._returncode = 0  # so that nobody kills it


def test_a_pipe_that_is_closing() -> None:
    """What was written arrives, within the policy."""
    read, write = os.pipe()
    many = bytes(1 << 20)
    child = subprocess.Popen(["wc", "-c"], stdin=read, stdout=subprocess.PIPE)
    os.close(read)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(write, "wb", 0)
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, pipe)
        transport.write(many)
        transport.close()

    assert ended(main) == []
    assert child.communicate(timeout=BOUND)[0] == b"%d\n" % len(many)


def test_a_pipe_that_nobody_reads() -> None:
    read, write = os.pipe()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(write, "wb", 0)
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, pipe)
        transport.write(bytes(1 << 20))
        transport.close()

    (text,) = ended(main, finack.Policy(flush=0.1))
    assert "pipe fd" in text and "still closing" in text and "bytes unsent" in text
    os.close(read)


# ---- what is being accepted ----


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside another loop"])
@pytest.mark.parametrize("before", range(6))
def test_what_is_being_accepted(before: int, inside: bool) -> None:
    """Nothing outlives the loop: the peer sees an end, in whatever turn it came."""

    async def main() -> socket.socket:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        await turns(before)
        return client

    def close() -> None:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            loop.close()

    async def outer() -> None:
        close()

    loop = finack.EventLoop()
    client = loop.run_until_complete(main())
    with client, contextlib.suppress(ConnectionResetError):
        if inside:
            asyncio.run(outer())
        else:
            close()
        client.settimeout(BOUND)
        assert client.recv(1) == b""


# ---- what it needs of the system ----


def test_no_working_directory(tmp_path: Path) -> None:
    """Nor need it be asked for while a program runs, which may forbid that."""
    said = in_child(f"""
        import asyncio, os, warnings
        import finack

        os.chdir({str(tmp_path)!r})
        os.rmdir({str(tmp_path)!r})
        asked = []
        getcwd = os.getcwd
        os.getcwd = lambda: asked.append(1) or getcwd()

        async def main():
            global kept
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await reader.read()
            writer.close()
            await finack.aclose(server)
            kept = await asyncio.open_connection(*server_of(server))

        def server_of(server):
            global listener
            import socket
            listener = socket.create_server(("127.0.0.1", 0))
            return listener.getsockname()

        loop = finack.EventLoop()
        loop.set_debug(True)
        loop.slow_callback_duration = 60
        loop.run_until_complete(main())
        assert not asked, asked
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop.close()
        print(caught[0].message)
        listener.close()
        """)
    assert "never closed" in said and "made at <string>" in said


def test_a_warning_that_is_an_error() -> None:
    """The program's own result or exception stays."""
    for end in ("return 'fine'", "raise KeyError('mine')"):
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                f"""
import asyncio, finack
async def main():
    global server
    server = await asyncio.start_server(print, "127.0.0.1", 0)
    {end}
with asyncio.Runner(loop_factory=finack.EventLoop) as runner:
    print(runner.run(main()))
""",
            ],
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
        assert "Exception ignored in" in done.stderr and "never closed" in done.stderr
        if end.startswith("return"):
            assert done.returncode == 0 and done.stdout == "fine\n"
        else:
            assert "KeyError: 'mine'" in done.stderr.splitlines()[-1]


# ---- servers ----


def test_a_listening_socket_that_was_shut_down_costs_no_time() -> None:
    async def main() -> float:
        listener = socket.create_server(("127.0.0.1", 0))
        server = await asyncio.start_server(lambda _, writer: writer.close(), sock=listener)
        listener.shutdown(socket.SHUT_RDWR)
        before = time.process_time()
        await asyncio.sleep(0.5)
        spent = time.process_time() - before
        server.close()
        return spent

    assert finack.EventLoop().run_until_complete(main()) < 0.2


# ---- what is read ----


def test_much_and_little_in_turns() -> None:
    """What a protocol keeps is as large as what came, however much was read for at a time."""
    sizes = [40_000, 100_000, 1, 70_000, 300_000, 5] * 40
    kept: list[bytes] = []

    class Keeps(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            kept.append(data)

    async def main() -> int:
        before = address_space()
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        transport, _ = await loop.create_connection(Keeps, sock=ours)
        for number, size in enumerate(sizes):
            sent = sum(map(len, kept)) + size
            await loop.sock_sendall(theirs, bytes([number % 256]) * size)
            while sum(map(len, kept)) < sent:
                await asyncio.sleep(0)
        transport.close()
        theirs.close()
        return address_space() - before

    grown = finack.run(main())
    assert b"".join(kept) == b"".join(bytes([n % 256]) * size for n, size in enumerate(sizes))
    assert max(map(len, kept)) > 32_768, "nothing was read at once that is much"
    assert all(sys.getsizeof(data) == len(data) + sys.getsizeof(b"") for data in kept)
    assert grown < 2 * sum(sizes), (grown, sum(sizes))


def address_space() -> int:
    """Bytes: what was never written to takes room too."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")


BLOCKING = """
import asyncio, os, socket, finack

async def main():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    came = loop.create_future()
    class Once(asyncio.Protocol):
        def data_received(self, data):
            came.set_result(data)
    transport, _ = await loop.create_connection(Once, sock=ours)
    os.set_blocking(transport.get_extra_info("socket").fileno(), True)
    transport.write(bytes(1 << 20))
    transport.writelines([bytes(1 << 20), b"end"])
    assert transport.get_write_buffer_size() > 1 << 20
    theirs.send(b"x")
    assert await came == b"x"
    got = 0
    while got < (2 << 20) + 3:
        got += len(await loop.sock_recv(theirs, 1 << 20))
    assert transport.get_write_buffer_size() == 0
    transport.close()
    theirs.close()

finack.run(main())
print("done")
"""


def test_a_descriptor_that_somebody_made_blocking() -> None:
    """Whose O_NONBLOCK it is, is nobody's alone: a child or another socket object may clear it."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKING], stdout=subprocess.PIPE, text=True, timeout=BOUND
    )
    assert done.stdout == "done\n"
