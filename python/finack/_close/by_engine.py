# SPDX-License-Identifier: MIT
"""The closes of transports in C, which the engine closes on their own descriptors."""

from typing import Any

from finack import _core
from finack._receipt import Receipt
from finack._report.ended import receipt_of


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
