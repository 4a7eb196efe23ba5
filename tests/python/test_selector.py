# SPDX-License-Identifier: MIT
"""ProxySelector: the interface of the standard library, and what goes beyond it."""

import contextlib
import errno
import gc
import os
import resource
import selectors
import socket
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from selector_lab import BOUND, MAKERS, READ, WRITE, Pair

import finack
from finack import _core


def message(error: pytest.ExceptionInfo[BaseException]) -> str:
    return str(error.value.args[0])


# ---- the interface ----


def test_is_a_selector(selector: finack.ProxySelector) -> None:
    assert isinstance(selector, selectors.BaseSelector)
    assert issubclass(finack.ProxySelector, selectors.BaseSelector)


def test_course(selector: finack.ProxySelector, pair: Pair) -> None:
    a, b = pair
    key = selector.register(a, READ, "data")
    assert type(key) is selectors.SelectorKey
    assert key == (a, a.fileno(), READ, "data")
    assert selector.select(0) == []
    b.send(b"x")
    assert selector.select() == [(key, READ)]
    assert selector.get_key(a) == selector.get_key(a.fileno()) == key
    changed = selector.modify(a.fileno(), READ | WRITE, data="other")
    assert changed == (a, a.fileno(), READ | WRITE, "other")
    assert selector.select(None) == [(changed, READ | WRITE)]
    assert selector.unregister(a) == changed
    assert selector.select(-1) == []


def test_the_number_0(selector: finack.ProxySelector, pair: Pair) -> None:
    """A program that was started without its standard input has a socket there."""
    saved = os.dup(0)
    os.dup2(pair[0].fileno(), 0)
    try:
        key = selector.register(0, READ)
        assert dict(selector.get_map()) == {0: key} and selector.select(-1) == []
        assert selector.unregister(0) == key and not selector.get_map()
    finally:
        os.dup2(saved, 0)
        os.close(saved)


def test_hash_of_a_key(selector: finack.ProxySelector, pair: Pair) -> None:
    """As the standard library's, whichever is in the set: a cached hash would differ."""
    key = selector.register(pair[0], READ, "data")
    stock = selectors.SelectorKey(pair[0], pair[0].fileno(), READ, "data")
    assert hash(key) == hash(tuple(key)) == hash(stock)
    assert key in {stock} and stock in {key}
    changed = selector.modify(pair[0], WRITE, "other")
    assert len({key, changed, stock}) == 2


def test_keyword_arguments(selector: finack.ProxySelector, pair: Pair) -> None:
    key = selector.register(events=READ, fileobj=pair[0])
    assert key.data is None
    assert selector.get_key(fileobj=pair[0]) == key
    assert selector.select(timeout=0) == []
    selector.modify(fileobj=pair[0], events=WRITE, data=1)
    assert selector.unregister(fileobj=pair[0]).data == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.register(),
        lambda s: s.register(0),
        lambda s: s.register(0, 1, 2, 3),
        lambda s: s.register(0, 1, fileobj=0),
        lambda s: s.register(0, 1, colour=0),
        lambda s: s.unregister(),
        lambda s: s.get_key(0, 1),
        lambda s: s.select(0, 1),
        lambda s: s.select("soon"),
        lambda s: s.register(0, "r"),
        lambda s: s.register(0, 1.0),
        lambda s: s.get_map().get(),
        lambda s: s.add_observer(1),
        lambda s: s.fileno(1),
    ],
)
def test_wrong_arguments(native: finack.ProxySelector, call: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError):
        call(native)
    assert len(native.get_map()) == 0


def test_unknown(selector: finack.ProxySelector, pair: Pair) -> None:
    calls: list[Callable[[], object]] = [
        lambda: selector.unregister(pair[0]),
        lambda: selector.modify(pair[0], READ),
        lambda: selector.get_key(pair[0]),
        lambda: selector.get_map()[pair[0]],
    ]
    for call in calls:
        with pytest.raises(KeyError) as error:
            call()
        assert message(error) == f"{pair[0]!r} is not registered"
        assert error.value.__cause__ is None and error.value.__context__ is None
    for number in (999999, 2**31 - 1, 2**31, 2**40, 10**30):
        with pytest.raises(KeyError):
            selector.get_key(number)
        assert number not in selector.get_map()


