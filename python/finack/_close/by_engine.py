# SPDX-License-Identifier: MIT
"""aclose() of a transport in C: the engine closes it on its own descriptor."""

import asyncio
from typing import Any

from finack import _core, _private
from finack._close.at_work import pending
from finack._policy import Policy
from finack._receipt import Receipt
from finack._report.ended import receipt_of


def begin(x: Any, policy: Policy, loop: asyncio.AbstractEventLoop) -> "_core.Ending | None":
    """The close that is at work, by this policy, or was; None: the engine can't.

    Who awaits it and is cancelled resets the connection.
    """
    ending: _core.Ending | None = x._ending
    its_loop = _private.loop_of(x)
    if policy.scope == "descriptor" or its_loop is not loop:
        return ending if its_loop is None else None
    if ending is None:
        return None if x in pending.closes else x._close_by(policy._as_tuple())
    if not ending.over and not ending.driven:  # begun by the loop's close_policy
        ending.adopt(policy._as_tuple())
    return ending


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
