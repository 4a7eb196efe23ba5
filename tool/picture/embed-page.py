#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes C text of the page of pictures, for the command to carry.

usage: embed-page.py PAGE.html STYLE.css SCRIPT.js OUTPUT.c

@STYLE@ and @SCRIPT@ in the page become the files, and @STYLE-HASH@ and @SCRIPT-HASH@ their hashes
for the page's Content-Security-Policy: nothing else in it can run. The page is cut at @DATA@.
"""

import base64
import hashlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
from c_text import c_string


def digest(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def main():
    page, style, script, output = map(pathlib.Path, sys.argv[1:])
    text = page.read_text(encoding="utf-8")
    for name, path in (("STYLE", style), ("SCRIPT", script)):
        part = path.read_text(encoding="utf-8")
        text = text.replace(f"@{name}@", part).replace(f"@{name}-HASH@", digest(part))
    before, after = text.split("@DATA@")
    output.write_text(
        f'#include "picture/page.h"\n\nconst char page_before_data[] =\n{c_string(before)};\n'
        f"\nconst char page_after_data[] =\n{c_string(after)};\n",
        encoding="ascii",
    )


if __name__ == "__main__":
    main()
