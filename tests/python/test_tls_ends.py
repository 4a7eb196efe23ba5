# SPDX-License-Identifier: MIT
"""How TLS ends under aclose(): with close_notify or without, with bytes buffered, by a reset."""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import socket
import sys
from typing import Any

import pytest
from asyncio_lab import (
    MEGABYTES,
    PATIENT,
    QUICK,
    VERSIONS,
    Lab,
    Run,
    fileno,
    our_end,
    seen,
)
from peers import Certificate, Peers, Seen

import finack
from finack._close import tls_layers
from finack._sockets.transports import connections

PART = bytes(5 << 20)
FULL = dataclasses.replace(PATIENT, courtesy="full")


@pytest.fixture(params=VERSIONS)
def tls(
    request: pytest.FixtureRequest, peers: Peers, certificate: Certificate, tmp_path: pathlib.Path
) -> Lab:
    return Lab(request.param, peers, certificate, tmp_path)


@pytest.mark.parametrize("policy", [PATIENT, FULL], ids=["orderly", "full"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_truncated(run: Run, tls: Lab, policy: finack.Policy, when: str) -> None:
    """The peer's FIN without close_notify."""

    async def main() -> None:
        peer, transport, recorder = await tls.connect("mute")
        transport.write(b"hello")
        if when == "before":
            peer.act("fin")  # while the loop stands
        close = asyncio.create_task(finack.aclose(transport, policy))
        if when == "meanwhile":
            await our_end(peer)
            await asyncio.to_thread(peer.act, "fin")
        receipt = await close
        assert (receipt.outcome, receipt.end) == ("truncated", "fin")
        assert {"notified", "eof"} <= set(receipt.stages)
        assert "answered" not in receipt.stages and not receipt.unverifiable
        assert recorder.calls[-1] == "lost"
        assert await seen(peer) == Seen(5, True, "eof", False)

    run(main())


@pytest.mark.parametrize("courtesy", ["orderly", "full"])
@pytest.mark.parametrize("end", ["fin", "notify"])
def test_the_loop_met_the_end_by_itself(run: Run, tls: Lab, courtesy: Any, end: Any) -> None:
    """As when a program reads up to the end first: the transport is closed by then."""

    async def main() -> None:
        peer, transport, recorder = await tls.connect("mute")
        await asyncio.to_thread(peer.act, end)
        while recorder.calls[-1] != "lost":
            await asyncio.sleep(0)
        policy = dataclasses.replace(PATIENT, courtesy=courtesy)
        receipt = await finack.aclose(transport, policy)
        knows = run.loop != "uvloop"  # which keeps nothing of it: outcome error, ENOTCONN
        assert (receipt.outcome == "truncated") == (end == "fin" and knows)
        assert "answered" not in receipt.stages or end == "notify"
        peer.stop()

    run(main())


def test_a_program_that_goes_on_writing(run: Run, tls: Lab) -> None:
    """What it writes behind the farewell is dropped: close_notify comes last, and FIN."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        peer, transport, recorder = await tls.connect("clean")
        written = 0

        def write() -> None:
            nonlocal written
            if recorder.calls[-1] != "lost":
                transport.write(b"more")
                written += 4
                loop.call_soon(write)

        write()
        receipt = await finack.aclose(transport, FULL)
        assert (receipt.outcome, receipt.end) == ("graceful", "fin")
        assert "answered" in receipt.stages
        end = await seen(peer)
        assert (end.close_notify, end.end, end.reset_after) == (True, "eof", False)
        assert 0 < end.received <= written

    run(main())


@pytest.mark.parametrize("courtesy", ["orderly", "full"])
def test_reset(run: Run, tls: Lab, courtesy: Any) -> None:
    """That is no end of the stream."""

    async def main() -> None:
        peer, transport, _ = await tls.connect("mute")
        close = asyncio.create_task(
            finack.aclose(transport, dataclasses.replace(PATIENT, courtesy=courtesy))
        )
        await our_end(peer)
        await asyncio.to_thread(peer.act, "reset")
        receipt = await close
        assert (receipt.outcome, receipt.end) == ("reset", "reset")
        assert not {"eof", "answered"} & set(receipt.stages)
        peer.stop()

    run(main())


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("turns", [0, 1, 3, 50])
def test_bytes_are_buffered_when_the_peer_ends(run: Run, tls: Lab, turns: int, parts: int) -> None:
    """Whoever sees the end first, the loop or the close: FIN comes after every byte."""

    async def main() -> None:
        peer, transport, _ = await tls.connect("deaf")
        for _ in range(parts):  # the last is held back above the socket's transport
            transport.write(PART)
        peer.act("fin")
        for _ in range(turns):
            await asyncio.sleep(0)
        close = asyncio.create_task(finack.aclose(transport, PATIENT))
        await asyncio.sleep(0)
        end = await seen(peer)  # it reads everything now
        receipt = await close
        assert (receipt.outcome, receipt.unsent) == ("truncated", 0)
        assert end == Seen(parts * len(PART), True, "eof", False)

    run(main())


def test_bytes_are_buffered_when_the_peer_has_ended_and_reads_no_more(run: Run, tls: Lab) -> None:
    async def main() -> None:
        peer, transport, _ = await tls.connect("deaf")
        transport.write(MEGABYTES)
        await asyncio.to_thread(peer.act, "fin")
        receipt = await finack.aclose(transport, QUICK)
        assert fileno(transport) == -1
        assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "flush", "reset")
        assert receipt.unsent > 0
        end = await seen(peer)
        assert end.end == "reset" and end.received < len(MEGABYTES)

    run(main())


def received(transport: Any) -> int:
    """Bytes that have come, whoever has read them (tcpi_bytes_received)."""
    with socket.socket(fileno=os.dup(fileno(transport))) as sock:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
    return int.from_bytes(info[128:], sys.byteorder)


def test_the_answer_is_behind_other_input(run: Run, tls: Lab) -> None:
    """Some of it the transport has read already, and not decrypted."""

    async def main() -> None:
        peer, transport, _ = await tls.connect("echo")
        transport.pause_reading()
        transport.write(bytes(500_000))
        while received(transport) < 50_000:
            await asyncio.sleep(0.001)
        receipt = await finack.aclose(transport, PATIENT)
        assert (receipt.outcome, receipt.discarded) == ("graceful", 500_000)
        assert "answered" in receipt.stages
        assert await seen(peer) == Seen(500_000, True, "eof", False)

    run(main())


def test_over_tls(run: Run, peers: Peers, certificate: Certificate) -> None:
    """Each layer's close_notify comes through those below."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        inner: list[asyncio.StreamReader] = []
        ended, gone = loop.create_future(), loop.create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await writer.start_tls(certificate.server_context())
            inner.append(reader)
            ended.set_result(await reader.read())
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            gone.set_result(None)

        context = certificate.server_context()
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        _, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=certificate.client_context(),
            server_hostname="localhost",
        )
        await writer.start_tls(certificate.client_context(), server_hostname="localhost")
        stack = tls_layers.stack_of(writer.transport)
        assert stack and len(stack._layers) == 2
        writer.write(b"hello")
        receipt = await finack.aclose(writer, PATIENT)
        assert "notified" in receipt.stages
        assert receipt.outcome == "graceful"
        assert await asyncio.wait_for(ended, 10) == b"hello"
        server.close()
        await asyncio.wait_for(gone, 10)

    run(main())


class Strange:
    """A transport with TLS of a kind that finack doesn't know."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        if name == "_ssl_protocol":
            raise AttributeError
        return getattr(self._transport, name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if name.startswith("uvloop") else self._transport.get_extra_info(name)


@pytest.mark.parametrize("courtesy", ["prompt", "orderly", "full"])
def test_a_kind_that_is_not_known(run: Run, tls: Lab, courtesy: Any) -> None:
    """It says close_notify by itself; whether that was answered can't be known."""

    async def main() -> None:
        peer, transport, _ = await tls.connect("clean")
        transport.write(b"hello")
        policy = dataclasses.replace(PATIENT, courtesy=courtesy)
        receipt = await finack.aclose(Strange(transport), policy)
        assert receipt.outcome == ("prompt" if courtesy == "prompt" else "graceful")
        assert "notified" in receipt.stages and "answered" not in receipt.stages
        assert "answered" in receipt.unverifiable
        end = await seen(peer)
        assert (end.received, end.close_notify) == (5, True)

    run(main())


def test_in_the_handshake(run: Run, peers: Peers, certificate: Certificate) -> None:
    """There is nobody to say a farewell to yet."""

    async def main() -> None:
        peer = peers.listen("mute")
        connecting = asyncio.create_task(
            asyncio.open_connection(
                *peer.address, ssl=certificate.client_context(), server_hostname="localhost"
            )
        )
        assert await asyncio.to_thread(peer.opened, 1) == 1
        while run.loop != "uvloop" and not connections(asyncio.get_running_loop()):
            await asyncio.sleep(0.001)
        if run.loop != "uvloop":  # which lists no clients
            report = await finack.close_all(5, QUICK)
            assert len(report.receipts) == 1
            assert "notified" not in report.receipts[0].stages
        else:
            connecting.cancel()
        await asyncio.wait({connecting}, timeout=10)
        assert connecting.done()
        peer.stop()

    run(main())
