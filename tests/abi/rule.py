#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/abi-check lets pass what old programs bear, and nothing else: tried on a library that changes.

usage: rule.py ABI_CHECK        (prints TAP)
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HEADER = """
struct lib_options { unsigned size; int cap; };
struct lib;
enum lib_answer { LIB_NO, LIB_YES };
int lib_new(const struct lib_options *options, struct lib **ret);
enum lib_answer lib_ask(struct lib *lib, long about);
"""
SOURCE = """
#include "lib.h"
struct lib { int cap; };
static struct lib one;
int lib_new(const struct lib_options *options, struct lib **ret)
{
    one.cap = options->cap;
    *ret = &one;
    return 0;
}
enum lib_answer lib_ask(struct lib *lib, long about)
{
    return about > lib->cap ? LIB_YES : LIB_NO;
}
"""
NEW = "int lib_more(void);\n", "int lib_more(void) { return 1; }\n"
# What changes: (name, [(old, new)], whether it passes once there is a release)
CHANGES = (
    ("nothing", [], True),
    ("a function more", None, True),
    ("what is private", [("struct lib { int cap; };", "struct lib { long added; int cap; };")], True),
    ("a function less", [("enum lib_answer lib_ask", "static enum lib_answer lib_ask")], False),
    ("a struct that grows", [("int cap; };\nstruct lib;", "int cap, more; };\nstruct lib;")], False),
    ("a member's type", [("unsigned size; int cap; };", "unsigned size; long cap; };")], False),
    ("members' order", [("unsigned size; int cap; };", "int cap; unsigned size; };")], False),
    ("a parameter", [("long about", "int about")], False),
    ("a value of an enum", [("LIB_NO, LIB_YES", "LIB_YES, LIB_NO")], False),
)
LIBRARIES = "libfinack", "tls/libfinack-openssl"


def run(tree, *command):
    return subprocess.run(command, cwd=tree, text=True, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)


def must(tree, *command):
    done = run(tree, *command)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def build(tree, changes):
    header, source = HEADER, SOURCE
    if changes is None:
        header, source = header + NEW[0], source + NEW[1]
    for old, new in changes or ():
        assert old in header + source, old
        header, source = header.replace(old, new), source.replace(old, new)
    if "static enum" in source:
        header = header.replace("static enum lib_answer lib_ask(struct lib *lib, long about);\n", "")
    (tree / "include/lib.h").write_text(header)
    (tree / "lib.c").write_text(source)
    for name in LIBRARIES:
        must(tree, "cc", "-g", "-shared", "-fPIC", "-Wno-unused-function", "-Iinclude", "-o",
             f"build/src/{name}.so", "lib.c")


def check(tree):
    return run(tree, "scripts/abi-check", "build")


def prepare(tree, script):
    for folder in ("include", "scripts", "build/src/tls", "tests/abi"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(script, tree / "scripts/abi-check")
    build(tree, [])
    must(tree, "scripts/abi-check", "--write", "build")
    must(tree, "git", "init", "-q")
    must(tree, "git", "add", "include", "tests")
    must(tree, "git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", "x")


def tries(script):
    """(name, whether it went as it should, what was said)"""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        prepare(tree, script)
        build(tree, CHANGES[3][1])
        done = check(tree)
        yield "before the first release changes are shown alone", \
            done.returncode == 0 and "changes" in done.stdout and "lib_ask" in done.stdout, done.stdout
        must(tree, "git", "tag", "v0.1.0")
        for name, changes, passes in CHANGES:
            build(tree, changes)
            done = check(tree)
            yield f"{name}: {'passes' if passes else 'fails'}", \
                (done.returncode == 0) == passes and "since v0.1.0" in done.stdout, done.stdout


def main():
    wrong = 0
    for number, (name, fine, said) in enumerate(tries(sys.argv[1]), 1):
        print(f"{'' if fine else 'not '}ok {number} - {name}", flush=True)
        if not fine:
            wrong += 1
            print("".join(f"# {line}\n" for line in said.splitlines()), end="")
    print(f"1..{len(CHANGES) + 1}")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
