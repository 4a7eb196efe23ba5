# SPDX-License-Identifier: MIT
"""What the loops of this process have open, and which tasks use it.

`finack attach` runs this text in programs that have never heard of finack: it imports what every
interpreter has loaded, keeps nothing, changes nothing, and looks at no more than a part of what is
there if there is too much. report_on() runs it in this process.
"""

from __future__ import annotations

import gc
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST = 10_000  # of each kind, and objects that are looked at for one task
_SECONDS = 2.0  # for the tasks
_COROUTINE = 0x80 | 0x100 | 0x200  # or a generator that is one, or an asynchronous one
_INNER = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "FutureIter")
_STDLIB = os.path.dirname(os.__file__) + os.sep
_LIBRARIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def _try(call: Any, *args: Any) -> Any:
    """None if it fails: what is looked at may be half made, or of any making."""
    try:
        return call(*args)
    except Exception:
        return None


def _ask(thing: Any, name: str, *args: Any) -> Any:
    """What a method says; None: it has none, or fails."""
    return _try(lambda: getattr(thing, name)(*args))


def _kind(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__qualname__}"


def _judge(kind: type) -> str:
    """What objects of a type are to us."""
    if any(hasattr(kind, name) for name in ("run_forever", "select")):
        return "loop" if hasattr(kind, "call_soon") else ""
    if hasattr(kind, "get_extra_info"):
        transport = hasattr(kind, "get_protocol") or hasattr(kind, "_call_connection_lost")
        return "transport" if transport else "writer" * hasattr(kind, "transport")
    return "server" * (hasattr(kind, "get_loop") and hasattr(kind, "sockets"))


def _find() -> dict[str, list[Any]]:
    """All loops, transports, writers and servers that there are."""
    kinds: dict[type, str] = {}
    found: dict[str, list[Any]] = {"loop": [], "transport": [], "writer": [], "server": []}
    for x in gc.get_objects():
        kind = type(x)
        judged = kinds.get(kind)
        if judged is None:
            judged = kinds[kind] = _try(_judge, kind) or ""
        if judged and len(found[judged]) < 2 * _MOST:
            found[judged].append(x)
    return found


def _where(fd: Any) -> dict[str, int] | None:
    """A descriptor and what it refers to; None: it is closed."""
    try:
        return {"fd": fd, "inode": os.fstat(fd).st_ino} if fd >= 0 else None
    except (OSError, TypeError):
        return None


