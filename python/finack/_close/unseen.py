# SPDX-License-Identifier: MIT
"""Receipts of closes that nobody drove: what they say is the core's to decide."""

import asyncio
import errno
import socket
from typing import Any, Literal, TypeAlias

from finack import _core, _private
from finack._close.owners import errno_of, extra
from finack._policy import Policy
from finack._receipt import Receipt
from finack._tls import ssl

Kind: TypeAlias = Literal["stream", "listener", "other"]

_STREAMS = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)


def kind_of(x: Any) -> Kind:
    """Of a transport or a socket, which may be closed."""
    if isinstance(x, socket.socket):
        return "stream" if x.type in _STREAMS else "other"
    return "other" if hasattr(x, "sendto") or extra(x, "pipe") is not None else "stream"


def heard(x: Any) -> BaseException | None:
    """Why the transport of a stream was closed; those of other protocols tell nobody else.

    What writes to a subprocess has no reader beside it.
    """
    if not isinstance(x, asyncio.StreamWriter):
        return None
    reader, waiter = _private.reader_of(x), _private.close_waiter_of(x)
    why = reader.exception() if reader else None
    if why is None and waiter is not None and waiter.done() and not waiter.cancelled():
        why = waiter.exception()
    return why


def _error_of(why: BaseException | None) -> int:
    """What broke may be above the socket, too."""
    if isinstance(why, ssl.SSLError):
        return errno.EBADMSG
    return errno_of(why) or (errno.EIO if why else 0)


def _is_late(why: BaseException | None) -> bool:
    """Whether asyncio's own timer ended it, the one for the peer's close_notify."""
    return isinstance(why, TimeoutError) and not why.errno


def unseen(
    policy: Policy,
    kind: Kind,
    requested: float,
    released: float | None,
    *,
    before: bool = False,
    truncated: bool = False,
    why: BaseException | None = None,
    held: bool | None = None,
    unreferenced: float | None = None,
    name: str = "",
) -> Receipt:
    """What is known: moments of time.monotonic(), and why it broke, if its user has heard.

    `before`: it was over when it was asked for. `truncated`: the peer had ended it without its
    close_notify.
    """
    values = _core.unseen(
        policy._as_tuple(),
        kind,
        before,
        0 if _is_late(why) else _error_of(why),
        requested,
        released,
        held,
        unreferenced,
        "late" if _is_late(why) else "truncated" if truncated else "",
    )
    return Receipt._from_core(values, socket=name)
