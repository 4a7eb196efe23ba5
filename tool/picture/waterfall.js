
// SPDX-License-Identifier: MIT
"use strict";
(() => {
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const closes = data.closes;
const grid = byId("grid"), rows = byId("rows"), search = byId("search"), tip = byId("tip");
const panel = byId("receipt");
const SPARE = 6; // rows kept above and below those in view
const MARGIN = 4; // per cent of the lane that stay free for the tail of a held one

let shown = closes; // those that pass the filter, sorted
let current = 0; // the row that has, or would get, the focus
let opened = null; // the close in the panel
let sorting = { key: "number", down: false };
const drawn = new Map(); // index in `shown` to its element

// ---- words ----

function make(tag, text, className) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
}

function time(ns) {
    if (ns < 1e6) return `${+(ns / 1e3).toPrecision(3)} µs`;
    if (ns < 1e9) return `${+(ns / 1e6).toPrecision(3)} ms`;
    return `${+(ns / 1e9).toPrecision(4)} s`;
}

const plural = (n) => `${n.toLocaleString("en")} ${n === 1 ? "close" : "closes"}`;

function describe(close) {
    let from = 0;
    const parts = close.pieces.map(([end, part]) => {
        const words = `${data.parts[part]} ${time(end - from)}`;
        from = end;
        return words;
    });
    if (close.held) parts.push("still held");
    return parts.join(", ") || "no time at all";
}

// What the tip and the panel tell.
function receipt(close) {
    const list = make("dl");
    const add = (label, value) => list.append(make("dt", label), make("dd", value));
    add("outcome", close.outcome);
    for (const [label, value] of close.facts) add(label, value);
    for (const name of data.stages) {
        const ns = close.stages[name];
        if (ns === undefined || (name === "requested" && ns === 0)) continue;
        add(name, ns === null ? "can't be observed" : time(ns));
    }
    return list;
}

// ---- which closes, in which order ----

for (const [index, close] of closes.entries()) {
    close.number = index + 1;
    close.took = close.pieces.length ? close.pieces[close.pieces.length - 1][0] : 0;
    close.words = [close.name, close.outcome, close.text, ...close.facts.flat()].join(" ").toLowerCase();
}

function compare(a, b) {
    const x = a[sorting.key], y = b[sorting.key];
    const order = x < y ? -1 : x > y ? 1 : a.number - b.number;
    return sorting.down ? -order : order;
}

function select() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const boxes = [...document.querySelectorAll("#outcomes input[value]")];
    const outcomes = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const heldOnly = byId("held")?.checked;
    const before = shown[current];
    shown = closes.filter((close) => outcomes.has(close.outcome) && (!heldOnly || close.held)
        && words.every((word) => close.words.includes(word))).sort(compare);
    current = Math.max(0, shown.indexOf(before));
    byId("status").textContent = shown.length === closes.length ? plural(closes.length)
        : `${shown.length.toLocaleString("en")} of ${plural(closes.length)}`;
    grid.setAttribute("aria-rowcount", shown.length + 1);
    rescale();
}

// ---- the axis ----

const axis = { kind: "wall", from: 0, to: 1, step: 1 };

function extent() {
    let from = Infinity, to = 0, least = Infinity;
    for (const close of shown) {
        const start = axis.kind === "wall" ? close.start : 0;
        from = Math.min(from, start);
        to = Math.max(to, start + close.took);
        if (close.took) least = Math.min(least, close.pieces[0][0], close.took);
    }
    return [from === Infinity ? 0 : from, to, Math.max(1000, least === Infinity ? 1000 : least)];
}

function niceStep(range, most) {
    const raw = range / most, power = 10 ** Math.floor(Math.log10(raw));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
}

function rescale() {
    const [from, to, least] = extent();
    if (axis.kind === "log") {
        axis.from = Math.floor(Math.log10(least));
        axis.to = Math.max(axis.from + 1, Math.log10(Math.max(to, 1)));
        axis.step = 1;
    } else {
        axis.from = from;
        axis.to = Math.max(to, from + 1000);
        axis.step = niceStep(axis.to - from, byId("ticks").clientWidth > 480 ? 8 : 3);
    }
    drawTicks();
    redraw();
}

