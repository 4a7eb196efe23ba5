# SPDX-License-Identifier: MIT
"""The extension against everything that objects can do to it: calls at random, objects that answer
by more calls, threads, signals, forks, stray closes of descriptors, and no descriptors left.

    fuzz_core.py SECONDS [SEED]

Rounds of a few seconds, each a process with a seed of its own: of what fails are shown the command
that runs the round again, the last operations (fuzz_notes.py), how it ended, and standard error.
Whatever Python may raise is fine but SystemError; the process must end by itself.
"""

import asyncio
import faulthandler
import gc
import logging
import os
import pathlib
import random
import resource
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import fuzz_notes
import fuzz_transports
from peers import Certificate

import finack
from finack import _core

ROUND = 2.0  # seconds
HUNG = 60
DEPTH = 3  # of calls from inside calls
POOL = 40
FIRST = 20  # the lowest descriptor that strays: those below are the interpreter's
WORDS = (
    *("done", "again", "skip", "broken", "failed", "answer", "end", "ready", "deadline", "abort"),
    *("nonsense", "", "\0", "\udc80"),
)

Operation = Callable[["Round"], object]


class Evil:
    """An object that answers every question by calls of its own."""

    def __init__(self, chaos: "Round") -> None:
        self.chaos = chaos

    def __del__(self) -> None:
        self.chaos.disturb()

    def __eq__(self, other: object) -> Any:
        self.chaos.disturb()
        return self.chaos.choice([True, False, False])

    def __hash__(self) -> Any:
        self.chaos.disturb()
        return self.chaos.choice([0, 1, 7])

    def __bool__(self) -> Any:
        self.chaos.disturb()
        return self.chaos.choice([True, False])

    def __repr__(self) -> Any:
        self.chaos.disturb()
        return self.chaos.choice(["evil", "\0", ""])

    def __index__(self) -> Any:
        self.chaos.disturb()
        return self.chaos.number()

    def __float__(self) -> Any:
        self.chaos.disturb()
        return self.chaos.choice([0.0, -1.0, 0.001, float("nan"), float("inf")])

    def fileno(self) -> Any:
        self.chaos.disturb()
        return self.chaos.choice([self.chaos.number(), self.chaos.number(), None, "x", self])

    def __call__(self, *args: object) -> Any:
        self.chaos.disturb()
        return self.chaos.choice([self.chaos.number(), None, self])

    def __buffer__(self, flags: int) -> memoryview:  # since CPython 3.12
        self.chaos.disturb()
        return memoryview(b"bytes")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.chaos.disturb()
        return self.chaos.thing()


class Key(Evil):
    """What a selector of somebody else's make calls a key."""

    @property
    def fd(self) -> Any:
        return self.chaos.number()

    @property
    def events(self) -> Any:
        return self.chaos.choice([1, 2, 3, self])

    @property
    def fileobj(self) -> Any:
        return self.chaos.thing()


class Wrapped(selectors.SelectSelector):
    """A selector to wrap, which does as it likes."""

    chaos: "Round"

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        self.chaos.disturb()
        if self.chaos.likely(0.3):
            return Key(self.chaos)
        return super().register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> Any:
        self.chaos.disturb()
        return super().unregister(fileobj)

    def get_map(self) -> Any:
        self.chaos.disturb()
        return self.chaos.choice([super().get_map(), {1: Key(self.chaos)}, None])

    def select(self, timeout: Any = None) -> Any:
        self.chaos.disturb()
        return []

    def close(self) -> None:
        self.chaos.disturb()
        super().close()


