# SPDX-License-Identifier: MIT
"""What is private to asyncio and the standard library: the one place to look at for a new CPython.

First functions, a name of theirs each, for all of the package; the names are the same in CPython
3.11 to 3.15 where nothing else is said. Methods of theirs that finack's classes override or call by
super() stay in those classes. All names stand in the lists at the end, which are held against the
asyncio there is: a release may change any of them, and did so within patch releases. Then one
warning says what changed, instead of a TypeError in the middle of somebody's server.
"""

import asyncio
import functools
import inspect
import operator
import platform
import sys
import warnings
from asyncio import (
    base_events,
    base_subprocess,
    constants,
    coroutines,
    events,
    format_helpers,
    futures,
    selector_events,
    sslproto,
    tasks,
)
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, EllipsisType, FrameType
from typing import Any

from finack._tls import ssl

unix_events: Any = None
if sys.platform != "win32":
    from asyncio import unix_events

# ---- loops ----


def transports(loop: Any) -> Mapping[int, Any] | None:
    """Those that own a socket, by descriptor, weakly; None: the loop keeps no such list."""
    return getattr(loop, "_transports", None)


def selector(loop: Any) -> Any:
    """By which it waits; None: by none of Python's."""
    return getattr(loop, "_selector", None)


def ready(loop: Any) -> Any:
    """What it runs next: handles."""
    return loop._ready


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The one of this thread, if any runs, in any process."""
    return asyncio._get_running_loop()


def set_running_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    """Say that it runs in this thread."""
    asyncio._set_running_loop(loop)


def make_signal_pipe(loop: Any) -> None:
    """Another pair of sockets that wakes it."""
    selector_events.BaseSelectorEventLoop._make_self_pipe(loop)  # type: ignore[attr-defined]


def make_default_loop(kind: type) -> None:
    """Whatever a program calls asyncio's loop is this kind from now on."""
    for module in (asyncio, unix_events):
        for name in ("EventLoop", "SelectorEventLoop", "_UnixSelectorEventLoop"):
            if hasattr(module, name):
                setattr(module, name, kind)
    policy = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)  # until 3.15
    if policy is not None:
        policy._loop_factory = kind


def pass_for_coroutine(function: Any) -> Any:
    """Have iscoroutinefunction() hold of it: unittest.mock and others go by that."""
    known: Any = inspect
    if hasattr(known, "markcoroutinefunction"):  # since 3.12
        return known.markcoroutinefunction(function)
    known = coroutines
    function._is_coroutine = known._is_coroutine
    return function


def ends_clients() -> bool:
    """Whether a server whose serve_forever() is cancelled closes its connections: since 3.14."""
    server: Any = base_events.Server
    return "close_clients" in server.serve_forever.__code__.co_names


# ---- what a loop runs ----

RUN_CODE: CodeType = events.Handle._run.__code__
HAS_THREADSAFE_HANDLES = hasattr(events, "_ThreadSafeHandle")  # since 3.14.10
_HAS_DEBUG = "debug" in inspect.signature(format_helpers._format_callback_source).parameters


# Calls what it is for. A function would have a frame, which a task's exception would keep by its
# traceback, and with it the handle and the task.
run_handle = operator.methodcaller("_run")


def callback_of(handle: Any) -> Any:
    """What it calls; None: it is cancelled, or no handle."""
    return getattr(handle, "_callback", None)


def source_traceback(handle: Any) -> Any:
    """Where it was made, in debug mode."""
    return handle._source_traceback


def source_of(handle: Any, *, debug: bool) -> str:
    """What it calls, as text."""
    more = {"debug": debug} if _HAS_DEBUG else {}
    return format_helpers._format_callback_source(handle._callback, handle._args, **more)


def format_handle(handle: Any) -> str:
    """The same, of a task by its name."""
    made: Any = base_events
    return str(made._format_handle(handle))


def unregister_task(task: asyncio.Task[Any]) -> None:
    """Have all_tasks(), and so the end of asyncio.run(), pass it by."""
    tasks._unregister_task(task)


def accepted_by(task: asyncio.Task[Any]) -> dict[str, Any] | None:
    """The variables of the coroutine that makes a transport for what a server has accepted.

    None: the task is another one. `server`, `conn` and, as soon as there is one, `transport`.
    """
    coroutine: Any = task.get_coro()
    if getattr(coroutine, "__name__", "") != "_accept_connection2" or not coroutine.cr_frame:
        return None
    return dict(coroutine.cr_frame.f_locals)


# ---- transports on a socket ----

SelectorTransport: Any = selector_events._SelectorTransport  # type: ignore[attr-defined]
_DatagramTransport: Any = selector_events._SelectorDatagramTransport  # type: ignore[attr-defined]


