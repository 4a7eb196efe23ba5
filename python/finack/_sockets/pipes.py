# SPDX-License-Identifier: MIT
"""Transports of pipes, those of subprocesses among them."""

import contextlib
import os
from asyncio import base_subprocess
from typing import Any

from finack import _private
from finack._sockets.places import Place, places

_STREAMS = ("stdin", "stdout", "stderr")


def name_of(pipe: Any) -> str:
    """Such as "pipe, stdin of process 42"."""
    protocol: Any = pipe.get_protocol()
    if not issubclass(type(protocol), base_subprocess.WriteSubprocessPipeProto):
        return "pipe"
    fd = protocol.fd
    stream = _STREAMS[fd] if fd < len(_STREAMS) else f"descriptor {fd}"
    return f"pipe, {stream} of process {protocol.proc.get_pid()}"


def place_of(pipe: Any) -> Place | None:
    """Where it was made, or its process, if that was noted."""
    return places.made_at(pipe) or places.made_at(getattr(pipe.get_protocol(), "proc", None))


def release_watcher(key: Any) -> bool:
    """Close the descriptor by which a loop waits for a child, if the key is one's.

    Nobody else knows it, and no loop will wait for that child any more.
    """
    reader = key.data[0] if isinstance(key.data, tuple) and key.data else None
    callback = _private.callback_of(reader)
    if not _private.is_child_watcher(getattr(callback, "__self__", None)):
        return False
    with contextlib.suppress(OSError):
        os.close(key.fd)
    return True
