# SPDX-License-Identifier: MIT
"""What the tests of ProxySelector share."""

import selectors
import socket
from collections.abc import Callable, Iterator

import pytest

import finack

BOUND = 10
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Make = Callable[[], finack.ProxySelector]
Pair = tuple[socket.socket, socket.socket]

MAKERS: dict[str, Make] = {
    "epoll": finack.ProxySelector,
    "around_epoll": lambda: finack.ProxySelector(selectors.EpollSelector()),
    "around_poll": lambda: finack.ProxySelector(selectors.PollSelector()),
    "around_select": lambda: finack.ProxySelector(selectors.SelectSelector()),
    "around_itself": lambda: finack.ProxySelector(finack.ProxySelector()),
}


@pytest.fixture(params=MAKERS)
def selector(request: pytest.FixtureRequest) -> Iterator[finack.ProxySelector]:
    with MAKERS[request.param]() as made:
        yield made


@pytest.fixture
def native() -> Iterator[finack.ProxySelector]:
    with finack.ProxySelector() as made:
        yield made


@pytest.fixture
def pair() -> Iterator[Pair]:
    a, b = socket.socketpair()
    with a, b:
        yield a, b