def loop_of(transport: Any) -> Any:
    """None: it is closed, or hides its loop."""
    return getattr(transport, "_loop", None)


def server_of(transport: Any) -> Any:
    """The server that accepted it, or None."""
    return transport._server


def is_write_paused(transport: Any) -> bool:
    """Whether pause_writing() was called last."""
    return bool(transport._protocol_paused)


def own_socket(transport: Any) -> Any:
    """None: it has let it go."""
    return transport._sock


def own_fd(transport: Any) -> int:
    """Of that socket, also when it is closed; -1 of a transport in C then."""
    return int(transport._sock_fd)


def is_ending(transport: Any) -> bool:
    """Whether the turn that releases it is queued."""
    return bool(transport._conn_lost)


def has_dropped(transport: Any) -> bool:
    """Whether abort(), or an error, met more bytes than its high-water mark lets be buffered."""
    return bool(getattr(transport, "_conn_lost", 0) and getattr(transport, "_protocol_paused", 0))


def force_close(transport: Any, error: BaseException | None) -> None:
    """Have it released in the next turn."""
    transport._force_close(error)


def call_connection_lost(transport: Any, error: BaseException | None) -> None:
    """That turn: tell the protocol, and release socket or pipe."""
    transport._call_connection_lost(error)


def disown(transport: Any) -> Any:
    """Take the socket out of a transport that was made half; it is returned."""
    sock, transport._sock, transport._server = transport._sock, None, None
    return sock


def of_attributes(attributes: dict[str, Any]) -> Any:
    """The transport that has these attributes: one of them is a method of its own."""
    return getattr(attributes.get("_read_ready_cb"), "__self__", None)


# ---- transports on a pipe ----

PIPE_TRANSPORTS: tuple[Any, ...] = ()
if unix_events:
    PIPE_TRANSPORTS = unix_events._UnixReadPipeTransport, unix_events._UnixWritePipeTransport


def is_pipe(transport: Any) -> bool:
    """Whether it is a transport of this sort."""
    return hasattr(transport, "_pipe")


def own_pipe(transport: Any) -> Any:
    """None: it has let it go, or is no such transport."""
    return getattr(transport, "_pipe", None)


def pipe_fd(pipe: Any) -> int:
    """Its descriptor, also when it is closed."""
    return int(pipe._fileno)


def pipe_buffered(pipe: Any) -> int:
    """Bytes that the kernel doesn't have yet."""
    return len(getattr(pipe, "_buffer", None) or b"")


def close_pipe(pipe: Any) -> None:
    """Have it released in the next turn, whatever is buffered."""
    pipe._close(None)


# ---- TLS ----

TlsTransport: Any = sslproto._SSLProtocolTransport
_ENDING = (sslproto.SSLProtocolState.FLUSHING, sslproto.SSLProtocolState.SHUTDOWN)


def layer_of(transport: Any) -> Any:
    """The SSLProtocol below a transport of TLS; None: it is none, or was closed twice."""
    return getattr(transport, "_ssl_protocol", None)


def below(layer: Any) -> Any:
    """The transport that a layer writes to; None: it has let it go."""
    return layer._transport


def above(layer: Any) -> Any:
    """The transport that those above a layer write to; None: not connected yet, or no layer."""
    return getattr(layer, "_app_transport", None)


def protocol_above(layer: Any) -> Any:
    """The protocol that a layer reads for."""
    return layer._app_protocol


def ends(layer: Any) -> bool:
    """Whether it is saying its farewell."""
    return layer._state in _ENDING


def has_met_fin(layer: Any) -> bool:
    """Whether the peer's end of what is below has come."""
    return bool(layer._eof_received)


def buffered(layer: Any) -> int:
    """Bytes that it has not written yet."""
    return int(layer._get_write_buffer_size())


def buffered_datagrams(transport: Any) -> int | None:
    """Bytes of them; get_write_buffer_size() counts headers too, since CPython 3.13. None: this is
    not a datagram transport of asyncio's."""
    if not isinstance(transport, _DatagramTransport):
        return None
    return sum(len(data) for data, _ in transport._buffer)


def tls_of(layer: Any) -> tuple[Any, Any, Any]:
    """OpenSSL's object (None: there is none yet), what it reads, what it writes."""
    return layer._sslobj, layer._incoming, layer._outgoing


def tls_logger() -> Any:
    """Where asyncio says what it has to say of TLS."""
    made: Any = sslproto
    return made.logger


def session_of(tls: Any) -> Any:
    """What an ssl.SSLObject has of OpenSSL; None: it has nothing."""
    return getattr(tls, "_sslobj", None)


def watches_tls(context: Any) -> bool:
    """Whether somebody is told of each message of a connection by this ssl.SSLContext."""
    return getattr(context, "_msg_callback", None) is not None


