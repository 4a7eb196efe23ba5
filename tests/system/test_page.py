#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The page of `finack probe --html`, as a browser shows it and as a screen reader is told it.

usage: test_page.py FINACK [FOLDER]        (prints TAP; screenshots go to FOLDER)
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import tap
from browser import Browser
from tap import test

FINACK = sys.argv[1]
SHOTS = sys.argv[2] if len(sys.argv) > 2 else None
DATA = re.compile(r'(<script type="application/json" id="data">)(.*?)(</script>)')
MANY = 10_000
OUTCOMES = ["graceful"] * 7 + ["timed_out", "reset", "prompt"]
HOSTILE = "</script><img src=x onerror=alert(1)><!--\u202e\0\x1b[31m'\"&amp;"


class Page:
    """What all tests look at: the page of the embedded peers, and one with many closes."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "page.html")
        self.many_path = os.path.join(folder, "many.html")
        subprocess.run([FINACK, "probe", "--html", self.path], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)
        with open(self.path, encoding="utf-8") as file:
            self.text = file.read()
        self.write(self.many_path, [a_close(index) for index in range(MANY)])

    def write(self, path, closes):
        """The same page with other closes."""
        data = json.loads(DATA.search(self.text).group(2))
        data["closes"] = closes
        text = json.dumps(data).replace("<", "\\u003c")
        with open(path, "w", encoding="utf-8") as file:
            file.write(DATA.sub(lambda match: match[1] + text + match[3], self.text))


def a_close(index):
    ends = [1000 * (index % 97 + 1), 1000 * (index % 997 + 200), 1_000_000 * (index % 31 + 1)]
    return {"name": f"192.0.2.1:{index}", "outcome": OUTCOMES[index % 10], "start": index * 40_000,
            "held": index % 1000 == 0, "stages": dict(zip(("flushed", "shut", "released"), ends)),
            "pieces": [[end, part] for part, end in enumerate(ends)],
            "facts": [["end for the peer", "fin"]], "text": f"the receipt of number {index}"}


def shot(browser, name):
    if SHOTS:
        os.makedirs(SHOTS, exist_ok=True)
        browser.screenshot(os.path.join(SHOTS, f"{name}.png"))


def names(browser):
    """Of the rows that are drawn, from the top."""
    return browser.run("[...document.querySelectorAll('#rows .row')].map(row => "
                       "row.querySelector('[role=rowheader]').textContent)")


def focused(browser):
    """The number in the row that has the focus."""
    return browser.run("Number(document.activeElement.querySelector('.number')?.textContent)")


def status(browser):
    return browser.run("document.getElementById('status').textContent")


def type_text(browser, text):
    browser.run("document.getElementById('search').value = ''")
    browser.call("Input.insertText", text=text)
    browser.frame()


def visible(browser, name):
    return browser.run(f"!document.getElementById('{name}').hidden")


@test
def it_asks_for_nothing_and_complains_of_nothing():
    for scheme in ("light", "dark"):
        for width, height in ((1280, 800), (380, 700), (320, 256)):
            BROWSER.open(PAGE.path, width, height, scheme)
            BROWSER.frame()
            shot(BROWSER, f"{scheme}-{width}")
            assert BROWSER.requests() == [f"file://{PAGE.path}"], BROWSER.requests()
            assert not BROWSER.complaints(), BROWSER.complaints()
            wide = BROWSER.run("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{wide} pixels too wide at {width}"
    assert not re.search(r"(src|href)=\"(?!data:)|@import|url\(", PAGE.text)


@test
def every_close_has_a_bar_of_its_stages():
    BROWSER.open(PAGE.path)
    data = json.loads(DATA.search(PAGE.text).group(2))
    assert names(BROWSER) == [close["name"] for close in data["closes"]]
    for index, close in enumerate(data["closes"]):
        pieces = BROWSER.run(
            f"[...document.querySelectorAll('#rows .row')[{index}].querySelectorAll('.lane i')]"
            ".map(piece => [piece.className, piece.getBoundingClientRect().width])")
        parts = [data["parts"][part] for _, part in close["pieces"]]
        assert [name for name, _ in pieces] == parts + ["open"] * close["held"], pieces
        assert all(width >= 1 for _, width in pieces), pieces


@test
def light_and_dark_have_enough_contrast():
    """4.5 for words and 3 for the bars, against the page (WCAG 2.2, 1.4.3 and 1.4.11)."""
    for scheme in ("light", "dark"):
        BROWSER.open(PAGE.path, scheme=scheme)
        colors = BROWSER.run(
            "(() => { const of = (variable) => { const e = document.createElement('i');"
            " e.style.color = `var(--${variable})`; document.body.append(e);"
            " const color = getComputedStyle(e).color; e.remove(); return color.match(/[0-9]+/g)"
            ".map(Number); }; return Object.fromEntries(['page', 'raised', 'text', 'dim', 'bad',"
            " 'flush', 'farewell', 'linger', 'release', 'proof', 'use', 'held', 'focus'].map("
            "name => [name, of(name)])); })()")
        for name, color in colors.items():
            least = 4.5 if name in ("text", "dim", "bad") else 3
            for ground in ("page", "raised"):
                if name not in ("page", "raised"):
                    found = contrast(color, colors[ground])
                    assert found >= least, f"{scheme}: {name} on {ground}: {found:.2f}"
        assert (sum(colors["page"]) > 600) == (scheme == "light"), colors


def luminance(color):
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
             for c in color[:3]]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@test
def hovering_shows_the_receipt():
    BROWSER.open(PAGE.path)
    box = BROWSER.run("(() => { const b = document.querySelectorAll('#rows .row')[7]"
                      ".getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()")
    BROWSER.mouse("mouseMoved", box[0] + box[2] * 0.7, box[1] + box[3] / 2)
    BROWSER.frame()
    tip = BROWSER.run("document.getElementById('tip').textContent")
    assert visible(BROWSER, "tip") and "held by" in tip and "graceful, end=fin, held=yes" in tip, tip
    shot(BROWSER, "hover")  # on a busy machine the pointer leaves while it is taken
    BROWSER.press("Escape")
    assert not visible(BROWSER, "tip")
    BROWSER.mouse("mouseMoved", box[0] + box[2] * 0.7, box[1] + box[3] / 2 + 3)
    BROWSER.frame()
    assert visible(BROWSER, "tip")
    BROWSER.mouse("mouseMoved", 5, 5)
    BROWSER.frame()
    assert not visible(BROWSER, "tip")


@test
def the_keyboard_does_it_all():
    BROWSER.open(PAGE.many_path)
    BROWSER.press("/")
    assert BROWSER.run("document.activeElement.id") == "search"
    type_text(BROWSER, "RECEIPT 192.0.2.1:77")
    assert status(BROWSER) == "111 of 10,000 closes", status(BROWSER)
    BROWSER.press("ArrowDown")
    assert focused(BROWSER) == 78
    BROWSER.press("ArrowDown", "ArrowDown", "ArrowUp")
    assert focused(BROWSER) == 771
    BROWSER.press("Enter")
    assert visible(BROWSER, "receipt") and BROWSER.run("document.activeElement.id") == "receipt"
    assert "the receipt of number 770" in BROWSER.run("document.activeElement.textContent")
    BROWSER.press("Escape")
    assert not visible(BROWSER, "receipt") and focused(BROWSER) == 771
    BROWSER.press("End")
    assert focused(BROWSER) == 7800
    BROWSER.press("Home", "PageDown")
    assert 780 < focused(BROWSER) < 7800
    BROWSER.press("/", "Escape", "Escape")  # empties it; goes back to the rows
    assert status(BROWSER) == "10,000 closes", status(BROWSER)
    BROWSER.press("End")
    assert focused(BROWSER) == MANY
    in_view = BROWSER.run("(() => { const row = document.activeElement.getBoundingClientRect(), grid ="
                          " document.getElementById('grid').getBoundingClientRect();"
                          " return row.top >= grid.top && row.bottom <= grid.bottom + 1; })()")
    assert in_view


@test
def tab_reaches_every_control():
    BROWSER.open(PAGE.path)
    BROWSER.run("document.getElementById('search').focus()")
    reached = []
    for _ in range(20):
        reached.append(BROWSER.run("(e => e.id || e.value || e.textContent)(document.activeElement)"))
        if BROWSER.run("document.activeElement.matches('.row')"):
            break
        BROWSER.press("Tab")
    else:
        raise AssertionError(f"no row among {reached}")
    wanted = ["search", "graceful", "timed_out", "held", "axis", "#", "Close", "Outcome", "Took"]
    at = [reached.index(name) for name in wanted]
    assert at == sorted(at), reached


@test
def outcomes_filter_and_headers_sort():
    BROWSER.open(PAGE.many_path)
    BROWSER.run("document.querySelector('input[value=graceful]').click()")
    assert status(BROWSER) == "3,000 of 10,000 closes", status(BROWSER)
    BROWSER.run("document.getElementById('held').click()")
    assert status(BROWSER) == "0 of 10,000 closes", status(BROWSER)
    assert names(BROWSER) == []
    BROWSER.run("document.querySelector('input[value=graceful]').click()")
    assert status(BROWSER) == "10 of 10,000 closes", status(BROWSER)
    BROWSER.run("document.getElementById('held').click()")
    BROWSER.run("document.querySelector('[data-key=took] button').click()")
    took = BROWSER.run("[...document.querySelectorAll('#rows .took')].map(e => e.textContent)")
    assert took[0] == "31 ms" and set(took[:20]) == {"31 ms"}, took
    sort = "document.querySelector('[data-key=took]').getAttribute('aria-sort')"
    assert BROWSER.run(sort) == "descending"
    BROWSER.run("document.querySelector('[data-key=took] button').click()")
    assert BROWSER.run(sort) == "ascending"
    assert BROWSER.run("document.querySelector('#rows .took').textContent") == "1 ms"


@test
def many_closes_are_drawn_as_they_come_into_view():
    BROWSER.open(PAGE.many_path)
    BROWSER.frame()
    shot(BROWSER, "many")
    assert status(BROWSER) == "10,000 closes"
    for share in (0, 0.5, 1):
        BROWSER.run(f"(g => g.scrollTop = g.scrollHeight * {share})(document.getElementById('grid'))")
        BROWSER.frame()
        drawn = BROWSER.run(
            "(() => { const g = document.getElementById('grid').getBoundingClientRect(),"
            " head = document.getElementById('head').getBoundingClientRect().bottom,"
            " rows = [...document.querySelectorAll('#rows .row')].map(r => r.getBoundingClientRect())"
            ".filter(r => r.bottom > head && r.top < g.bottom).sort((a, b) => a.top - b.top);"
            " return { all: document.querySelectorAll('#rows .row').length, from: rows[0].top - head,"
            " to: g.bottom - rows[rows.length - 1].bottom, gaps: rows.some((r, i) => i &&"
            " Math.abs(r.top - rows[i - 1].bottom) > 1) }; })()")
        assert drawn["all"] < 100 and not drawn["gaps"] and drawn["from"] <= 1, drawn
        assert drawn["to"] <= 1, drawn
    for key in ("own", "log", "wall"):
        BROWSER.run(f"(a => {{ a.value = '{key}'; a.dispatchEvent(new Event('change')); }})"
                    "(document.getElementById('axis'))")
        BROWSER.frame()
        shot(BROWSER, f"many-{key}")
        out = BROWSER.run("[...document.querySelectorAll('.lane i, #ticks span')].map(e => [e, "
                          "e.getBoundingClientRect()]).filter(([e, r]) => { const l = e.parentElement"
                          ".getBoundingClientRect(); return r.left < l.left - 1 || "
                          "(e.tagName === 'I' && r.right > l.right + 1); }).length")
        assert out == 0, f"{key}: {out} outside of their lane"
    assert not BROWSER.complaints(), BROWSER.complaints()


@test
def a_screen_reader_is_told_a_table():
    BROWSER.open(PAGE.path)
    nodes = BROWSER.tree()
    roles = [role for role, _, _ in nodes]
    assert roles.count("row") == 19 and roles.count("rowheader") == 18, roles
    assert roles.count("columnheader") == 5 and roles.count("gridcell") == 4 * 18, roles
    assert ("grid", "finack probe") in [node[:2] for node in nodes], roles
    bars = [name for role, name, _ in nodes if role == "image"]
    assert len(bars) == 18 and all(re.search("release|flush|linger", name) for name in bars), bars
    assert sum("still held" in name for name in bars) == 2, bars
    for role, name, _ in nodes:
        if role in ("button", "checkbox", "combobox", "searchbox", "columnheader", "rowheader"):
            assert name, f"a {role} without a name"
    count = BROWSER.run("document.getElementById('grid').getAttribute('aria-rowcount')")
    assert count == "19", count
    BROWSER.open(PAGE.many_path)
    BROWSER.run("(g => g.scrollTop = g.scrollHeight / 2)(document.getElementById('grid'))")
    BROWSER.frame()
    places = BROWSER.run("[...document.querySelectorAll('#rows .row')].map(row => "
                         "[+row.getAttribute('aria-rowindex'), row.getBoundingClientRect().top])")
    assert places == sorted(places), "the order in the document is not that on the screen"
    focusable = BROWSER.run("document.querySelectorAll('#rows .row[tabindex=\"0\"]').length")
    assert focusable == 1, focusable


@test
def hostile_names_are_text():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "hostile.html")
        close = {**a_close(0), "name": HOSTILE, "outcome": HOSTILE, "text": HOSTILE,
                 "facts": [[HOSTILE, HOSTILE]]}
        PAGE.write(path, [close])
        BROWSER.open(path)
        BROWSER.press("/", "ArrowDown", "Enter")
        assert names(BROWSER) == [HOSTILE], names(BROWSER)
        assert BROWSER.run("document.images.length") == 0
        assert BROWSER.requests() == [f"file://{path}"] and not BROWSER.complaints()


@test
def no_script_but_ours_can_run():
    BROWSER.open(PAGE.path)
    BROWSER.run("(() => { const s = document.createElement('script'); s.textContent = 'ran = 1';"
                " document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/';"
                " document.body.append(i); })()")
    BROWSER.frame()
    assert BROWSER.run("typeof ran") == "undefined"
    assert len(BROWSER.complaints()) == 2, BROWSER.complaints()


@test
def an_empty_page_is_fine():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "empty.html")
        PAGE.write(path, [])
        BROWSER.open(path)
        BROWSER.press("/", "ArrowDown", "Enter")
        assert status(BROWSER) == "0 closes" and not BROWSER.complaints(), BROWSER.complaints()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch, Browser() as BROWSER:
        PAGE = Page(pathlib.Path(scratch).resolve().as_posix())
        result = tap.main()
    sys.exit(result)
