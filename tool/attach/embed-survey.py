#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes C text of what `finack attach` has a Python run, for the command to carry.

usage: embed-survey.py SURVEY.py OUTPUT.c

It is one expression, so that no name stays in the program's __main__; between its two parts the
command writes the path of the file for the answer. What 3.14 does without is left out: it would load
a module.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
from c_text import c_string

FUTURE = "from __future__ import annotations\n"
HAD_GC = "HAD_GC = 'gc' in __import__('sys').modules\n"
CALL = "\nanswer(ANSWER)\nHAD_GC or sys.modules.pop('gc', None)\nglobals().clear()\n"


def main():
    survey, output = map(pathlib.Path, sys.argv[1:])
    text = HAD_GC + survey.read_text(encoding="ascii").replace(FUTURE, "") + CALL
    before = f"exec(compile({text!r}, '<finack attach>', 'exec'), {{'ANSWER': '"
    output.write_text(
        f'#include "attach/survey.h"\n\nconst char survey_before_path[] =\n{c_string(before)};\n'
        f"\nconst char survey_after_path[] =\n{c_string(chr(39) + '})' + chr(10))};\n",
        encoding="ascii",
    )


if __name__ == "__main__":
    main()