class Round:
    """One process's worth of calls."""

    def __init__(self, seed: int, folder: pathlib.Path) -> None:
        self.random = random.Random(seed)
        self.notes = fuzz_notes.Notes(folder)
        # Made before the rounds begin. That takes imports, and CPython's locks of modules are not
        # for one inside of another, as by __del__(): two threads would wait for each other.
        self.certificate = Certificate.of(folder)
        self.things: list[Any] = []
        self.depths = threading.local()
        self.threads = 0
        self.until = time.monotonic() + ROUND
        Wrapped.chaos = self

    # ---- choices ----

    def choice(self, things: Any) -> Any:
        chosen = self.random.choice(things)
        self.notes.note(chosen)
        return chosen

    def likely(self, chance: float) -> bool:
        return self.random.random() < chance

    def thing(self, kind: Any = object) -> Any:
        fitting = [thing for thing in list(self.things) if issubclass(type(thing), kind)]
        return self.choice(fitting) if fitting and self.likely(0.95) else None

    def evil(self) -> Any:
        return Evil(self)

    def number(self) -> Any:
        """A descriptor, mostly."""
        sock = self.thing(socket.socket)
        odd = self.choice([-1, 10**4, 2**31, 2**70, FIRST + self.random.randrange(60)])
        return sock.fileno() if sock and self.likely(0.9) else odd

    def file(self) -> Any:
        return self.choice([self.thing(socket.socket), self.number(), Evil(self), self.thing()])

    def policy(self) -> Any:
        policy = finack.Policy(
            courtesy=self.choice(["abort", "prompt", "orderly", "full"]),
            scope=self.choice(["default", "connection", "descriptor"]),
            proof=self.choice(["released", "unreferenced", "finished"]),
            total=self.choice([0, 0.001, 0.02]),
            linger=self.choice([0, 0.01]),
            proof_wait=0.001,
        )._as_tuple()
        if self.likely(0.1):
            wrong = list(policy)
            wrong[self.random.randrange(len(wrong))] = self.choice([Evil(self), -1, 2**40, None])
            return self.choice([tuple(wrong), wrong, None])
        return policy

    def keep(self, thing: Any) -> None:
        if len(self.things) >= POOL:
            self.things[self.random.randrange(len(self.things))] = thing
        else:
            self.things.append(thing)

    # ---- calls ----

    def disturb(self) -> None:
        """From inside a call: others, now and then."""
        depth = getattr(self.depths, "now", 0)
        if depth < DEPTH and self.likely(0.3) and time.monotonic() < self.until:
            self.depths.now = depth + 1
            try:
                self.step()
            finally:
                self.depths.now = depth
        if self.likely(0.05):
            raise self.choice([ValueError, OSError, AttributeError, KeyError])("evil")

    def step(self) -> None:
        try:
            made = self.choice(OPERATIONS)(self)
        except SystemError:
            raise
        except Exception:
            return
        if made is not None:
            self.keep(made)

    def run(self) -> None:
        while time.monotonic() < self.until:
            self.step()


# ---- what is called ----


def pair(chaos: Round) -> Any:
    ours, theirs = socket.socketpair()
    chaos.keep(theirs)
    return ours


def tcp(chaos: Round) -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), 0.1)
        chaos.keep(listener.accept()[0])
        if chaos.likely(0.3):
            chaos.keep(listener.dup())
    return ours


def stray(chaos: Round) -> None:
    """Somebody closes what isn't theirs: a socket, a set, a copy that a close made for itself."""
    number = chaos.number()
    if number >= FIRST:
        os.close(number)


def begin_close(chaos: Round) -> Any:
    closes = chaos.thing(_core.CloseSet)
    sock = chaos.thing(socket.socket)
    fd = os.dup(sock.fileno())
    owner = chaos.choice([None, Evil(chaos), "mine"])
    lent = chaos.likely(0.1)
    try:
        return _core.Close(closes, fd, chaos.policy(), owner, chaos.likely(0.5), False, None, lent)
    except BaseException:
        lent = True
        raise
    finally:
        if lent:
            with suppress(OSError):
                os.close(fd)


