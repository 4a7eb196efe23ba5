# SPDX-License-Identifier: MIT
"""How to close."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from finack._receipt import STAGES

if TYPE_CHECKING:
    from finack import _core

Courtesy: TypeAlias = Literal["abort", "prompt", "orderly", "full"]
Scope: TypeAlias = Literal["default", "connection", "descriptor"]
Proof: TypeAlias = Literal["released", "unreferenced", "finished", "gone"]
Orphan: TypeAlias = Literal["leave", "reset"] | float

_CHOICES: dict[str, tuple[str, ...]] = {
    "courtesy": get_args(Courtesy),
    "scope": get_args(Scope),
    "proof": get_args(Proof),
}
_TIMES = ("flush", "farewell", "linger", "total", "proof_wait")
_TIME_MAX = 86400.0
_DRAIN_MAX = 2**64 - 1


def _check_choice(name: str, value: object) -> None:
    accepted = ", ".join(map(repr, _CHOICES[name]))
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {accepted}, not {type(value).__name__}")
    if value not in _CHOICES[name]:
        raise ValueError(f"{name} must be one of {accepted}, not {value!r}")


def _check_time(name: str, value: object, *, words: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be {words}a number of seconds, not {type(value).__name__}")
    if not 0 <= value <= _TIME_MAX:
        raise ValueError(f"{name} must be {words}0 to {_TIME_MAX:.0f} seconds, not {value!r}")


def _check_orphan(value: object) -> None:
    if value not in ("leave", "reset"):
        if isinstance(value, str):
            raise ValueError(f"orphan must be 'leave', 'reset' or a time, not {value!r}")
        _check_time("orphan", value, words="'leave', 'reset' or ")


def _check_drain(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"drain must be a number of bytes, not {type(value).__name__}")
    if not 0 <= value <= _DRAIN_MAX:
        raise ValueError(f"drain must be 0 to {_DRAIN_MAX} bytes, not {value!r}")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")


def _ms(seconds: float) -> int:
    """Rounded up: the least time that isn't 0 is to be one. Beware of 1.1 * 1000."""
    return math.ceil(round(seconds * 1000, 3)) or int(seconds > 0)


class _Kept:
    """What a policy is for _core, once that was asked for."""

    __slots__ = ("_kept",)

    _kept: Any  # a PolicyTuple of _core


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(_Kept):
    """What a close tells the peer, how long it waits, and what must be proved.

    Times are seconds, 0 (don't wait) to 86400, used to a millisecond.

    courtesy
        "abort": RST now; "prompt": send what is buffered, the TLS close_notify and FIN, and
        release; "orderly": also wait until the peer's kernel has it all and the peer's own FIN has
        come, throwing input away; "full": also wait for the peer's close_notify before FIN.
    flush
        The longest time without progress in sending what was buffered above the kernel.
    farewell
        For our close_notify, and the same again for its answer under "full"; starts anew while the
        kernel's queue shrinks.
    linger
        For the peer's acknowledgement and FIN; starts anew while the kernel's queue shrinks.
    total
        For everything up to the release of the descriptor.
    drain
        How many bytes of input to throw away at most.
    proof
        The stage that completes the close: "released": the number is free; "unreferenced": nothing
        anywhere refers to the open file; "finished": the kernel's connection is over; "gone":
        TIME_WAIT is over too.
    proof_wait
        How long to wait for the proof after the release. The close then completes without it.
    orphan
        What happens to bytes that the peer has not acknowledged when linger is over: "leave" them
        to the kernel, "reset" the connection, or the number of seconds that the kernel may go on.
    rebindable
        Whether the same address and port can be bound again at once.
    scope
        "connection": end it for every holder; "descriptor": only close this descriptor; "default":
        "descriptor" for a listening socket, "connection" for all others.
    find_holders
        Whether to search for the processes that still hold it.

    TypeError, ValueError: a field that isn't as above; dataclasses.replace() checks too.

    >>> Policy(courtesy="full", farewell=3)  # doctest: +ELLIPSIS
    Policy(courtesy='full', flush=5.0, farewell=3, linger=2.0, total=10.0, ...)
    """

    courtesy: Courtesy = "orderly"
    flush: float = 5.0
    farewell: float = 1.0
    linger: float = 2.0
    total: float = 10.0
    drain: int = 1 << 20
    proof: Proof = "unreferenced"
    proof_wait: float = 0.1
    orphan: Orphan = "leave"
    rebindable: bool = False
    scope: Scope = "default"
    find_holders: bool = True

    def __post_init__(self) -> None:
        """Check every field."""
        for name in _CHOICES:
            _check_choice(name, getattr(self, name))
        for name in _TIMES:
            _check_time(name, getattr(self, name))
        _check_drain(self.drain)
        _check_orphan(self.orphan)
        _check_flag("rebindable", self.rebindable)
        _check_flag("find_holders", self.find_holders)

    def _as_tuple(self) -> "_core.PolicyTuple":
        """What _core takes: numbers and milliseconds. Kept: a policy is used many times."""
        try:
            kept: _core.PolicyTuple = self._kept
        except AttributeError:
            object.__setattr__(self, "_kept", kept := self._made_tuple())
        return kept

    def _made_tuple(self) -> "_core.PolicyTuple":
        return (
            _CHOICES["courtesy"].index(self.courtesy),
            _CHOICES["scope"].index(self.scope),
            STAGES.index(self.proof),
            self.rebindable,
            _ms(self.flush),
            _ms(self.farewell),
            _ms(self.linger),
            _ms(self.total),
            _ms(self.proof_wait),
            _orphan_ms(self.orphan),
            self.drain,
            self.find_holders,
        )


def _orphan_ms(orphan: Orphan) -> int:
    if isinstance(orphan, str):
        return {"leave": -1, "reset": 0}[orphan]
    return _ms(orphan)


_DEFAULT = Policy()


def checked(policy: object) -> Policy:
    """The policy, for None the default one. TypeError: it is none."""
    if policy is None:
        return _DEFAULT
    if not isinstance(policy, Policy):
        raise TypeError(f"policy must be a finack.Policy or None, not {type(policy).__name__}")
    return policy