class _Survey:
    def __init__(self) -> None:
        self.until = time.monotonic() + _SECONDS
        self.cut = False
        self.found = _find()
        self.loops = [loop for loop in self.found["loop"] if not _ask(loop, "is_closed")]
        self.number = {id(loop): i for i, loop in enumerate(self.loops)}
        self.entries: dict[tuple[int, int], dict[str, Any]] = {}  # by descriptor and inode
        self.of: dict[int, dict[str, Any]] = {}  # by id() of what belongs to an entry
        self.kept: list[Any] = []  # so that no other gets that id()
        self.servers: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []

    def own(self, thing: Any, entry: dict[str, Any]) -> None:
        if thing is not None and id(thing) not in self.of:
            self.kept.append(thing)
            self.of[id(thing)] = entry

    # ---- connections and pipes ----

    def add_transport(self, transport: Any) -> None:
        sock, pipe = (_ask(transport, "get_extra_info", name) for name in ("socket", "pipe"))
        where = _where(_ask(sock if sock is not None else pipe, "fileno"))
        if where is None or len(self.entries) >= _MOST:
            self.cut |= where is not None
            return
        protocol = _ask(transport, "get_protocol") or getattr(transport, "_protocol", None)
        entry = self.entries.setdefault(
            (where["fd"], where["inode"]),
            {
                **where,
                "what": "connection" if sock is not None else "pipe",
                "loop": None,
                "closing": False,
                "unsent": 0,
                "protocol": None,
                "tls": False,
                "tasks": [],
            },
        )
        entry["closing"] |= bool(_ask(transport, "is_closing"))
        entry["unsent"] += _ask(transport, "get_write_buffer_size") or 0
        loop = getattr(transport, "_loop", None) or getattr(protocol, "_loop", None)
        if entry["loop"] is None:
            entry["loop"] = self.number.get(id(loop), 0 if len(self.loops) == 1 else None)
        if type(protocol).__name__ == "SSLProtocol":
            entry["tls"] = True
        elif protocol is not None:
            entry["protocol"] = _kind(protocol)
        for thing in (
            transport,
            sock,
            getattr(sock, "_sock", None),
            protocol,
            getattr(protocol, "_stream_reader", None),
        ):
            self.own(thing, entry)

    def add_futures(self) -> None:
        """What a task waits for is in the protocol, or in what it has."""
        for thing in list(self.kept):
            for value in list(getattr(thing, "__dict__", {}).values()):
                several = type(value).__name__ in ("deque", "list", "set")
                for future in list(value)[:_MOST] if several else (value,):
                    if hasattr(type(future), "add_done_callback") and not _ask(future, "done"):
                        self.own(future, self.of[id(thing)])

    def add_server(self, server: Any) -> None:
        places = [_where(_ask(sock, "fileno")) for sock in server.sockets or ()]
        protocol = getattr(server, "_protocol_factory", None)
        entry = {
            "loop": self.number.get(id(_ask(server, "get_loop"))),
            "sockets": [place for place in places if place],
            "protocol": getattr(protocol, "__qualname__", None),
            "tasks": [],
        }
        self.own(server, entry)
        self.own(getattr(server, "_serving_forever_fut", None), entry)
        if entry["sockets"]:
            self.servers.append(entry)

    # ---- tasks ----

    def add_task(self, task: Any, loop: int) -> None:
        if len(self.tasks) >= _MOST or time.monotonic() > self.until:
            self.cut = True
            return
        chain = _chain(_ask(task, "get_coro"))
        frames = [frame for _, frame in chain]
        inside = (
            _running(frames[-1], getattr(self.loops[loop], "_thread_id", None)) if chain else []
        )
        at, inner = _places([*frames, *inside[1:]])
        coroutine = getattr(_ask(task, "get_coro"), "__qualname__", None)
        self.tasks.append(
            {
                "name": str(_ask(task, "get_name")),
                "coroutine": coroutine,
                "at": at,
                "waits": inner,
                "loop": loop,
            }
        )
        index, future = len(self.tasks) - 1, getattr(task, "_fut_waiter", None)
        waited = self.of.get(id(future))
        if waited is not None:
            waited["tasks"].append({"task": index, "how": "waits", "far": 0})
        holders = [coroutine for coroutine, _ in chain] + [_values(frame) for frame in inside]
        for entry, far in self.reach(holders, id(task)).values():
            if entry is not waited:
                entry["tasks"].append({"task": index, "how": "has", "far": far})

    def reach(self, holders: list[Any], task: int) -> dict[int, tuple[dict[str, Any], int]]:
        """The entries that variables of a task lead to, and in how many steps."""
        found: dict[int, tuple[dict[str, Any], int]] = {}
        seen, level = {task, *map(id, holders)}, holders
        for far in range(3):
            level = [value for x in level for value in gc.get_referents(x)][:_MOST]
            following = []
            for value in level:
                if id(value) in seen:
                    continue
                seen.add(id(value))
                entry = self.of.get(id(value))
                if entry is not None:
                    found.setdefault(id(entry), (entry, far))
                elif _leads_on(value):
                    following.append(value)
            level = following
        return found

    # ---- all ----

    def collect(self) -> dict[str, Any]:
        for transport in self.found["transport"]:
            self.add_transport(transport)
        for writer in self.found["writer"]:
            entry = self.of.get(id(getattr(writer, "transport", None)))
            if entry is not None:
                self.own(writer, entry)
        for server in self.found["server"]:
            self.add_server(server)
        self.add_futures()
        asyncio = sys.modules.get("asyncio")
        for i, loop in enumerate(self.loops if asyncio else ()):
            for task in _ask(asyncio, "all_tasks", loop) or ():
                self.add_task(task, i)
        return {
            "python": "{}.{}.{}".format(*sys.version_info),
            "loops": [_describe_loop(loop) for loop in self.loops],
            "connections": self.those("connection"),
            "pipes": self.those("pipe"),
            "servers": [_nearest(entry) for entry in self.servers],
            "tasks": self.tasks,
            "cut": self.cut,
        }

    def those(self, what: str) -> list[dict[str, Any]]:
        found = [entry for entry in self.entries.values() if entry["what"] == what]
        return [{k: v for k, v in _nearest(entry).items() if k != "what"} for entry in found]


