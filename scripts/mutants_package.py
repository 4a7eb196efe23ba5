# SPDX-License-Identifier: MIT
"""Which tests of the Python package run a line, and whether one of them notices what is broken."""

import ast
import bisect
import collections
import hashlib
import json
import os
import random
import re
import subprocess

# They take minutes, or run the package as other programs do.
SLOW = "cpython leaks tls_leaks libraries examples churn attach interpreters"
FIRST = 12  # as many, the quickest that there are, are run before the others are collected
ENOUGH_SECONDS = 120  # of tests for a line: many are run by nearly all that there are
DEBUG = ("--buildtype=debug", "-Doptimization=0")
UNREACHED = "no test runs it"


class Tree:
    """A copy of the sources, with the package and two builds of its extension."""

    def __init__(self, tree, python):
        self.tree, self.python = tree, python
        self.package = tree / "package"
        self.extension = next((self.package / "finack").glob("_core*.so"))
        self.written = random.randrange(1 << 31)

    def build(self, folder, *options):
        """The extension, or None where it can't be built."""
        path = os.path.dirname(self.python) + os.pathsep + os.environ["PATH"]
        env = os.environ | {"PATH": path}  # of ninja too, which may configure anew
        if not (folder / "build.ninja").exists():
            off = [f"-D{name}=disabled" for name in "libmnl tls tool man tests bench".split()]
            command = ["meson", "setup", folder, self.tree, "-Dpython=enabled", *off, *options]
            run(command, env=env)
        built = subprocess.run(["ninja", "-C", folder], capture_output=True, check=False, env=env)
        name = f"python/{self.extension.name}"
        return None if built.returncode else (folder / name).read_bytes()

    def put(self, target, content):
        """What runs already keeps the file it has; no two have the same time."""
        other = target.with_suffix(".new")
        other.write_bytes(content)
        self.written += 1
        os.utime(other, (self.written, self.written))
        os.replace(other, target)


