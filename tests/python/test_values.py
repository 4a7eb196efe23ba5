# SPDX-License-Identifier: MIT
"""Policy and Receipt."""

import asyncio
import copy
import dataclasses
import doctest
import errno
import importlib
import json
import math
import pathlib
import pickle
import re
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest

import finack
from finack import (
    Holder,
    Policy,
    Receipt,
    Straggler,
    _core,
    _policy,
    _receipt,
)
from finack._close.unseen import unseen

# ---- Policy ----


def test_names_are_those_of_the_library() -> None:
    assert get_args(_policy.Courtesy) == _core.COURTESIES
    assert get_args(_policy.Scope) == _core.SCOPES
    assert get_args(_policy.Proof) == _core.STAGES[-4:]
    assert get_args(_receipt.Outcome) == _core.OUTCOMES
    assert sorted(_core.OUTCOMES_FROM_BEST) == sorted(_core.OUTCOMES)
    assert _core.OUTCOMES_FROM_BEST[::7] == ("graceful", "aborted")
    assert ("none", *get_args(_receipt.Phase)) == _core.PHASES
    assert get_args(_receipt.End) == _core.ENDS
    assert get_args(_receipt.Search) == _core.SEARCHES
    assert _receipt.STAGES == _core.STAGES


def test_defaults() -> None:
    """Those of FIN_POLICY_INIT."""
    expected = (2, 0, 9, False, 5000, 1000, 2000, 10000, 100, -1, 1048576, True)
    assert Policy()._as_tuple() == expected


def test_everything_else() -> None:
    policy = Policy(
        courtesy="abort",
        scope="descriptor",
        proof="gone",
        rebindable=True,
        flush=0,
        farewell=1.1,
        linger=0.0000001,
        total=86400,
        proof_wait=64.1,
        orphan="reset",
        drain=2**64 - 1,
        find_holders=False,
    )
    expected = (0, 2, 11, True, 0, 1100, 1, 86400000, 64100, 0, 2**64 - 1, False)
    assert policy._as_tuple() == expected
    assert Policy(orphan=2.5)._as_tuple()[9] == 2500


def test_a_policy_is_a_value() -> None:
    assert Policy() == Policy() and hash(Policy()) == hash(Policy())
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy().linger = 1  # type: ignore[misc]
    assert dataclasses.replace(Policy(), linger=1) == Policy(linger=1)
    with pytest.raises(ValueError, match="linger"):
        dataclasses.replace(Policy(), linger=-1)


