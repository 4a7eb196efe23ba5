# SPDX-License-Identifier: MIT
"""Runs CPython's own test_selectors on ProxySelector.

usage: cpython_selectors.py [wrapped | stock] [ARGS of unittest]

With `wrapped` it is a ProxySelector around the standard library's EpollSelector, with `stock` that
one itself.
"""

import importlib
import selectors
import sys
import unittest
from typing import Any

import finack


class Wrapping(finack.ProxySelector):
    def __init__(self) -> None:
        super().__init__(selectors.EpollSelector())


def main() -> None:
    arguments = sys.argv[1:]
    tests: Any = importlib.import_module("test.test_selectors")
    case = tests.EpollSelectorTestCase
    makers = {"wrapped": Wrapping, "stock": selectors.EpollSelector}
    if arguments and arguments[0] in makers:
        case.SELECTOR = makers[arguments.pop(0)]
    else:
        case.SELECTOR = finack.ProxySelector
    unittest.main(tests, argv=[sys.argv[0], *arguments, case.__name__])


if __name__ == "__main__":
    main()
