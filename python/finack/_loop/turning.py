# SPDX-License-Identifier: MIT
"""The loop's core, which is in C, and what of it is easier said in Python."""

import asyncio
import sys
import threading
from asyncio import base_events
from typing import Any

from finack import _core, _private
from finack._sockets.places import places

_base: Any = base_events  # whose logger may be another by now
_core.prepare()


class Turning(_core.Loop, asyncio.SelectorEventLoop):
    """A loop of asyncio's whose turns, handles and timers are in C."""

    _ssock: Any
    _csock: Any
    _internal_fds: int
    _thread_id: int | None
    _current_handle: asyncio.Handle | None
    _check_closed: Any
    _check_running: Any
    _set_coroutine_origin_tracking: Any
    _asyncgen_firstiter_hook: Any
    _asyncgen_finalizer_hook: Any

    # ---- running ----

    def run_forever(self) -> None:
        """As in asyncio: run until stop() is called."""
        self._run_forever_setup()  # what refuses to begin has nothing to clean up
        try:
            self._run()
        finally:
            self._run_forever_cleanup()

    if sys.version_info < (3, 13):

        def _run_forever_setup(self) -> None:
            self._check_closed()
            self._check_running()
            self._set_coroutine_origin_tracking(self._debug)
            self._old_agen_hooks = sys.get_asyncgen_hooks()
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
            )
            _private.set_running_loop(self)

        def _run_forever_cleanup(self) -> None:
            self._stopping = False
            self._thread_id = None
            _private.set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            if (hooks := self.__dict__.pop("_old_agen_hooks", None)) is not None:
                sys.set_asyncgen_hooks(*hooks)

    if _private.HAS_THREADSAFE_HANDLES:
        # Such a handle can be cancelled from another thread while it runs.
        call_soon_threadsafe = asyncio.BaseEventLoop.call_soon_threadsafe

    def _callback_failed(self, handle: Any, error: BaseException) -> None:
        """Report what a callback raised, as asyncio's handles do."""
        context: dict[str, Any] = {
            "message": f"Exception in callback {_private.source_of(handle, debug=self._debug)}",
            "exception": error,
            "handle": handle,
        }
        if trace := _private.source_traceback(handle):
            context["source_traceback"] = trace
        self.call_exception_handler(context)

    def _run_watched(self, handle: Any) -> None:
        """Run a callback in debug mode: what takes long is told."""
        try:
            self._current_handle = handle
            begun = self.time()
            _private.run_handle(handle)
            took = self.time() - begun
            if took >= self.slow_callback_duration:
                what = _private.format_handle(handle)
                _base.logger.warning("Executing %s took %.3f seconds", what, took)
        finally:
            self._current_handle = None
            del handle  # an exception's traceback may keep this frame

    def _step_took(self, owner: Any, seconds: float) -> None:
        """In debug mode, after a step of the loop's own, such as a transport's."""
        if seconds < self.slow_callback_duration:
            return
        get_protocol = getattr(owner, "get_protocol", None)
        protocol = get_protocol() if get_protocol else None
        what = repr(owner) if protocol is None else f"a callback of {protocol!r} for {owner!r}"
        _base.logger.warning("Executing %s took %.3f seconds", what, seconds)

    # ---- what wakes it ----

    def _make_self_pipe(self) -> None:
        """Another thread wakes it by an eventfd; a signal needs a pipe, which few programs do."""
        self._ssock = self._csock = None
        self._internal_fds += 1
        self._add_reader(self._open_wake(), self._drain_wake)

    def _close_self_pipe(self) -> None:
        self._remove_reader(self._open_wake())
        self._close_wake()
        self._internal_fds -= 1
        if self._ssock is not None:
            super()._close_self_pipe()  # type: ignore[misc]

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """As in asyncio."""
        if self._ssock is None and not self._closed:
            super()._make_self_pipe()  # type: ignore[misc]
        super().add_signal_handler(sig, callback, *args)

    def _own_descriptors(self) -> list[int]:
        own = [self._open_wake()]
        return own if self._ssock is None else [*own, self._ssock.fileno()]


places.loop_code.add(Turning.run_forever.__code__)
