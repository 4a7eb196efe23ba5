# SPDX-License-Identifier: MIT
"""TLS of EventLoop beside that of other loops: echo round trips, and churn with each close proved.

usage: secure.py [RESULTS.JSON]

Processor time, as in loops.py. A handshake is the greater part of a connection's time.
"""

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
from loops import all_of
from others import LOOPS, beside, each

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


def echoes(clients: int) -> ratio.Times:
    return all_of(each(lambda name: Echo(LOOPS[name](), clients)), echo.TRIPS, ROUNDS)


def churns() -> ratio.Times:
    found = each(lambda name: Churn(LOOPS[name](), churn.stock_close))
    return all_of(found, churn.BATCH, ROUNDS)


def measure() -> list[ratio.Result]:
    os.environ["FINACK_TLS"] = "c"
    contexts = certificate()
    Echo.use(*contexts)
    Churn.use(*contexts)
    return [
        *beside("loop.tls.echo", 1.25, echoes(1)),
        *beside("loop.tls.echo.50", None, echoes(50)),
        *beside("loop.tls.churn", 1.00, churns()),
    ]


if __name__ == "__main__":
    ratio.head()
    sys.exit(ratio.finish(measure()))
