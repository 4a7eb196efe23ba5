# SPDX-License-Identifier: MIT
"""Close as a bounded process with an exact end and a receipt.

`aclose()` for transports, streams, servers and sockets of asyncio and uvloop, `close()` for
blocking sockets, `run()` and `EventLoop` for programs that leave nothing behind:

>>> import asyncio, finack
>>> async def main() -> str:
...     server = await asyncio.start_server(print, "127.0.0.1", 0)
...     receipt = await finack.aclose(server)
...     return receipt.outcome
>>> finack.run(main())
'graceful'

docs/python.md tells how they belong together.
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
