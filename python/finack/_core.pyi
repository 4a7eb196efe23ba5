# SPDX-License-Identifier: MIT
from collections.abc import Callable, Mapping
from selectors import BaseSelector, SelectorKey
from typing import Any, Final, Literal, Protocol, Self, TypeAlias, final

from finack._receipt import End, Outcome, Phase, Search

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

_FileObject: TypeAlias = int | _HasFileno
_Observer: TypeAlias = Callable[[Literal["register", "modify", "unregister"], SelectorKey], object]

class ProxySelector(BaseSelector):
    def __init__(self, selector: BaseSelector | None = None) -> None: ...
    def register(self, fileobj: _FileObject, events: int, data: Any = None) -> SelectorKey: ...
    def modify(self, fileobj: _FileObject, events: int, data: Any = None) -> SelectorKey: ...
    def unregister(self, fileobj: _FileObject) -> SelectorKey: ...
    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]: ...
    def close(self) -> None: ...
    def get_key(self, fileobj: _FileObject) -> SelectorKey: ...
    def get_map(self) -> Mapping[_FileObject, SelectorKey]: ...
    def fileno(self) -> int: ...
    def add_observer(self, observer: _Observer, /) -> None: ...
    def remove_observer(self, observer: _Observer, /) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *args: object) -> None: ...

# courtesy, scope, proof (indices of the names below), rebindable, flush, farewell, linger, total,
# proof wait, orphan (-1: leave, 0: reset), in ms, drain, find holders
PolicyTuple: TypeAlias = tuple[int, int, int, bool, int, int, int, int, int, int, int, bool]
_HolderTuple: TypeAlias = tuple[int, int, str]
# outcome, phase, end, held, errno, unverifiable (bit 1 << stage), requested (ns), stages (ns since
# requested or -1), unsent, unacked, discarded, accepted, forced, tombstone, search, how many
# holders, the first of them
ReceiptTuple: TypeAlias = tuple[
    Outcome,
    Phase | Literal["none"],
    End,
    bool | None,
    int,
    int,
    int,
    tuple[int, ...],
    int,
    int,
    int,
    int,
    bool,
    bool,
    Search,
    int,
    tuple[_HolderTuple, ...],
]
Identity: TypeAlias = tuple[int, int, int]  # SO_COOKIE or 0, device, inode

STAGES: Final[tuple[str, ...]]
OUTCOMES: Final[tuple[str, ...]]
PHASES: Final[tuple[str, ...]]
ENDS: Final[tuple[str, ...]]
COURTESIES: Final[tuple[str, ...]]
SCOPES: Final[tuple[str, ...]]
SEARCHES: Final[tuple[str, ...]]

def close(
    fd: int,
    policy: PolicyTuple,
    requested: float | None = None,
    input_shut: bool = False,
    /,
) -> ReceiptTuple: ...
def reset(fd: int, /) -> bool: ...
def handed(fd: int, /) -> int | None: ...
def outstanding(fd: int, /) -> int: ...
def identify(fd: int, /) -> Identity: ...
def is_same(fd: int, identity: Identity, /) -> bool: ...
def holders(identity: Identity, /) -> list[_HolderTuple]: ...

@final
class Witness:
    def add(self, fd: int, /) -> int: ...
    def held(self, token: int, /) -> bool | None: ...
    def close(self) -> None: ...
