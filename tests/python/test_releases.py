# SPDX-License-Identifier: MIT
"""What differs between releases of CPython, of which EventLoop takes private names."""

import asyncio
import contextvars
import enum
import platform
import ssl
import subprocess
import sys
import textwrap
from asyncio import selector_events, sslproto
from typing import Any

import pytest
from asyncio_lab import Run
from peers import Certificate

import finack
from finack import _private

place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_context_of_a_server(run: Run, certificate: Certificate, tls: bool, explicit: bool) -> None:
    """Its connections run in the context that it was made in."""

    async def main() -> None:
        seen: asyncio.Queue[str] = asyncio.Queue()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.put_nowait(place.get())
            writer.close()

        secure = certificate.server_context() if tls else None
        place.set("the server's")
        server = await asyncio.start_server(
            serve, "127.0.0.1", 0, ssl=secure, start_serving=not explicit
        )
        if explicit:
            await server.start_serving()
        place.set("the client's")
        context: ssl.SSLContext | None = certificate.client_context() if tls else None
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=context,
            server_hostname="localhost" if tls else None,
        )
        assert await seen.get() == "the server's"
        assert await reader.read() == b""
        writer.close()
        server.close()
        await server.wait_closed()

    run(main())


# ---- private names ----


def test_nothing_differs() -> None:
    assert _private.differences() == []


def more(self: Any, exc: Any, reason: Any = None) -> None:
    pass


def renamed(self: Any, protocol_factory: Any, sock: Any, context: Any, server: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("kind", "name", "changed", "said"),
    [
        (
            selector_events.BaseSelectorEventLoop,
            "_start_serving",
            renamed,
            "_start_serving() has the parameters (self, protocol_factory, sock, context, server)",
        ),
        (
            selector_events._SelectorTransport,  # type: ignore[attr-defined]
            "_force_close",
            more,
            "_force_close() has the parameters (self, exc, reason)",
        ),
        (sslproto.SSLProtocol, "_start_shutdown", None, "_start_shutdown() is gone"),
        (
            sslproto,
            "SSLProtocolState",
            enum.Enum("SSLProtocolState", ["SHUTDOWN"]),
            "SSLProtocolState.FLUSHING is gone",
        ),
    ],
)
def test_what_differs(
    monkeypatch: pytest.MonkeyPatch, kind: Any, name: str, changed: Any, said: str
) -> None:
    if changed:
        monkeypatch.setattr(kind, name, changed)
    else:
        monkeypatch.delattr(kind, name)
    assert any(said in one for one in _private.differences()), _private.differences()


def test_one_warning() -> None:
    """With the first loop, in the words of whoever has to do something about it."""
    source = """
        import asyncio, warnings
        from asyncio import tasks
        import finack
        del tasks._unregister_task
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                finack.EventLoop().close()
        (one,) = caught
        print(one.filename, one.category.__name__, one.message)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        f"<string> RuntimeWarning asyncio of Python {platform.python_version()} is not the one that"
        " this release of finack was made for: _unregister_task() is gone. Closes may fail or take"
        " long there: please install a newer finack, or use an older Python until there is one\n"
    )


@pytest.mark.parametrize("kept", [False, True])
def test_writer_that_nobody_holds(run: Run, kept: bool) -> None:
    """Since 3.13 asyncio closes its connection: then none is left for the server's close to cut."""

    async def main() -> None:
        writers = list[asyncio.StreamWriter]()
        accepted = asyncio.Event()

        def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if kept:
                writers.append(writer)
            accepted.set()

        server = await finack.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await accepted.wait()
        ends = not kept and sys.version_info >= (3, 13)
        if ends:
            assert await reader.read() == b""
        receipt = await finack.aclose(server, finack.Policy(linger=0.1))
        assert len(receipt.stragglers) == (not ends), receipt
        assert (receipt.outcome == "graceful") == ends, receipt
        await finack.aclose(writer)

    run(main())