def same_tls(kind: type, other: type) -> bool:
    """Whether both kinds of ssl.SSLObject read and write alike, by the session alone."""
    names = ("read", "write", "unwrap", "_sslobj")
    return all(getattr(kind, name, None) is getattr(other, name, None) for name in names)


def library_of_tls() -> str:
    """The file of the module that has OpenSSL; "": it is built in, or there is none."""
    return str(getattr(getattr(ssl, "_ssl", None), "__file__", ""))


def default_context(*, server_side: bool, hostname: str | None) -> ssl.SSLContext:
    """For `ssl=True`. ValueError: a server needs one of its own."""
    make: Any = sslproto
    return make._create_transport_context(server_side, hostname)  # type: ignore[no-any-return]


def read_ahead(protocol: Any) -> bytearray | None:
    """What a stream's reader has, and the program has not read yet; None: it is no stream's."""
    reader = getattr(protocol, "_stream_reader", None)
    return None if reader is None else reader._buffer


# ---- sockets ----


def tls_of_socket(sock: Any) -> Any:
    """The object of OpenSSL that an ssl.SSLSocket uses, or None."""
    return getattr(sock, "_sslobj", None)


def replace_tls_of_socket(sock: Any, other: Any) -> None:
    """Have it use another."""
    sock._sslobj = other


def uses(sock: Any) -> int:
    """How many use it besides: files of makefile(), and calls of uvloop's."""
    return int(getattr(sock, "_io_refs", 0))


def was_closed(sock: Any) -> bool:
    """Whether close() was called; a file of makefile() may keep it open."""
    return bool(getattr(sock, "_closed", False))


def reader_of(writer: asyncio.StreamWriter) -> Any:
    """The StreamReader beside it."""
    return getattr(writer, "_reader", None)


def close_waiter_of(writer: asyncio.StreamWriter) -> Any:
    """The future that its wait_closed() waits for; None: there is none."""
    find = getattr(getattr(writer, "_protocol", None), "_get_close_waiter", None)
    return find(writer) if find else None


def is_child_watcher(x: object) -> bool:
    """What waits for a child by a pidfd; its name has changed with the releases."""
    return type(x).__name__.lstrip("_") == "PidfdChildWatcher"


# ---- the interpreter ----

frame_at: Callable[[int], FrameType] = sys._getframe
top_frames: Callable[[], dict[int, FrameType]] = sys._current_frames


def find_module(name: str) -> tuple[Any, Any]:
    """What `python -m NAME` runs: its spec, and its code. ImportError."""
    import runpy

    _, spec, code = runpy._get_module_details(name)  # type: ignore[attr-defined]
    return spec, code


# ---- the lists ----

_Parameters = tuple[str | EllipsisType, ...]

# Functions that are called or overridden, with their parameters; where an override passes all
# others on, the list ends in `...`.
_FUNCTIONS: dict[tuple[Any, str], _Parameters] = {
    (selector_events, "BaseSelectorEventLoop._start_serving"): (
        "self",
        "protocol_factory",
        "sock",
        "sslcontext",
        "server",
        ...,
    ),
    (selector_events, "BaseSelectorEventLoop._make_socket_transport"): ("self", "sock", ...),
    (selector_events, "BaseSelectorEventLoop._make_datagram_transport"): ("self", "sock", ...),
    (selector_events, "BaseSelectorEventLoop._make_ssl_transport"): ("self", "rawsock", ...),
    (selector_events, "BaseSelectorEventLoop._run_once"): ("self",),
    (selector_events, "BaseSelectorEventLoop._process_events"): ("self", "event_list"),
    (selector_events, "BaseSelectorEventLoop._add_callback"): ("self", "handle"),
    (selector_events, "BaseSelectorEventLoop._check_callback"): ("self", "callback", "method"),
    (selector_events, "BaseSelectorEventLoop._check_thread"): ("self",),
    (selector_events, "BaseSelectorEventLoop._make_self_pipe"): ("self",),
    (selector_events, "BaseSelectorEventLoop._close_self_pipe"): ("self",),
    (selector_events, "BaseSelectorEventLoop._add_reader"): ("self", "fd", "callback", ...),
    (selector_events, "BaseSelectorEventLoop._add_writer"): ("self", "fd", "callback", ...),
    (selector_events, "BaseSelectorEventLoop._remove_reader"): ("self", "fd"),
    (selector_events, "BaseSelectorEventLoop._remove_writer"): ("self", "fd"),
    (selector_events, "_SelectorTransport._force_close"): ("self", "exc"),
    (selector_events, "_SelectorTransport._call_connection_lost"): ("self", "exc"),
    (selector_events, "_SelectorSocketTransport._call_connection_lost"): ("self", "exc"),
    (unix_events, "_UnixSelectorEventLoop._make_read_pipe_transport"): ("self", ...),
    (unix_events, "_UnixSelectorEventLoop._make_write_pipe_transport"): ("self", ...),
    (unix_events, "_UnixReadPipeTransport._close"): ("self", "exc"),
    (unix_events, "_UnixWritePipeTransport._close"): ("self", "exc"),
    (unix_events, "_UnixReadPipeTransport._call_connection_lost"): ("self", "exc"),
    (unix_events, "_UnixWritePipeTransport._call_connection_lost"): ("self", "exc"),
    (sslproto, "SSLProtocol._start_shutdown"): ("self",),
    (sslproto, "SSLProtocol._on_shutdown_complete"): ("self", "shutdown_exc"),
    (sslproto, "SSLProtocol._check_shutdown_timeout"): ("self",),
    (sslproto, "SSLProtocol._get_write_buffer_size"): ("self",),
    (events, "Handle._run"): ("self",),
    (base_events, "BaseEventLoop._ensure_resolved"): ("self", "address", ...),
    (base_events, "Server._attach"): ("self", ...),
    (base_events, "Server._detach"): ("self", ...),
    (sslproto, "_create_transport_context"): ("server_side", "server_hostname"),
    (tasks, "_unregister_task"): ("task",),
}

