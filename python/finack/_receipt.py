# SPDX-License-Identifier: MIT
"""What a close came to."""

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from finack import _core

Outcome: TypeAlias = Literal[
    "graceful", "prompt", "truncated", "timed_out", "reset", "error", "aborted"
]
Phase: TypeAlias = Literal["flush", "farewell", "linger"]
End: TypeAlias = Literal["none", "fin", "reset", "kernel"]
Search: TypeAlias = Literal["none", "found", "invisible", "blind"]


def _printable(text: str) -> str:
    """A program may call itself anything; a terminal must not obey it."""
    raw = text.encode(errors="surrogateescape")
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in raw
    )


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.1f}us"
    return f"{seconds * 1e3:.1f}ms" if seconds < 1 else f"{seconds:.2f}s"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process and descriptor that still refers to what was closed.

    `command` is the name in /proc/PID/comm, which may hold anything; str() has it escaped.

    >>> print(Holder(pid=42, fd=7, command="worker"))
    42/worker fd 7
    """

    pid: int
    fd: int
    command: str

    def __str__(self) -> str:
        """As in a receipt."""
        return f"{self.pid}/{_printable(self.command)} fd {self.fd}"


@dataclass(frozen=True, slots=True, eq=False)
class Straggler:
    """A connection that had not ended by the deadline given for closing many.

    `made` is the place in the program where it was made, if that is known; `receipt` tells how it
    was ended, None if it is open still.

    >>> print(Straggler(socket="tcp 127.0.0.1:80 -> 127.0.0.1:4711", fd=9, made="app.py:12"))
    tcp 127.0.0.1:80 -> 127.0.0.1:4711 fd 9, made at app.py:12
    """

    socket: str
    fd: int
    made: str | None = None
    receipt: "Receipt | None" = None

    def __str__(self) -> str:
        """One line, without the receipt."""
        return f"{self.socket} fd {self.fd}" + (f", made at {self.made}" if self.made else "")

    def as_dict(self) -> dict[str, Any]:
        """For json.dumps()."""
        receipt = self.receipt.as_dict() if self.receipt else None
        return {"socket": self.socket, "fd": self.fd, "made": self.made, "receipt": receipt}


def _fields(values: "_core.ReceiptTuple", socket: str) -> dict[str, Any]:
    """Those of a receipt, from what the core says."""
    outcome, phase, end, held, error, unverifiable, _, times = values[:8]
    unsent, unacked, discarded, accepted, forced, tombstone, search, count, holders = values[8:]
    named = zip(_core.STAGES, times, strict=True)
    return {
        "outcome": outcome,
        "phase": None if phase == "none" else phase,
        "end": end,
        "stages": {stage: ns / 1e9 for stage, ns in named if ns >= 0},
        "unverifiable": frozenset(
            stage for bit, stage in enumerate(_core.STAGES) if unverifiable >> bit & 1
        ),
        "unsent": unsent,
        "unacked": unacked,
        "discarded": discarded,
        "accepted": accepted,
        "held": held,
        "search": search,
        "holders": tuple(Holder(*holder) for holder in holders),
        "holder_count": count,
        "error": OSError(error, os.strerror(error)) if error else None,
        "forced": forced,
        "tombstone": tombstone,
        "socket": socket,
        "stragglers": (),
    }


class _Source:
    """What a receipt is made from."""

    __slots__ = ("_source",)

    _source: "tuple[_core.ReceiptTuple | _core.Close, str | Callable[..., str], tuple[Any, ...]]"


def _nothing() -> Mapping[str, float]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Receipt(_Source):
    """What happened in a close. str() is one line, as_dict() is for json.dumps().

    outcome
        "graceful": all that the policy asked for was seen; "prompt": the peer wasn't waited for;
        "truncated": the peer ended TLS without close_notify; "timed_out": a deadline or the bound
        for drained input cut it; "reset": the peer reset the connection; "error": see `error`;
        "aborted": the program asked for an abort.
    phase
        Where the outcome was decided, unless it is "graceful" or "prompt".
    end
        How the stream ended for the peer: "fin": with every byte; "reset"; "kernel": not known, the
        kernel was still at work; "none": there was none, or others hold it.
    stages
        Each stage that was reached, with its time in seconds since the close was requested.
    unverifiable
        Stages that were wanted and can't be observed here.
    unsent
        Bytes of the program's that never reached the kernel.
    unacked
        Bytes in the kernel that the peer's kernel had not acknowledged at the release.
    discarded
        Bytes of input that were thrown away.
    accepted
        Connections taken from the queue of a listening socket.
    held
        Whether anything still refers to the open file; None: not observed.
    search
        What the search for holders came to: "none": there was none; "found"; "invisible": held, but
        no process shows it; "blind": held, but not all processes could be looked at.
    holders
        The first of the holders; `holder_count` is how many there are.
    error
        What the system said, if anything failed.
    forced
        Cut short because too many closes were pending.
    tombstone
        A thread would not leave a call, so that a dead descriptor keeps the number until it has.
    socket
        What was closed, such as "tcp 127.0.0.1:4711 -> 127.0.0.1:80".
    stragglers
        Connections that had not ended in time, where many were closed.

    >>> print(Receipt(outcome="prompt", end="fin", stages={"shut": 2e-5, "released": 3e-5}))
    prompt, end=fin, held=unverifiable: shut=20.0us released=30.0us
    """

    outcome: Outcome
    phase: Phase | None = None
    end: End = "none"
    stages: Mapping[str, float] = field(default_factory=_nothing)
    unverifiable: frozenset[str] = frozenset()
    unsent: int = 0
    unacked: int = 0
    discarded: int = 0
    accepted: int = 0
    held: bool | None = None
    search: Search = "none"
    holders: tuple[Holder, ...] = ()
    holder_count: int = 0
    error: OSError | None = None
    forced: bool = False
    tombstone: bool = False
    socket: str = ""
    stragglers: tuple[Straggler, ...] = ()

    def __post_init__(self) -> None:
        """Guard the times: everybody who closes the socket again gets this very object."""
        object.__setattr__(self, "stages", MappingProxyType(dict(self.stages)))

    @classmethod
    def _from_core(
        cls,
        values: "_core.ReceiptTuple | _core.Close",
        socket: str | Callable[..., str] = "",
        *names: Any,
    ) -> Self:
        """Nothing is worked out before somebody asks: most receipts are thrown away."""
        receipt = object.__new__(cls)
        object.__setattr__(receipt, "_source", (values, socket, names))
        return receipt

    if not TYPE_CHECKING:  # there it would make any name an attribute

        def __getattr__(self, name: str) -> Any:
            """A field of a receipt that nobody has looked at yet."""
            if name == "_source" or name not in self.__dataclass_fields__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            values, socket, names = self._source
            values = values if isinstance(values, tuple) else values.receipt()
            socket = socket(*names) if callable(socket) else socket
            for field_name, value in _fields(values, socket).items():
                object.__setattr__(self, field_name, value)
            self.__post_init__()
            return object.__getattribute__(self, name)

    @property
    def lost(self) -> int:
        """Bytes that the program wrote and that may not have arrived: `unsent` and `unacked`.

        With end "kernel" the kernel goes on sending the latter, so that they may arrive yet.
        """
        return self.unsent + self.unacked

    def __str__(self) -> str:
        """One line for a person."""
        return self._head() + self._stages() + self._counts() + self._tail()

    def _head(self) -> str:
        where = f" in {self.phase}" if self.phase else ""
        held = {True: "yes", False: "no", None: "unverifiable"}[self.held]
        return f"{self.outcome}{where}, end={self.end}, held={held}:"

    def _stages(self) -> str:
        line = ""
        for stage in _core.STAGES[1:]:
            if stage in self.stages:
                line += f" {stage}={_time(self.stages[stage])}"
            elif stage in self.unverifiable:
                line += f" {stage}=?"
        return line

    def _counts(self) -> str:
        names = ("unsent", "unacked", "discarded", "accepted")
        line = "".join(f" {name}={getattr(self, name)}" for name in names if getattr(self, name))
        return line + " forced" * self.forced + " tombstone" * self.tombstone

    def _tail(self) -> str:
        line = ""
        if self.error:
            line += f" error={_error_name(self.error)}"
        if self.search == "invisible":
            line += "; held by an invisible holder"
        elif self.search == "blind":
            line += "; held, and could not look everywhere by whom"
        elif self.holders:
            line += "; held by " + ", ".join(map(str, self.holders))
            more = self.holder_count - len(self.holders)
            line += f", +{more} more" if more > 0 else ""
        if self.stragglers:
            line += f"; stragglers: {len(self.stragglers)}: " + ", ".join(map(str, self.stragglers))
        return line

    def as_dict(self) -> dict[str, Any]:
        """For json.dumps(): the fields by name, times in seconds, the error by its errno's name.

        >>> Receipt(outcome="graceful", stages={"released": 0.25}).as_dict()["stages"]
        {'released': 0.25}
        """
        return {
            "socket": self.socket,
            "outcome": self.outcome,
            "phase": self.phase,
            "end": self.end,
            "stages": dict(self.stages),
            "unverifiable": [stage for stage in _core.STAGES if stage in self.unverifiable],
            "unsent": self.unsent,
            "unacked": self.unacked,
            "lost": self.lost,
            "discarded": self.discarded,
            "accepted": self.accepted,
            "held": self.held,
            "search": self.search,
            "holders": [
                {"pid": holder.pid, "fd": holder.fd, "command": _printable(holder.command)}
                for holder in self.holders
            ],
            "holder_count": self.holder_count,
            "error": _error_name(self.error) if self.error else None,
            "forced": self.forced,
            "tombstone": self.tombstone,
            "stragglers": [straggler.as_dict() for straggler in self.stragglers],
        }


def _error_name(error: OSError) -> str:
    # Those of ssl and of getaddrinfo(3) have numbers of their own.
    if error.errno is None or type(error).__module__ != "builtins":
        return type(error).__name__
    return errno.errorcode.get(error.errno, str(error.errno))
