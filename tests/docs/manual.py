#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the manual pages show as examples: C compiles, and commands have the options that they are given.

usage: manual.py ROOT CC [FINACK]       (prints TAP)
"""

import re
import subprocess
import sys
from pathlib import Path

FENCED = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What the examples take for granted.
AROUND = """
#define _GNU_SOURCE
#include <errno.h>
#include <finack.h>
#include <finack/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/types.h>

extern struct fin_kernel *kernel;
extern struct fin_handle *handle;
extern struct fin_policy policy;
extern struct fin_receipt receipt;
extern struct epoll_event event;
extern void *user;
extern char buf[4096];
extern ssize_t n;
extern int fd, set;
void complain(void *arg, const struct fin_receipt *receipt);
void consume(const char *buf, ssize_t n);
void run_callbacks(void);
void serve(int fd);
"""


def examples(page):
    return page.read_text(encoding="utf-8").partition("\n# EXAMPLE")[2].partition("\n# ")[0]


def program(text):
    """Functions stand by themselves; the rest, parted by lines of dots, is the inside of one."""
    functions, inside = "", ""
    for part in re.split(r"^\.\.\.$", text.replace("\\\\", "\\"), flags=re.MULTILINE):
        if re.match(r"\s*static .*\)\n{", part):
            functions += part
        else:
            inside += part
    return f"{AROUND}{functions}\nint example(void);\nint example(void)\n{{\n{inside}\nreturn 0;\n}}\n"


def compiles(compiler, root, text):
    done = subprocess.run([*compiler, "-x", "c", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                           "-I", root / "include", "-"], input=program(text), text=True,
                          check=False, stderr=subprocess.PIPE)
    return done.stderr


def commands(text):
    """[(subcommand, options)] of ours."""
    for line in re.findall(r"^\t?finack [^\n]*", text, re.MULTILINE):
        ours = re.split(r" -- | \||;|\+\+", line)[0].split()
        yield ours[1], [word.split("=")[0] for word in ours[2:] if re.match(r"-{1,2}[a-z]", word)]


def lacking(finack, name, options):
    said = subprocess.run([finack, name, "--help"], text=True, check=True, stdout=subprocess.PIPE).stdout
    return [option for option in options if not re.search(rf"(?<![\w-]){option}\b", said)]


def main():
    root, compiler, finack = Path(sys.argv[1]), sys.argv[2].split(), sys.argv[3:]
    results = []
    for page in sorted((root / "man").glob("*.scd")):
        text = examples(page)
        for code in FENCED.findall(text):
            results.append((f"{page.stem}: compiles", compiles(compiler, root, code)))
        for name, options in commands(text) if finack else ():
            wrong = lacking(finack[0], name, options)
            results.append((f"{page.stem}: finack {name}", ", ".join(wrong)))
    for number, (name, wrong) in enumerate(results, 1):
        print(f"{'not ' * bool(wrong)}ok {number} - {name}")
        print("".join(f"# {line}\n" for line in wrong.splitlines()), end="")
    print(f"1..{len(results)}")
    return any(wrong for _, wrong in results)


if __name__ == "__main__":
    sys.exit(main())
