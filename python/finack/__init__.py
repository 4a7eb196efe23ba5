# SPDX-License-Identifier: MIT
"""Close as a bounded process with an exact end and a receipt.

A selector that knows which socket a number was registered for:

>>> import asyncio, finack
>>> loop = asyncio.SelectorEventLoop(finack.ProxySelector())
>>> loop.close()
"""

from finack._aclose import aclose, aclosing, closed
from finack._blocking import close, closing
from finack._core import ProxySelector
from finack._loop import EventLoop, await_fd_close, hold, run
from finack._policy import Policy
from finack._receipt import Holder, Receipt, Straggler
from finack._registry import CloseReport, Ghost, close_all, ghosts
from finack._servers import start_server, start_unix_server

__all__ = [
    "CloseReport",
    "EventLoop",
    "Ghost",
    "Holder",
    "Policy",
    "ProxySelector",
    "Receipt",
    "Straggler",
    "aclose",
    "aclosing",
    "await_fd_close",
    "close",
    "close_all",
    "closed",
    "closing",
    "ghosts",
    "hold",
    "run",
    "start_server",
    "start_unix_server",
]
