# SPDX-License-Identifier: MIT
"""Programs have their file's name above them: the commands below call them by it.

A block that tests/docs/run.py writes to a file begins with ```LANGUAGE file=NAME.
"""

import re

BLOCK = re.compile(r"^```(\w+) (?:\S+ )*file=(\S+).*$", re.MULTILINE)


def name_programs(app, page, source):
    source[0] = BLOCK.sub(r"```{code-block} \1\n:caption: \2\n", source[0])


def setup(app):
    app.connect("source-read", name_programs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
