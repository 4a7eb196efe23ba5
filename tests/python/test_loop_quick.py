# SPDX-License-Identifier: MIT
"""What EventLoop leaves out where that makes no difference, and where it would."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers import Certificate

import finack

# ---- TCP_NODELAY ----


class Quiet(asyncio.Protocol):
    pass


def has_no_delay(transport: Any) -> bool:
    """By a descriptor of one's own: to ask for the socket would make a difference."""
    with socket.socket(fileno=os.dup(transport._sock_fd)) as sock:
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


async def connected(**options: Any) -> tuple[asyncio.Server, Any]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Quiet, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    transport, _ = await loop.create_connection(Quiet, *address, **options)
    return server, transport


def end(server: asyncio.Server, transport: Any) -> None:
    transport.abort()
    server.close()


Write = Callable[[Any], object]
HURRY: dict[str, Write] = {
    "a second write": lambda t: (t.write(b"x"), t.write(b"y")),
    "more than a segment": lambda t: t.write(bytes(537)),
    "lines": lambda t: t.writelines([bytes(300), bytes(300)]),
    "lines after a write": lambda t: (t.write(b"x"), t.writelines([b"y", b"z"])),
    "the socket is given away": lambda t: t.get_extra_info("socket"),
    "a file is sent": lambda t: t._sock,
}


@pytest.mark.parametrize("way", HURRY)
def test_no_delay(way: str) -> None:
    """TCP_NODELAY is set before anything could be held back for want of it."""

    async def main() -> None:
        server, transport = await connected()
        HURRY[way](transport)
        assert has_no_delay(transport)
        end(server, transport)

    finack.run(main())


def test_no_delay_is_not_needed() -> None:
    """One small segment is sent at once anyway."""

    async def main() -> None:
        server, transport = await connected()
        assert not has_no_delay(transport)
        transport.write(bytes(536))
        assert not has_no_delay(transport)
        end(server, transport)

    finack.run(main())


@pytest.mark.parametrize("options", [{"local_addr": ("127.0.0.1", 0)}, {"happy_eyeballs_delay": 1}])
def test_no_delay_by_asyncios_way(options: Any) -> None:
    async def main() -> None:
        server, transport = await connected(**options)
        assert has_no_delay(transport)
        end(server, transport)

    finack.run(main())


def test_no_delay_of_the_accepted() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[Any] = loop.create_future()

        class Server(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                accepted.set_result(transport)

        server = await loop.create_server(Server, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(Quiet, *server.sockets[0].getsockname())
        assert has_no_delay(await accepted)
        end(server, transport)
        (await accepted).abort()

    finack.run(main())


def test_no_delay_under_tls(certificate: Certificate) -> None:
    """From the first record on."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Quiet, "127.0.0.1", 0, ssl=certificate.server_context())
        address = server.sockets[0].getsockname()
        plain, protocol = await loop.create_connection(Quiet, *address)
        assert not has_no_delay(plain)
        context = certificate.client_context()
        transport: Any = await loop.start_tls(plain, protocol, context, server_hostname="localhost")
        assert has_no_delay(transport if hasattr(transport, "_sock_fd") else plain)
        end(server, transport)

    finack.run(main())


# ---- the short way to connect ----


def test_arguments_by_name() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Quiet, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(protocol_factory=Quiet, host=host, port=port)
        assert transport.get_extra_info("peername") == (host, port)
        end(server, transport)

    finack.run(main())


STRANGE = [("127.0.0.1", 1 << 40), ("127.0.0.1", -1), ("127.0.0.1\0", 1), ("\udc80", 1), ("", None)]


@pytest.mark.parametrize("where", STRANGE)
def test_strange_addresses(where: Any) -> None:
    """Are asyncio's to refuse."""

    async def main() -> type[BaseException]:
        loop = asyncio.get_running_loop()
        with pytest.raises((OSError, ValueError, OverflowError)) as raised:
            await loop.create_connection(Quiet, *where)
        return raised.type

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        expected = runner.run(main())
    assert finack.run(main()) is expected


def test_a_program_s_own_way_to_connect() -> None:
    """Of the loop's class, or put on the loop, is the one that is taken."""
    asked = []

    class Own(finack.EventLoop):
        async def sock_connect(self, sock: Any, address: Any) -> None:
            asked.append("class")
            await super().sock_connect(sock, address)

    async def main(put: bool) -> None:
        loop: Any = asyncio.get_running_loop()
        if put:
            connect = loop.sock_connect

            async def own(sock: Any, address: Any) -> None:
                asked.append("loop")
                await connect(sock, address)

            loop.sock_connect = own
        server, transport = await connected()
        end(server, transport)

    with asyncio.Runner(loop_factory=Own) as runner:
        runner.run(main(False))
    finack.run(main(True))
    assert asked == ["class", "loop"]


# ---- accepting ----


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_all_that_wait_are_accepted(family: str, tmp_path: Path) -> None:
    """Those that wait when the loop hears of the first, and those that come meanwhile."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted: list[Any] = []
        late: list[socket.socket] = []
        all_there: asyncio.Future[None] = loop.create_future()

        class Server(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                accepted.append(transport)
                if len(late) < 5:
                    late.append(connect())
                if len(accepted) == 25:
                    all_there.set_result(None)

        def connect() -> socket.socket:
            sock = socket.socket(listening.family)
            sock.connect(listening.getsockname())
            return sock

        if family == "tcp":
            server = await loop.create_server(Server, "127.0.0.1", 0)
        else:
            server = await loop.create_unix_server(Server, str(tmp_path / "socket"))
        listening = server.sockets[0]
        early = [connect() for _ in range(20)]
        await asyncio.wait_for(all_there, 10)
        for sock in early + late:
            sock.close()
        for transport in accepted:
            transport.abort()
        server.close()

    finack.run(main())
