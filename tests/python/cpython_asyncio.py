# SPDX-License-Identifier: MIT
"""Runs CPython's own test_asyncio with EventLoop in place of the loops that it would make.

usage: cpython_asyncio.py [stock | all] [ARGS of regrtest]

With `stock` nothing is replaced, with `all` nothing is left out. ARGS are by default those for all
of test_asyncio.
"""

import asyncio
import importlib
import sys
from asyncio import unix_events
from typing import Any

import finack

# What is otherwise on purpose, or looks into asyncio's insides; and why it can't hold. A test sees
# to it that each of them fails, if this release of CPython has it.
DIFFERENT = {
    "test_unclosed_pipe_transport": "pipes are to be open after their loop was closed",
    "test_create_connection_ip_addr": "mocks the socket module, of which connecting asks nothing",
    "test_create_connection_no_inet_pton": "the same",
    "test_remote_shutdown_receives_trailing_data_on_slow_socket": "puts a write() on a transport",
    "test_remote_shutdown_receives_trailing_data": "writes by a method of sslproto's for tests",
    "test_flush_before_shutdown": "pauses the layer that is sslproto",
    "test_create_connection_ssl_failed_certificate_no_cycles": "mocks a method of sslproto's",
    "*SSLTests.test_gh140947": "waits for a flag of sslproto's, for ever",
}


def substitute() -> None:
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "_UnixSelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, finack.EventLoop)
    policy: Any = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)  # until 3.15
    if policy is not None:
        policy._loop_factory = finack.EventLoop
    loop = asyncio.new_event_loop()
    assert isinstance(loop, finack.EventLoop)
    loop.close()
    if policy is not None:
        # Since 3.14 the public name warns of its end.
        set_policy: Any = getattr(asyncio.events, "_set_event_loop_policy", None)
        (set_policy or asyncio.set_event_loop_policy)(None)


def main() -> None:
    arguments = sys.argv[1:] or ["test_asyncio"]
    which = arguments.pop(0) if arguments[0] in ("stock", "all") else ""
    if which != "stock":
        substitute()
    if not which:
        arguments = [part for name in DIFFERENT for part in ("-i", name)] + arguments
    sys.argv[1:] = ["-u", "cpu", *arguments]
    regrtest: Any = importlib.import_module("test.libregrtest.main")
    regrtest.main()


# Some of the tests start processes which import this file.
if __name__ == "__main__":
    main()
