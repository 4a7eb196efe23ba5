#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every link of the site leads somewhere, and no page takes anything from the network.

usage: links.py FOLDER LOG      appends a line to LOG, as Meson's testlog.json has it
"""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Anchors, links, and what is loaded."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.add(attrs.get("id"))
        if tag == "a":
            self.links.append(attrs.get("href") or "")
        elif tag in ("script", "img", "iframe", "link"):
            self.loaded.append(attrs.get("src") or attrs.get("href") or "")


def dead_links(path, pages):
    for link in pages[path].links:
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if re.match("[a-z]+:", link):
            continue
        if not target.exists():
            yield f"{path}: {link}: there is no such file"
        elif anchor and target in pages and anchor not in pages[target].anchors:
            yield f"{path}: {link}: there is no such anchor"


def main():
    paths = [path.resolve() for path in Path(sys.argv[1]).rglob("*.html")]
    pages = {path: Page(path) for path in paths}
    wrong = [problem for path in paths for problem in dead_links(path, pages)]
    wrong += [f"{path}: {what} is fetched" for path, page in pages.items() for what in page.loaded
              if re.match("(https?:)?//", what)]
    if not any(page.links for page in pages.values()):
        wrong.append(f"{sys.argv[1]} has no links at all")
    print("".join(f"{problem}\n" for problem in wrong), end="")
    with open(sys.argv[2], "a", encoding="utf-8") as log:
        log.write(json.dumps({"name": "docs_links", "result": "FAIL" if wrong else "OK"}) + "\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
