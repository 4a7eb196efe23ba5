# SPDX-License-Identifier: MIT
"""The loop: who waits for a close runs before it can block again, and its end leaves nothing.

What is private to asyncio's loops and used here is the same in CPython 3.11 to 3.13: `run_forever`
looks `_run_once` up in each turn, that runs the handles in `_ready`, `_selector` is the selector,
and connections and servers are made by the `_make_…_transport` methods and `_start_serving`.
"""

import asyncio
import errno
import functools
import inspect
import os
import sys
import weakref
from asyncio import tasks
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from selectors import BaseSelector
from typing import Any, TypeVar, TypeVarTuple

from finack import _core, _places
from finack._ending import Ending
from finack._policy import Policy
from finack._tls import bound
from finack._transports import note_place
from finack._waiters import Waiters

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class EventLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on which a close has an exact end, and which leaves nothing when it ends.

    selector
        Any; by default a ProxySelector.
    policy
        Bounds the end of the loop: see close(). By default Policy().

    TypeError: the policy is none.

    >>> async def main() -> bool:
    ...     return isinstance(asyncio.get_running_loop(), EventLoop)
    >>> with asyncio.Runner(loop_factory=EventLoop) as runner:
    ...     runner.run(main())
    True
    """

    _closed = True  # until there is anything to close
    _debug: bool
    _selector: BaseSelector
    _run_once: Callable[[], None]
    _ready: Any
    _transports: "weakref.WeakValueDictionary[int, Any]"
    _ssock: Any

    def __init__(
        self, selector: BaseSelector | None = None, *, policy: Policy | None = None
    ) -> None:
        """Make a loop; the caller closes it."""
        if not isinstance(policy, Policy | None):
            raise TypeError(f"policy must be a finack.Policy, not {type(policy).__name__}")
        self._policy = policy or Policy()
        self._made_in = os.getpid()
        self._waiters = Waiters(self)
        self._until: Callable[[], bool] | None = None
        self._held: set[asyncio.Future[Any]] = set()
        self._closes: set[Any] = set()  # those of aclose() that are at work
        self._servers: weakref.WeakSet[Any] = weakref.WeakSet()
        own = _core.ProxySelector() if selector is None else None
        try:
            super().__init__(own or selector)
        except BaseException:
            self._closed = True
            if own:
                own.close()
            raise

    # ---- waiting for a close ----

    async def await_fd_close(self, sock: Any) -> None:
        """Wait until the descriptor is released, whoever closes it.

        sock
            A socket or a pipe: an object with a fileno(), or the number. What is closed already
            is not waited for.

        Returns before the loop can block again after the release; a close in another thread is
        seen within 50 ms.

        TypeError: it is none of these; OSError: EOPNOTSUPP, an open file of another kind, of which
        can't be told when it is closed; RuntimeError: the loop is not running in this thread.

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
        if self._waiters or self._until:
            self._run_once = self._run_once_watching
        else:
            self.__dict__.pop("_run_once", None)

    def _run_once_watching(self) -> None:
        super()._run_once()  # type: ignore[misc]
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

    # ---- what it runs ----

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """As in asyncio, in one call instead of four: a connection takes some fifteen of these."""
        if self._debug or self._closed:
            handle = super().call_soon(callback, *args, context=context)
            if trace := getattr(handle, "_source_traceback", None):
                del trace[-1]  # it ends with who called this
            return handle
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    # ---- what it makes ----

    def set_debug(self, enabled: bool) -> None:
        """As in asyncio; where connections are made is noted in debug mode alone."""
        super().set_debug(enabled)
        for name in ("_make_socket_transport", "_make_datagram_transport"):
            if enabled:
                make = getattr(type(self), name).__get__(self)
                setattr(self, name, functools.partial(self._make, make))
            else:
                self.__dict__.pop(name, None)

    def _make(self, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._made(make(*args, **kwargs))

    def _make_ssl_transport(self, *args: Any, **kwargs: Any) -> Any:
        return self._made(bound(super()._make_ssl_transport(*args, **kwargs)))  # type: ignore[misc]

    async def start_tls(self, *args: Any, **kwargs: Any) -> Any:
        """As in asyncio; ssl_shutdown_timeout bounds the close up to the release."""
        return bound(await super().start_tls(*args, **kwargs))

    def _start_serving(
        self, protocol_factory: Any, sock: Any, sslcontext: Any, server: Any, *rest: Any
    ) -> None:
        if server is not None:
            self._servers.add(self._made(server))
        super()._start_serving(protocol_factory, sock, sslcontext, server, *rest)  # type: ignore[misc]

    def _made(self, made: _T) -> _T:
        if self.get_debug():
            place = _places._look(sys._getframe(2))
            if place.program or place.library:
                note_place(made, str(place))
        return made

    # ---- its end ----

    def close(self) -> None:
        """End the loop: nothing that it owns stays open.

        First it runs until no transport is closing any more and all that hold() was given is done,
        then at most 16 turns for what is queued. The policy bounds that: `flush` is the longest
        time without progress in sending, `farewell` the longest wait for the answer to
        close_notify, `total` the longest time for all; aclose() has its own policy, within the
        total. Whatever is open then is aborted and released; a peer that has not been sent
        everything gets a reset. One ResourceWarning names what the program had
        not closed and what was cut, in debug mode with the place where it was made; a
        RuntimeWarning if all was closed and only took too long. Sockets that only add_reader() or
        the sock_ methods know are no longer watched; they are named too, and stay open.

        Inside another loop, which must not wait, nothing is run. In a forked child, while the
        interpreter shuts down, and when the loop was only collected, it is asyncio's own close().

        RuntimeError: the loop is running.
        """
        if self.is_closed() or self.is_running() or self._is_only_dropped():
            super().close()
            return
        ending = Ending(self, self._policy)
        try:
            if asyncio._get_running_loop() is None:
                ending.run()
            else:
                ending.cut_now()
        finally:
            super().close()
            ending.warn(stacklevel=2)

    _collected = False

    def _is_only_dropped(self) -> bool:
        return self._collected or sys.is_finalizing() or os.getpid() != self._made_in

    def __del__(self) -> None:
        """Warn, and close as asyncio does: nothing may run in here."""
        self._collected = True
        super().__del__()


def run(
    main: Coroutine[Any, Any, _T], *, debug: bool | None = None, policy: Policy | None = None
) -> _T:
    """Run a coroutine on an EventLoop of its own and close that: asyncio.run() without leftovers.

    policy
        Bounds the end of the loop, see EventLoop.close().

    TypeError: the policy is none; ValueError: `main` is no coroutine; RuntimeError: a loop is
    running in this thread.

    >>> async def main() -> int:
    ...     return 42
    >>> run(main())
    42
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("finack.run() can't be called while a loop is running in this thread")
    with asyncio.Runner(
        debug=debug, loop_factory=functools.partial(EventLoop, policy=policy)
    ) as runner:
        return runner.run(main)


def hold(awaitable: Awaitable[_T]) -> asyncio.Future[_T]:
    """Keep an EventLoop from ending before this is done, within its policy's total time.

    For transports of one's own, whose close needs the loop. A coroutine becomes a task, and a task
    is left out when asyncio.run() cancels all tasks at its end. Returns the future or the task.

    TypeError: it is no awaitable; RuntimeError: no EventLoop is running, or it is another's.

    >>> async def main() -> None:
    ...     hold(asyncio.sleep(0.01, print("asleep")))
    >>> run(main())
    asleep
    """
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"an awaitable is accepted, not {type(awaitable).__name__}")
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise RuntimeError("hold() needs finack.EventLoop, and this loop is another")
    if asyncio.isfuture(awaitable) and awaitable.get_loop() is not loop:
        raise RuntimeError("this awaitable belongs to another loop")
    future = asyncio.ensure_future(awaitable)
    if isinstance(future, asyncio.Task):
        tasks._unregister_task(future)
    loop._held.add(future)
    future.add_done_callback(loop._held.discard)
    return future


async def await_fd_close(sock: Any) -> None:
    """Wait until the descriptor is released, on any loop: see EventLoop.await_fd_close().

    On a loop that is no EventLoop the release is looked for, at pauses of up to 50 ms.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, EventLoop):
        await loop.await_fd_close(sock)
        return
    number, pause = _number_of(sock), 0.0
    identity = _identity_of(number)
    while identity and _core.is_same(number, identity):
        await asyncio.sleep(pause)
        pause = min(2 * pause + 0.001, 0.05)


def _number_of(sock: Any) -> int:
    if hasattr(sock, "fileno"):
        sock = sock.fileno()
    if not isinstance(sock, int) or isinstance(sock, bool):
        kind = type(sock).__name__
        raise TypeError(f"a socket, or a descriptor's number, is accepted, not {kind}")
    return sock


def _identity_of(number: int) -> "_core.Identity | None":
    """None: it is closed."""
    try:
        return _core.identify(number)
    except OSError as error:
        if error.errno == errno.EBADF:
            return None
        raise
