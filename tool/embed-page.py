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


def digest(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def c_string(text):
    """A string literal for each line, of bytes that every compiler takes."""
    lines = []
    for line in text.splitlines(keepends=True):
        quoted = ""
        for byte in line.encode():
            char = chr(byte)
            if char in '"\\?':
                quoted += "\\" + char
            elif 32 <= byte < 127:
                quoted += char
            else:
                quoted += f"\\{byte:03o}"
        lines.append(f'    "{quoted}"')
    return "\n".join(lines)


def main():
    page, style, script, output = map(pathlib.Path, sys.argv[1:])
    text = page.read_text(encoding="utf-8")
    for name, path in (("STYLE", style), ("SCRIPT", script)):
        part = path.read_text(encoding="utf-8")
        text = text.replace(f"@{name}@", part).replace(f"@{name}-HASH@", digest(part))
    before, after = text.split("@DATA@")
    output.write_text(
        f'#include "page.h"\n\nconst char page_before_data[] =\n{c_string(before)};\n'
        f"\nconst char page_after_data[] =\n{c_string(after)};\n",
        encoding="ascii",
    )


if __name__ == "__main__":
    main()