def test_registered_twice(selector: finack.ProxySelector, pair: Pair) -> None:
    selector.register(pair[0], READ)
    for again in (pair[0], pair[0].fileno()):
        with pytest.raises(KeyError) as error:
            selector.register(again, WRITE)
        assert message(error) == f"{again!r} (FD {pair[0].fileno()}) is already registered"
    assert selector.get_key(pair[0]).events == READ


@pytest.mark.parametrize("events", [0, None, 4, 7, -1, 10**30, False])
def test_invalid_events(selector: finack.ProxySelector, pair: Pair, events: Any) -> None:
    with pytest.raises(ValueError) as error:
        selector.register(pair[0], events)
    assert message(error) == f"Invalid events: {events!r}"
    selector.register(pair[0], READ)
    with pytest.raises(ValueError, match="Invalid events"):
        selector.modify(pair[0], events)
    assert selector.get_key(pair[0]).events == READ


class Fileno:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def fileno(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "fileobj",
    [None, "x", 1.5, object(), Fileno(None), Fileno("x"), Fileno(ValueError("closed"))],
    ids=repr,
)
def test_invalid_file_objects(selector: finack.ProxySelector, fileobj: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: selector.register(fileobj, READ),
        lambda: selector.get_key(fileobj),
    ]
    for call in calls:
        with pytest.raises(ValueError) as error:
            call()
        assert message(error) == f"Invalid file object: {fileobj!r}"


def test_negative_numbers(selector: finack.ProxySelector) -> None:
    for fileobj in (-1, -(10**30), Fileno(-1)):
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            selector.register(fileobj, READ)


def test_other_errors_of_fileno_pass(selector: finack.ProxySelector) -> None:
    with pytest.raises(ZeroDivisionError):
        selector.register(Fileno(ZeroDivisionError()), READ)


def test_fileno_is_converted(selector: finack.ProxySelector, pair: Pair) -> None:
    fileobj = Fileno(str(pair[0].fileno()))
    assert selector.register(fileobj, READ).fd == pair[0].fileno()
    assert selector.unregister(fileobj).fileobj is fileobj


def test_refused_by_the_kernel(native: finack.ProxySelector, tmp_path: Any) -> None:
    with open(tmp_path / "file", "wb") as file:
        with pytest.raises(PermissionError):
            native.register(file, READ)
        assert file not in native.get_map()
        number = file.fileno()
    for closed in (number, 2**31 - 1, 10**30):
        with pytest.raises(OSError) as error:
            native.register(closed, READ)
        assert error.value.errno == errno.EBADF
    assert len(native.get_map()) == 0


def test_modify_that_changes_nothing(native: finack.ProxySelector, pair: Pair) -> None:
    data = object()
    key = native.register(pair[0], READ, data)
    assert native.modify(pair[0], READ, data) is key


def test_modify_that_fails_unregisters(selector: finack.ProxySelector) -> None:
    a, b = socket.socketpair()
    number = a.fileno()
    selector.register(number, READ)
    a.close()
    b.close()
    with contextlib.suppress(OSError):  # poll and select find out later
        selector.modify(number, WRITE)
        assert selector.unregister(number).events == WRITE
    assert number not in selector.get_map()


def test_closed_file_objects(selector: finack.ProxySelector, pair: Pair) -> None:
    a, number = pair[0], pair[0].fileno()
    key = selector.register(a, READ)
    a.close()
    assert selector.get_key(a) == key
    assert selector.get_map()[number] == key
    assert selector.unregister(a) == key
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        selector.unregister(a)


