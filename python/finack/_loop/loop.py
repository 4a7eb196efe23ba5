# SPDX-License-Identifier: MIT
"""The loop: who waits for a close runs before it can block again, and its end leaves nothing."""

import asyncio
import errno
import functools
import inspect
import os
import resource
import signal
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from selectors import BaseSelector
from typing import Any, TypeVar

from finack import _core, _private
from finack._close.bounded_tls import bound
from finack._close.watch import released
from finack._loop.ending import Ending
from finack._loop.secure import Secure
from finack._loop.servers import renew
from finack._loop.waiters import Waiters
from finack._policy import Policy
from finack._receipt import Receipt
from finack._report.ended import receipt_of
from finack._report.recent import recent
from finack._sockets.places import look, places

_T = TypeVar("_T")

CLOSE_POLICY = Policy(courtesy="prompt", flush=60, total=86400, proof="unreferenced")
"""A close_policy that a program can't tell from asyncio's way but by its truth."""


class EventLoop(Secure):
    """An asyncio loop on which a close has an exact end, and which leaves nothing open at its end.

    selector
        Any; by default a ProxySelector.
    policy
        Bounds the end of the loop: see close(). By default Policy().
    close_policy
        How a transport of a socket ends if the program itself closes or aborts it. The default,
        CLOSE_POLICY, is as asyncio, except that unread input does not turn FIN into RST, that
        dropped bytes do, that a peer which takes nothing for 60 s gets RST, and that each close is
        proved and has a receipt. With Policy() the descriptor stays open after connection_lost()
        until the peer has all. None: as asyncio, without a receipt.
    on_closed
        Called with the receipt of every such close, in a turn of the loop.
    close_cap
        How many closes may wait for their peers: over that the oldest is forced. By default a
        quarter of RLIMIT_NOFILE.

    TypeError: wrong type of policy or selector. The first loop gives a RuntimeWarning if this
    release of CPython has changed something private to asyncio that finack needs; it says what.

    >>> async def main() -> bool:
    ...     return isinstance(asyncio.get_running_loop(), EventLoop)
    >>> with asyncio.Runner(loop_factory=EventLoop) as runner:
    ...     runner.run(main())
    True
    """

    _transports: "weakref.WeakValueDictionary[int, Any]"
    _signal_handlers: dict[int, Any]
    _default_executor: Any

    def __init__(
        self,
        selector: BaseSelector | None = None,
        *,
        policy: Policy | None = None,
        close_policy: Policy | None = CLOSE_POLICY,
        on_closed: Callable[[Receipt], object] | None = None,
        close_cap: int | None = None,
    ) -> None:
        """Make a loop; the caller closes it."""
        if not isinstance(policy, Policy | None):
            raise TypeError(f"policy must be a finack.Policy, not {type(policy).__name__}")
        if not isinstance(selector, BaseSelector | None):
            kind = type(selector).__name__
            raise TypeError(f"selector must be a selectors.BaseSelector, not {kind}")
        if on_closed is not None and not callable(on_closed):
            raise TypeError(f"on_closed must be callable, not {type(on_closed).__name__}")
        self._set_close(*_close_options(close_policy, close_cap))
        self._on_closed = on_closed
        self._listeners = recent.listeners
        self._note_left = recent.closes.append
        self._placed = places.users
        _private.warn_once()
        self._policy = policy or Policy()
        self._made_in = os.getpid()
        self._waiters = Waiters(self)
        self._until: Callable[[], bool] | None = None
        self._watching = False
        self._own_turn: Callable[[], None] | None = None
        self._awaited: set[asyncio.Future[Any]] = set()
        self._closes: set[Any] = set()  # those of aclose() that are at work
        self._servers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._pipes: weakref.WeakSet[Any] = weakref.WeakSet()
        own = _core.ProxySelector() if selector is None else None
        self._has_own_selector = own is not None
        try:
            super().__init__(own or selector)
        except BaseException:
            self._closed = True
            self._close_wake()
            if own:
                own.close()
            raise

    # ---- waiting for a close ----

    async def await_fd_close(self, sock: Any) -> None:
        """Wait until the descriptor is released, whoever closes it.

        sock
            A socket or a pipe: an object with a fileno(), or the number. If it is closed already
            the call returns at once.

        Returns before the loop can block again after the release; a close in another thread is
        seen within 50 ms.

        TypeError: it is none of these; OSError: EOPNOTSUPP, an open file of another kind, whose
        close can't be noticed; RuntimeError: the loop is not running in this thread.

        >>> async def main() -> None:
        ...     server = await asyncio.start_server(print, "127.0.0.1", 0)
        ...     sock = server.sockets[0]
        ...     server.close()
        ...     await asyncio.get_running_loop().await_fd_close(sock)
        >>> run(main())
        """
        number = _number_of(sock)
        if asyncio.get_running_loop() is not self:
            raise RuntimeError("this loop runs elsewhere: wait for the socket there")
        identity = _identity_of(number)
        if identity is None:
            return
        future = self.create_future()
        self._add_release_waiter(number, identity, future)
        await future

    def _add_release_waiter(
        self, fd: int, identity: "_core.Identity", future: asyncio.Future[None]
    ) -> None:
        """Have the future done before the loop can block again after that socket is released.

        A release by another thread is seen within 50 ms.
        """
        self._waiters.add(fd, identity, future)

    def _watch(self) -> None:
        """See to it that turns are looked at while anybody wants it, and cost nothing otherwise."""
        wanted = bool(self._waiters or self._until)
        if wanted == self._watching:
            return
        self._watching = wanted
        if wanted:
            self._own_turn = self.__dict__.get("_run_once")
            self._run_once = self._run_once_watching  # type: ignore[method-assign]
        else:
            self.__dict__.pop("_run_once", None)
            if self._own_turn:
                self._run_once, self._own_turn = self._own_turn, None  # type: ignore[method-assign]

    def _run_once_watching(self) -> None:
        """A turn of the program's own make, if it has one: on this loop, or in a subclass."""
        if self._own_turn:
            self._own_turn()
        else:
            type(self)._run_once(self)
        self._waiters.look()
        if self._until and self._until():
            self.stop()

    def _run_until(self, done: Callable[[], bool]) -> None:
        """Run until that is so at the end of a turn, or the loop is stopped."""
        self._until = done
        self._watch()
        try:
            self.run_forever()
        finally:
            self._until = None
            self._watch()

    # ---- in a child ----

    def run_forever(self) -> None:
        """As in asyncio.

        A forked child may use its parent's loop if the parent no longer does. There the loop first
        gets a selector and a pipe of its own, and a new executor when it needs one, since the
        threads of the old one are the parent's. ChildProcessError: its selector is not the default
        one.
        """
        if os.getpid() != self._made_in and not self._closed:
            self._take_over()
        super().run_forever()

    def _take_over(self) -> None:
        if not self._has_own_selector:
            return  # it says itself that it is the parent's, or works all the same
        selector, self._selector = self._selector, _core.ProxySelector()
        for key in selector.get_map().values():
            self._selector.register(key.fileobj, key.events, key.data)
        selector.close()
        has_pipe = self._ssock is not None  # for signals
        self._close_self_pipe()
        self._make_self_pipe()
        if has_pipe:
            _private.make_signal_pipe(self)
            signal.set_wakeup_fd(self._csock.fileno())
        self._default_executor = None
        self._waiters = Waiters(self)
        self._made_in = os.getpid()

    # ---- what it makes ----

    def set_debug(self, enabled: bool) -> None:
        """As in asyncio; only debug mode records where connections are made."""
        super().set_debug(enabled)
        for name in ("_make_socket_transport", "_make_datagram_transport"):
            if enabled and not self._closed:
                make = getattr(type(self), name).__get__(self)
                setattr(self, name, functools.partial(self._make, make))
            else:
                self.__dict__.pop(name, None)

    def _make(self, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._made(make(*args, **kwargs))

    def _make_ssl_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self._made(bound(super()._make_ssl_transport(*args, **kwargs)))

    def _make_read_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self._piped(super()._make_read_pipe_transport(*args, **kwargs))  # type: ignore[misc]

    def _make_write_pipe_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self._piped(super()._make_write_pipe_transport(*args, **kwargs))  # type: ignore[misc]

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self._made(await super()._make_subprocess_transport(*args, **kwargs))  # type: ignore[misc]

    def _piped(self, pipe: _T) -> _T:
        self._pipes.add(pipe)
        return self._made(pipe, depth=3)

    async def create_server(self, *args: Any, **kwargs: Any) -> Any:
        """As in asyncio; the server is as in the newest CPython."""
        return renew(await super().create_server(*args, **kwargs))

    async def create_unix_server(self, *args: Any, **kwargs: Any) -> Any:
        """As in asyncio; the server is as in the newest CPython."""
        return renew(await super().create_unix_server(*args, **kwargs))

    async def start_tls(self, *args: Any, **kwargs: Any) -> Any:
        """As in asyncio; ssl_shutdown_timeout bounds the close up to the release.

        ConnectionAbortedError: the program closed the transport meanwhile.
        """
        made = await super().start_tls(*args, **kwargs)
        if made is None:  # and the protocol is not told
            raise ConnectionAbortedError("the transport was closed during the TLS handshake")
        return bound(made)

    def _start_serving(
        self,
        protocol_factory: Any,
        sock: Any,
        sslcontext: Any = None,
        server: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if server is not None:
            self._servers.add(self._made(renew(server)))
        super()._start_serving(protocol_factory, sock, sslcontext, server, *args, **kwargs)

    def _made(self, made: _T, depth: int = 2) -> _T:
        if self.get_debug() or places.in_use:
            place = look(_private.frame_at(depth))
            if place.program or place.library:
                places.note(made, place)
        return made

    # ---- its end ----

    def close(self) -> None:
        """End the loop: nothing that it owns stays open.

        First it runs until no transport is still closing and all that was given to hold() is done,
        then at most 16 turns for what is queued. The policy bounds that: `flush` is the longest
        time without progress in sending, `farewell` the longest wait for the answer to
        close_notify, `total` the longest time for all; aclose() has its own policy, within the
        total. Whatever is still open is then aborted and released; a peer that was not sent
        everything gets a reset. One ResourceWarning names what the program had not closed and what
        was cut, in debug mode with the line that made it; a RuntimeWarning if all was closed and
        only took too long. Sockets that only add_reader() or the `sock_` methods know are no longer
        watched; they are named too, and stay open.

        Pipes, also those of subprocesses, are released too, and named; the processes go on.

        Inside another running loop, which must not wait, no turn is run. In a forked child, while
        the interpreter shuts down, and when the loop is garbage collected, it is asyncio's own
        close().

        If the program turns the warning into an error, that goes to sys.unraisablehook: close()
        always completes.

        RuntimeError: the loop is running.
        """
        if self.is_closed() or self.is_running() or self._is_only_dropped():
            super().close()
            return
        ending = Ending(self, self._policy)
        try:
            if _private.running_loop() is None:
                ending.run()
            else:
                ending.cut_now()
        finally:
            super().close()
            self._forget_overrides()
            ending.warn(stacklevel=2)

    def _forget_overrides(self) -> None:
        """They refer to the loop, which is to be freed when the last reference to it goes."""
        for name in ("_run_once", "_make_socket_transport", "_make_datagram_transport"):
            self.__dict__.pop(name, None)

    _collected = False

    def _is_only_dropped(self) -> bool:
        return self._collected or sys.is_finalizing() or os.getpid() != self._made_in

    def __del__(self) -> None:
        """Warn, and close as asyncio does: nothing may run in here."""
        self._collected = True
        super().__del__()


def _close_options(
    policy: Policy | None, cap: int | None
) -> "tuple[_core.PolicyTuple | None, int]":
    if not isinstance(policy, Policy | None):
        raise TypeError(f"close_policy must be a finack.Policy, not {type(policy).__name__}")
    if policy is not None and policy.scope == "descriptor":
        raise ValueError("the scope of close_policy must be the connection")
    if cap is None:
        cap = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 2**30) // 4
    if cap < 1:
        raise ValueError(f"close_cap must be 1 or more, not {cap}")
    return None if policy is None else policy._as_tuple(), cap


def receipts() -> list[Receipt]:
    """The receipts of the last closes of the running loop's transports, the oldest first.

    They are of TCP, UDP and Unix transports that the program closed itself, or by aclose(), on an
    EventLoop with a close_policy, which is the default; at most 128.

    RuntimeError: no loop is running.

    >>> async def main() -> None:
    ...     print(receipts())
    >>> run(main())
    []
    """
    loop = asyncio.get_running_loop()
    return [receipt_of(one) for one in loop._records()] if isinstance(loop, EventLoop) else []


def run(
    main: Coroutine[Any, Any, _T], *, debug: bool | None = None, policy: Policy | None = None
) -> _T:
    """Run a coroutine on an EventLoop of its own and close that: asyncio.run() without leftovers.

    policy
        Bounds the end of the loop, see EventLoop.close().

    TypeError: wrong type of policy; ValueError: `main` is no coroutine; RuntimeError: a loop is
    running in this thread.

    >>> async def main() -> int:
    ...     return 42
    >>> run(main())
    42
    """
    if _private.running_loop() is not None:
        raise RuntimeError("finack.run() can't be called while a loop is running in this thread")
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    with asyncio.Runner(
        debug=debug, loop_factory=functools.partial(EventLoop, policy=policy)
    ) as runner:
        return runner.run(main)


def hold(awaitable: Awaitable[_T]) -> asyncio.Future[_T]:
    """Keep an EventLoop from ending before this is done, within its policy's total time.

    For transports that you write yourself, if their close needs the loop. A coroutine becomes a
    task, and asyncio.run() does not cancel that task at its end. Returns the future or the task.

    TypeError: it is no awaitable; RuntimeError: no EventLoop is running, or it is another's.

    >>> async def main() -> None:
    ...     hold(asyncio.sleep(0.01, print("asleep")))
    >>> run(main())
    asleep
    """
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"expected an awaitable, got {type(awaitable).__name__}")
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise RuntimeError("hold() needs finack.EventLoop, and this loop is another")
    if asyncio.isfuture(awaitable) and awaitable.get_loop() is not loop:
        raise RuntimeError("this awaitable belongs to another loop")
    future = asyncio.ensure_future(awaitable)
    if isinstance(future, asyncio.Task):
        _private.unregister_task(future)
    loop._awaited.add(future)
    future.add_done_callback(loop._awaited.discard)
    return future


async def await_fd_close(sock: Any) -> None:
    """Wait until the descriptor is released, on any loop: see EventLoop.await_fd_close().

    On a loop that is no EventLoop it checks for the release at intervals of up to 50 ms.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, EventLoop):
        await loop.await_fd_close(sock)
        return
    number = _number_of(sock)
    if identity := _identity_of(number):
        await released(number, identity)


def _number_of(sock: Any) -> int:
    if hasattr(sock, "fileno"):
        sock = sock.fileno()
    if not isinstance(sock, int) or isinstance(sock, bool):
        kind = type(sock).__name__
        raise TypeError(f"expected a socket or a descriptor, got {kind}")
    return sock


def _identity_of(number: int) -> "_core.Identity | None":
    """None: it is closed."""
    try:
        return _core.identify(number)
    except OSError as error:
        if error.errno == errno.EBADF:
            return None
        raise
