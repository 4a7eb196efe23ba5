# SPDX-License-Identifier: MIT
"""Close as a bounded process with an exact end and a receipt.

What to use:

    await aclose(x), async with aclosing(x)   close what asyncio has: transports, writers, servers
    close(sock), with closing(sock)           close a blocking socket
    run(main()), EventLoop                    run a program that leaves nothing behind
    await close_all(timeout)                  close all that the running loop has
    await closed(x)                           wait until what others close is really closed
    report_on(signal.SIGUSR1)                 say on a signal what all loops have open
    ghosts()                                  find what was closed and is still there
    Policy                                    what to send, how long to wait, what to prove
    Receipt                                   what happened: outcome, stages and times, bytes lost

>>> import asyncio, finack
>>> async def main() -> str:
...     server = await asyncio.start_server(print, "127.0.0.1", 0)
...     receipt = await finack.aclose(server)
...     return receipt.outcome
>>> finack.run(main())
'graceful'

`python -m finack app.py` runs a program on EventLoop and reports at its end. docs/python.md says
how they belong together.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys

TYPE_CHECKING = False  # to load typing takes as long as all the rest
if TYPE_CHECKING:
    from typing import Any

    from finack._close.aclose import aclose, aclosing, closed
    from finack._close.all import close_all
    from finack._close.blocking import close, closing
    from finack._core import ProxySelector
    from finack._loop.loop import CLOSE_POLICY, EventLoop, await_fd_close, hold, receipts, run
    from finack._policy import Policy
    from finack._receipt import CloseReport, Holder, Receipt, Straggler
    from finack._report.ghosts import Ghost, ghosts, heal
    from finack._report.report_on import report_on
    from finack._sockets.servers import start_server, start_unix_server

__all__ = [
    "CLOSE_POLICY",
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
    "heal",
    "hold",
    "receipts",
    "report_on",
    "run",
    "start_server",
    "start_unix_server",
]
__version__: str

# To import asyncio takes longer than all the rest: not before it is needed.
_HOMES = {
    "_close.aclose": ("aclose", "aclosing", "closed"),
    "_close.all": ("close_all",),
    "_close.blocking": ("close", "closing"),
    "_core": ("ProxySelector",),
    "_loop.loop": ("CLOSE_POLICY", "EventLoop", "await_fd_close", "hold", "receipts", "run"),
    "_policy": ("Policy",),
    "_receipt": ("CloseReport", "Holder", "Receipt", "Straggler"),
    "_report.ghosts": ("Ghost", "ghosts", "heal"),
    "_report.report_on": ("report_on",),
    "_sockets.servers": ("start_server", "start_unix_server"),
}

_VALUES = ("_policy", "_receipt")  # need no extension
_CLOSING = ("_close.aclose", "_close.all", "_close.blocking")


def _has_extension() -> bool:
    """Whether it is used. ImportError: there is one, and this interpreter can't load it."""
    if sys.version_info < (3, 11):  # noqa: UP036 - from a folder on sys.path
        raise ImportError("finack needs Python 3.11 or later: please run it with a newer Python")
    if os.environ.get("FINACK_PURE", "0") not in ("", "0") or sys.platform != "linux":
        return False
    try:
        importlib.import_module("finack._core")
    except ImportError as error:
        built = {name for name in os.listdir(os.path.dirname(__file__)) if name[:6] == "_core."}
        built -= {"_core.pyi"}
        if not built:
            return False  # installed from the wheel for all platforms
        fitting = built & {"_core" + suffix for suffix in importlib.machinery.EXTENSION_SUFFIXES}
        why = error if fitting else f"{', '.join(sorted(built))} is for another one"
        raise ImportError(
            f"finack's extension can't be loaded by {sys.executable}: {why}; please install finack"
            " anew with this interpreter, or set FINACK_PURE=1 to do without what needs it"
        ) from error
    return True


_extension = _has_extension()


def _load_what_closes() -> None:
    """While there are descriptors to load with: who closes may have none left."""
    if _extension and "asyncio" in sys.modules:
        for home in _CLOSING:
            importlib.import_module(f"finack.{home}")


def _find(name: str) -> Any:
    if name == "__version__" and _extension:
        return importlib.import_module("finack._core").VERSION
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("finack")
    for home, names in _HOMES.items():
        if name in names:
            home = home if _extension or home in _VALUES else "_portable"
            value = getattr(importlib.import_module(f"finack.{home}"), name)
            _load_what_closes()
            return value
    raise AttributeError(f"module 'finack' has no attribute {name!r}")


_load_what_closes()

if not TYPE_CHECKING:  # there it would make any name an attribute

    def __getattr__(name: str) -> Any:
        """What is asked for for the first time."""
        globals()[name] = value = _find(name)
        return value


def __dir__() -> list[str]:
    """What is for programs to use."""
    return [*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"]
