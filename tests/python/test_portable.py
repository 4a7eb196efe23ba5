# SPDX-License-Identifier: MIT
"""What finack does without its extension: in a process of its own, with FINACK_PURE=1."""

import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest
from peers import Certificate

import finack

BEGIN = """
import asyncio, socket, ssl, struct, sys, threading, time
import finack
from finack import Policy
assert "finack._core" not in sys.modules

def tcp():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]

def read_all(sock):
    data = b""
    while part := sock.recv(1 << 16):
        data += part
    return data

async def connection(serve, **options):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
    return server, reader, writer
"""


def pure(source: str, **env: str) -> None:
    script = BEGIN + textwrap.dedent(source)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "FINACK_PURE": "1", **env},
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_every_name_is_there() -> None:
    """Also what needs Linux, which says so when it is used."""
    pure(
        """
        from finack import *
        assert {name for name in finack.__all__ if not hasattr(finack, name)} == set()
        assert "asyncio" in sys.modules and finack.__version__
        class Loop(EventLoop):
            pass
        for use in (Loop, ghosts, hold, heal, ProxySelector, lambda: await_fd_close(1)):
            try:
                use()
            except RuntimeError as error:
                assert "needs Linux and finack's extension" in str(error), error
            else:
                raise AssertionError(use)
        """
    )


def test_blocking() -> None:
    pure(
        """
        ours, theirs = tcp()
        name = "tcp %s:%d -> %s:%d" % (ours.getsockname() + ours.getpeername())
        theirs.sendall(b"never read")
        theirs.shutdown(socket.SHUT_WR)
        ours.sendall(b"hello")
        receipt = finack.close(ours)
        assert read_all(theirs) == b"hello"
        assert (receipt.outcome, receipt.end, receipt.discarded) == ("graceful", "kernel", 10)
        assert list(receipt.stages) == ["requested", "shut", "eof", "released"], receipt
        assert {"acked", "unreferenced"} <= receipt.unverifiable and receipt.held is None
        assert receipt.socket == name and ours.fileno() == -1 and finack.close(ours) is receipt
        theirs.close()
        """
    )


@pytest.mark.parametrize("meets", ["nothing", "sock.recv(1)"])
def test_half_a_record(files: Certificate, meets: str) -> None:
    """FIN would tell the peer that nothing is missing."""
    pure(
        f"""
        import contextlib, errno
        context = ssl.create_default_context(cafile={str(files.authority)!r})
        there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        there.load_cert_chain({str(files.chain)!r})
        ours, theirs = tcp()
        def accept():
            global theirs
            theirs = there.wrap_socket(theirs, server_side=True)
        thread = threading.Thread(target=accept)
        thread.start()
        sock = context.wrap_socket(ours, server_hostname="localhost")
        thread.join()
        sock.setblocking(False)
        nothing = None
        with contextlib.suppress(ssl.SSLWantWriteError):
            while True:
                sock.send(bytes(16000))
        with contextlib.suppress(ssl.SSLWantReadError):
            {meets}
        receipt = finack.close(sock)
        assert (receipt.outcome, receipt.end) == ("error", "reset"), receipt
        assert receipt.error.errno == errno.EBADMSG
        assert not {{"notified", "shut"}} & set(receipt.stages)
        with socket.socket(fileno=theirs.detach()) as raw:
            try:
                read_all(raw)
            except ConnectionResetError:
                pass
            else:
                raise AssertionError("an end")
        """
    )


def test_blocking_is_bounded() -> None:
    pure(
        """
        for policy, bound in ((Policy(linger=0.1), 0.1), (Policy(linger=60, total=0.2), 0.2)):
            ours, theirs = tcp()
            begin = time.monotonic()
            with finack.closing(ours, policy):
                pass
            assert bound <= time.monotonic() - begin < 20
            receipt = finack.close(ours)
            assert (receipt.outcome, receipt.phase) == ("timed_out", "linger"), receipt
            assert theirs.recv(1) == b""
            theirs.close()
        """
    )


