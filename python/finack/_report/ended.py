# SPDX-License-Identifier: MIT
"""The receipts of transports that the engine has closed."""

from typing import Any
from weakref import ref

from finack._receipt import Receipt
from finack._sockets.names import address


def receipt_of(ending: Any) -> Receipt:
    """That of a transport's close by the engine, worked out when it is looked at."""
    known = ending.known
    if type(known) is ref:
        known = known()
    if known is None:
        known = Receipt._from_core(ending, _name, ending)
        ending.known = ref(known)  # which refers to the ending until somebody looks at it
    return known  # type: ignore[no-any-return]


def _name(ending: Any) -> str:
    ours, theirs = ending.names()
    kind = ("udp" if ending.datagram else "tcp") if isinstance(ours, tuple) else "unix"
    name = f"{kind} {address(ours or '')}"
    return name if ending.datagram and theirs is None else f"{name} -> {address(theirs or '')}"