@pytest.mark.parametrize("name", ["flush", "farewell", "linger", "total", "proof_wait", "orphan"])
@pytest.mark.parametrize("value", [-0.001, 86400.1, math.inf, math.nan])
def test_a_time_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*0 to 86400 seconds, not {value}"):
        Policy(**{name: value})


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"courtesy": "polite"}, ValueError, "'abort', 'prompt', 'orderly', 'full', not 'polite'"),
        ({"courtesy": 2}, TypeError, "'abort', 'prompt', 'orderly', 'full', not int"),
        ({"scope": "socket"}, ValueError, "'default', 'connection', 'descriptor', not 'socket'"),
        ({"proof": "shut"}, ValueError, "'released', 'unreferenced', 'finished', 'gone', not"),
        ({"linger": "2"}, TypeError, "linger must be a number of seconds, not str"),
        ({"linger": None}, TypeError, "linger must be a number of seconds, not NoneType"),
        ({"linger": True}, TypeError, "linger must be a number of seconds, not bool"),
        ({"orphan": "drop"}, ValueError, "orphan must be 'leave', 'reset' or a time, not 'drop'"),
        ({"orphan": None}, TypeError, "orphan must be 'leave', 'reset' or a number of seconds"),
        ({"drain": 1.5}, TypeError, "drain must be a number of bytes, not float"),
        ({"drain": -1}, ValueError, "drain must be 0 to 18446744073709551615 bytes, not -1"),
        ({"drain": 2**64}, ValueError, "drain must be 0 to 18446744073709551615 bytes"),
        ({"rebindable": 1}, TypeError, "rebindable must be True or False, not int"),
        ({"find_holders": None}, TypeError, "find_holders must be True or False, not NoneType"),
        ({"timeout": 1}, TypeError, "timeout"),
    ],
)
def test_a_policy_says_what_it_takes(
    fields: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        Policy(**fields)
    assert text in str(raised.value)


# ---- Receipt ----

FULL = Receipt(
    outcome="timed_out",
    phase="linger",
    end="kernel",
    stages={
        "requested": 0,
        "flushed": 500e-9,
        "shut": 999.9e-6,
        "unwatched": 1e-3,
        "released": 2.5,
    },
    unverifiable=frozenset({"acked", "unreferenced"}),
    unsent=1,
    unacked=2,
    discarded=3,
    accepted=4,
    held=None,
    search="found",
    holders=(Holder(42, 7, "wor\x1bker\\\udcff"), Holder(43, 8, "x")),
    holder_count=5,
    error=OSError(5, "Input/output error"),
    forced=True,
    tombstone=True,
    socket="tcp 127.0.0.1:1 -> 127.0.0.1:2",
    stragglers=(Straggler("tcp 127.0.0.1:3", 9, "app.py:12", Receipt(outcome="aborted")),),
)


def test_one_line() -> None:
    assert str(FULL) == (
        "timed_out in linger, end=kernel, held=unverifiable: flushed=0.5us shut=999.9us acked=?"
        " unwatched=1.0ms released=2.50s unreferenced=? unsent=1 unacked=2 discarded=3 accepted=4"
        " forced tombstone error=EIO; held by 42/wor\\x1bker\\x5c\\xff fd 7, 43/x fd 8, +3 more;"
        " stragglers: 1: tcp 127.0.0.1:3 fd 9, made at app.py:12"
    )
    assert str(Receipt(outcome="graceful", held=False)) == "graceful, end=none, held=no:"
    held = Receipt(outcome="graceful", held=True, search="invisible")
    assert str(held) == "graceful, end=none, held=yes:; held by an invisible holder"
    held = Receipt(outcome="graceful", held=True, search="blind")
    assert str(held).endswith("held=yes:; held, and could not look everywhere by whom")
    held = Receipt(outcome="graceful", held=True, search="cut")
    assert str(held).endswith("held=yes:; held, and there was no time to search by whom")
    holder = Holder(42, 7, "worker")
    held = Receipt(outcome="graceful", held=True, search="cut", holders=(holder,), holder_count=1)
    assert str(held).endswith("; held by 42/worker fd 7, and the search was cut")


def test_as_dict_is_json() -> None:
    data = json.loads(json.dumps(FULL.as_dict()))
    assert data["stages"]["released"] == 2.5 and data["lost"] == FULL.lost == 3
    assert data["unverifiable"] == ["acked", "unreferenced"]
    assert data["error"] == "EIO" and data["holder_count"] == 5
    assert data["holders"][0] == {"pid": 42, "fd": 7, "command": "wor\\x1bker\\x5c\\xff"}
    assert data["stragglers"][0]["receipt"]["outcome"] == "aborted"
    assert set(data) == {f.name for f in dataclasses.fields(Receipt)} | {"lost"}


def test_a_receipt_stays_as_it_is() -> None:
    receipt = Receipt(outcome="graceful", stages={"shut": 1.0})
    with pytest.raises(dataclasses.FrozenInstanceError):
        receipt.outcome = "reset"  # type: ignore[misc]
    with pytest.raises(TypeError):
        receipt.stages["shut"] = 2.0  # type: ignore[index]
    assert len({receipt, Receipt(outcome="graceful")}) == 2


@pytest.mark.parametrize(
    "again",
    [
        *(lambda x, n=n: pickle.loads(pickle.dumps(x, n)) for n in range(2, 6)),
        copy.copy,
        copy.deepcopy,
        dataclasses.replace,
    ],
)
def test_a_receipt_is_a_value(again: Callable[[Any], Any]) -> None:
    """Also one from the core that nobody has looked at, in another process, and after TLS."""
    times = (0, *[-1] * 11)
    head: Any = ("reset", "none", "reset", True, 104, 0, 0, times)
    unseen = Receipt._from_core((*head, 1, 2, 3, 4, False, True, "none", 0, ()), "tcp")
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, "wrong")
    for receipt in (FULL, Receipt(outcome="graceful", error=error), unseen):
        copied = again(receipt)
        assert copied == receipt and hash(copied) == hash(receipt) and copied is not receipt
        assert str(copied) == str(receipt) and copied.as_dict() == receipt.as_dict()
        with pytest.raises(TypeError):
            copied.stages["shut"] = 2.0


def test_receipts_differ() -> None:
    changes: list[tuple[str, Any]] = [
        ("stages", {}),
        ("error", None),
        ("error", OSError(5, "other words")),
        ("error", ConnectionResetError(5, "Input/output error")),
        ("unsent", 7),
        ("stragglers", ()),
    ]
    for name, value in changes:
        assert dataclasses.replace(FULL, **{name: value}) != FULL
    assert FULL.as_dict() != FULL


def test_a_report_is_a_value() -> None:
    report = finack.CloseReport((FULL,), FULL.stragglers, 0.5)
    assert pickle.loads(pickle.dumps(report)) == report
    assert pickle.loads(pickle.dumps(Policy(linger=0))) == Policy(linger=0)


