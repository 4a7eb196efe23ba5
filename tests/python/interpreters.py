# SPDX-License-Identifier: MIT
"""Closes in sub-interpreters: usage: interpreters.py HOW_MANY_AT_ONCE

Prints nothing if all is well and no descriptor is left.
"""

import importlib
import os
import sys
import threading
from typing import Any

interpreters: Any = importlib.import_module(
    "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
)

PROGRAM = """
import asyncio, socket
import finack

def blocking():
    for _ in range(50):
        ours, theirs = socket.socketpair()
        assert finack.close(ours, finack.Policy(linger=0)).end == "fin"
        assert theirs.recv(1) == b""
        theirs.close()

async def serve(reader, writer):
    await reader.read()
    await finack.aclose(writer)

async def visit(address):
    _, writer = await asyncio.open_connection(*address)
    writer.write(b"x")
    assert (await finack.aclose(writer)).outcome == "graceful"

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for _ in range(20):
        await asyncio.gather(*(visit(address) for _ in range(5)))
    await finack.aclose(server)

blocking()
finack.run(main())
loop = finack.EventLoop()
assert loop.tls == "python"  # OpenSSL's callbacks enter the main interpreter
loop.close()
"""


def run_program() -> None:
    interpreter = interpreters.create()
    try:
        if failure := interpreters.run_string(interpreter, PROGRAM):  # 3.13; others raise
            print(failure.formatted)
    finally:
        interpreters.destroy(interpreter)


def main() -> None:
    at_once = int(sys.argv[1])
    run_program()  # what Python itself opens once
    before = set(os.listdir("/proc/self/fd"))
    threads = [threading.Thread(target=run_program) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while len(os.listdir("/proc/self/task")) > 1:  # malloc opens a file as a thread ends
        os.sched_yield()
    if before != set(os.listdir("/proc/self/fd")):
        print("descriptors were left behind")


main()
