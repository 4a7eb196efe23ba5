# SPDX-License-Identifier: MIT
"""The package as one meets it first: its names, its version, its help."""

import importlib.metadata
import pydoc
import subprocess
import sys
import textwrap
import typing

import pytest

import finack

# Without `site`, which imports what .pth files say.
PATH = f"import sys; sys.path[:] = {sys.path!r}; "


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_version() -> None:
    assert finack.__version__ == importlib.metadata.version("finack")
    assert python("-m", "finack", "--version") == f"finack {finack.__version__}\n"


def test_names() -> None:
    assert all(hasattr(finack, name) and name[0] != "_" for name in finack.__all__)
    assert {name for name in dir(finack) if name[0] != "_"} == set(finack.__all__)
    everything: dict[str, object] = {}
    exec("from finack import *", everything)
    assert set(everything) - {"__builtins__"} == set(finack.__all__)
    with pytest.raises(AttributeError, match="module 'finack' has no attribute 'aclosed'"):
        finack.aclosed  # type: ignore[attr-defined]  # noqa: B018


def test_import_is_quick() -> None:
    """To import asyncio takes ten times as long, and a program may need nothing of it."""
    script = "import sys, finack; print([x for x in ('asyncio', 'typing') if x in sys.modules])"
    assert python("-S", "-c", PATH + script) == "[]\n"
    script = "import sys, finack; finack.Policy; print('asyncio' in sys.modules)"
    assert python("-c", script) == "False\n"


FULL = """
    import asyncio, contextlib, resource, socket, finack
    async def main():
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        theirs.shutdown(socket.SHUT_WR)
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        kept = []
        with contextlib.suppress(OSError):
            while True:
                kept.append(socket.socket())
        receipt = await finack.aclose(writer)
        print(receipt.outcome, receipt.end)
    asyncio.run(main())
"""


def test_what_closes_is_loaded_before_it_is_needed() -> None:
    """To load a module takes a descriptor; the first close may come when there is none."""
    assert python("-c", textwrap.dedent(FULL)) == "graceful fin\n"


ALONE = """
    import asyncio, socket, finack
    async def main():
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        print(await USE)
        await asyncio.gather(*map(finack.aclose, (writer, server)))
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    "use",
    [
        "finack.aclose(writer, finack.Policy(courtesy='prompt'))",
        "finack.aclose(writer, finack.Policy(courtesy='abort'))",
        "finack.aclose(server, finack.Policy(courtesy='prompt'))",
        "finack.close_all(5)",
        "asyncio.to_thread(finack.ghosts)",
    ],
)
def test_alone(use: str) -> None:
    """Whatever is used first needs nothing else, on asyncio's own loop."""
    assert python("-c", textwrap.dedent(ALONE).replace("USE", use)) != ""


WITHOUT_TLS = """
    import os, sys
    sys.modules["_ssl"] = None
    os.environ["FINACK_PURE"] = "PURE"
    import asyncio, socket, finack
    async def main():
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        print((await finack.aclose(writer)).outcome)
        await finack.aclose(server)
    asyncio.run(main())
    finack.run(main())
    a, b = socket.socketpair()
    b.close()
    print(finack.close(a).outcome)
    print("ssl" in sys.modules)
"""


@pytest.mark.parametrize("pure", ["0", "1"])
def test_a_python_that_was_built_without_tls(pure: str) -> None:
    said = python("-c", textwrap.dedent(WITHOUT_TLS).replace("PURE", pure))
    assert said == "graceful\ngraceful\ngraceful\nFalse\n"


def test_help_begins_with_what_to_use() -> None:
    text = pydoc.plain(pydoc.render_doc(finack))
    assert text.index("What to use:") < 200
    for name in finack.__all__:
        assert name in text


def test_types_tell_the_names_of_stages() -> None:
    hints = typing.get_type_hints(finack.Receipt)
    names, seconds = typing.get_args(hints["stages"])
    assert "released" in typing.get_args(names) and seconds is float
    for kind in (finack.Policy, finack.Straggler, finack.CloseReport, finack.Holder, finack.Ghost):
        assert typing.get_type_hints(kind)
