# SPDX-License-Identifier: MIT
"""Programs that run on a terminal, and what they print there."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\a]*\a")


def plain(text):
    """Without what moves the cursor or colors."""
    return SEQUENCE.sub("", text)


class Terminal:
    """A pseudo-terminal; what is written to it is collected by read_until()."""

    def __init__(self, columns=80, lines=500):
        self.master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)

    def close_slave(self):
        os.close(self.slave)
        self.slave = -1

    def write(self, text):
        os.write(self.master, text.encode())

    def read_until(self, done, limit=60):
        """Reads until done(text) or the end; returns the text."""
        data = b""
        until = time.monotonic() + limit
        while not done(data.decode(errors="replace")):
            ready, _, _ = select.select([self.master], [], [], max(0, until - time.monotonic()))
            assert ready, f"nothing more came after {data!r}"
            try:
                part = os.read(self.master, 65536)
            except OSError:  # EIO: nobody has the other side any more
                part = b""
            if not part:
                break
            data += part
        return data.decode(errors="replace").replace("\r\n", "\n")


def environment(**changes):
    """One in which a terminal can show everything, with changes; None removes a variable."""
    variables = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": None, **changes}
    return {name: value for name, value in variables.items() if value is not None}


def run_on_terminal(args, columns=80, streams=("stdout",), **changes):
    """Runs a program with those streams on a terminal; returns (exit status, what it printed)."""
    with Terminal(columns) as terminal:
        kwargs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        kwargs.update(dict.fromkeys(streams, terminal.slave))
        process = subprocess.Popen(args, stdin=subprocess.DEVNULL, env=environment(**changes),
                                   **kwargs)
        terminal.close_slave()
        text = terminal.read_until(lambda _: False)
        return process.wait(60), text