class Server:
    """Of scripts/mutants_pytest.py."""

    def __init__(self, tree):
        scripts = tree.tree / "scripts"
        self.files = {
            "MUTANTS_LINES": tree.tree / "lines",
            "MUTANTS_BLOCKS": tree.tree / "blocks",
        }
        with open(self.files["MUTANTS_BLOCKS"], "wb") as file:
            file.truncate(8 << 20)
        (tree.package / "sitecustomize.py").write_bytes((scripts / "mutants_lines.py").read_bytes())
        self.tree, self.process = tree, None

    def start(self, reach):
        env = os.environ | {"PYTHONPATH": str(self.tree.package)}
        if reach:
            env |= {name: str(path) for name, path in self.files.items()}
        self.process = subprocess.Popen(
            [self.tree.python, "scripts/mutants_pytest.py"],
            cwd=self.tree.tree,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.reach = reach

    def stop(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()
        self.process = None

    def ask(self, tests, seconds, reach=False):
        if self.process and self.reach != reach:
            self.stop()
        if not self.process:
            self.start(reach)
        request = {"tests": tests, "seconds": seconds, "reach": reach}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Reach:
    """The tests by the lines that they run; kept until a source or the file of tests changes."""

    def __init__(self, tree, server):
        self.tree, self.server = tree, server
        self.seconds, self.size = {}, {}
        self.tests = collections.defaultdict(set)
        self.starts = None
        sources = digest(tree.tree, "python", "src", "include")
        kept = tree.tree.parents[1] / "reach"
        kept.mkdir(exist_ok=True)
        self.all_starts = kept / f"starts-{sources}.json"
        for path in sorted((tree.tree / "tests/python").glob("test_*.py")):
            if path.stem.removeprefix("test_") in SLOW.split():
                continue
            file = kept / f"{path.stem}-{sources}-{digest(path)}.json"
            if not file.exists():
                file.write_text(json.dumps(self.measure(path)))
            self.take(json.loads(file.read_text()))
        self.lines = by_file(json.loads(self.all_starts.read_text()))

    def measure(self, path):
        """{test: {"seconds", "ran"}} of those that pass."""
        if self.starts is None:
            self.prepare()
        name = path.relative_to(self.tree.tree).as_posix()
        told = self.server.ask([name], {}, reach=True)
        print(f"{name}: {len(told['ended'])} tests, failed: {told['failed']}", flush=True)
        result = {}
        for test, what in told["ended"].items():
            if test not in told["failed"]:
                blocks = {self.starts[block] for block in what["blocks"] if block in self.starts}
                ran = sorted(blocks | {f"python/finack/{line}" for line in what["lines"]})
                result[test] = {"seconds": what["seconds"], "ran": ran}
        return result

    def prepare(self):
        """The extension that says what ran, and the line of each of its blocks."""
        scripts, folder = self.tree.tree / "scripts", self.tree.tree / "build-reach"
        folder.mkdir(exist_ok=True)
        runtime = folder / "reach.o"
        run(["cc", "-O2", "-fPIC", "-c", scripts / "mutants_reach.c", "-o", runtime])
        flag = "-Dc_args=-fsanitize-coverage=trace-pc"
        built = self.tree.build(folder / "build", flag, f"-Dc_link_args={runtime}", *DEBUG)
        self.tree.put(self.tree.extension, built)
        self.starts = block_lines(self.tree)
        self.all_starts.write_text(json.dumps(sorted(set(self.starts.values()))))

    def take(self, tests):
        for test, what in tests.items():
            self.seconds[test], self.size[test] = what["seconds"], len(what["ran"])
            for line in what["ran"]:
                self.tests[line].add(test)

    def of(self, path, numbers):
        """The tests that run one of the lines: those of the file of tests that is called like the
        source, those that run little else, each function once before its other parameters."""
        found = set().union(*(self.tests.get(f"{path}:{number}", ()) for number in numbers))
        name = path.rsplit("/", 1)[1].split(".")[0].strip("_")
        seen = collections.Counter()
        order = []
        for test in sorted(found, key=self.size.get):
            file, function = test.split("[")[0].split("::", 1)
            order.append((seen[file, function], name not in file, self.size[test], test))
            seen[file, function] += 1
        chosen, total = [], 0.0
        for *_, test in sorted(order):
            total += self.seconds[test]
            if total <= ENOUGH_SECONDS:
                chosen.append(test)
        return chosen

    def block(self, path, number, least):
        """The line itself where a block begins there, or that where its block begins."""
        lines = self.lines.get(path, [])
        place = bisect.bisect_right(lines, number)
        return [lines[place - 1]] if place and lines[place - 1] >= least else [number]


def run(command, **options):
    done = subprocess.run(command, check=False, text=True, capture_output=True, **options)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def by_file(places):
    found = collections.defaultdict(list)
    for place in places:
        path, number = place.rsplit(":", 1)
        found[path].append(int(number))
    return {path: sorted(numbers) for path, numbers in found.items()}


def digest(root, *folders):
    known = hashlib.sha1()
    paths = [path for folder in folders for path in (root / folder).rglob("*")] or [root]
    for path in sorted(paths):
        if path.suffix in (".c", ".h", ".py"):
            known.update(path.read_bytes())
    return known.hexdigest()[:12]


def block_lines(tree):
    """{offset that the runtime notes: "python/src/x.c:12"}"""
    told = run(["objdump", "-d", "--no-show-raw-insn", tree.extension])
    offsets, wanted = [], False
    for line in told.splitlines():
        if wanted and (match := re.match(r"\s*([0-9a-f]+):", line)):
            offsets.append(int(match.group(1), 16))
        wanted = "call" in line and "__sanitizer_cov_trace_pc" in line
    told = subprocess.run(
        ["addr2line", "-e", tree.extension],
        input="".join(f"{offset - 1:#x}\n" for offset in offsets),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    result = {}
    for offset, place in zip(offsets, told, strict=True):
        if match := re.search(r"/(python/src/[\w/]+\.c:\d+)", os.path.normpath(place.split()[0])):
            result[offset] = match.group(1)
    return result


def statement(text, number):
    """The lines of the statement in Python that the line is in, or of its head."""
    found = [number]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt) and node.lineno <= number <= node.end_lineno:
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno
            if number <= last:
                found = range(node.lineno, last + 1)
    return found


def function_start(text, number):
    """The line of the brace that begins the function in C."""
    lines = text.splitlines()
    return max(place + 1 for place in range(number) if lines[place] == "{")


class Package:
    """The tests of the Python package, for one mutant."""

    tools = None

    def __init__(self, root, path, python, number):
        if not Package.tools:
            tree = Tree(root, python)
            Package.tools = tree, Server(tree)
            Package.reach = Reach(*Package.tools)
            Package.clean = tree.build(root / "build-extension", *DEBUG)
            tree.put(tree.extension, Package.clean)
        self.tree, self.server = Package.tools
        self.source, self.in_c = root / path, path.endswith(".c")
        self.target = self.tree.extension
        if not self.in_c:
            self.target = root / path.replace("python/", "package/", 1)
        self.good = Package.clean if self.in_c else self.source.read_bytes()
        text = self.source.read_text(encoding="utf-8")
        number += 1
        if self.in_c:
            numbers = self.reach.block(path, number, function_start(text, number))
        else:
            numbers = statement(text, number)
        self.tests = self.reach.of(path, numbers)
        self.is_reached = bool(self.tests)
        if not self.is_reached and not self.in_c:
            # What an audit hook or a profile function runs is told to no monitor.
            self.tests = self.reach.of(path, range(1, text.count("\n") + 1))

    def killer(self, known):
        """The test that fails; "": none; None: it can't be built."""
        bad = self.source.read_bytes()
        if self.in_c:
            bad = self.tree.build(self.tree.tree / "build-extension")
            if bad is None:
                return None
        self.tree.put(self.target, bad)
        try:
            return self.noticed([name for name in self.tests if known.get(name, True)])
        finally:
            self.tree.put(self.target, self.good)

    def noticed(self, rest):
        size = FIRST
        while rest:
            batch, size = rest[:size], len(rest)
            told = self.server.ask(batch, self.reach.seconds)
            for name in told["failed"][:1]:
                if name == "collection":
                    return "import"
                if self.fails(name):
                    return name
                rest.remove(name)
            rest = [name for name in rest if name not in told["ended"]]
        return "" if self.is_reached else UNREACHED

    def fails(self, name):
        return bool(self.server.ask([name], self.reach.seconds)["failed"])

    @classmethod
    def unsound(cls, names):
        """Those that fail though nothing is broken."""
        _, server = cls.tools
        found, rest = set(), sorted(names)
        while rest:
            told = server.ask(rest, cls.reach.seconds)
            found.update(told["failed"])
            rest = [name for name in rest if name not in {*told["ended"], *found}]
            if "collection" in found:
                raise SystemExit("the tests can't be collected though nothing is broken")
        return found
