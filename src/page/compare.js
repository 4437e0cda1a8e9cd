// How far the routings of two or more files are apart.

function letter(index) {
    return String.fromCharCode(65 + index);
}

function fileTable(files) {
    return table("What is compared", [
        { title: "",           text: (file) => letter(files.indexOf(file)) },
        { title: "File",       text: (file) => file.file ?? UNKNOWN, isText: true },
        { title: "Model",      text: (file) => file.model?.name ?? UNKNOWN, isText: true },
        { title: "Prompt",     text: (file) => count(file.tokens?.prompt) },
        { title: "Generation", text: (file) => count(file.tokens?.generation) },
    ], files);
}

// With three files and more: every one against every other.
function matrixTable(files, matrix) {
    const others = files.map((_, i) => ({ title: letter(i), text: (row) => decimal(matrix[row][i], 4) }));
    return table("Divergence of each two, in bits", [{ title: "", text: letter }, ...others], files.map((_, i) => i));
}

function divergenceChart(pair) {
    const line = (key) => ({ key, points: points(pair.layers, (row) => row.layer, (row) => row[key]) });
    const names = { noise_a: `Between the halves of ${letter(pair.a)}`,
                    noise_b: `Between the halves of ${letter(pair.b)}` };
    const series = ["divergence", "noise_a", "noise_b"].map((key) => ({ ...line(key), name: names[key] }));
    return {
        label:  "Divergence of the two routings, by layer.",
        x:      LAYERS,
        y:      { name: "Jensen-Shannon divergence, bits", format: (value) => String(Number(value.toFixed(4))),
                  tip: (value) => value.toFixed(4) },
        series: series.filter((one) => one.points.length > 0),
    };
}

function divergenceSection(pair) {
    const noise = (key) => isKnown(pair.noise?.[key]) ? decimal(pair.noise[key], 4) : null;
    return section("How far they diverge",
        facts([
            ["Divergence, mean of the layers", `${decimal(pair.divergence, 4)} bits`],
            [`Between the halves of ${letter(pair.a)}`, noise("a") && `${noise("a")} bits`],
            [`Between the halves of ${letter(pair.b)}`, noise("b") && `${noise("b")} bits`],
            ["Hottest 10% in common", percent(pair.overlap)],
        ]),
        makeChart(divergenceChart(pair)),
        explained("0 bits means that both use the experts of a layer in the same proportions, "
            + "1 bit that no expert is used by both.",
            "Two halves of the same file differ too: only what lies above those lines tells the files apart."));
}

function rowsOf(counts, pair) {
    return counts.map((values, i) => heatRow(pair.layers[i]?.layer ?? i, values));
}

function differences(pair, a, b) {
    return a.map((row, i) => {
        const values = row.values.map((value, expert) => value - b[i].values[expert]);
        const times  = (value) => `${value.toFixed(2)}\u00a0\u00d7 the average`;
        return {
            layer: row.layer,
            values,
            text: (expert) => [`Layer ${row.layer}, expert ${expert}`,
                `${letter(pair.a)}: ${times(row.values[expert])}`, `${letter(pair.b)}: ${times(b[i].values[expert])}`],
        };
    });
}

function heatmaps(pair, a, b) {
    const names = [letter(pair.a), letter(pair.b)];
    const maps  = [
        { title: `Difference: ${names[0]} against ${names[1]}`, rows: differences(pair, a, b), isDifference: true },
        { title: names[0], rows: a, scaled: [...a, ...b] },
        { title: names[1], rows: b, scaled: [...a, ...b] },
    ].map(({ title, rows, scaled, isDifference }) => {
        const map = makeHeatmap({ label: `Heatmap, layers by experts: ${title}.`, isDifference, names });
        const figure = element("figure", { class: isDifference ? "wide" : null },
                               element("figcaption", {}, title), map.node);
        return { ...map, rows, scaled, node: figure };
    });
    const order = choice("Order", [["id", "By number"], ["heat", "Hottest first"]],
        (value) => maps.forEach((map) => map.show(map.rows, value === "heat", map.scaled)));
    return element("div", {}, order, element("div", { class: "pair" }, ...maps.map((map) => map.node)));
}

function heatmapsSection(document, pair) {
    const [a, b] = [document.counts?.[pair.a], document.counts?.[pair.b]];
    if (!a || !b) {
        return null;
    }
    return section("Where they differ",
        heatmaps(pair, rowsOf(a, pair), rowsOf(b, pair)),
        explained("Each row is a layer, each cell one of its experts.",
            `In the first picture one colour stands for what ${letter(pair.a)} uses more, `
            + `the other for what ${letter(pair.b)} uses more.`));
}

function expertsSection(pair) {
    if (!pair.experts?.length) {
        return null;
    }
    return section("The experts that differ most",
        table("Share of their layer\u2019s uses", [
            { title: "Layer",           text: (row) => String(row.layer) },
            { title: "Expert",          text: (row) => String(row.expert) },
            { title: letter(pair.a),    text: (row) => percent(row.a, 2) },
            { title: letter(pair.b),    text: (row) => percent(row.b, 2) },
            { title: "Difference",
              text: (row) => `${row.a >= row.b ? "+" : "\u2212"}${percent(Math.abs(row.a - row.b), 2)}` },
        ], pair.experts),
        explained("How much of its layer\u2019s work each of these experts does, in one and in the other."));
}

function hotSetSection(pair) {
    if (!pair.hot_set?.length) {
        return null;
    }
    const [a, b] = [letter(pair.a), letter(pair.b)];
    const column = (learned, judged, key) => ({ title: `${learned} on ${judged}`, text: (row) => percent(row[key]) });
    return section("Hot experts of one, used for the other",
        table("Hit rate of a hot set", [
            { title: "Experts kept", text: (row) => percent(row.share, 0) },
            column(a, b, "a_on_b"), column(b, b, "b_on_b"), column(b, a, "b_on_a"), column(a, a, "a_on_a"),
        ], pair.hot_set),
        explained(`\u201c${a} on ${b}\u201d keeps the experts that are hottest in the first half of ${a}, `
            + `and counts how much of the second half of ${b} they serve.`,
            `Where that is far below \u201c${b} on ${b}\u201d, what was learned on one does not carry over.`));
}

function pairSections(document, pair) {
    return [divergenceSection(pair), heatmapsSection(document, pair), expertsSection(pair),
            hotSetSection(pair)].filter(Boolean);
}

function compareSections(document) {
    const place = element("div", { class: "sections" });
    const pairs = document.pairs ?? [];
    const title = (pair) => `${letter(pair.a)} and ${letter(pair.b)}`;
    const pick  = choice("Compare", pairs.map((pair, i) => [String(i), title(pair)]),
        (value) => place.replaceChildren(...pairSections(document, pairs[Number(value)])));
    const files = document.files ?? [];
    const grid  = files.length > 2 && document.matrix ? matrixTable(files, document.matrix) : null;
    return [section("The files", fileTable(files), grid, pick), place];
}
