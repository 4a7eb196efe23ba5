# SPDX-License-Identifier: MIT
"""Runs the functions marked as tests and prints TAP; each must leave no descriptor behind."""

import os
import traceback

TESTS = []
# LeakSanitizer takes descriptors, and can not work under ptrace(2).
WITHOUT_LEAK_CHECK = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}


def test(function):
    TESTS.append(function)
    return function


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


def main():
    """Returns the exit status."""
    failures = 0
    print(f"1..{len(TESTS)}", flush=True)
    for number, function in enumerate(TESTS, 1):
        before = descriptors()
        try:
            function()
            assert descriptors() == before, f"descriptors left: {descriptors()}"
            print(f"ok {number} - {function.__name__}", flush=True)
        except Exception:  # whatever it was, the others still run
            failures += 1
            print(f"not ok {number} - {function.__name__}")
            print("# " + "\n# ".join(traceback.format_exc().splitlines()), flush=True)
    return 1 if failures else 0
