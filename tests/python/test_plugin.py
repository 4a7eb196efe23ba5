# SPDX-License-Identifier: MIT
"""The pytest plugin, in pytest runs of their own."""

import textwrap

import pytest

pytest_plugins = ["pytester"]

TOP = """
import asyncio, os, socket, threading
import pytest

def connected(server):
    a = socket.create_connection(server.getsockname())
    return a, server.accept()[0]
"""


class Run:
    """One run of pytest on one module."""

    def __init__(self, pytester: pytest.Pytester, source: str, *args: str) -> None:
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
        pytester.makepyfile(TOP + textwrap.dedent(source))
        self.result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *args)

    def outcomes(self, **expected: int) -> None:
        self.result.assert_outcomes(**expected)

    def lines(self, *patterns: str) -> None:
        self.result.stdout.re_match_lines(list(patterns), consecutive=False)

    def lacks(self, pattern: str) -> None:
        self.result.stdout.no_re_match_line(pattern)


OPEN = """
    KEPT = []

    def test_leak():
        server = socket.create_server(("127.0.0.1", 0))
        KEPT.append(server)

    def test_next():
        pass
"""


# ---- when it is active ----


def test_not_asked_for(pytester: pytest.Pytester) -> None:
    run = Run(pytester, OPEN)
    run.outcomes(passed=2)


def test_asked_for(pytester: pytest.Pytester) -> None:
    run = Run(pytester, OPEN, "--finack")
    run.outcomes(passed=2, errors=1)
    run.lines(
        r".*ERROR at teardown of test_leak.*",
        r"finack: the test left a socket behind$",
        r"open: tcp 127\.0\.0\.1:\d+ listening, fd \d+, LISTEN$",
        r"    made at test_asked_for\.py:11 in test_leak$",
        r"Close it before the test ends.*",
    )
    assert run.result.ret == 1


def test_the_marker(pytester: pytest.Pytester) -> None:
    run = Run(pytester, OPEN.replace("def test_leak", "@pytest.mark.finack\n    def test_leak"))
    run.outcomes(passed=2, errors=1)
    run.lines(r".*ERROR at teardown of test_leak.*")


def test_the_marker_against_the_option(pytester: pytest.Pytester) -> None:
    marker = "@pytest.mark.finack(check=False)\n    def test_leak"
    Run(pytester, OPEN.replace("def test_leak", marker), "--finack").outcomes(passed=2)


def test_the_marker_misspelt(pytester: pytest.Pytester) -> None:
    marker = "@pytest.mark.finack(cheque=False)\n    def test_leak"
    run = Run(pytester, OPEN.replace("def test_leak", marker), "--strict-markers")
    run.result.stderr.re_match_lines([".*test_leak: the marker finack takes check=True or False"])


def test_the_hook_is_installed_only_when_asked_for(pytester: pytest.Pytester) -> None:
    source = """
        def test_hook():
            from finack._sockets.audit import audit
            assert audit._installed is {expected}
    """
    Run(pytester, source.format(expected=False)).outcomes(passed=1)
    Run(pytester, source.format(expected=True), "--finack").outcomes(passed=1)


# ---- open ----


def test_everything_closed(pytester: pytest.Pytester) -> None:
    source = """
        def test_blocking():
            with socket.create_server(("127.0.0.1", 0)) as server:
                for end in connected(server):
                    end.close()

        def test_asyncio():
            async def main():
                async def serve(reader, writer):
                    writer.close()
                server = await asyncio.start_server(serve, "127.0.0.1", 0)
                async with server:
                    address = server.sockets[0].getsockname()
                    reader, writer = await asyncio.open_connection(*address)
                    assert await reader.read() == b""
                    writer.close()
                    await writer.wait_closed()
            asyncio.run(main())
    """
    run = Run(pytester, source, "--finack", "-W", "error")
    run.outcomes(passed=2)


