#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs what the pages show, as a reader would.

usage: run.py LOG PAGE...                       as ./dev does: finack in PATH, importable, and for pkg-config
       run.py --clean SUITE TARBALL LOG PAGE... in a fresh Debian of that suite, in a checkout: by what the
                                                page itself says of the installation

A page is one folder. A fenced block ``LANGUAGE file=NAME`` is written to NAME. A ``console`` block is
run by a shell, line by line; what stands below a `$ command` is what it prints, where numbers may
and spaces may differ, `...` in a line stands for anything, and a line `...` for any lines. A command must
end with 0; with ``exit=1`` the block's last one with 1. ``console clean`` installs: it is run with --clean
alone, and may print what it likes. ``python facts`` is run as it is: each line that it prints stands in its
comments. ``sh`` has commands of ./dev, which are no reader's. Blocks ``text`` are no code. No other block is
without a file, and what directives show is made from what other tests run.

LOG gets a line for each block, as Meson's testlog.json has it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BLOCK = re.compile(r"^```([^\s`]*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"\n\n((?: {4,}|\t)\S[^\n]*)\n")
EXAMPLE = re.compile(r"(\.\./)+examples/[\w/.]+$")  # tests/system/test_examples.py runs each
MADE = ("{ladder}", "{man-page}", "{toctree}", "{eval-rst}")  # when the site is built
MARK = "--- end of command "
NAP = re.compile(r"(?<!& )\bsleep [\d$]|& sleep (?!1\b)")
LIMIT_S = 600  # of a block
# Of one that installs: packages are fetched, and the project is compiled twice. On a machine that four
# others kept busy this took more than 600 s; it hangs only if it takes much longer.
INSTALL_LIMIT_S = 1800
ROOT = Path(__file__).resolve().parent.parent.parent
CHECKOUT = "/root/finack"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # of this machine, by which pip knows its index
KNOWN = "/mnt/certificates"  # a copy of it is there inside: packages write their own into /etc
NUMBER = re.compile(r"\d+(\.\d+)?(us|ms|s)?\b")
HELPERS = """
sleep() { # 1: until what was started last listens, which a reader gives a second
    if [ "$1" != 1 ]; then command sleep "$@"; return; fi
    python3 - "$!" <<'PYTHON'
import pathlib, sys, time

def parent(pid):
    return (pid / "stat").read_text().rpartition(")")[2].split()[1]

def family(first):
    known = {first}
    for pid in sorted(pathlib.Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if parent(pid) in known:
                known.add(pid.name)
        except OSError:  # it has ended
            continue
    return known

def sockets(pid):
    try:
        return {str(fd.readlink()) for fd in pathlib.Path("/proc", pid, "fd").iterdir()}
    except OSError:
        return set()

def listening():
    rows = [row.split() for name in ("tcp", "tcp6")
            for row in pathlib.Path("/proc/net", name).read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}

limit = time.monotonic() + 60
while time.monotonic() < limit and pathlib.Path("/proc", sys.argv[1]).exists():
    if listening() & set().union(*map(sockets, family(sys.argv[1]))):
        sys.exit(0)
    time.sleep(0.02)
sys.exit("what was started last does not listen")
PYTHON
}
timeout() { # -s INT SECONDS COMMAND: SECONDS from where it listens, however long it takes to start
    if [ "$1 $2" != "-s INT" ]; then command timeout "$@"; return; fi
    setsid env --default-signal=INT "${@:4}" &
    sleep 1 && command sleep "$3"
    kill -INT -- "-$!" && wait "$!"
}
"""


def same(wanted, got):
    """Whether two lines are the same but for numbers, spaces, and what `...` stands for."""
    wanted, got = (" ".join(NUMBER.sub("N", line).split()) for line in (wanted, got))
    return re.fullmatch(re.escape(wanted).replace(r"\.\.\.", ".*"), got)


def matches(wanted, got):
    """Line by line; a line `...` takes any number."""
    if not wanted:
        return not got
    if wanted[0].strip() == "...":
        return any(matches(wanted[1:], got[n:]) for n in range(len(got) + 1))
    return bool(got) and bool(same(wanted[0], got[0])) and matches(wanted[1:], got[1:])


def commands(text):
    """[(command, lines wanted)]"""
    found = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


