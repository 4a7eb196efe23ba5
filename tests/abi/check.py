#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The binary interface: symbol map = header = what the library exports, and what the headers say.

The header must compile alone in the oldest languages that it promises, and a structure may change
its size only together with tests/abi/sizes. Prints TAP.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

WARNINGS = "-Wall -Wextra -Wshadow -Wconversion -Wvla -pedantic -Werror -fsyntax-only".split()
LANGUAGES = {
    "C99": ["cc", "-x", "c", "-std=c99", "-Wstrict-prototypes", "-Wmissing-prototypes"],
    "C++11": ["g++", "-x", "c++", "-std=c++11", "-Wold-style-cast"],
}
LIBRARIES = {
    "libfinack": ("src/libfinack.map", ["include/finack.h", "include/finack/loop.h"]),
    "libfinack-openssl": ("src/tls/libfinack-openssl.map", ["include/finack/openssl.h"]),
}
CPP_HEADERS = ["finack.hpp"]
CPP17 = ["g++", "-x", "c++", "-std=c++17", "-Wold-style-cast"]
HEADERS = [header.removeprefix("include/") for _, own in LIBRARIES.values() for header in own]


class Tap:
    def __init__(self):
        self.count = 0
        self.failed = 0

    def check(self, fine, name, why=""):
        self.count += 1
        self.failed += not fine
        print(f"{'ok' if fine else 'not ok'} {self.count} - {name}")
        if not fine:
            print("".join(f"# {line}\n" for line in why.splitlines()), end="", file=sys.stderr)

    def check_equal(self, got, wanted, name):
        missing, extra = sorted(set(wanted) - set(got)), sorted(set(got) - set(wanted))
        self.check(not missing and not extra, name, f"missing: {missing}\ntoo many: {extra}")


def run(*command, text=None):
    done = subprocess.run(
        [str(c) for c in command], input=text, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def map_symbols(path):
    return re.findall(r"^\s+(fin_\w+);", path.read_text(), re.MULTILINE)


def header_symbols(paths):
    text = "".join(path.read_text() for path in paths)
    declarations = re.findall(r"^FIN_API\b([^;]*);", text, re.MULTILINE)
    return [re.search(r"\b(\w+)\s*\(", d).group(1) for d in declarations]


def exported_symbols(library):
    """Functions and data, without the name of the version node."""
    status, out, err = run("nm", "-D", "--defined-only", library)
    if status:
        return [err]
    rows = [line.split() for line in out.splitlines()]
    return [row[2].split("@")[0] for row in rows if row[1] != "A"]


def check_symbols(tap, root, libraries):
    for (name, (map_path, headers)), library in zip(LIBRARIES.items(), libraries):
        declared = header_symbols([root / header for header in headers])
        tap.check_equal(map_symbols(root / map_path), declared, f"{name}: map = header")
        tap.check_equal(exported_symbols(library), declared, f"{name}: exports = header")
        _, out, _ = run("readelf", "-d", library)
        tap.check(f"[{name}.so.0]" in out, f"{name}: soname is {name}.so.0", out)


def initialisers(header):
    """A use of each *_INIT macro of the header: `struct fin_policy x = FIN_POLICY_INIT;`."""
    names = re.findall(r"^#define FIN_(\w+)_INIT\b", header.read_text(), re.MULTILINE)
    for name in names:
        low = name.lower()
        yield f"void use_{low}(struct fin_{low} *x);\n"
        yield f"void use_{low}(struct fin_{low} *x)\n"
        yield f"{{ const struct fin_{low} y = FIN_{name}_INIT; *x = y; }}\n"


def check_headers(tap, root):
    for header in HEADERS:
        text = f"#include <{header}>\n" + "".join(initialisers(root / "include" / header))
        for language, command in LANGUAGES.items():
            status, _, err = run(*command, *WARNINGS, "-I", root / "include", "-", text=text)
            tap.check(status == 0, f"{header} compiles alone as {language}", err)
    for header in CPP_HEADERS:
        text = f"#include <{header}>\n"
        status, _, err = run(*CPP17, *WARNINGS, "-I", root / "include", "-", text=text)
        tap.check(status == 0, f"{header} compiles alone as C++17", err)


def struct_names(root):
    for header in HEADERS:
        text = (root / "include" / header).read_text()
        yield from re.findall(r"^struct (fin_\w+) \{", text, re.MULTILINE)


def measure(root, names):
    lines = "".join(f'    printf("{n} %zu\\n", sizeof(struct {n}));\n' for n in names)
    text = "".join(f"#include <{header}>\n" for header in (*HEADERS, "stdio.h"))
    text += "int main(void)\n{\n" + lines + "}\n"
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "sizes"
        status, _, err = run("cc", "-x", "c", "-I", root / "include", "-o", program, "-", text=text)
        return err if status else run(program)[1]


def check_sizes(tap, root):
    """The sizes are those of a 64-bit machine (LP64)."""
    recorded = [
        line
        for line in (root / "tests/abi/sizes").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    measured = measure(root, list(struct_names(root))).splitlines()
    for line in measured:
        tap.check(line in recorded, f"size of struct {line}", f"recorded: {recorded}")
    tap.check_equal(recorded, measured, "every structure has a recorded size")


def man_pages(root):
    """The functions that have a page, or one that leads to a page."""
    text = (root / "man/meson.build").read_text()
    return set(re.findall(r"'(\w+)(?:\.3)?'", text))


def members(text, name):
    """The members of `struct NAME {` in order, whatever is said of them."""
    body = re.search(rf"^struct {name} \{{(.*?)^\}};", text, re.MULTILINE | re.DOTALL).group(1)
    code = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    return re.findall(r"(\w+)(?:\[\w+\])?(?:\)\([^)]*\))?\s*[;,]", code)


def check_manual(tap, root):
    for name, (_, headers) in LIBRARIES.items():
        declared = header_symbols([root / header for header in headers])
        tap.check(set(declared) <= man_pages(root), f"{name}: each function has a manual page",
                  str(sorted(set(declared) - man_pages(root))))
    header = (root / "include/finack.h").read_text()
    page = (root / "man/fin_close.3.scd").read_text()
    for struct in ("fin_policy", "fin_receipt"):
        tap.check(members(header, struct) == members(page, struct),
                  f"fin_close(3) shows struct {struct}", f"{members(page, struct)}")


def check_version(tap, root, version):
    text = (root / "include/finack.h").read_text()
    found = re.search(r'^#define FIN_VERSION "(.*)"', text, re.MULTILINE)
    tap.check(found and found.group(1) == version, f"FIN_VERSION is {version}", str(found))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("libraries", nargs=2, help="libfinack.so, libfinack-openssl.so")
    options = parser.parse_args()
    tap = Tap()
    check_symbols(tap, options.root, options.libraries)
    check_headers(tap, options.root)
    check_sizes(tap, options.root)
    check_manual(tap, options.root)
    check_version(tap, options.root, options.version)
    print(f"1..{tap.count}")
    return 1 if tap.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