def test_from_core() -> None:
    times = (0, *[-1] * 7, 1_500_000_000, -1, -1, -1)
    head: Any = ("reset", "none", "reset", True, 104, 1 << 9 | 1)
    receipt = Receipt._from_core(
        (*head, 7, times, *(1, 2, 3, 4), False, True, "found", 6, ((1, 2, "x"),)),
        socket="tcp",
    )
    assert receipt.outcome == "reset" and receipt.phase is None and receipt.held is True
    assert isinstance(receipt.error, ConnectionResetError)
    assert receipt.unverifiable == {"requested", "unreferenced"}
    assert receipt.stages == {"requested": 0.0, "released": 1.5}
    counts = (receipt.unsent, receipt.unacked, receipt.discarded, receipt.accepted)
    assert counts == (1, 2, 3, 4)
    assert receipt.tombstone and not receipt.forced
    assert receipt.holders == (Holder(1, 2, "x"),) and receipt.holder_count == 6
    assert receipt.socket == "tcp"


def modules_with_examples() -> list[str]:
    """Of the package: those whose docstrings show something."""
    root = pathlib.Path(finack.__file__).parent
    found = [path for path in root.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")]
    parts = [("finack", *path.relative_to(root).with_suffix("").parts) for path in sorted(found)]
    return [".".join(part for part in names if part != "__init__") for names in parts]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name: str) -> None:
    """What the reference shows runs, all of it."""
    module = importlib.import_module(name)
    known = {"asyncio": asyncio, "finack": finack}
    done = doctest.testmod(module, extraglobs=known, optionflags=doctest.ELLIPSIS)
    assert done.failed == 0 and done.attempted > 0
    assert not getattr(done, "skipped", 0)  # counted from 3.13 on


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ConnectionResetError(104, "reset"), "ECONNRESET"),
        (TimeoutError("SSL shutdown timed out"), "TimeoutError"),
        (ssl.SSLError(1, "not errno 1, which is EPERM"), "SSLError"),
    ],
)
def test_name_of_an_error(error: OSError, name: str) -> None:
    receipt = Receipt(outcome="error", error=error)
    assert f" error={name}" in str(receipt)
    assert receipt.as_dict()["error"] == name


# ---- a receipt reads as in C ----

_MANY = tuple(Holder(pid=n + 1, fd=n, command="a") for n in range(4))
_WORKER = (Holder(pid=42, fd=7, command="wor\x1bker"),)
_HELD = Receipt(outcome="graceful", held=True)
_LOST = Receipt(
    outcome="timed_out",
    phase="linger",
    end="kernel",
    stages={"flushed": 5e-7, "shut": 9.999e-4, "unwatched": 0.001, "released": 2.5},
    unverifiable=frozenset(("acked", "unreferenced")),
    unsent=1,
    unacked=22,
    discarded=333,
    accepted=2**64 - 1,
    error=OSError(errno.EIO, ""),
)
_LIKE_C = [
    Receipt(outcome="graceful", held=False),
    _LOST,
    replace(_HELD, search="invisible"),
    replace(_HELD, search="found", holders=_WORKER, holder_count=1),
    replace(_HELD, search="cut", holders=_WORKER, holder_count=1),
    replace(_HELD, search="cut"),
    replace(_HELD, search="blind", forced=True, tombstone=True),
    replace(_HELD, search="found", forced=True, tombstone=True, holders=_MANY, holder_count=6),
]


def test_a_receipt_reads_as_in_c() -> None:
    """The package needs a way of its own, for where it has no extension."""
    test = pathlib.Path(__file__).parents[1] / "unit/test_receipt.c"
    text = re.sub(r'"\s+"', "", test.read_text(encoding="utf-8"))
    lines = re.findall(r'"(\w+(?: in \w+)?, end=[^"]*)"', text)
    expected = [line.encode().decode("unicode_escape") for line in lines]
    assert sorted(map(str, _LIKE_C)) == sorted(expected)


# ---- closes that nobody drove ----


@pytest.mark.parametrize(
    ("why", "truncated", "wanted"),
    [
        (None, True, ("truncated", None, None)),
        (TimeoutError("SSL shutdown timed out"), False, ("timed_out", "farewell", None)),
        (TimeoutError(errno.ETIMEDOUT, "of TCP's"), False, ("error", None, errno.ETIMEDOUT)),
        (ConnectionResetError(), False, ("reset", None, errno.ECONNRESET)),
        (ConnectionAbortedError(), False, ("error", None, errno.ECONNABORTED)),
        (ssl.SSLError(1, "bad record"), False, ("error", None, errno.EBADMSG)),
        (ValueError(), False, ("error", None, errno.EIO)),
    ],
)
def test_what_a_user_heard_decides(why: Any, truncated: bool, wanted: Any) -> None:
    receipt = unseen(Policy(), "stream", 1.0, 2.0, why=why, truncated=truncated)
    error = receipt.error and receipt.error.errno
    assert (receipt.outcome, receipt.phase, error) == wanted
