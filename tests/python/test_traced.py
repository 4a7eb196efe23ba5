# SPDX-License-Identifier: MIT
"""`finack trace` explains what sleeping after a close comes to, and what EventLoop makes of it."""

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest
from peers import Certificate, Peers, Seen

COMMAND = pathlib.Path(__file__).parents[2] / "build" / "finack"
PROGRAM = """
import asyncio, ssl, sys, aiohttp

async def main(url, authority):
    context = ssl.create_default_context(cafile=authority)
    connector = aiohttp.TCPConnector(ssl=context, ssl_shutdown_timeout=5)
    session = aiohttp.ClientSession(connector=connector)
    async with session.get(url) as response:
        response.raise_for_status()
    closing = asyncio.create_task(session.close())
    await asyncio.sleep(0.25)

asyncio.run(main(*sys.argv[1:]))
"""


def traced(folder: pathlib.Path, *arguments: str) -> list[dict[str, Any]]:
    """The TCP sockets of a Python program."""
    to = folder / "trace.json"
    command: list[str | pathlib.Path] = [COMMAND, "trace", "--json", "-o", to, "--"]
    done = subprocess.run(
        [*command, sys.executable, "-W", "ignore", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stderr
    sockets: list[dict[str, Any]] = json.loads(to.read_text())["sockets"]
    return [one for one in sockets if one["protocol"] == "tcp"]


@pytest.mark.parametrize("way", ["sleep", "finack"])
def test_sleep(peers: Peers, certificate: Certificate, tmp_path: pathlib.Path, way: str) -> None:
    """A peer that never answers close_notify: after the nap the socket is still in the poller, and
    only the end of the program closes it; EventLoop takes it out, and closes it."""
    app = tmp_path / "app.py"
    app.write_text(PROGRAM)
    peer = peers.listen("mute", tls=certificate, opening="http", delay=0.005)
    url = f"https://{peer.address[0]}:{peer.address[1]}/"
    runner = [] if way == "sleep" else ["-m", "finack"]
    [one] = traced(tmp_path, *runner, str(app), url, str(certificate.authority))
    stages = one["stages"]
    assert stages["released"] is not None and one["held"] == "no"
    if way == "sleep":
        assert stages["unwatched"] is None
    else:
        assert stages["unwatched"] < stages["released"]
    [seen] = peer.seen(1)
    assert seen == Seen(seen.received, True, "eof", False)