def test_connection(pytester: pytest.Pytester) -> None:
    """Addresses, number, state; every socket is named."""
    source = """
        KEPT = []

        def test_leak():
            with socket.create_server(("127.0.0.1", 0)) as server:
                a, b = connected(server)
            a.close()
            KEPT.append(b)
            KEPT.extend(socket.socketpair())
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=1, errors=1)
    run.lines(r"finack: the test left 3 sockets behind$")
    run.lines(
        r"open: tcp 127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+, fd \d+, CLOSE_WAIT$",
        r"    made at test_connection\.py:\d+ in connected$",
    )
    run.lines(
        r"open: unix -( -> -)?, fd \d+$", r"    made at test_connection\.py:\d+ in test_leak$"
    )


def test_left_to_the_collector(pytester: pytest.Pytester) -> None:
    """Nobody refers to it, but itself."""
    source = """
        import gc
        gc.disable()

        def test_leak():
            with socket.create_server(("127.0.0.1", 0)) as server:
                a, b = connected(server)
            a.close()
            cycle = [b]
            cycle.append(cycle)

        def test_next():
            pass
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=2, errors=1)
    run.lines(
        r"open: tcp .* -> .*, fd \d+, CLOSE_WAIT, closed by the garbage collector alone$",
    )


def test_no_object(pytester: pytest.Pytester) -> None:
    """A number that no socket object has: the place is that of the object it came from."""
    source = """
        def test_leak():
            os.set_blocking(socket.socket().detach(), True)
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=1, errors=1)
    run.lines(r"open: tcp 0\.0\.0\.0:0, fd \d+, CLOSE$")


def test_in_a_fixture_of_the_test(pytester: pytest.Pytester) -> None:
    source = """
        @pytest.fixture
        def server():
            return socket.create_server(("127.0.0.1", 0))

        def test_leak(server):
            pass
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=1, errors=1)
    run.lines(r"    made at .*:\d+ in server$")


def test_copy_of_a_wider_socket(pytester: pytest.Pytester) -> None:
    source = """
        @pytest.fixture(scope="module")
        def server():
            with socket.create_server(("127.0.0.1", 0)) as server:
                yield server

        def test_leak(server):
            os.dup(server.fileno())
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=1, errors=1)
    run.lines(r"open: tcp .* listening, copy fd \d+, LISTEN$")


def test_a_failed_test_fails_once(pytester: pytest.Pytester) -> None:
    """Its traceback keeps the sockets; they are named beside it."""
    source = """
        def test_fails():
            server = socket.create_server(("127.0.0.1", 0))
            assert server is None

        @pytest.mark.skip
        def test_skipped():
            pass

        def test_skips():
            pytest.skip()

        KEPT = []

        def test_skips_late():
            KEPT.append(socket.socket())
            pytest.skip()
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(failed=1, skipped=3, errors=1)
    run.lines(r".*Captured finack teardown.*", r"open: tcp .* listening, fd \d+, LISTEN$")
    run.lines(r".*ERROR at teardown of test_skips_late.*")


# ---- not the test's ----


@pytest.mark.parametrize("scope", ["session", "package", "module", "class"])
def test_wider_fixture(pytester: pytest.Pytester, scope: str) -> None:
    """And what a server of it accepts; but not the test's own end."""
    source = """
        @pytest.fixture(scope="{scope}")
        def server():
            with socket.create_server(("127.0.0.1", 0)) as server:
                yield server
                for sock in ACCEPTED:
                    sock.close()

        KEPT, ACCEPTED = [], []

        class Test:
            def test_first(self, server):
                a, b = connected(server)
                ACCEPTED.append(b)
                a.close()

            def test_second(self, server, request):
                pass

            def test_leak(self, server):
                a, b = connected(server)
                KEPT.append(a)
                ACCEPTED.append(b)

            def test_last(self, server):
                pass
    """
    run = Run(pytester, source.format(scope=scope), "--finack")
    run.outcomes(passed=4, errors=1)
    run.lines(r"finack: the test left a socket behind$", r"open: tcp .*ESTABLISHED$")


def test_wider_fixture_asked_for_late(pytester: pytest.Pytester) -> None:
    source = """
        @pytest.fixture(scope="module")
        def server():
            with socket.create_server(("127.0.0.1", 0)) as server:
                yield server

        def test_late(request):
            request.getfixturevalue("server")
    """
    Run(pytester, source, "--finack").outcomes(passed=1)