def tell(chaos: Round) -> Any:
    return (
        chaos.thing(_core.Close).tell(
            chaos.choice(WORDS), chaos.choice([0, 1, Evil(chaos)]), 0, chaos.likely(0.5)
        )
        and None
    )


def drive(chaos: Round) -> None:
    """Forward, as a driver does."""
    close = chaos.thing(_core.Close)
    step = close.run()
    if step != "finish":
        close.tell({"wait": "deadline", "read": "end", "notify": "skip"}.get(step, "done"))


def look(chaos: Round) -> None:
    close = chaos.thing(_core.Close)
    for name in ("left", "held", "identity", "stream"):
        getattr(close, name)
    chaos.choice([close.receipt, close.error, close.fileno, close.note_answer, close.lose])()


def selector(chaos: Round) -> Any:
    return finack.ProxySelector(
        *chaos.choice([(), (), (Wrapped(),), (selectors.PollSelector(),), (Evil(chaos),)])
    )


def begin_again(chaos: Round) -> Any:
    made = finack.ProxySelector.__new__(finack.ProxySelector)
    chaos.keep(made)
    type(made).__init__(made, chaos.choice([None, Wrapped(), Evil(chaos)]))


def register(chaos: Round) -> None:
    made = chaos.thing(finack.ProxySelector)
    call = chaos.choice([made.register, made.register, made.modify])
    call(chaos.file(), chaos.choice([1, 2, 3, 0, Evil(chaos)]), Evil(chaos))


def find(chaos: Round) -> None:
    made = chaos.thing(finack.ProxySelector)
    chaos.choice([made.unregister, made.get_key])(chaos.file())


def search(chaos: Round) -> None:
    mapping = chaos.thing(finack.ProxySelector).get_map()
    chaos.choice(
        [
            lambda: mapping[chaos.file()],
            lambda: mapping.get(chaos.file(), Evil(chaos)),
            lambda: chaos.file() in mapping,
            lambda: list(mapping.items()),
            lambda: mapping == {chaos.file(): Evil(chaos)},
            lambda: len(mapping),
            lambda: hash(mapping),
        ]
    )()


def select(chaos: Round) -> None:
    chaos.thing(finack.ProxySelector).select(chaos.choice([0, 0.001, -1, Evil(chaos)]))


def observe(chaos: Round) -> None:
    made = chaos.thing(finack.ProxySelector)
    chaos.choice([made.add_observer, made.add_observer, made.remove_observer])(
        chaos.choice([Evil(chaos), chaos.thing(Evil), chaos.thing()])
    )


def functions(chaos: Round) -> None:
    call, *arguments = chaos.choice(
        [
            (_core.identify, chaos.number()),
            (_core.is_same, chaos.number(), chaos.choice([(0, 0, 0), (1, 2, Evil(chaos))])),
            (_core.holders, (0, 0, 1)),
            (_core.examine, chaos.number(), chaos.policy()),
            (_core.reset, chaos.number()),
            (_core.handed, chaos.number()),
            (_core.taken, chaos.number()),
            (_core.inside, chaos.number()),
            (_core.reap,),
            (_core.stale_registrations,),
        ]
    )
    call(*arguments)


def close_now(chaos: Round) -> None:
    sock = chaos.thing(socket.socket)
    if sock:
        _core.close(chaos.choice([sock.detach, sock.detach(), Evil(chaos)]), chaos.policy())
        if sock.fileno() >= 0 and chaos.likely(0.1):  # it may take its time
            _core.release(sock.detach(), 0.0, Evil(chaos), [])


def wait(chaos: Round) -> Any:
    witness = chaos.thing(_core.Witness)
    return chaos.choice([witness.add, witness.held])(chaos.choice([chaos.number(), Evil(chaos)]))


def make_loop(chaos: Round) -> Any:
    """Each with calls to come: its own selector, or one that does as it likes."""
    loop = Loop(chaos.choice([None, None, None, Wrapped(), finack.ProxySelector(Wrapped())]))
    stop_soon(loop)
    return loop


