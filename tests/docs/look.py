#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each page of the site in Chromium, wide and as narrow as a phone, light and dark: nothing is fetched, the
browser has nothing to complain of, the page does not scroll sideways, and text stands out from what is behind.

usage: look.py FOLDER LOG [SHOTS]      appends a line to LOG, as Meson's testlog.json has it; screenshots
                                       of the pages go to SHOTS
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "system"))

from browser import Browser

SIZES = {"wide": (1400, 900), "narrow": (390, 844)}
SCHEMES = "light", "dark"
CONTRAST = 4.5  # WCAG 2, level AA
# What is wider than the window, though no part of it scrolls by itself.
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# The text of the page that is hardest to read: [contrast, text].
FAINTEST = """(() => {
    const parse = color => {
        const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
        return { r, g, b, a };
    };
    const behind = node => {
        for (; node; node = node.parentElement) {
            const color = parse(getComputedStyle(node).backgroundColor);
            if (color.a > 0.9) return color;
        }
        return parse('rgb(255, 255, 255)');
    };
    const light = color => [color.r, color.g, color.b].map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    let worst = [21, ''];
    const texts = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const text = texts.currentNode, element = text.parentElement;
        if (!text.data.trim() || !element.checkVisibility() || element.closest('svg, .headerlink')) continue;
        const [low, high] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort();
        const contrast = (Math.max(low, high) + 0.05) / (Math.min(low, high) + 0.05);
        if (contrast < worst[0]) worst = [contrast, text.data.trim().slice(0, 40)];
    }
    return worst;
})()"""


def problems(browser):
    """Of the page that is open."""
    fetched = [url for url in browser.requests() if not url.startswith(("file:", "data:"))]
    if fetched:
        yield f"fetches {fetched}"
    if complaints := browser.complaints():
        yield f"the browser complains: {complaints}"
    if (pixels := browser.run(SIDEWAYS)) > 0:
        yield f"scrolls sideways, by {pixels} pixels"
    contrast, text = browser.run(FAINTEST)
    if contrast < CONTRAST:
        yield f"{text!r} has a contrast of {contrast:.1f}"


def shot(browser, path):
    height = browser.run("document.documentElement.scrollHeight")
    width = browser.run("innerWidth")
    browser.emulate(width, min(height, 8000), browser.run(
        "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"))
    browser.screenshot(path)


def look(browser, folder, shots):
    for path in sorted(folder.rglob("*.html")):
        for size, (width, height) in SIZES.items():
            for scheme in SCHEMES:
                browser.open(path, width, height, scheme)
                for problem in problems(browser):
                    yield f"{path.relative_to(folder)}, {size}, {scheme}: {problem}"
                if shots:
                    shot(browser, shots / f"{path.stem}-{size}-{scheme}.png")


def main():
    folder, log, *shots = map(Path, sys.argv[1:])
    for place in shots:
        place.mkdir(parents=True, exist_ok=True)
    with Browser() as browser:
        wrong = list(look(browser, folder, shots[0] if shots else None))
    print("".join(f"{problem}\n" for problem in wrong), end="")
    with open(log, "a", encoding="utf-8") as file:
        file.write(json.dumps({"name": "docs_look", "result": "FAIL" if wrong else "OK"}) + "\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
