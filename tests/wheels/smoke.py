# SPDX-License-Identifier: MIT
"""Closes one of each kind with an installed wheel, and looks at receipts and at the other end.

usage: smoke.py CERTIFICATE [FOLDER]   FOLDER: where the package is, if this is qemu-user, which
                                       knows a part of TCP_INFO alone: outcomes aren't looked at
"""

import asyncio
import os
import socket
import ssl
import sys
import tempfile
import threading

CERTIFICATE = sys.argv[1]
EXACT = len(sys.argv) == 2
if len(sys.argv) > 2:
    sys.path.insert(0, sys.argv[2])

import finack


def tcp():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


def contexts():
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(CERTIFICATE)
    client = ssl.create_default_context(cafile=CERTIFICATE)
    return secure, client


def read_to_the_end(sock, seen):
    data = b""
    while part := sock.recv(100):
        data += part
    seen.append(data)
    if isinstance(sock, ssl.SSLSocket):
        sock = sock.unwrap()
    sock.close()


def blocking(ours, theirs):
    seen = []
    ours.sendall(b"hello")
    reader = threading.Thread(target=read_to_the_end, args=(theirs, seen))
    reader.start()
    receipt = finack.close(ours)
    reader.join()
    assert seen == [b"hello"] and "released" in receipt.stages and ours.fileno() == -1, receipt
    if EXACT:
        assert receipt.outcome == "graceful" and receipt.end == "fin" and receipt.lost == 0, receipt
    print("blocking:", receipt)


def blocking_tls():
    secure, client = contexts()
    ours, theirs = tcp()
    wrapped = []

    def accept():
        wrapped.append(secure.wrap_socket(theirs, server_side=True))

    thread = threading.Thread(target=accept)
    thread.start()
    ours = client.wrap_socket(ours, server_hostname="localhost")
    thread.join()
    blocking(ours, wrapped[0])


async def serve(reader, writer):
    writer.write(await reader.read(100))
    receipt = await finack.aclose(writer)
    assert receipt.lost == 0 or not EXACT, receipt


async def connection(connect, **options):
    reader, writer = await connect(**options)
    writer.write(b"hello")
    assert await reader.read(100) == b"hello"
    receipt = await finack.aclose(writer)
    if EXACT:
        assert receipt.outcome in ("graceful", "prompt") and receipt.lost == 0, receipt
    assert "released" in receipt.stages, receipt
    print("asyncio:", receipt)


async def servers():
    assert asyncio.get_running_loop().tls == "c"
    secure, client = contexts()
    plain = await asyncio.start_server(serve, "127.0.0.1", 0)
    tls = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=secure)
    host, port = plain.sockets[0].getsockname()
    await connection(asyncio.open_connection, host=host, port=port)
    host, port = tls.sockets[0].getsockname()
    await connection(asyncio.open_connection, host=host, port=port, ssl=client,
                     server_hostname="localhost")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        unix = await asyncio.start_unix_server(serve, path)
        await connection(asyncio.open_unix_connection, path=path)
        for server in (plain, tls, unix):
            receipt = await finack.aclose(server)
            assert receipt.outcome == "graceful" or not EXACT, receipt
            print("server:", receipt)
    report = await finack.close_all(timeout=5)
    assert not report.stragglers, report


assert finack._extension
before = sorted(os.listdir("/proc/self/fd"))
blocking(*tcp())
blocking(*socket.socketpair())
blocking_tls()
finack.run(servers())
assert finack.ghosts() == [] or not EXACT, finack.ghosts()
assert sorted(os.listdir("/proc/self/fd")) == before
print(finack.__version__, finack.__file__)
print("all closed")
