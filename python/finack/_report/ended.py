# SPDX-License-Identifier: MIT
"""The receipts of transports that the engine has closed."""

from collections.abc import Callable
from functools import partial
from typing import Any

from finack import _core
from finack._receipt import Receipt
from finack._sockets.names import address


def _name(ending: Any) -> str:
    ours, theirs = ending.names()
    kind = ("udp" if ending.datagram else "tcp") if isinstance(ours, tuple) else "unix"
    name = f"{kind} {address(ours or '')}"
    return name if ending.datagram and theirs is None else f"{name} -> {address(theirs or '')}"


receipt_of: "Callable[[_core.Ending], Receipt]" = partial(_core.receipt_of, Receipt, _name)
"""That of a transport's close by the engine, worked out when it is looked at."""