@pytest.mark.parametrize("timeout, error", [(float("nan"), ValueError), (1e18, OverflowError)])
def test_timeouts(native: finack.ProxySelector, timeout: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        native.select(timeout)
    assert native.select(0.001) == []
    assert native.select(-1e18) == []


def test_attributes_and_weak_references() -> None:
    selector = finack.ProxySelector()
    selector.register = None  # type: ignore[method-assign,assignment]
    reference = weakref.ref(selector)
    selector.loop = selector  # type: ignore[attr-defined]
    del selector
    gc.collect()
    assert reference() is None


def test_subclass(pair: Pair) -> None:
    class Mine(finack.ProxySelector):
        def __init__(self, name: str, *, colour: str) -> None:
            super().__init__()
            self.name = name + colour

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            return super().select(0)

    with Mine("a", colour="b") as selector:
        key = selector.register(pair[0], WRITE)
        assert selector.select() == [(key, WRITE)]
        assert selector.name == "ab"


def test_not_initialised() -> None:
    selector = finack.ProxySelector.__new__(finack.ProxySelector)
    assert selector.get_map() is None
    for call in (lambda: selector.register(0, READ), selector.select, selector.fileno):
        with pytest.raises(ValueError, match="closed selector"):
            call()
    selector.close()


# ---- the mapping ----


def test_map(selector: finack.ProxySelector, pair: Pair) -> None:
    mapping = selector.get_map()
    assert isinstance(mapping, Mapping)
    assert mapping is selector.get_map()
    key = selector.register(pair[0], READ)
    number = pair[0].fileno()
    assert mapping[pair[0]] == mapping[number] == mapping.get(pair[0]) == key
    assert mapping.get(pair[1]) is None and mapping.get(pair[1], 5) == 5
    assert pair[0] in mapping and pair[1] not in mapping
    assert list(mapping) == list(mapping.keys()) == [number]
    assert list(mapping.values()) == [key]
    assert dict(mapping) == dict(mapping.items()) == {number: key}
    assert mapping == {number: key} and mapping != {}
    assert len(mapping) == 1
    with pytest.raises(TypeError):
        del mapping[number]  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        type(mapping)()


def test_map_after_close(selector: finack.ProxySelector, pair: Pair) -> None:
    mapping = selector.get_map()
    selector.register(pair[0], READ)
    selector.close()
    assert selector.get_map() is None
    assert len(mapping) == 0 and list(mapping) == [] and mapping.get(pair[0]) is None
    with pytest.raises(RuntimeError, match="Selector is closed"):
        selector.get_key(pair[0])
    with pytest.raises(KeyError):
        selector.unregister(pair[0])
    with pytest.raises(ValueError, match="closed"):
        selector.register(pair[0], READ)
    with pytest.raises(ValueError, match="closed"):
        selector.select(0)
    selector.close()


# ---- identity ----


def take_number(sock: socket.socket) -> socket.socket:
    """The number means another socket now; the description lives on in what is returned."""
    copy = sock.dup()
    with socket.socket() as other:
        os.dup2(other.fileno(), sock.fileno())
    return copy


def test_number_taken(selector: finack.ProxySelector, pair: Pair) -> None:
    seen: list[tuple[str, selectors.SelectorKey]] = []
    number = pair[0].fileno()
    key = selector.register(number, READ)
    selector.add_observer(lambda event, key: seen.append((event, key)))
    with take_number(pair[0]):
        assert selector.get_map().get(number) is None
        with pytest.raises(KeyError, match=f"{number} is not registered"):
            selector.get_key(number)
        assert len(selector.get_map()) == 0
    assert seen == [("unregister", key)]


def test_number_taken_and_registered(selector: finack.ProxySelector, pair: Pair) -> None:
    number = pair[0].fileno()
    selector.register(number, READ, "old")
    with take_number(pair[0]):
        key = selector.register(number, READ, "new")
        assert selector.get_key(number) == key
        assert selector.unregister(number) == key


def test_map_leaves_out_what_was_taken(selector: finack.ProxySelector, pair: Pair) -> None:
    for sock in pair:
        selector.register(sock, READ)
    with take_number(pair[0]):
        assert list(selector.get_map()) == [pair[1].fileno()]


def test_pipes_have_an_identity(native: finack.ProxySelector) -> None:
    a, b = os.pipe()
    c, d = os.pipe()
    native.register(a, READ)
    assert a in native.get_map()
    os.dup2(c, a)
    assert a not in native.get_map()
    for fd in (a, b, c, d):
        os.close(fd)


def test_stale_event(native: finack.ProxySelector, pair: Pair) -> None:
    """The copy keeps the old entry readable: it is not reported, and wakes nobody twice."""
    number = pair[0].fileno()
    native.register(number, READ)
    pair[1].send(b"x")
    with take_number(pair[0]):
        assert number not in native.get_map()
        assert native.select(0.01) == []
        with selectors.EpollSelector() as outer:
            outer.register(native, READ)
            assert outer.select(0) == []


def test_a_set_of_others_is_healed(pair: Pair) -> None:
    """It can't be replaced, so the stale entry leaves it, and another one stays."""
    ours, theirs = pair
    with selectors.EpollSelector() as inner, held_by("a dup", ours.fileno()):
        selector = finack.ProxySelector(inner)
        selector.register(theirs, READ, "live")
        selector.register(ours.fileno(), READ, "stale")
        theirs.send(b"x")
        ours.send(b"x")
        os.close(ours.detach())
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            assert [key.data for key, _ in selector.select(0)] == ["live"]
        assert _core.stale_registrations() == []
        assert [key.data for key, _ in inner.select(0)] == ["live"]


@pytest.mark.parametrize("holder", ["a dup", "a child", "a message"])
@pytest.mark.parametrize("state", ["free", "reused"])
@pytest.mark.parametrize("kind", ["epoll", "around_epoll", "around_poll", "around_itself"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_events_of_what_was_closed(pair: Pair, kind: str, state: str, holder: str) -> None:
    """They reach nobody, are told of once, and don't come again."""
    ours, theirs = pair
    number = ours.fileno()
    with MAKERS[kind]() as selector, held_by(holder, number):
        selector.register(number, READ, "old")
        os.close(ours.detach())
        if state == "reused":
            read, write = os.pipe()
            assert read == number
        theirs.send(b"x")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert selector.select(0) == []
            before = time.process_time()
            assert selector.select(0.3) == []
            assert time.process_time() - before < 0.1 or holder == "a message"
        told = [str(warning.message) for warning in caught]
        assert len(told) == (kind != "around_poll" or state == "free"), told
        assert all(f"descriptor {number} was closed while it was registered" in one for one in told)
        if state == "reused":
            assert number not in selector.get_map()
            selector.register(number, READ, "new")
            os.write(write, b"x")
            assert [key.data for key, _ in selector.select(10)] == ["new"]
            os.close(read)
            os.close(write)


def test_events_of_what_looks_the_same(native: finack.ProxySelector) -> None:
    """All of eventfd have one inode; the kernel knows which one is registered."""
    number = os.eventfd(0)
    old = os.dup(number)
    native.register(number, READ, "old")
    os.close(number)
    assert os.eventfd(0) == number
    os.eventfd_write(old, 1)
    with pytest.warns(ResourceWarning, match="means another file now"):
        assert native.select(0) == []
    assert number not in native.get_map()
    native.register(number, READ, "new")
    os.eventfd_write(number, 1)
    assert [key.data for key, _ in native.select(BOUND)] == ["new"]
    os.close(old)
    os.close(number)


def test_modify_of_what_looks_the_same(native: finack.ProxySelector) -> None:
    """As asyncio does that finds a registration under the number."""
    number = os.eventfd(0)
    old = os.dup(number)
    native.register(number, READ, "old")
    os.close(number)
    assert os.eventfd(0) == number
    native.modify(number, READ, "new")
    os.eventfd_write(old, 1)
    assert native.select(0) == []
    os.eventfd_write(number, 1)
    assert [key.data for key, _ in native.select(BOUND)] == ["new"]
    os.close(old)
    os.close(number)


@contextlib.contextmanager
def held_by(holder: str, number: int) -> Iterator[None]:
    """Somebody else has the open file."""
    if holder == "a dup":
        copy = os.dup(number)
        yield
        os.close(copy)
    elif holder == "a message":
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.send_fds(ours, [b"x"], [number])
            yield
    else:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        yield
        os.close(write)
        os.waitpid(child, 0)


def test_no_descriptor_for_a_new_set(native: finack.ProxySelector, pair: Pair) -> None:
    """The old one is ready all the time: select() returns nothing, and doesn't spin."""
    ours, theirs = pair
    copy = os.dup(ours.fileno())
    native.register(ours, READ)
    os.close(ours.detach())
    theirs.send(b"x")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.warns(ResourceWarning, match="was closed while it was registered"):
            assert native.select(0) == []
            before = time.process_time()
            for _ in range(10):
                assert native.select(0.02) == []
            assert time.process_time() - before < 0.05
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    os.close(copy)


def test_heal() -> None:
    """On a selector that is the standard library's."""
    with selectors.EpollSelector() as selector:
        ours, theirs = socket.socketpair()
        copy, number = os.dup(ours.fileno()), ours.fileno()
        selector.register(ours, READ)
        ours.close()
        theirs.send(b"x")
        assert len(selector.select(0)) == 1
        healed = finack.heal()
        assert [(ghost.kind, ghost.fd) for ghost in healed] == [("registration", number)]
        assert selector.select(0) == []
        assert finack.heal() == []
        theirs.close()
        os.close(copy)


def test_more_than_the_stack_holds(native: finack.ProxySelector) -> None:
    socks = [socket.socket() for _ in range(400)]
    for sock in socks:
        native.register(sock, WRITE)
    assert len(native.select(0)) == len(native.select(0)) == 400
    for sock in socks:
        native.unregister(sock)
        sock.close()
    assert native.select(0) == []


# ---- observers ----


def test_observers(selector: finack.ProxySelector, pair: Pair) -> None:
    seen: list[Any] = []

    def observer(event: str, key: selectors.SelectorKey) -> None:
        seen.append((event, key.events, len(selector.get_map())))

    selector.add_observer(observer)
    selector.add_observer(lambda event, key: seen.append(event))
    selector.register(pair[0], READ)
    selector.modify(pair[0], WRITE)
    selector.unregister(pair[0])
    selector.remove_observer(observer)
    selector.register(pair[0], READ)
    assert seen == [
        ("register", READ, 1),
        "register",
        ("modify", WRITE, 1),
        "modify",
        ("unregister", WRITE, 0),
        "unregister",
        "register",
    ]
    with pytest.raises(ValueError, match="is not an observer"):
        selector.remove_observer(observer)


def test_observer_that_raises(
    native: finack.ProxySelector, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: caught.append(info.exc_type))
    native.add_observer(lambda event, key: 1 / 0)
    native.register(pair[0], READ)
    native.unregister(pair[0])
    assert caught == [ZeroDivisionError, ZeroDivisionError]


def test_observer_that_closes(native: finack.ProxySelector, pair: Pair) -> None:
    native.add_observer(lambda event, key: native.close())
    assert native.register(pair[0], READ).fileobj is pair[0]
    assert native.get_map() is None


def test_observer_that_registers(native: finack.ProxySelector, pair: Pair) -> None:
    def put_back(event: str, key: selectors.SelectorKey) -> None:
        if event == "unregister":
            native.register(key.fileobj, key.events, key.data)

    native.add_observer(put_back)
    native.register(pair[0], READ)
    native.unregister(pair[0])
    assert pair[0] in native.get_map()


# ---- around another selector ----


def test_takes_over_what_is_registered(pair: Pair) -> None:
    inner = selectors.PollSelector()
    key = inner.register(pair[0], READ, "data")
    with finack.ProxySelector(inner) as selector:
        assert selector.get_key(pair[0]) is key
        selector.unregister(pair[0])
        assert pair[0] not in inner.get_map()
    assert inner.get_map() is None


def test_wraps_selectors_alone() -> None:
    with pytest.raises(TypeError, match=r"selectors\.BaseSelector or None, not int"):
        finack.ProxySelector(5)  # type: ignore[arg-type]
    inner = selectors.SelectSelector()
    inner.close()
    with pytest.raises(ValueError, match="closed"):
        finack.ProxySelector(inner)
    with finack.ProxySelector() as selector, pytest.raises(RuntimeError):
        selector.__init__()  # type: ignore[misc]


def test_errors_of_the_other_pass(pair: Pair) -> None:
    class Broken(selectors.PollSelector):
        def register(self, *args: Any, **keywords: Any) -> selectors.SelectorKey:
            raise ZeroDivisionError

        def unregister(self, *args: Any) -> selectors.SelectorKey:
            raise ZeroDivisionError

    inner = Broken()
    selectors.PollSelector.register(inner, pair[1], READ)
    with finack.ProxySelector(inner) as selector:
        with pytest.raises(ZeroDivisionError):
            selector.register(pair[0], READ)
        with pytest.raises(ZeroDivisionError):
            selector.unregister(pair[1])
        assert pair[0] not in selector.get_map() and pair[1] in selector.get_map()
