# SPDX-License-Identifier: MIT
"""A pytest plugin: the test that leaves a socket open, registered or held fails.

It watches every test with `pytest --finack`, or those with the marker `finack`:

>>> import pytest
>>> @pytest.mark.finack
... def test_something(): ...
"""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from finack._leftovers import Leftover, Watch

_ADVICE = {
    "open": (
        "Close it before the test ends, or in the fixture that made it, and wait until it is:"
        " `with finack.closing(sock)`, `await finack.aclose(writer)`."
    ),
    "registered": (
        "Take it out of the selector before it is closed: loop.remove_reader() and"
        " remove_writer(), selector.unregister()."
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


def _message(left: list[Leftover]) -> str:
    many = "a socket" if len(left) == 1 else f"{len(left)} sockets"
    lines = [f"finack: the test left {many} behind", *map(str, left)]
    kinds = {leftover.kind for leftover in left}
    lines += [advice for kind, advice in _ADVICE.items() if kind in kinds]
    return "\n".join([*lines, _OTHERWISE])


class _Plugin:
    def __init__(self, *, everywhere: bool) -> None:
        self._everywhere = everywhere
        self._watch: Watch | None = None
        self._failed = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            _is_wanted(item, self._everywhere)  # a wrong marker is told before anything runs

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        self._failed = False
        if _is_wanted(item, self._everywhere):
            self._watch = Watch()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: "pytest.FixtureDef[Any]") -> Iterator[None]:
        with self._excused(wider=fixturedef.scope != "function"):
            return (yield)

    def _excused(self, *, wider: bool) -> AbstractContextManager[None]:
        return self._watch.excused() if self._watch and wider else nullcontext()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        if call.excinfo and not call.excinfo.errisinstance(pytest.skip.Exception):
            self._failed = True
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._failed = True
            raise
        finally:
            message = self._end()
            if message and self._failed:
                # Not its fault, perhaps: the traceback keeps what the test had.
                item.add_report_section("teardown", "finack", message)
        if message and not self._failed:
            pytest.fail(message, pytrace=False)

    def _end(self) -> str:
        watch, self._watch = self._watch, None
        if not watch:
            return ""
        try:
            left = watch.left()
        finally:
            watch.close()
        return _message(left) if left else ""
