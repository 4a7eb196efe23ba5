# SPDX-License-Identifier: MIT
"""A network that fails in each phase of a close by Python, as test_network.c does it for C.

The scenes are played by tests/referee/referee.py, on three event loops, in namespaces of their own,
and held against what both ends saw by the referee's rules.
"""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
STAGE = ROOT / "build/tests/referee/referee_stage"
NAMESPACES = ROOT / "tests/system/namespaces.sh"
BOUND = 300.0
LOOPS = 3  # on which a scene of aclose() is played

FAULTS = (
    "drop",
    "drop_ours",
    "drop_theirs",
    "reset",
    "unreachable",
    "lossy",
    "address_gone",
    "route_gone",
    "killed",
)
BEFORE = "sent=1000 fault_when=before"
FLUSH = "sent=fill peer_reads=none fault_when=20"
FAREWELL = "sent=1000 courtesy=full peer_act=never peer_answers=no fault_when=5"
ACKED = "sent=fill peer_reads=none linger_ms=80 fault_when=20"
EOF = "sent=1000 peer_act=never linger_ms=80 fault_when=20"

PHASES = {
    "py_aclose": (BEFORE, FLUSH, EOF),
    "py_aclose_tls": (BEFORE, FAREWELL, EOF),
    "py_close": (BEFORE, ACKED, EOF),
    "py_close_tls": (BEFORE, FAREWELL),
}


def test_network(tmp_path: pathlib.Path) -> None:
    scenes = [
        f"driver={driver} fault={fault} {phase}"
        for driver, phases in PHASES.items()
        for phase in phases
        for fault in FAULTS
    ]
    file = tmp_path / "scenes"
    file.write_text("\n".join(scenes))
    referee = [sys.executable, ROOT / "tests/referee/referee.py", STAGE, "--scenes", file]
    run = subprocess.run(
        list(map(str, [NAMESPACES, *referee])),
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    wanted = sum(LOOPS if "aclose" in scene else 1 for scene in scenes)
    assert run.stdout.count("\nok ") == wanted, run.stdout + run.stderr
    assert run.returncode == 0
