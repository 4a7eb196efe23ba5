# SPDX-License-Identifier: MIT
"""The directive `c-header`: a public header as a page. A section is a comment `---- title ----`;
what follows a comment up to the next blank line is what it is about."""

import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.util.nodes import nested_parse_with_titles

INCLUDE = Path(__file__).parent.parent.parent / "include"
COMMENT = re.compile(r"/\*(.*?)\*/\n?(.*)", re.DOTALL)
NOT_API = re.compile(r"#ifn?def|#endif|#include|#define FINACK_|extern \"C\"|clang-format|SPDX")


def comment_lines(text):
    """A comment's text, as paragraphs; what is indented stays as it is."""
    lines = [re.sub(r"^ ?\* ?", "", line) for line in text.strip().split("\n")]
    for paragraph in "\n".join(lines).split("\n\n"):
        if re.search(r"^\s{2,}\S|^Errors:", paragraph, re.MULTILINE):
            yield ".. code-block:: none"
            yield ""
            yield from ("    " + line for line in paragraph.splitlines())
        else:
            yield from (re.sub(r"([*|`_\\])", r"\\\1", line) for line in paragraph.splitlines())
        yield ""


def declaration_lines(text):
    functions = re.findall(r"FIN_API ([^;]*);", text)
    for function in functions:
        yield ".. c:function:: " + " ".join(function.split())
        yield ""
    if not functions and text.strip():
        yield ".. code-block:: c"
        yield ""
        yield from ("    " + line for line in text.rstrip().splitlines())
        yield ""


def header_lines(text):
    for block in re.split(r"\n\n+", text):
        title = re.match(r"/\* -+ (.*?) -+ \*/", block)
        if title:
            yield from (title[1].capitalize(), "-" * len(title[1]), "")
        elif not NOT_API.match(block.lstrip("/* ")):
            match = COMMENT.match(block)
            comment, code = match.groups() if match else ("", block)
            declared = list(declaration_lines(re.sub(r"/\* clang-format \w+ \*/\n?", "", code)))
            about = list(comment_lines(comment)) if comment else []
            indent = "    " if declared and declared[0].startswith(".. c:function") else ""
            yield from declared if indent else about
            yield from ((indent + line if line else "") for line in about) if indent else declared


class CHeader(Directive):
    required_arguments = 1

    def run(self):
        path = INCLUDE / self.arguments[0]
        self.state.document.settings.env.note_dependency(str(path))
        lines = list(header_lines(path.read_text(encoding="utf-8")))
        node = nodes.section()
        node.document = self.state.document
        nested_parse_with_titles(self.state, StringList(lines, str(path)), node)
        return node.children


def setup(app):
    app.add_directive("c-header", CHeader)
    return {"parallel_read_safe": True}