def test_the_bound_of_what_is_thrown_away() -> None:
    pure(
        """
        policy = Policy(drain=10, linger=60, total=60)
        ours, theirs = tcp()
        theirs.sendall(bytes(20))
        receipt = finack.close(ours, policy)
        assert (receipt.outcome, receipt.phase, receipt.discarded) == ("bounded", "linger", 10)
        theirs.close()
        async def main():
            async def serve(reader, writer):
                try:
                    while True:
                        writer.write(bytes(1 << 16))
                        await writer.drain()
                except ConnectionError:
                    writer.close()
            server, reader, writer = await connection(serve)
            receipt = await finack.aclose(writer, policy)
            assert (receipt.outcome, receipt.phase) == ("bounded", "linger"), receipt
            server.close()
        asyncio.run(main())
        """
    )


def test_blocking_aborts() -> None:
    pure(
        """
        ours, theirs = tcp()
        receipt = finack.close(ours, Policy(courtesy="abort"))
        assert (receipt.outcome, receipt.end) == ("aborted", "reset")
        try:
            theirs.recv(1)
        except ConnectionResetError:
            pass
        else:
            raise AssertionError
        theirs.close()
        """
    )


@pytest.mark.parametrize("courtesy", ["prompt", "orderly"])
def test_asyncio(courtesy: str) -> None:
    """All that was written arrives, and what was not read does no harm."""
    pure(
        f"""
        async def main():
            got = asyncio.get_running_loop().create_future()
            async def serve(reader, writer):
                writer.write(b"never read")
                got.set_result(await reader.read())
                writer.close()
            server, reader, writer = await connection(serve)
            writer.write(bytes(1 << 22))
            receipt = await finack.aclose(writer, Policy(courtesy="{courtesy}"))
            outcome = "prompt" if "{courtesy}" == "prompt" else "graceful"
            assert receipt.outcome == outcome, receipt
            assert "eof" in receipt.stages or outcome != "graceful"
            assert len(await got) == 1 << 22 and receipt.unsent == 0
            assert await finack.aclose(writer) is receipt and writer.transport.is_closing()
            assert (await finack.aclose(server)).outcome == "graceful"
            assert await finack.closed(server.sockets[0]) if server.sockets else True
        finack.run(main())
        """
    )


def test_asyncio_is_bounded_and_the_peer_is_told() -> None:
    """It does not read: what is missing there must not look like the end."""
    pure(
        """
        async def main():
            release = asyncio.Event()
            got = asyncio.get_running_loop().create_future()
            async def serve(reader, writer):
                await release.wait()
                try:
                    while await reader.read(1 << 20):
                        pass
                    got.set_result("end")
                except ConnectionResetError:
                    got.set_result("reset")
                writer.close()
            server, reader, writer = await connection(serve)
            writer.write(bytes(32 << 20))
            async with finack.aclosing(writer, Policy(flush=0.1)) as same:
                assert same is writer
            receipt = await finack.aclose(writer)
            assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "flush", "reset")
            assert receipt.unsent > 0 and receipt.lost == receipt.unsent
            release.set()
            assert await got == "reset"
            server.close()
        asyncio.run(main())
        """
    )


def test_asyncio_aborts() -> None:
    pure(
        """
        async def main():
            got = asyncio.get_running_loop().create_future()
            async def serve(reader, writer):
                try:
                    got.set_result(await reader.read())
                except ConnectionResetError as error:
                    got.set_result(error)
                writer.close()
            server, reader, writer = await connection(serve)
            receipt = await finack.aclose(writer, Policy(courtesy="abort"))
            assert (receipt.outcome, receipt.end) == ("aborted", "reset"), receipt
            assert isinstance(await got, ConnectionResetError)
            server.close()
        asyncio.run(main())
        """
    )