// Where a time is in the lane, in per cent.
function place(ns) {
    const at = axis.kind === "log" ? Math.log10(Math.max(ns, 1)) : ns;
    return Math.max(0, (at - axis.from) / (axis.to - axis.from)) * (100 - MARGIN);
}

function drawTicks() {
    const ticks = byId("ticks"), range = axis.to - axis.from;
    ticks.replaceChildren();
    for (let i = 0; i * axis.step <= range * 1.0001; i++) {
        const label = axis.kind === "log" ? time(10 ** (axis.from + i)) : i ? time(i * axis.step) : "0";
        const tick = make("span", label);
        tick.style.left = `${i * axis.step / range * (100 - MARGIN)}%`;
        ticks.append(tick);
    }
    grid.style.setProperty("--tick", `${axis.step / range * (100 - MARGIN)}%`);
}

// ---- rows: only those in view exist ----

const rowHeight = () => 1.75 * parseFloat(getComputedStyle(document.documentElement).fontSize);

function lane(close) {
    const bar = make("span", undefined, "lane");
    const start = axis.kind === "wall" ? close.start : 0;
    let from = axis.kind === "log" ? 0 : place(start);
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", describe(close));
    for (const [end, part] of close.pieces) {
        const piece = make("i", undefined, data.parts[part]);
        const to = place(start + end);
        piece.style.left = `${from}%`;
        piece.style.width = `${to - from}%`;
        bar.append(piece);
        from = to;
    }
    if (close.held) {
        const tail = make("i", undefined, "open");
        tail.style.left = `${from}%`;
        tail.style.right = "0";
        bar.append(tail);
    }
    return bar;
}

function cell(role, content, className) {
    const element = make("div", undefined, className);
    element.setAttribute("role", role);
    element.append(content);
    return element;
}

function makeRow(index) {
    const close = shown[index];
    const row = make("div", undefined, "row");
    row.setAttribute("role", "row");
    row.setAttribute("aria-rowindex", index + 2);
    row.setAttribute("aria-selected", close === opened);
    row.tabIndex = index === current ? 0 : -1;
    row.style.top = `${index * rowHeight()}px`;
    row.dataset.index = index;
    const outcome = cell("gridcell", close.outcome);
    outcome.dataset.outcome = close.outcome;
    row.append(cell("gridcell", String(close.number), "number"), cell("rowheader", close.name),
        outcome, cell("gridcell", time(close.took), "took"), cell("gridcell", lane(close), "bar"));
    return row;
}

// The row with the focus stays, in view or not: a reader must not lose it.
function draw() {
    const height = rowHeight();
    const first = Math.max(0, Math.floor(grid.scrollTop / height) - SPARE);
    const last = Math.min(shown.length - 1, Math.ceil((grid.scrollTop + grid.clientHeight) / height) + SPARE);
    for (const [index, row] of drawn) {
        if ((index < first || index > last) && index !== current) {
            row.remove();
            drawn.delete(index);
        }
    }
    const wanted = shown.length ? [current] : [];
    for (let index = first; index <= last; index++) wanted.push(index);
    for (const index of wanted) {
        if (drawn.has(index)) continue;
        const row = makeRow(index);
        // A reader goes by the order in the document.
        const next = [...drawn.keys()].filter((other) => other > index);
        rows.insertBefore(row, next.length ? drawn.get(Math.min(...next)) : null);
        drawn.set(index, row);
    }
}

function redraw() {
    const hadFocus = rows.contains(document.activeElement);
    hideTip();
    rows.replaceChildren();
    drawn.clear();
    rows.style.height = `${shown.length * rowHeight()}px`;
    draw();
    if (hadFocus && shown.length) drawn.get(current).focus({ preventScroll: true });
}

function moveTo(index, focus = true) {
    if (!shown.length) return;
    const height = rowHeight(), head = byId("head").offsetHeight;
    const before = drawn.get(current);
    if (before) before.tabIndex = -1;
    current = Math.min(Math.max(index, 0), shown.length - 1);
    const top = current * height;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + height + head > grid.scrollTop + grid.clientHeight)
        grid.scrollTop = top + height + head - grid.clientHeight;
    draw();
    const row = drawn.get(current);
    row.tabIndex = 0;
    if (focus) row.focus({ preventScroll: true });
    if (opened) open(shown[current]);
}

// ---- the panel and the tip ----