def _nearest(entry: dict[str, Any]) -> dict[str, Any]:
    """Who waits for it; else those that are no farther than others."""
    waiting = [use for use in entry["tasks"] if use["how"] == "waits"]
    least = min((use["far"] for use in entry["tasks"]), default=0)
    uses = waiting or [use for use in entry["tasks"] if use["far"] == least]
    return {**entry, "tasks": [{"task": use["task"], "how": use["how"]} for use in uses]}


def _leads_on(x: Any) -> bool:
    """Containers, and objects of the program's: no code, no loop, no other task."""
    kind = type(x)
    if kind in (list, tuple, set, dict) or kind.__name__ in ("deque", "method"):
        return True
    if kind.__module__ in ("builtins", "types") or issubclass(kind, type):
        return False
    return not any(hasattr(kind, name) for name in ("call_soon", "add_done_callback", "get_loop"))


def _next(awaited: Any) -> Any:
    """The coroutine or generator that another one waits for; None: it is something else."""
    if type(awaited).__name__ in _INNER:
        inner = [x for x in gc.get_referents(awaited) if _frame(x) is not None]
        return inner[0] if inner else None
    return awaited if _frame(awaited) is not None else None


def _frame(coroutine: Any) -> Any:
    for name in ("cr_frame", "gi_frame", "ag_frame"):
        frame = getattr(coroutine, name, None)
        if frame is not None:
            return frame
    return None


def _chain(coroutine: Any) -> list[tuple[Any, Any]]:
    """From the outermost coroutine of a task to the innermost, with their frames."""
    found: list[tuple[Any, Any]] = []
    while coroutine is not None and len(found) < 100 and (frame := _frame(coroutine)) is not None:
        found.append((coroutine, frame))
        awaited = [
            getattr(coroutine, name, None) for name in ("cr_await", "gi_yieldfrom", "ag_await")
        ]
        coroutine = _next(next((x for x in awaited if x is not None), None))
    return found


def _running(outermost: Any, thread: Any) -> list[Any]:
    """A task that runs just now: the frames of its coroutines, from that one on; else none.

    Neither the coroutines themselves nor the collector tell of them then.
    """
    frame, found = (_ask(sys, "_current_frames") or {}).get(thread), []
    while frame is not None:
        if frame.f_code.co_flags & _COROUTINE:
            found.append(frame)
        if frame is outermost:
            return found[::-1]
        frame = frame.f_back
    return []


def _values(frame: Any) -> list[Any]:
    """What its variables are. Before 3.13 to ask renews the copy that locals() gave the program."""
    return list(frame.f_locals.values()) if sys.version_info >= (3, 13) else []


def _places(frames: list[Any]) -> tuple[str | None, str | None]:
    """The innermost line of the program, else of a library, else any; and the innermost line."""
    lines: list[tuple[int, str]] = []
    for frame in frames:
        file = frame.f_code.co_filename
        library = any(part in file for part in _LIBRARIES)
        rank = 1 if library else 2 if not file.startswith((_STDLIB, "<frozen")) else 0
        lines.append((rank, f"{file}:{frame.f_lineno}"))
    if not lines:
        return None, None
    best = max(rank for rank, _ in lines)
    return [line for rank, line in lines if rank == best][-1], lines[-1][1]


def _describe_loop(loop: Any) -> dict[str, Any]:
    threads = _ask(sys.modules.get("threading"), "enumerate") or ()
    names = {thread.ident: thread.name for thread in threads}
    running = bool(_ask(loop, "is_running"))
    ident = getattr(loop, "_thread_id", None)
    return {
        "kind": _kind(loop),
        "running": running,
        "thread": names.get(ident) if ident is not None else None,
    }


def survey() -> dict[str, Any]:
    """Loops, connections, pipes, servers and tasks, of names and numbers alone."""
    return _Survey().collect()


# ---- for finack attach ----


def _json(value: Any) -> str:
    """The package json may not be loaded, and would stay."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json(str(k))}:{_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return '"' + "".join(map(_character, str(value))) + '"'


def _character(c: str) -> str:
    if " " <= c <= "~" and c not in '"\\':
        return c
    code = ord(c)
    if code < 0x10000:
        return "?" if 0xD800 <= code < 0xE000 else f"\\u{code:04x}"
    return f"\\u{0xD800 + (code - 0x10000 >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def answer(path: str) -> None:
    """Write the survey into a file that is there; if it is not, nobody waits for it any more."""
    try:
        text = _json(survey())
    except BaseException as error:
        text = _json({"error": f"{type(error).__name__}: {error}"})
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        data = (text + "\n").encode()
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass
    finally:
        os.close(fd)
