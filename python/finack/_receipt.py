# SPDX-License-Identifier: MIT
"""What a close came to."""

import errno
import functools
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, get_args

if TYPE_CHECKING:
    from finack import _core

Outcome: TypeAlias = Literal[
    "graceful", "prompt", "truncated", "timed_out", "reset", "error", "aborted", "bounded"
]
Phase: TypeAlias = Literal["flush", "farewell", "linger"]
End: TypeAlias = Literal["none", "fin", "reset", "kernel"]
Stage: TypeAlias = Literal[
    "requested",
    "flushed",
    "notified",
    "answered",
    "shut",
    "acked",
    "eof",
    "unwatched",
    "released",
    "unreferenced",
    "finished",
    "gone",
]
STAGES: tuple[Stage, ...] = get_args(Stage)
Search: TypeAlias = Literal["none", "found", "invisible", "blind", "cut"]


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
    """A process and its descriptor that still refers to what was closed.

    `command` is the name in /proc/PID/comm, which may hold any bytes; str() escapes it.

    >>> print(Holder(pid=42, fd=7, command="worker"))
    42/worker fd 7
    """

    pid: int
    fd: int
    command: str

    def __str__(self) -> str:
        """As in a receipt."""
        return f"{self.pid}/{_printable(self.command)} fd {self.fd}"

    def as_dict(self) -> dict[str, Any]:
        """For json.dumps(), the command escaped."""
        return {"pid": self.pid, "fd": self.fd, "command": _printable(self.command)}


