# SPDX-License-Identifier: MIT
"""Running an unmodified asyncio program on EventLoop, with a report at its end."""

import argparse
import atexit
import contextlib
import errno
import heapq
import importlib.machinery
import io
import itertools
import json
import os
import resource
import sys
import threading
import time
import types
from collections import Counter
from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import Any, NamedTuple

import finack
from finack import _private
from finack._loop import loop
from finack._loop.timed import TimedLoop
from finack._receipt import Receipt, _time
from finack._report.ghosts import Ghost, Kind, ghosts
from finack._report.leftovers import Leftover, Watch
from finack._report.loop_end import NEVER_CLOSED, Left, loop_end
from finack._report.recent import recent
from finack._sockets.places import Place

_SLOWEST = 10
_KERNEL_WAIT = 1.0
_PAUSE = 0.01
_DESCRIPTORS = 64  # more than the report needs at a time
_HERE = os.path.dirname(__file__) + os.sep
_KINDS: dict[str, Kind] = {
    "open": "descriptor",
    "held": "description",
    "registered": "registration",
}
_UVLOOP = (
    "uvloop is loaded: the closes of its loops are not timed, what they had to release at their end"
    " is not known, and their sockets are seen only by the descriptor table; to see all, give the"
    " program finack.EventLoop (uvicorn: --loop finack:EventLoop)"
)


# ---- the command line ----


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m finack",
        usage="%(prog)s [--version] [--json FILE] [--strict] [--all] (APP.py | -m MODULE)"
        " [ARGS ...]",
        description="Run an asyncio program on finack's event loop, and report at its end what was"
        " closed, how long that took, and what was left.",
    )
    parser.add_argument("--version", action="version", version=f"finack {finack.__version__}")
    parser.add_argument("--json", metavar="FILE", help="write the report to FILE too; -: to stdout")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with status 1 if something was never closed, or ghosts are left",
    )
    parser.add_argument(
        "--all", action="store_true", help="list too what was handed over to other processes"
    )
    parser.add_argument(
        "-m", dest="module", metavar="MODULE", nargs=argparse.REMAINDER, help="run a module"
    )
    parser.add_argument("app", metavar="APP.py", nargs=argparse.REMAINDER, help="run a file")
    arguments = parser.parse_args()
    if not arguments.module and not arguments.app:
        parser.error("APP.py or -m MODULE is needed")
    if arguments.json and arguments.json != "-":
        arguments.json = os.path.abspath(arguments.json)  # the program may go elsewhere
    return arguments


# ---- the program ----


class _Program(NamedTuple):
    code: CodeType
    name: str  # as its sys.argv[0]
    attributes: dict[str, Any]


def _file(path: str) -> _Program:
    """As `python APP.py` has it. OSError, SyntaxError."""
    full = os.path.abspath(path)
    with io.open_code(full) as file:
        code = compile(file.read(), full, "exec", dont_inherit=True)
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(full))
    loader = importlib.machinery.SourceFileLoader("__main__", full)
    return _Program(code, path, {"__file__": full, "__loader__": loader})


def _module(name: str) -> _Program:
    """As `python -m MODULE` has it. ImportError."""
    spec, code = _private.find_module(name)
    attributes = {
        "__file__": spec.origin,
        "__loader__": spec.loader,
        "__package__": spec.parent,
        "__spec__": spec,
    }
    return _Program(code, spec.origin, attributes)


def _load(arguments: argparse.Namespace) -> _Program:
    if not arguments.module:
        return _file(arguments.app[0])
    sys.argv[0] = "-m"  # while it is looked for
    try:
        return _module(arguments.module[0])
    except ImportError as error:
        sys.exit(f"{sys.executable}: {error}")


def _main_module(program: _Program) -> types.ModuleType:
    main = types.ModuleType("__main__")
    main.__dict__.update({"__builtins__": __builtins__, "__cached__": None}, **program.attributes)
    return main


