# SPDX-License-Identifier: MIT
"""What a round of fuzz_core.py did last, where a process that died can't tell it any more.

A file that both processes map has the last operations; the rest is standard error and how it ended.
"""

import mmap
import os
import pathlib
import signal
import struct
import sys
import threading
import time
import traceback
import types
from typing import NoReturn

KEPT = 40
LINE = 100
COUNT = struct.Struct("Q")
SIZE = COUNT.size + KEPT * LINE
SHOWN = 6000  # characters of standard error
SYSTEM_ERROR = 4  # the status of a process in which one came where nobody catches it
WITH_CODE = (types.FunctionType, types.MethodType)
BUILT_IN = (types.BuiltinFunctionType, types.MethodWrapperType)


def name_of(call: object) -> str | None:
    """What is called, without a question to the object itself: it may answer by other calls."""
    kind = type(call)
    if kind in WITH_CODE:
        code = call.__code__  # type: ignore[attr-defined]
        return f"{os.path.basename(code.co_filename)}:{code.co_firstlineno} {code.co_name}"
    if kind in BUILT_IN:
        return str(call.__qualname__)  # type: ignore[attr-defined]
    if kind is tuple and call:
        return name_of(call[0])  # type: ignore[index]
    return None


class Notes:
    """The last operations of a process, its threads and its children."""

    def __init__(self, folder: pathlib.Path) -> None:
        with open(folder / "notes", "r+b") as file:
            self.map = mmap.mmap(file.fileno(), SIZE)
        self.begun = time.monotonic()
        self.pid = os.getpid()

    def note(self, call: object) -> None:
        name = name_of(call)
        if name is None:
            return
        (count,) = COUNT.unpack_from(self.map)
        who = "" if threading.current_thread() is threading.main_thread() else "in a thread "
        who += "" if os.getpid() == self.pid else "in a child "
        line = f"{time.monotonic() - self.begun:7.3f} {who}{name}".encode()[:LINE]
        start = COUNT.size + count % KEPT * LINE
        self.map[start : start + LINE] = line.ljust(LINE)
        COUNT.pack_into(self.map, 0, count + 1)

    def lines(self) -> list[str]:
        (count,) = COUNT.unpack_from(self.map)
        starts = [COUNT.size + n % KEPT * LINE for n in range(max(0, count - KEPT), count)]
        kept = [self.map[start : start + LINE] for start in starts]
        return [line.decode(errors="replace").rstrip() for line in kept]


def begin(folder: pathlib.Path) -> None:
    """None yet."""
    (folder / "notes").write_bytes(bytes(SIZE))


def die(where: str, error: BaseException | None) -> NoReturn:
    """Of what the extension must not raise, from where nothing raises further."""
    print(f"raised {where}:", file=sys.stderr)
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(SYSTEM_ERROR)


def how(status: int | None) -> str:
    if status is None:
        return "hung"
    return f"status {status}" if status >= 0 else signal.Signals(-status).name


def shown(text: str) -> str:
    half = SHOWN // 2
    return text if len(text) <= SHOWN else f"{text[:half]}\n[...]\n{text[-half:]}"


def report(command: str, status: int | None, errors: str, notes: Notes) -> None:
    print(f"FAILED, {how(status)}: {command}", "its last operations:", *notes.lines(), sep="\n")
    print("its standard error:", shown(errors), sep="\n", flush=True)
