# SPDX-License-Identifier: MIT
"""Text for the command to carry, as C; for the scripts that make it while building."""


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