def stop_soon(loop: Any) -> None:
    """Again and again: a turn in between may use up the stop that a caller of run_forever() set."""
    loop.stop()
    loop.call_later(0.05, stop_soon, loop)


class Loop(finack.EventLoop):
    """At whose end nothing runs: a program would be."""

    def close(self) -> None:
        if not self.is_running():
            asyncio.SelectorEventLoop.close(self)

    def call_exception_handler(self, context: Any) -> None:
        pass


def use_loop(chaos: Round) -> Any:
    loop, call, file = chaos.thing(Loop), Evil(chaos), chaos.file()
    more = [Evil(chaos)] * chaos.choice([0, 1, 3, 5])
    wanted: Callable[[], Any] = chaos.choice(
        [
            lambda: loop.call_soon(call, *more),
            lambda: loop.call_soon_threadsafe(call, *more),
            lambda: loop.call_later(chaos.choice([0, 0.001, Evil(chaos)]), call, *more),
            lambda: loop.call_at(chaos.choice([0, 0.001, Evil(chaos)]), call, *more),
            lambda: loop.call_soon(call, context=chaos.choice([None, Evil(chaos)])),
            lambda: loop._add_reader(file, call, *more),
            lambda: loop._add_writer(file, call, *more),
            lambda: loop._remove_reader(file) and None,
            lambda: loop._remove_writer(file) and None,
            lambda: loop.create_future(),
            lambda: loop.stop(),
            lambda: loop.set_debug(chaos.choice([True, False, Evil(chaos)])),
            lambda: setattr(loop, "_selector", chaos.thing(finack.ProxySelector)),
            lambda: setattr(loop, "_closed", Evil(chaos)),
            lambda: list(loop._ready) and None,
            lambda: loop._ready.clear(),
            lambda: loop._ready.pop() and None,
            lambda: loop._ready.append(chaos.choice([call, chaos.thing(asyncio.Handle)])),
            lambda: loop._scheduled and None,
            lambda: chaos.thing(asyncio.Handle).cancel(),
            lambda: repr(chaos.thing(asyncio.Handle)) and None,
            lambda: chaos.thing(asyncio.Handle)._run(),
            lambda: chaos.thing(asyncio.TimerHandle) < chaos.thing(asyncio.TimerHandle),
            lambda: chaos.thing(asyncio.Handle).__init__(call, more, loop),
            lambda: loop._add_callback(chaos.thing(asyncio.Handle)),
        ]
    )
    made = wanted()
    return made if isinstance(made, asyncio.Handle | asyncio.Future) else None


def turn_loop(chaos: Round) -> None:
    """One turn, which does not wait unless another thread takes part."""
    if chaos.threads:
        return
    loop = chaos.thing(Loop)
    loop.stop()
    chaos.choice([loop.run_forever, loop._run_once])()


def end(chaos: Round) -> None:
    kind = chaos.choice([socket.socket, _core.CloseSet, _core.Witness, finack.ProxySelector, Loop])
    chaos.thing(kind).close()


def drop(chaos: Round) -> None:
    if chaos.things:
        chaos.things.pop(chaos.random.randrange(len(chaos.things)))


def collect(chaos: Round) -> None:
    gc.set_threshold(chaos.choice([1, 1, 50, 700]))
    if chaos.likely(0.1):
        gc.collect()


def fork(chaos: Round) -> None:
    if chaos.threads or chaos.likely(0.9):
        return
    child = os.fork()
    if not child:
        run_child(chaos)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended:
        print("of a forked child:", fuzz_notes.how(ended), file=sys.stderr)
        os._exit(3)


def run_child(chaos: Round) -> NoReturn:
    chaos.until = time.monotonic() + 0.05
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        chaos.run()
    except SystemError as error:
        fuzz_notes.die("in a forked child", error)
    except BaseException:
        traceback.print_exc()
        os._exit(5)
    os._exit(0)