def test_open_loop(pytester: pytest.Pytester) -> None:
    """Its own pipe is not the test's, what runs on it is."""
    source = """
        import uvloop, finack
        KEPT = []

        @pytest.mark.parametrize("new", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
        def test_loop(new):
            loop = new()
            KEPT.append(loop)
            loop.run_until_complete(asyncio.sleep(0))

        def test_leak():
            async def main():
                KEPT.append(await asyncio.start_server(print, "127.0.0.1", 0))
            KEPT[0].run_until_complete(main())
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=3, errors=1)
    run.lines(
        r"open: tcp .* listening, fd \d+, LISTEN, registered with epoll fd \d+$",
        r"    made at .*:\d+ in test_leak\.<locals>\.main$",
    )


def test_a_thread_closes_in_its_own_time(pytester: pytest.Pytester) -> None:
    source = """
        def test_thread():
            a, b = socket.socketpair()
            def work():
                with b:
                    assert b.recv(1) == b""
                    threading.Event().wait(0.1)
            threading.Thread(target=work).start()
            a.close()
    """
    Run(pytester, source, "--finack").outcomes(passed=1)


# ---- registered ----


def test_registered(pytester: pytest.Pytester) -> None:
    source = """
        import select

        @pytest.fixture(scope="module")
        def poller():
            with select.epoll() as poller:
                yield poller

        def test_leak(poller):
            a, b = socket.socketpair()
            poller.register(a, select.EPOLLIN)
            copy = os.dup(a.fileno())
            a.close()
            b.close()
            test_leak.copy = copy

        def test_next(poller):
            pass
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=2, errors=1)
    run.lines(
        r"finack: the test left 2 sockets behind$",
        r"open: unix -( -> -)?, fd \d+$",
        r"registered: .*, closed, and still registered as fd \d+ with epoll fd \d+,"
        r" kept alive by fd \d+ of process \d+$",
        r"Take it out of the selector before it is closed.*",
    )


# ---- held ----

HELD = """
    import gc, multiprocessing, subprocess, sys

    @pytest.fixture(scope="module")
    def children():
        children = []
        yield children
        for pid, pipe in children:
            os.close(pipe)
            os.waitpid(pid, 0)

    def hold(children):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        children.append((pid, write))

    def test_leak(children):
        with socket.create_server(("127.0.0.1", 0)) as server:
            hold(children)

    def test_next(children):
        pass
"""


def test_held_by_a_child(pytester: pytest.Pytester) -> None:
    run = Run(pytester, HELD, "--finack")
    run.outcomes(passed=2, errors=1)
    run.lines(
        r"held: tcp 127\.0\.0\.1:\d+ listening, fd \d+ is closed, still held by \d+/\S+ fd \d+$",
        r"    made at .* in test_leak$",
        r"End those who have it and wait for them.*",
    )


def test_held_by_a_child_that_ends(pytester: pytest.Pytester) -> None:
    source = """
        def test_fork():
            with socket.create_server(("127.0.0.1", 0)):
                pid = os.fork()
                if pid == 0:
                    threading.Event().wait(0.1)
                    os._exit(0)
            test_fork.pid = pid

        def test_wait():
            os.waitpid(test_fork.pid, 0)
    """
    Run(pytester, source, "--finack").outcomes(passed=2)


def test_held_in_a_message(pytester: pytest.Pytester) -> None:
    source = """
        @pytest.fixture(scope="module")
        def pair():
            a, b = socket.socketpair()
            with a, b:
                yield a, b

        def test_leak(pair):
            with socket.socket() as sock:
                socket.send_fds(pair[0], [b"x"], [sock.fileno()])

        def test_next(pair):
            pass
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=2, errors=1)
    run.lines(r"held: tcp .*, fd \d+ is closed, still held by a thread inside a call, a message,.*")


def test_held_by_a_thread_inside_a_call(pytester: pytest.Pytester) -> None:
    source = """
        @pytest.fixture(scope="module")
        def threads():
            threads = []
            yield threads
            for peer, thread in threads:
                peer.close()
                thread.join()

        def test_leak(threads):
            a, b = socket.socketpair()
            number = a.detach()
            peer = socket.socket(fileno=os.dup(b.fileno()))
            b.close()
            thread = threading.Thread(target=os.read, args=(number, 1))
            thread.start()
            task = f"/proc/self/task/{thread.native_id}/syscall"
            while not open(task).read().split()[1:2] == [hex(number)]:  # its first argument
                pass
            os.close(number)
            threads.append((peer, thread))

        def test_next(threads):
            pass
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=2, errors=1)
    run.lines(r"open: unix -( -> -)?, fd \d+$")  # the other end
    run.lines(r"held: unix -( -> -)?, fd \d+ is closed, still held by a thread inside a call,.*")


# ---- with the plugins for asynchronous tests ----