# What functions of a class set or ask for.
_ATTRIBUTES: dict[tuple[Any, str], str] = {
    (selector_events, "BaseSelectorEventLoop"): "_ready _scheduled _transports _ssock _csock"
    " _selector _closed _debug _stopping _thread_id _task_factory _clock_resolution _internal_fds"
    " _current_handle",
    (base_events, "Server"): "_waiters _start_serving _serving_forever_fut",
    (selector_events, "_SelectorTransport"): "_loop _sock _sock_fd _conn_lost _server _buffer",
    (selector_events, "_SelectorSocketTransport"): "_read_ready_cb _sendfile_compatible",
    (constants, "_SendfileMode"): "TRY_NATIVE FALLBACK",
    (futures, "Future"): "_asyncio_future_blocking",
    (events, "Handle"): "_callback _args _context _loop _cancelled _source_traceback _repr",
    (events, "TimerHandle"): "_when _scheduled",
    (unix_events, "_UnixSelectorEventLoop"): "_signal_handlers _default_executor",
    (unix_events, "_UnixReadPipeTransport"): "_pipe _fileno _closing",
    (unix_events, "_UnixWritePipeTransport"): "_pipe _fileno _closing _buffer",
    (base_subprocess, "WriteSubprocessPipeProto"): "proc fd",
    (sslproto, "SSLProtocol"): "_loop _transport _app_transport _app_protocol _state"
    " _eof_received _shutdown_timeout_handle _ssl_shutdown_timeout",
    (sslproto, "SSLProtocolState"): "FLUSHING SHUTDOWN",
    (sslproto, "_SSLProtocolTransport"): "_ssl_protocol",
}


def differences() -> list[str]:
    """What is not as it is known here."""
    return [*_different_functions(), *_missing_attributes()]


def _different_functions() -> Iterator[str]:
    for (module, name), known in _FUNCTIONS.items():
        function = _find(module, name)
        if function is None:
            yield f"{name}() is gone"
            continue
        found = tuple(inspect.signature(function).parameters)
        wanted, rest = (known[:-1], ...) if known[-1] is ... else (known, None)
        if found[: len(wanted)] != wanted or (rest is None and len(found) > len(wanted)):
            yield f"{name}() has the parameters ({', '.join(found)})"


def _missing_attributes() -> Iterator[str]:
    for (module, name), known in _ATTRIBUTES.items():
        kind = _find(module, name)
        there = _names_in(kind) if kind else set()
        yield from (f"{name}.{one} is gone" for one in known.split() if one not in there)


def _find(module: Any, name: str) -> Any:
    return functools.reduce(lambda found, part: getattr(found, part, None), name.split("."), module)


def _names_in(kind: type) -> set[str]:
    """Of attributes, also of those that only its functions name."""
    found: set[str] = set()
    for base in kind.__mro__:
        for name, value in vars(base).items():
            found.add(name)
            if code := getattr(value, "__code__", None):
                found.update(code.co_names)
    return found


@functools.cache
def warn_once() -> None:
    """Warn the caller of who makes a loop, if anything is not as it is known here."""
    found = differences()
    if found:
        warnings.warn(
            f"asyncio of Python {platform.python_version()} is not the one that this release of"
            f" finack was made for: {'; '.join(found)}. Closes may fail or take long there: please"
            " install a newer finack, or use an older Python until there is one",
            RuntimeWarning,
            stacklevel=3,
        )