class Page:
    """A folder, and a shell that stays: what it starts behind itself ends with the page."""

    def __init__(self, folder, clean=None):
        self.folder, self.clean = folder, clean
        shell = ["bash"]
        if clean:
            self.known = tempfile.TemporaryDirectory(prefix="finack-docs-")
            shutil.copy(CERTIFICATES, self.known.name)
            shell = [ROOT / "scripts/clean-root", "-w", f"{folder}:{CHECKOUT}",
                     "-b", f"{self.known.name}:{KNOWN}", clean, "bash"]
        self.shell = subprocess.Popen(shell, cwd=folder, text=True, start_new_session=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.serial = 0
        if clean:
            self.write(f"cd {CHECKOUT}; export PIP_CERT={KNOWN}/ca-certificates.crt\n")
        self.write(HELPERS)

    def write(self, text):
        self.shell.stdin.write(text)
        self.shell.stdin.flush()

    def run(self, command):
        """(exit status, lines)"""
        self.serial += 1
        mark = f"{MARK}{self.serial} "
        self.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s%s\\n' '{mark}' $?\n")
        lines = []
        for line in self.shell.stdout:
            if line.startswith(mark):
                return int(line[len(mark):]), lines[:-1] if lines[-1] == "" else lines
            lines.append(line.rstrip("\n"))
            if line.startswith(MARK):  # of one that took too long
                lines.clear()
        raise AssertionError(f"{command}: the shell ended")

    def end(self):
        self.shell.stdin.close()
        if not self.clean:  # else all processes end with the first one of the root
            os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.wait()
        self.shell.stdout.close()
        if self.clean:
            self.known.cleanup()


def run_console(page, text, expected, any_output):
    listed = commands(text)
    for number, (command, wanted) in enumerate(listed, 1):
        assert not NAP.search(command), f"$ {command}\nwaits by the clock"
        status, got = page.run(command)
        assert status == (expected if number == len(listed) else 0), \
            f"$ {command}\nexit status {status}\n" + "\n".join(got)
        assert any_output or matches(wanted, got), \
            f"$ {command}\nprinted\n" + "\n".join(got) + "\nnot\n" + "\n".join(wanted)


def run_facts(page, text):
    """What is printed is in the comments, line by line; several of one may stand behind each other."""
    (page.folder / "piece.py").write_text(text, encoding="utf-8")
    status, got = page.run("python3 piece.py")
    assert status == 0 and got, f"exit status {status}, printed\n" + "\n".join(got)
    told = " ".join(" ".join(re.findall(r"# (.*)", text)).split())
    for line in got:
        assert re.search(rf"(?<!\S){re.escape(line)}(?=[\s,:;]|$)", told), \
            f"printed\n{line}\nand the comments say\n{told}"


def show(language, rest, path):
    """Of a directive: whether what it shows is tested elsewhere."""
    if language == "{literalinclude}":
        file = (path.parent / rest.strip()).resolve()
        assert EXAMPLE.fullmatch(rest.strip()) and file.exists(), f"{rest} is no example"
    else:
        assert language in MADE, f"a block of {language} that nothing runs"


def run_block(page, path, language, rest, text):
    words = rest.split()
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if language.startswith("{"):
        show(language, rest, path)
    elif language == "console":
        if page.clean or "clean" not in words:
            run_console(page, text, int(options.get("exit", 0)), "clean" in words)
    elif language == "python" and "facts" in words:
        run_facts(page, text)
    elif language == "sh":
        usage = (ROOT / "dev").read_text(encoding="utf-8")
        for line in text.splitlines():
            assert re.search(rf"^  {line.split()[1]} ", usage, re.M), f"{line}: no such command"
    elif language != "text":
        assert "file" in options, f"a block of {language or 'no language'} that nothing runs"
        (page.folder / options["file"]).write_text(text, encoding="utf-8")


def limit(rest):
    return INSTALL_LIMIT_S if "clean" in rest.split() else LIMIT_S


def too_long(*_):
    raise TimeoutError("it took too long")


def blocks(path):
    """(language, rest, text); code that is only indented is shown, and never run."""
    text = path.read_text(encoding="utf-8")
    for line in INDENTED.findall(BLOCK.sub("", text)):
        yield "", line, ""
    yield from BLOCK.findall(text)


def run_page(path, log, folder, clean):
    good, begun = True, time.monotonic()
    page = Page(folder, clean)
    for number, (language, rest, text) in enumerate(blocks(path), 1):
        result, why = "OK", ""
        signal.alarm(limit(rest))
        try:
            run_block(page, path, language, rest, text)
        except Exception as error:
            result, why, good = "FAIL", f"{path.name}, block {number}: {error}", False
            print(why, flush=True)
        signal.alarm(0)
        name = f"docs_{path.stem}_{number}" + (f"_{clean}" if clean else "")
        log.write(json.dumps({"name": name, "result": result, "stdout": why}) + "\n")
        if why and "clean" in rest.split():
            break  # nothing is installed: what is behind it can't go
    page.end()
    place = f" in a clean {clean}" if clean else ""
    print(f"{path.name}: {'good' if good else 'FAILED'}, {time.monotonic() - begun:.0f} s{place}", flush=True)
    return good


def main():
    clean = tarball = None
    arguments = sys.argv[1:]
    if arguments[0] == "--clean":
        clean, tarball, *arguments = arguments[1:]
    signal.signal(signal.SIGALRM, too_long)
    good = True
    with open(arguments[0], "a" if clean else "w", encoding="utf-8") as log:
        for path in map(Path, arguments[1:]):
            with tempfile.TemporaryDirectory(prefix="finack-docs-") as folder:
                if tarball:
                    subprocess.run(["tar", "-xf", tarball, "-C", folder, "--strip-components=1"],
                                   check=True)
                good &= run_page(path, log, Path(folder), clean)
    return not good


if __name__ == "__main__":
    sys.exit(main())