OPERATIONS: list[Operation] = [
    *(3 * [pair, begin_close, register, find, search, select, drive, look, tell]),
    *(2 * [observe, selector, drop, tcp]),
    *(3 * [use_loop]),
    *(4 * [turn_loop]),
    *(5 * [make_loop]),
    lambda chaos: _core.CloseSet(),
    lambda chaos: _core.Witness(),
    lambda chaos: Evil(chaos),
    lambda chaos: chaos.thing(_core.CloseSet).fileno() and None,
    lambda chaos: chaos.thing(_core.CloseSet).poll() and None,
    lambda chaos: chaos.thing(_core.CloseSet).poll() and None,
    lambda chaos: chaos.thing(_core.Close).entomb(chaos.number()),
    begin_again,
    functions,
    close_now,
    wait,
    end,
    collect,
    stray,
    fork,
    *fuzz_transports.OPERATIONS,
]

# ---- one round, and all ----


def no_system_error(args: Any) -> None:
    """What a thread raises, and what can't be raised."""
    if isinstance(args.exc_value, SystemError):
        fuzz_notes.die("where it is only noted", args.exc_value)


def prepare() -> None:
    faulthandler.enable()
    faulthandler.dump_traceback_later(HUNG - 10, exit=True)
    warnings.simplefilter("ignore")
    logging.disable()
    sys.unraisablehook = threading.excepthook = no_system_error
    socket.setdefaulttimeout(0.05)


def run_round(seed: int, folder: pathlib.Path) -> None:
    prepare()
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(FIRST)]  # the low numbers are taken
    chaos = Round(seed, folder)
    chaos.threads = chaos.choice([0, 0, 2])
    if chaos.likely(0.5):
        resource.setrlimit(resource.RLIMIT_NOFILE, (chaos.choice([80, 200, 1000]), 4096))
    threads = [threading.Thread(target=chaos.run) for _ in range(chaos.threads)]
    if chaos.likely(0.5):
        signal.signal(signal.SIGALRM, lambda *_: chaos.step())
        signal.setitimer(signal.ITIMER_REAL, 0.013, 0.013)
    for thread in threads:
        thread.start()
    chaos.run()
    signal.setitimer(signal.ITIMER_REAL, 0)
    for thread in threads:
        thread.join()
    del spare
    chaos.things.clear()
    gc.collect()


def run_one(seed: int, allocator: str, folder: pathlib.Path) -> bool:
    """In a process of its own; was it fine?"""
    fuzz_notes.begin(folder)
    command = [sys.executable, __file__, "--round", str(seed)]
    search = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            [*command, str(folder)],
            env={**os.environ, "PYTHONMALLOC": allocator, "PYTHONPATH": search},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        status: int | None = None
        try:
            status = process.wait(2 * HUNG)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if status != 0:
            errors.seek(0)
            again = shlex.join(["env", f"PYTHONMALLOC={allocator}", *command])
            fuzz_notes.report(again, status, errors.read(), fuzz_notes.Notes(folder))
    return status == 0


def run_all(seconds: float, seed: int, folder: pathlib.Path) -> int:
    until, rounds, failed = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        failed += not run_one(seed + rounds, ("debug", "default")[rounds % 2], folder)
        rounds += 1
    print(f"{rounds - failed} rounds fine, {failed} failed, from seed {seed}")
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    if arguments[0] == "--round" and len(arguments) > 2:
        run_round(int(arguments[1]), pathlib.Path(arguments[2]))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        Certificate.make(folder)
        # Whoever builds the package meanwhile takes it away for a moment.
        shutil.copytree(pathlib.Path(finack.__file__).parent, folder / "finack")
        if arguments[0] == "--round":
            return 1 - run_one(int(arguments[1]), os.environ.get("PYTHONMALLOC", "default"), folder)
        return run_all(float(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 1, folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