@dataclass(frozen=True, slots=True)
class Straggler:
    """A connection that had not ended by the deadline given for closing many.

    `made` is the line of the program that made it, if that is known; `receipt` says how it ended,
    or is None if it is still open.

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
    named = zip(STAGES, times, strict=True)
    return {
        "outcome": outcome,
        "phase": None if phase == "none" else phase,
        "end": end,
        "stages": {stage: ns / 1e9 for stage, ns in named if ns >= 0},
        "unverifiable": frozenset(
            stage for bit, stage in enumerate(STAGES) if unverifiable >> bit & 1
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

    __slots__ = ("__weakref__", "_source")

    _source: Any  # values and name, or an Ending and what names it; None: it was worked out


_put_source = vars(_Source)["_source"].__set__  # what frozen=True forbids


_OBJECTS = ("stages", "error")  # fields that can't be compared or hashed as they are


def _nothing() -> Mapping[Stage, float]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Receipt(_Source):
    """What happened in a close. str() is one line, as_dict() is for json.dumps().

    Receipts are equal if all fields are, and can be pickled and copied.

    outcome
        "graceful": all that the policy asked for was seen; "prompt": closed without waiting for the
        peer; "truncated": the peer ended TLS without close_notify; "bounded": more input came than
        `drain` allows; "timed_out": a deadline passed; "reset": the connection was reset, or had
        ended without both FINs, whoever took its error; "error": see `error`; "aborted": the
        program asked for it.
    phase
        Where the outcome was decided, unless it is "graceful" or "prompt".
    end
        How the stream ended for the peer: "fin": with every byte, and acknowledged; "reset": a RST
        was sent or came; "kernel": not known, the kernel was still at work; "none": no stream
        ended, or others hold it.
    stages
        Each stage that was reached, with its time in seconds since the close was requested.
    unverifiable
        Stages that the policy asked for and that can't be observed here.
    unsent
        The program's bytes that never reached the kernel.
    unacked
        Bytes in the kernel that the peer's kernel had not acknowledged at the release.
    discarded
        Bytes of input that were thrown away.
    accepted
        Connections taken from the queue of a listening socket.
    held
        Whether anything still refers to the open file; None: not observed.
    search
        The result of the search for holders: "none": there was no search; "found"; "invisible":
        held, but no process shows it; "blind": held, but not all processes could be looked at;
        "cut": held, and the search ended early, mostly because the close's time was over.
    holders
        The first of the holders; `holder_count` is how many were found. After a search that was
        "cut" there may be more.
    error
        What the system said, if anything failed.
    forced
        Cut short because too many closes were pending.
    tombstone
        A thread would not leave a call: a dead descriptor keeps the number until it does.
    socket
        What was closed, such as "tcp 127.0.0.1:4711 -> 127.0.0.1:80".
    stragglers
        Connections that had not ended in time, if many were closed.

    >>> print(Receipt(outcome="prompt", end="fin", stages={"shut": 2e-5, "released": 3e-5}))
    prompt, end=fin, held=unverifiable: shut=20.0us released=30.0us
    """

    outcome: Outcome
    phase: Phase | None = None
    end: End = "none"
    stages: Mapping[Stage, float] = field(default_factory=_nothing)
    unverifiable: frozenset[Stage] = frozenset()
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
    def _from_core(cls, values: "_core.ReceiptTuple", socket: str = "") -> Self:
        """Nothing is worked out before somebody asks: most receipts are thrown away."""
        receipt = object.__new__(cls)
        _put_source(receipt, (values, socket))
        return receipt

    if not TYPE_CHECKING:  # there it would make any name an attribute

        def __getattr__(self, name: str) -> Any:
            """A field of a receipt that nobody has looked at yet."""
            if name == "_source" or name not in self.__dataclass_fields__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            if self._source is not None:  # no other thread was faster
                self._work_out(*self._source)
            return object.__getattribute__(self, name)

    def _work_out(self, source: Any, socket: Any) -> None:
        values, name = source, socket
        if not isinstance(source, tuple):  # an Ending, of which receipt_of() has made it
            values, name = source.receipt(), socket(source)
        for field_name, value in _fields(values, name).items():
            object.__setattr__(self, field_name, value)
        self.__post_init__()
        if values is not source:
            source.known = self  # it keeps what somebody has looked at
        _put_source(self, None)

    def _value(self) -> tuple[object, ...]:
        """All of it, as what can be compared: an exception equals itself alone."""
        plain = (getattr(self, name) for name in self.__dataclass_fields__ if name not in _OBJECTS)
        error = self.error and (type(self.error), self.error.args)
        return (*plain, frozenset(self.stages.items()), error)

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal; an error by its type and arguments."""
        return self._value() == other._value() if isinstance(other, Receipt) else NotImplemented

    def __hash__(self) -> int:
        """As __eq__() has it."""
        return hash(self._value())

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: what it was made from stays where it is."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["stages"] = dict(self.stages)
        return functools.partial(type(self), **fields), ()

    @property
    def lost(self) -> int:
        """Bytes that the program wrote and that may not have arrived: `unsent` and `unacked`.

        With end "kernel" the kernel goes on sending the latter, so they may still arrive.
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
        for stage in STAGES[1:]:
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
            line += ", and the search was cut" * (self.search == "cut")
        elif self.search == "cut":
            line += "; held, and there was no time to search by whom"
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
            "unverifiable": [stage for stage in STAGES if stage in self.unverifiable],
            "unsent": self.unsent,
            "unacked": self.unacked,
            "lost": self.lost,
            "discarded": self.discarded,
            "accepted": self.accepted,
            "held": self.held,
            "search": self.search,
            "holders": [holder.as_dict() for holder in self.holders],
            "holder_count": self.holder_count,
            "error": _error_name(self.error) if self.error else None,
            "forced": self.forced,
            "tombstone": self.tombstone,
            "stragglers": [straggler.as_dict() for straggler in self.stragglers],
        }


@dataclass(frozen=True, slots=True)
class CloseReport:
    """The result of close_all(): str() is one line, as_dict() is for json.dumps().

    receipts
        One for every connection and server.
    stragglers
        Connections that had not ended in time, and were cut.
    elapsed
        Seconds that it took.

    >>> print(CloseReport((Receipt(outcome="graceful"), Receipt(outcome="reset")), (), 0.25))
    2 closed in 0.250 s: 1 graceful, 1 reset
    """

    receipts: tuple[Receipt, ...]
    stragglers: tuple[Straggler, ...]
    elapsed: float

    @property
    def outcomes(self) -> dict[str, int]:
        """How many there were of each outcome, the most frequent first."""
        return dict(Counter(receipt.outcome for receipt in self.receipts).most_common())

    @property
    def lost(self) -> int:
        """Bytes that the program wrote and that may not have arrived."""
        return sum(receipt.lost for receipt in self.receipts)

    def __str__(self) -> str:
        """One line for a person."""
        line = f"{len(self.receipts)} closed in {self.elapsed:.3f} s"
        if self.receipts:
            line += ": " + ", ".join(f"{many} {name}" for name, many in self.outcomes.items())
        if self.stragglers:
            line += f"; stragglers: {len(self.stragglers)}: " + ", ".join(map(str, self.stragglers))
        return line

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, with outcomes and lost."""
        return {
            "elapsed": self.elapsed,
            "outcomes": self.outcomes,
            "lost": self.lost,
            "receipts": [receipt.as_dict() for receipt in self.receipts],
            "stragglers": [straggler.as_dict() for straggler in self.stragglers],
        }


def _error_name(error: OSError) -> str:
    # Those of ssl and of getaddrinfo(3) have numbers of their own.
    if error.errno is None or type(error).__module__ != "builtins":
        return type(error).__name__
    return errno.errorcode.get(error.errno, str(error.errno))
