# SPDX-License-Identifier: MIT
"""A report of the loops on a signal, for programs that nobody can attach to."""

import os
import signal
from types import FrameType
from typing import Any

from finack._report.survey import survey
from finack._sockets.describe import describe, state

_Entry = dict[str, Any]


def report_on(signum: int, fd: int = 2) -> None:
    """Write what all loops have open to `fd`, whenever the signal comes.

    One line for each connection, server and pipe: its state, the task that waits for it or has it,
    and where, its descriptor, bytes unsent, protocol. It is what `finack attach` prints, without
    what that learns from outside the process; it works on every loop and release. The signal wakes
    a loop that waits; if the main thread is inside a call of C, it reports once that is over.

    Call it once, in the main thread; it replaces the signal's handler. Each report stops the
    program for some milliseconds.

    ValueError: not the main thread, or there is no such signal. TypeError: `fd` is no int.

    >>> reader, writer = os.pipe()
    >>> report_on(signal.SIGUSR1, writer)
    >>> signal.raise_signal(signal.SIGUSR1)
    >>> print(os.read(reader, 65536).decode())  # doctest: +ELLIPSIS
    report of ..., Python ...
    >>> _ = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    >>> os.close(reader), os.close(writer)
    (None, None)

    Each thing that is open has a line:

    CLOSE_WAIT, held by task serve (Task-4) at app.py:41: tcp 127.0.0.1:80 -> 127.0.0.1:4711, fd 8
    """
    if not isinstance(fd, int):
        raise TypeError(f"fd must be the number of a descriptor, not {type(fd).__name__}")

    def report(_signum: int, _frame: FrameType | None) -> None:
        text = _report(survey()).encode(errors="backslashreplace")
        try:
            while text:
                text = text[os.write(fd, text) :]
        except OSError:  # nobody reads it any more, or there is no room
            pass

    signal.signal(signum, report)


def _report(said: _Entry) -> str:
    counts = ", ".join(
        f"{len(said[key])} {key if len(said[key]) != 1 else key[:-1]}"
        for key in ("loops", "connections", "servers", "pipes", "tasks")
    )
    lines = [
        f"report of {os.getpid()}, Python {said['python']}: {counts}" + ", and more" * said["cut"]
    ]
    for entry in said["connections"]:
        lines.append(_line(said, entry, state(entry["fd"]) or "open", entry))
    for server in said["servers"]:
        lines += [_line(said, one, "LISTEN", server) for one in server["sockets"]]
    lines += [_line(said, entry, "pipe", entry) for entry in said["pipes"]]
    return "\n".join([*lines, ""])


def _line(said: _Entry, entry: _Entry, what: str, owner: _Entry) -> str:
    uses = [(use["how"], said["tasks"][use["task"]]) for use in owner["tasks"]]
    tasks = " and ".join(f"task {t['coroutine']} ({t['name']}) at {t['at']}" for _, t in uses)
    how = "awaited by" if uses and uses[0][0] == "waits" else "held by"
    name = "" if what == "pipe" else describe(entry["fd"]).removesuffix(" listening") + ", "
    unsent = f", bytes unsent {entry['unsent']}" if entry.get("unsent") else ""
    facts = ", closing" * entry.get("closing", False) + ", TLS" * entry.get("tls", False)
    protocol = f", {owner['protocol']}" if owner["protocol"] else ""
    user = f"{how} {tasks}" if uses else "no task has it"
    return f"{what}, {user}: {name}fd {entry['fd']}{unsent}{facts}{protocol}"
