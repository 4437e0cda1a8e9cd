// Tables, facts and charts whose numbers change: their elements are made once and written again, so that a page that is
// open for days has as many of them as at first.

"use strict";

function write(node, text) {
    if (node.textContent !== text) {
        node.textContent = text;
    }
}

// As many children as there are rows: who is missing is made by make(), and what is too much goes.
function fit(parent, n, make) {
    while (parent.childElementCount > n) {
        parent.lastElementChild.remove();
    }
    while (parent.childElementCount < n) {
        parent.append(make());
    }
}

// columns: as those of table(). show(rows) writes them; `empty`, or what show() is given, is seen where there are none.
function livingTable(caption, columns, empty) {
    const node = table(caption, columns, []);
    const body = node.querySelector("tbody");
    const note = element("p", { class: "note" }, empty);
    const make = () => element("tr", {}, ...columns.map((column, i) => i === 0
        ? element("th", { scope: "row" }) : element("td", { class: column.isText ? "text" : null })));
    const show = (rows, why = empty) => {
        node.hidden = rows.length === 0;
        note.hidden = !node.hidden;
        write(note, why);
        fit(body, rows.length, make);
        rows.forEach((row, y) => columns.forEach((column, x) => write(body.rows[y].cells[x], column.text(row))));
    };
    show([]);
    return { node: element("div", {}, node, note), show };
}

// names: [[name, hint]]. show(values) writes them in the same order; who is null is left out.
function livingFacts(names) {
    const values = names.map(() => element("dd", {}, UNKNOWN));
    const node   = element("dl", { class: "facts" }, ...names.map(([name, hint], i) =>
        element("div", { title: hint ?? null }, element("dt", {}, name), values[i])));
    return { node, show: (texts) => texts.forEach((text, i) => {
        values[i].parentElement.hidden = text === null;
        write(values[i], text ?? UNKNOWN);
    }) };
}

function livingText(tag, attributes) {
    const node = element(tag, attributes);
    return { node, show: (text) => write(node, text) };
}

// A chart as makeChart() has it; show() draws it with what its points are by then. A program that was built without
// the library that draws has a note in its place.
function livingChart(chart) {
    if (typeof echarts === "undefined") {
        return { node: element("p", { class: "note" }, "This program was built without the library that draws charts."),
                 show() {} };
    }
    const node = makeChart(chart);
    return { node, show: () => chart.draw() };
}
