# SPDX-License-Identifier: MIT
"""A pytest plugin: the test that leaves a socket open, registered, held or to its loop fails.

It watches every test with `pytest --finack`, or those with the marker `finack`:

>>> import pytest
>>> @pytest.mark.finack
... def test_something(): ...
"""

import importlib
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

import finack

if TYPE_CHECKING:
    from finack._report.leftovers import Leftover, Watch

_ADVICE = {
    "open": (
        "Close it before the test ends, or in the fixture that made it, and wait until it is:"
        " `with finack.closing(sock)`, `await finack.aclose(writer)`."
    ),
    "registered": (
        "Take it out of the selector before it is closed: loop.remove_reader() and"
        " remove_writer(), selector.unregister()."
    ),
    "released": (
        "The loop had to release it when it was closed: close it before that, and wait until it"
        " is: `await finack.aclose(writer)`, `async with server`, `await process.wait()`."
    ),
    "held": (
        "End those who have it and wait for them: process.join(), thread.join(); or let the child"
        " close its copy."
    ),
}
_OTHERWISE = "What is meant to outlive the test is made by a fixture of a wider scope."


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    group = parser.getgroup("finack")
    group.addoption(
        "--finack",
        action="store_true",
        help="fail tests that leave a socket open, registered or held",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and what watches."""
    config.addinivalue_line(
        "markers",
        "finack(check=True): the test fails if it leaves a socket open, registered or held;"
        " check=False: not even with --finack",
    )
    config.pluginmanager.register(_Plugin(everywhere=config.getoption("--finack")), "finack-watch")


def _is_wanted(item: pytest.Item, everywhere: bool) -> bool:
    marker = item.get_closest_marker("finack")
    if marker is None:
        return everywhere
    if marker.args or set(marker.kwargs) - {"check"}:
        raise pytest.UsageError(f"{item.nodeid}: the marker finack takes check=True or False alone")
    return bool(marker.kwargs.get("check", True))


def _message(left: "list[Leftover]") -> str:
    pipes = any(leftover.socket.startswith("pipe") for leftover in left)
    kind = "socket or pipe" if pipes else "socket"
    many = f"a {kind}" if len(left) == 1 else f"{len(left)} {kind.replace(' or', 's or')}s"
    lines = [f"finack: the test left {many} behind", *map(str, left)]
    kinds = {leftover.kind for leftover in left}
    lines += [advice for kind, advice in _ADVICE.items() if kind in kinds]
    return "\n".join([*lines, _OTHERWISE])


def _fail(outcome: Any, message: str) -> None:
    try:
        pytest.fail(message, pytrace=False)
    except pytest.fail.Exception as failure:
        # Not there before pluggy 1.1, where the outermost wrapper, which ours is, may raise.
        if not hasattr(outcome, "force_exception"):
            raise
        outcome.force_exception(failure)


class _Plugin:
    def __init__(self, *, everywhere: bool) -> None:
        self._everywhere = everywhere
        self._watch: Watch | None = None
        self._failed = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        # A wrong marker is told before anything runs.
        wanted = [_is_wanted(item, self._everywhere) for item in session.items]
        if any(wanted) and not finack._extension:
            raise pytest.UsageError(
                "to watch for leftovers finack needs Linux and its extension, which is not in use"
            )

    # The newer way, wrapper=True, is not in pytest 7.2, which Debian 12 has.
    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        self._failed = False
        if _is_wanted(item, self._everywhere):
            self._watch = importlib.import_module("finack._report.leftovers").Watch()
        yield

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: "pytest.FixtureDef[Any]") -> Iterator[None]:
        with self._excused(wider=fixturedef.scope != "function"):
            yield

    def _excused(self, *, wider: bool) -> AbstractContextManager[None]:
        return self._watch.excused() if self._watch and wider else nullcontext()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Iterator[None]:
        if call.excinfo and not call.excinfo.errisinstance(pytest.skip.Exception):
            self._failed = True
        yield

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, None]:
        outcome = yield
        self._failed |= outcome.excinfo is not None
        message = self._end()
        if message and self._failed:
            # Not its fault, perhaps: the traceback keeps what the test had.
            item.add_report_section("teardown", "finack", message)
        elif message:
            _fail(outcome, message)

    def _end(self) -> str:
        watch, self._watch = self._watch, None
        if not watch:
            return ""
        try:
            left = watch.left()
        finally:
            watch.close()
        return _message(left) if left else ""
