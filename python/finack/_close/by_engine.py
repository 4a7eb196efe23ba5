# SPDX-License-Identifier: MIT
"""aclose() of a transport in C: the engine closes it on its own descriptor."""

import asyncio
from typing import Any

from finack import _core, _private
from finack._close.at_work import pending
from finack._policy import Policy
from finack._receipt import Receipt
from finack._sockets.names import address


def begin(x: Any, policy: Policy, loop: asyncio.AbstractEventLoop) -> "_core.Ending | None":
    """The close that is at work, or was; None: the engine can't."""
    by_engine = x._is_tls or getattr(loop, "_by_policy", False)
    if policy.scope == "descriptor" or _private.loop_of(x) is not loop or not by_engine:
        return x._ending if _private.loop_of(x) is None else None
    return x._ending or (None if x in pending else x._close_by(policy._as_tuple()))


async def wait(ending: "_core.Ending", policy: Policy, *, ours: bool) -> Receipt:
    """Until it is complete; if this is cancelled the connection is reset.

    `ours`: it was begun by this policy, and not by that of the loop.
    """
    done = ending.wait()
    if done is None:
        return receipt_of(ending)
    if not ours and not ending.driven:  # begun by the loop's close_policy
        ending.adopt(policy._as_tuple())
    ending.driven += 1
    try:
        await done
    except BaseException:
        ending.abort()
        raise
    finally:
        ending.driven -= 1
    return receipt_of(ending)


def ending_of(x: Any) -> "_core.Ending | None":
    """The close that is at work on the transport itself."""
    ending = x._ending if isinstance(x, _core.SocketTransport) else None
    return None if ending is None or ending.over else ending


async def follow(x: Any) -> Receipt | None:
    """Wait for the close that is at work, if there is one, and change nothing."""
    ending = x._ending if isinstance(x, _core.SocketTransport) else None
    if ending is None:
        return None
    if (done := ending.wait()) is not None:
        await done
    return receipt_of(ending)


def receipt_of(ending: Any) -> Receipt:
    """That of a transport's close by the engine, worked out when it is looked at."""
    known = ending.known
    if known is None:
        ending.known = known = Receipt._from_core(ending, _name, ending)
    return known  # type: ignore[no-any-return]


def _name(ending: Any) -> str:
    ours, theirs = ending.names()
    kind = ("udp" if ending.datagram else "tcp") if isinstance(ours, tuple) else "unix"
    name = f"{kind} {address(ours or '')}"
    return name if ending.datagram and theirs is None else f"{name} -> {address(theirs or '')}"
