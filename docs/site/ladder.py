# SPDX-License-Identifier: MIT
"""The directive `ladder`: a figure of one close, and its receipt as a line, from what `finack probe` gives
while the site is built."""

import json
import os
import subprocess
from pathlib import Path

import finack
from docutils import nodes
from docutils.parsers.rst import Directive

ROOT = Path(__file__).parent.parent.parent
FINACK = Path(os.environ.get("FINACK_BUILD", ROOT / "build")) / "finack"
WIDTH, ROW, LEFT, RIGHT = 460, 24, 100, 75  # narrow enough for a phone
MEANS = {
    "requested": "the program asked for the close",
    "flushed": "all that was written is in the kernel",
    "notified": "our TLS close_notify is in the kernel",
    "answered": "the peer's close_notify arrived",
    "shut": "our FIN is queued",
    "acked": "the peer's kernel has all bytes and the FIN",
    "eof": "the peer's FIN was read",
    "unwatched": "out of the poller",
    "released": "close(2) returned, the number is free",
    "unreferenced": "nothing anywhere refers to the socket",
}


def receipt():
    """Of a slow TLS peer: a third of a second in which something is to be seen."""
    said = subprocess.run([FINACK, "probe", "--json"], check=True, stdout=subprocess.PIPE).stdout
    return next(run for run in json.loads(said) if run["peer"] == "slow" and run["tls"])


def span(ns):
    return f"{ns / 1e6:.1f} ms" if ns >= 1e6 else f"{ns / 1e3:.0f} µs"


def svg(stages):
    """A bar for each stage from the request until it was reached, in the order of the ladder."""
    reached = {name: at for name, at in stages.items() if at is not None and name in MEANS}
    end = max(reached.values())
    rows = []
    for row, (name, at) in enumerate(reached.items()):
        y = 10 + row * ROW
        length = (WIDTH - LEFT - RIGHT) * at / end
        rows.append(
            f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end">{name}</text>'
            f'<rect x="{LEFT}" y="{y + 4}" width="{max(length, 2):.1f}" height="{ROW - 10}"'
            f' rx="2" fill="#4f7cac" opacity="0.75"/>'
            f'<text x="{LEFT + max(length, 2) + 8:.1f}" y="{y + 15}">{span(at)}</text>'
            f"<title>{name}: {MEANS[name]}</title>"
        )
    height = 20 + len(rows) * ROW
    body = "".join(f"<g>{row}</g>" for row in rows)
    return (f'<svg viewBox="0 0 {WIDTH} {height}" role="img" font-size="13" fill="currentColor"'
            f' aria-label="The stages of a close with their times">{body}</svg>')


def line(told):
    """As the package and the library print it."""
    stages = {name: ns / 1e9 for name, ns in told["stages"].items() if ns is not None}
    return str(finack.Receipt(outcome=told["outcome"], end=told["end"], stages=stages,
                              held={"yes": True, "no": False}.get(told["held"])))


class Ladder(Directive):
    def run(self):
        told = receipt()
        figure = f'<figure class="ladder">{svg(told["stages"])}</figure>'
        text = line(told)
        return [nodes.raw("", figure, format="html"),
                nodes.paragraph("", "The same as a line, as a program prints its receipt:"),
                nodes.literal_block(text, text, language="text", classes=["receipt"])]


def setup(app):
    app.add_directive("ladder", Ladder)
    return {"parallel_read_safe": True}