function open(close) {
    opened = close;
    const name = make("h2", close.name), shut = make("button", "Close receipt");
    const top = make("div");
    name.id = "receipt-name";
    shut.type = "button";
    shut.addEventListener("click", shutPanel);
    top.append(name, shut);
    panel.replaceChildren(top, receipt(close), make("p", close.text, "text"));
    panel.hidden = false;
    for (const [index, row] of drawn) row.setAttribute("aria-selected", shown[index] === close);
}

function shutPanel() {
    const back = panel.contains(document.activeElement);
    opened = null;
    panel.hidden = true;
    for (const row of drawn.values()) row.setAttribute("aria-selected", false);
    if (back) moveTo(current);
}

function showTip(close, x, y) {
    const name = make("strong", close.name);
    tip.replaceChildren(name, receipt(close), make("div", close.text, "text"));
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const room = 14;
    tip.style.left = `${Math.max(4, Math.min(x + room, innerWidth - width - 4))}px`;
    tip.style.top = `${y + room + height > innerHeight ? Math.max(4, y - room - height) : y + room}px`;
}

function hideTip() {
    tip.hidden = true;
}

// ---- what people do ----

const rowOf = (target) => target instanceof Element ? target.closest("#rows .row") : null;

rows.addEventListener("pointermove", (event) => {
    const row = rowOf(event.target);
    if (row && event.pointerType !== "touch") showTip(shown[row.dataset.index], event.clientX, event.clientY);
});
rows.addEventListener("pointerleave", hideTip);
rows.addEventListener("click", (event) => {
    const row = rowOf(event.target);
    if (!row) return;
    hideTip();
    moveTo(Number(row.dataset.index));
    open(shown[current]);
});
rows.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor((grid.clientHeight - byId("head").offsetHeight) / rowHeight()) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) moveTo(current + steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") {
        open(shown[current]);
        panel.focus();
    } else return;
    event.preventDefault();
});
document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input[type=search], select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        search.focus();
        search.select();
    } else if (event.key === "Escape") {
        if (!tip.hidden) hideTip();
        else if (event.target === search && search.value) return; // the browser empties it
        else if (event.target === search) moveTo(current);
        else if (opened) shutPanel();
    } else if (event.target === search && event.key === "ArrowDown") {
        event.preventDefault();
        moveTo(current);
    }
});
grid.addEventListener("scroll", () => { hideTip(); draw(); }, { passive: true });
search.addEventListener("input", select);
byId("tools").addEventListener("submit", (event) => event.preventDefault());
byId("outcomes").addEventListener("change", select);
byId("axis").addEventListener("change", (event) => { axis.kind = event.target.value; rescale(); });
byId("head").addEventListener("click", (event) => {
    const header = event.target.closest("[data-key]");
    if (!header) return;
    const key = header.dataset.key;
    sorting = { key, down: sorting.key === key ? !sorting.down : key === "took" };
    showSorting();
    select();
});
new ResizeObserver(rescale).observe(grid);

// ---- the page ----

function showSorting() {
    for (const header of document.querySelectorAll("#head [data-key]")) {
        if (header.dataset.key === sorting.key)
            header.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
        else header.removeAttribute("aria-sort");
    }
}

function checkbox(label, value, checked) {
    const box = make("input"), wrapper = make("label");
    box.type = "checkbox";
    box.checked = checked;
    if (value === null) box.id = "held";
    else box.value = value;
    wrapper.append(box, ` ${label}`);
    byId("outcomes").append(wrapper);
}

function furnish() {
    const counts = new Map();
    for (const close of closes) counts.set(close.outcome, (counts.get(close.outcome) || 0) + 1);
    for (const [outcome, n] of [...counts].sort((a, b) => b[1] - a[1]))
        checkbox(`${outcome} (${n.toLocaleString("en")})`, outcome, true);
    const held = closes.filter((close) => close.held).length;
    if (held) checkbox(`only those still held (${held.toLocaleString("en")})`, null, false);
    const used = new Set(closes.flatMap((close) => close.pieces.map(([, part]) => part)));
    const names = data.parts.filter((_, part) => used.has(part));
    for (const name of held ? [...names, "held"] : names) {
        const item = make("li");
        item.append(make("i", undefined, name), name);
        byId("legend").append(item);
    }
    document.title = byId("title").textContent = data.title;
    byId("made").textContent = data.made;
    showSorting();
    select();
}

furnish();
})();