ASYNCIO = """
    pytestmark = pytest.mark.asyncio(loop_scope="{scope}")
    pytest_plugins = ()
    import pytest_asyncio
    KEPT = []

    async def serve(reader, writer):
        await reader.read()
        writer.close()

    @pytest_asyncio.fixture(loop_scope="{scope}", scope="{scope}")
    async def server():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()
        server.close()

    @pytest.mark.parametrize("again", [1, 2])
    async def test_fine(server, again):
        reader, writer = await asyncio.open_connection(*server)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    async def test_leak(server):
        KEPT.append(await asyncio.open_connection(*server))

    async def test_next(server):
        pass
"""


@pytest.mark.parametrize(
    ("scope", "many"),
    [("function", "(a|2) sockets?"), ("module", "a socket"), ("session", "a socket")],
)
def test_pytest_asyncio(pytester: pytest.Pytester, scope: str, many: str) -> None:
    """What the server accepted is the test's too if the server is."""
    run = Run(pytester, ASYNCIO.format(scope=scope), "--finack")
    run.outcomes(passed=4, errors=1)
    run.lines(
        r".*ERROR at teardown of test_leak.*",
        rf"finack: the test left {many} behind$",
        r"open: tcp 127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+, fd \d+.*",
        r"    made at .*\.py:\d+ in test_leak$",
    )


UVLOOP = """
    import uvloop

    @pytest.fixture(scope="session")
    def event_loop_policy():
        return uvloop.EventLoopPolicy()
"""


def test_uvloop_closes_what_it_has(pytester: pytest.Pytester) -> None:
    run = Run(pytester, UVLOOP + ASYNCIO.format(scope="function"), "--finack")
    run.outcomes(passed=4)


def test_uvloop(pytester: pytest.Pytester) -> None:
    """Sockets that no object of Python's has: addresses instead of a place."""
    run = Run(pytester, UVLOOP + ASYNCIO.format(scope="session"), "--finack")
    run.outcomes(passed=4, errors=1)
    run.lines(
        r".*ERROR at teardown of test_leak.*",
        r"finack: the test left a socket behind$",
        r"open: tcp 127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+, fd \d+.*",
    )
    run.lacks("    made at")


ANYIO = """
    import anyio
    KEPT = []

    @pytest.fixture(scope="{scope}")
    def anyio_backend():
        return "asyncio", {options}

    @pytest.fixture(scope="{scope}")
    async def server(anyio_backend):
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        async with listener:
            yield listener.extra(anyio.abc.SocketAttribute.local_address)

    @pytest.mark.anyio
    @pytest.mark.parametrize("again", [1, 2])
    async def test_fine(server, again):
        async with await anyio.connect_tcp(*server) as stream:
            raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        while raw.fileno() >= 0:
            await anyio.sleep(0)

    @pytest.mark.anyio
    async def test_leak(server):
        KEPT.append(await anyio.connect_tcp(*server))

    @pytest.mark.anyio
    async def test_next(server):
        pass
"""


@pytest.mark.parametrize("scope", ["function", "session"])
def test_anyio(pytester: pytest.Pytester, scope: str) -> None:
    run = Run(pytester, ANYIO.format(scope=scope, options={}), "--finack")
    run.outcomes(passed=4, errors=1)
    run.lines(
        r".*ERROR at teardown of test_leak.*",
        r"finack: the test left a socket behind$",
        r"open: tcp 127\.0\.0\.1:\d+.*, fd \d+.*",
        r"    made at anyio/.*$",  # in a task of its own
    )


# ---- loops that release by themselves ----


def test_what_the_loop_had_to_release(pytester: pytest.Pytester) -> None:
    source = """
    import finack
    KEPT = []

    async def main():
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        KEPT.append(server)
        KEPT.append(await asyncio.create_subprocess_exec("true", stdin=-1))
        await KEPT[-1].wait()

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_leak():
        finack.run(main())
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=1, errors=1)
    run.lines(r"released: tcp 127\.0\.0\.1:\d+ listening, never closed", r"    made at .*main")
    run.lines("The loop had to release it")


def test_pipes_of_a_subprocess(pytester: pytest.Pytester) -> None:
    """Left by a loop that leaves them."""
    source = """
    KEPT = []

    async def main():
        KEPT.append(await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1))

    @pytest.mark.filterwarnings("ignore")
    def test_leak():
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(main())

    @pytest.mark.filterwarnings("ignore")
    def test_clean():
        async def main():
            process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            await process.communicate(b"x")
        asyncio.run(main())
    """
    run = Run(pytester, source, "--finack")
    run.outcomes(passed=2, errors=1)
    run.lines(r"open: pipe, std(in|out) of process \d+, fd \d+")
    run.lines("finack: the test left 2 sockets or pipes behind")