def _substitute() -> None:
    """Whatever the program calls asyncio's loop is the timed one; it has asked for that."""
    _private.make_default_loop(TimedLoop)
    finack.EventLoop = loop.EventLoop = TimedLoop  # type: ignore[misc]


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As sys.excepthook, without our own part of the traceback."""
    while trace and trace.tb_frame.f_code.co_filename.startswith((_HERE, "<frozen runpy>")):
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def main() -> None:
    """Run what the command line says. The report comes when the interpreter ends."""
    arguments = _arguments()
    sys.excepthook = _show
    try:
        program = _load(arguments)
    except OSError as error:
        print(f"{sys.executable}: can't open the program: {error}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [program.name, *(arguments.module or arguments.app)[1:]]
    _substitute()
    report = _Report(arguments.json, strict=arguments.strict, everything=arguments.all)
    # Registered before those of the program, and so called after them.
    atexit.register(report.finish)
    main = sys.modules["__main__"] = _main_module(program)
    try:
        exec(program.code, main.__dict__)
    except BaseException as error:
        report.failed = not isinstance(error, SystemExit) or error.code not in (None, 0)
        raise


# ---- the report ----


class _Slow(NamedTuple):
    seconds: float
    order: int
    receipt: Receipt
    made: Place | None

    def __str__(self) -> str:
        made = f", made at {self.made}" if self.made else ""
        phase = f" in {self.receipt.phase}" if self.receipt.phase else ""
        return (
            f"{_time(self.seconds):>8}  {self.receipt.socket}, {self.receipt.outcome}{phase}{made}"
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "made": _text(self.made),
            "receipt": self.receipt.as_dict(),
        }


def _text(place: Place | None) -> str | None:
    return str(place) if place else None


class _Report:
    def __init__(self, file: str | None, *, strict: bool, everything: bool) -> None:
        self.failed = False  # the program has said so itself
        self._file = file
        self._strict = strict
        self._everything = everything
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._outcomes: Counter[str] = Counter()
        self._slowest: list[_Slow] = []
        self._order = itertools.count()
        self._watch = Watch(threads=False)
        self._never_closed: list[Left] = []
        self._blind = ""
        recent.listen(self._note)
        loop_end.listen(self._note_left)

    def _note_left(self, found: list[Left]) -> None:
        with self._lock:
            self._never_closed += [left for left in found if left.state == NEVER_CLOSED]

    def _note(self, receipt: Receipt, made: Place | None) -> None:
        with self._lock:
            self._outcomes[receipt.outcome] += 1
            slow = _Slow(receipt.stages.get("released", 0.0), next(self._order), receipt, made)
            if len(self._slowest) < _SLOWEST:
                heapq.heappush(self._slowest, slow)
            else:
                heapq.heappushpop(self._slowest, slow)

    def finish(self) -> None:
        """Tell it; with --strict the process may end in here."""
        if os.getpid() != self._pid:
            return
        with _descriptors():
            try:
                found = self._ghosts()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                found, self._blind = [], f"what is left was not looked for: {error}"
            self._watch.close()
            self._print(found)
            self._write(found)
        wrong = found or self._never_closed or self._blind
        if wrong and self._strict and not self.failed:
            _exit(1)

    def _ghosts(self) -> list[Ghost]:
        until = time.monotonic() + _KERNEL_WAIT
        found = ghosts()
        while any(ghost.kind == "connection" for ghost in found) and time.monotonic() < until:
            time.sleep(_PAUSE)
            found = ghosts()
        known = {(ghost.kind, ghost.socket) for ghost in found}
        # What loops released is a finding of its own.
        left = [_ghost_of(left) for left in self._watch.left() if left.kind != "released"]
        return found + [ghost for ghost in left if (ghost.kind, ghost.socket) not in known]

    def _lines(self, found: list[Ghost]) -> list[str]:
        lines = self._lines_never_closed()
        outcomes = ", ".join(f"{many} {name}" for name, many in self._outcomes.most_common())
        lines.append(f"{self._outcomes.total()} closes" + (f": {outcomes}" if outcomes else ""))
        if self._slowest:
            lines.append("slowest, from close() to released:")
            lines += [f"  {slow}" for slow in sorted(self._slowest, reverse=True)]
        if found or not (self._never_closed or self._blind):
            lines.append(f"{len(found) or 'no'} ghost{'' if len(found) == 1 else 's'}")
        lines += [f"  {ghost}" for ghost in found]
        return lines + self._lines_handed_over() + self._notes()

    def _lines_never_closed(self) -> list[str]:
        if not self._never_closed:
            return []
        lines = [f"{len(self._never_closed)} never closed, and released when the loop was closed:"]
        return lines + [f"  {left}" for left in self._never_closed]

    def _handed_over(self) -> list[Ghost]:
        return [_ghost_of(left) for left in self._watch.handed_over] if self._everything else []

    def _lines_handed_over(self) -> list[str]:
        handed_over = self._handed_over()
        if not self._everything:
            return []
        return [
            f"{len(handed_over) or 'nothing'} handed over",
            *(f"  {_handed(ghost)}" for ghost in handed_over),
        ]

    def _notes(self) -> list[str]:
        notes = [_UVLOOP] if "uvloop" in sys.modules else []
        return [*notes, self._blind] if self._blind else notes

    def _print(self, found: list[Ghost]) -> None:
        if sys.stderr:
            for line in self._lines(found):
                print(f"finack: {line}", file=sys.stderr)

    def _write(self, found: list[Ghost]) -> None:
        if not self._file:
            return
        text = json.dumps(self._as_dict(found), indent=2)
        if self._file == "-":
            print(text)
            return
        try:
            with open(self._file, "w") as file:
                file.write(text + "\n")
        except OSError as error:
            print(f"finack: the report can't be written: {error}", file=sys.stderr)
            _exit(1)

    def _as_dict(self, found: list[Ghost]) -> dict[str, Any]:
        return {
            "closes": self._outcomes.total(),
            "outcomes": dict(self._outcomes.most_common()),
            "slowest": [slow.as_dict() for slow in sorted(self._slowest, reverse=True)],
            "never_closed": [_as_dict(left) for left in self._never_closed],
            "ghosts": [ghost.as_dict() for ghost in found],
            **(
                {"handed_over": [ghost.as_dict() for ghost in self._handed_over()]}
                if self._everything
                else {}
            ),
            "notes": self._notes(),
        }


@contextlib.contextmanager
def _descriptors() -> Iterator[None]:
    """A program that has used up its descriptors is one that the report is for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft + _DESCRIPTORS, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _ghost_of(left: Leftover) -> Ghost:
    facts = ["never closed", *left.facts[1:]] if left.kind == "open" else left.facts
    return Ghost(_KINDS[left.kind], left.socket, ", ".join(facts), left.fd, _text(left.made))


def _handed(ghost: Ghost) -> str:
    made = f", made at {ghost.made}" if ghost.made else ""
    return f"{ghost.socket}: {ghost.detail}{made}"


def _as_dict(left: Left) -> dict[str, Any]:
    return {
        "socket": left.name,
        "fd": left.fd,
        "made": _text(left.place),
        "server": left.server,
        "unsent": left.unsent,
    }


def _exit(status: int) -> None:
    """From an atexit function there is no other way to a status of one's own."""
    logging: Any = sys.modules.get("logging")
    if logging:
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()
    os._exit(status)
