# SPDX-License-Identifier: MIT
"""TLS of EventLoop beside uvloop's: echo round trips, and churn in which every close is proved.

usage: secure.py [RESULTS.JSON]

Processor time, as in loops.py. A handshake is the greater part of a connection's time.
"""

import functools
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import churn
import echo
import ratio
import uvloop
from loops import timed

import finack

ROUNDS = 21


def certificate() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of both ends, with a certificate for localhost."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
        files = ["-keyout", str(folder / "key"), "-out", str(folder / "chain")]
        subprocess.run([*command.split(), *names.split(), *files], check=True, capture_output=True)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(folder / "chain", folder / "key")
        return server, ssl.create_default_context(cafile=folder / "chain")


class Secure:
    """For a subclass of Echo or Churn."""

    server_options: Mapping[str, Any]
    client_options: Mapping[str, Any]

    @classmethod
    def use(cls, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        cls.server_options = {"ssl": server}
        cls.client_options = {"ssl": client, "server_hostname": "localhost"}


class Echo(Secure, echo.Echo):
    """Over TLS."""


class Churn(Secure, churn.Churn):
    """Over TLS."""


def echoes(clients: int) -> Mapping[str, list[float]]:
    found = {
        "ours": Echo(finack.EventLoop(), clients),
        "uvloop": Echo(uvloop.new_event_loop(), clients),
    }
    try:
        work = {name: timed(one.run, echo.TRIPS) for name, one in found.items()}
        return ratio.in_turns(work, ROUNDS)
    finally:
        for one in found.values():
            one.stop()


def churns() -> Mapping[str, list[float]]:
    proved = functools.partial(finack.EventLoop, close_policy=finack.CLOSE_POLICY)
    found = {
        "ours": Churn(proved(), churn.stock_close),
        "uvloop": Churn(uvloop.new_event_loop(), churn.stock_close),
    }
    try:
        work = {name: timed(one.run, churn.BATCH) for name, one in found.items()}
        return ratio.in_turns(work, ROUNDS)
    finally:
        for one in found.values():
            one.stop()


def measure() -> list[ratio.Result]:
    os.environ["FINACK_TLS"] = "c"
    contexts = certificate()
    Echo.use(*contexts)
    Churn.use(*contexts)
    rows: list[tuple[str, float | None, Mapping[str, list[float]]]] = [
        ("loop.tls.echo/uvloop", 1.25, echoes(1)),
        ("loop.tls.echo.50/uvloop", None, echoes(50)),
        ("loop.tls.churn/uvloop", 1.00, churns()),
    ]
    return [ratio.ratio(name, limit, row["ours"], row["uvloop"]) for name, limit, row in rows]


if __name__ == "__main__":
    ratio.head()
    sys.exit(ratio.finish(measure()))