def test_close_all_and_the_end_of_run() -> None:
    pure(
        """
        lost = []
        class Protocol(asyncio.Protocol):
            def connection_lost(self, error):
                lost.append(error)
        async def main(all):
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Protocol, "127.0.0.1", 0)
            for _ in range(3):
                await loop.create_connection(Protocol, *server.sockets[0].getsockname())
            server.close()
            if all:
                report = await finack.close_all(timeout=5)
                assert len(report.receipts) == 6 and not report.stragglers, report
                assert len(lost) == 6
        finack.run(main(True))
        lost.clear()
        finack.run(main(False))
        assert len(lost) == 6
        """
    )


def test_bad_input() -> None:
    pure(
        """
        def check(kind, call):
            try:
                call()
            except kind:
                return
            raise AssertionError(call)
        ours, theirs = tcp()
        check(TypeError, lambda: finack.close(3))
        check(TypeError, lambda: finack.close(ours, 3))
        check(TypeError, lambda: asyncio.run(finack.aclose(3)))
        check(ValueError, lambda: finack.run(3))
        ours.close(), theirs.close()
        check(OSError, lambda: finack.close(ours))
        """
    )


# ---- where the extension can't be loaded ----

ELSEWHERE = """
    import asyncio, socket, ssl, sys
    sys.platform = "PLATFORM"
    if sys.platform == "win32":
        del socket.AF_UNIX, asyncio.unix_events
        for name in ("asyncio.unix_events", "fcntl", "resource", "pwd", "grp", "termios"):
            sys.modules[name] = None
    from finack import *
    import finack
    assert "finack._core" not in sys.modules and not finack._extension
    server = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.create_connection(server.getsockname()), server.accept()[0]
    theirs.close()
    receipt = close(ours)
    assert receipt.outcome == "graceful" and "shut" in receipt.stages, receipt
    assert receipt.socket.startswith("tcp 127.0.0.1:") and " -> " in receipt.socket, receipt
    close(server)
"""


@pytest.mark.parametrize("platform", ["darwin", "freebsd14", "win32"])
def test_other_platforms(platform: str) -> None:
    """As far as the standard library's modules say which it is."""
    script = textwrap.dedent(ELSEWHERE).replace("PLATFORM", platform)
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def copy_without(tmp_path: pathlib.Path) -> pathlib.Path:
    """The package, without its extension."""
    package = pathlib.Path(finack.__file__).parent
    return pathlib.Path(
        shutil.copytree(
            package, tmp_path / "finack", ignore=shutil.ignore_patterns("_core.*.so", "__pycache__")
        )
    )


def importing(folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    script = f"import sys; sys.path.insert(0, {str(folder)!r}); import finack; finack.close"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_the_wheel_for_all_platforms(tmp_path: pathlib.Path) -> None:
    assert importing(copy_without(tmp_path).parent).returncode == 0


@pytest.mark.parametrize("name", ["_core.cpython-310-x86_64-linux-gnu.so", "broken"])
def test_an_extension_that_does_not_fit(tmp_path: pathlib.Path, name: str) -> None:
    """One sentence says what to do."""
    package = copy_without(tmp_path)
    if name == "broken":
        name = pathlib.Path(sys.modules["finack._core"].__file__ or "").name
    (package / name).write_bytes(b"not at all")
    done = importing(package.parent)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: finack's extension can't be loaded by "), done.stderr
    assert "please install finack anew" in last and "FINACK_PURE=1" in last
    assert ("is for another one" in last) == ("310" in name)


def test_the_runner_and_the_plugin_say_so(tmp_path: pathlib.Path) -> None:
    env = {**os.environ, "FINACK_PURE": "1"}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            capture_output=True,
            text=True,
            env=env,
            cwd=tmp_path,
        )

    assert run("finack", "--version").stdout == f"finack {finack.__version__}\n"
    done = run("finack", "app.py")
    assert done.returncode == 1 and "needs Linux and finack's extension" in done.stderr
    (tmp_path / "test_it.py").write_text("def test(): pass\n")
    assert run("pytest", "-q").returncode == 0
    done = run("pytest", "-q", "--finack")
    assert done.returncode == 4 and "finack needs Linux and its extension" in done.stderr
