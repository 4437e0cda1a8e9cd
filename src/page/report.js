// What a trace or a statistics file tells about the use of experts.

const TOKENS = [["all", "All"], ["prompt", "Prompt"], ["generation", "Generation"]];
const MARKS  = ["50", "80", "90", "99"]; // percent of activations

function modelFacts(document) {
    const layers  = document.layers ?? [];
    const ranges  = (key) => [...new Set(layers.map((layer) => layer[key]).filter(isKnown))].sort((a, b) => a - b);
    const range   = (values) => values.length > 1 ? `${values[0]} to ${values.at(-1)}` : values.join("");
    const experts = ranges("n_expert");
    const used    = ranges("n_expert_used");
    const inLayer  = experts.length > 0 ? [`${range(experts)} in a layer`] : [];
    const forToken = used.length > 0 ? [`${range(used)} for each token`] : [];
    const { model, tokens } = document;
    return facts([
        ["Model",            model?.name],
        ["Architecture",     model?.architecture],
        ["Layers with experts", layers.length > 0 && experts.length > 0 ? count(layers.length) : null],
        ["Experts",          [...inLayer, ...forToken].join(", ")],
        ["Prompt tokens",    tokens && count(tokens.prompt)],
        ["Generated tokens", tokens && count(tokens.generation)],
        ["Warm-up tokens",   tokens?.warmup ? count(tokens.warmup) : null],
        ["Engine",           model?.engine?.replace(/ \(.*\)$/, "")], // without where it lies
        ["Traced file",      document.file?.split("/").at(-1)],
    ]);
}

function sharedTokens(layers) {
    return TOKENS.filter(([phase]) => layers.some((layer) => isKnown(layer.activations?.[phase])));
}

// The heatmap and what it shows: `phases` and an order.
function heatSection(layers) {
    const heat   = makeHeatmap({
        label: "Heatmap of the use of each expert in each layer; the table of layers has it in numbers." });
    const shown  = {};
    const update = (key) => (value) => {
        shown[key] = value;
        if (shown.phase && shown.order) {
            const rows = layers.filter((layer) => isKnown(layer.activations?.[shown.phase]));
            heat.show(rows.map((layer) => heatRow(layer.layer, layer.activations[shown.phase])),
                      shown.order === "heat");
        }
    };
    const choices = [choice("Tokens", sharedTokens(layers), update("phase")),
        choice("Order", [["id", "By number"], ["heat", "Hottest first"]], update("order"))];
    return section("Which experts are used",
        element("div", { class: "choices" }, ...choices),
        heat.node,
        explained("Each row is a layer of the model, each cell one of its experts;",
            "the stronger the colour, the more often the router chose it.",
            "Even rows mean that all experts share the work, a few strong cells that some of them do most of it."));
}

function coverageChart(coverage, phases) {
    const curve = (values) => percents(values.map((share, i) => [100 * i / (values.length - 1), share]));
    const even  = coverage[phases.at(-1)[0]].uniform?.curve; // as many tokens, which bend the line by chance
    return {
        label:  "Share of activations that the hottest experts take.",
        x:      { name: "Experts, hottest first", max: 100, format: PERCENT.format,
            tip: (value) => `The hottest ${value.toFixed(0)}% of the experts` },
        y:      { ...PERCENT, name: "Share of all uses", max: 100 },
        series: [...phases.map(([phase]) => ({ key: phase, points: curve(coverage[phase].curve) })),
            { key: "even", points: even ? curve(even) : [[0, 0], [100, 100]] }],
    };
}

function coverageSection(coverage) {
    const phases = known(coverage, TOKENS);
    if (phases.length === 0) {
        return null;
    }
    const cell = (mark) => ([phase]) => {
        const { [mark]: n, slots } = coverage[phase];
        return isKnown(n) ? `${count(n)} (${percent(slots > 0 ? n / slots : 0)})` : UNKNOWN;
    };
    return section("How few experts do most of the work",
        makeChart(coverageChart(coverage, phases)),
        explained("Take the hottest experts of all layers, one after the other: "
            + "this is how much of the work they do together.",
            "The dashed line is what as many tokens show that use all experts alike: few tokens cannot touch them all.",
            "The further a line is above it, the more a few experts do."),
        table("Experts that take so much of all uses", [
            { title: "Tokens", text: ([, name]) => name },
            ...MARKS.map((mark) => ({ title: `${mark}%`, text: cell(mark) })),
            { title: "Experts in all", text: ([phase]) => count(coverage[phase].slots) },
        ], phases));
}

function neighboursChart(layers) {
    const rows   = layers.filter((layer) => isKnown(layer.neighbours));
    const series = ["generation", "prompt", "chance"].map((key) =>
        ({ key, points: percents(points(rows, (layer) => layer.layer, (layer) => layer.neighbours[key])) }));
    return {
        label:  "Share of a token's experts that the token before it used too, by layer.",
        x:      LAYERS,
        y:      { ...PERCENT, name: "Experts in common with the token before" },
        series: series.filter((one) => one.points.length > 0),
    };
}

// A cache with room for the share of experts that is nearest to a quarter.
function quarterOf(cache) {
    return [...(cache?.sizes ?? [])].sort((a, b) => Math.abs(a.share - 0.25) - Math.abs(b.share - 0.25))[0] ?? null;
}

function phaseRows(report) {
    const quarter = quarterOf(report.cache);
    const rows    = [
        ["Tokens", (phase) => report.tokens?.[phase], count],
        ["Experts that take 80% of all uses", (phase) => report.coverage?.[phase]?.["80"], count],
        ["Experts in common with the token before", (phase) => report.neighbours?.[phase], percent],
        ...(quarter ? ["static", "lru", "optimum"].map((policy) =>
            [`Hit rate of ${count(quarter.slots)} slots, ${STYLES[policy].name}`,
             (phase) => quarter[phase]?.[policy], percent]) : []),
    ];
    return rows.filter(([, value]) => isKnown(value("prompt")) || isKnown(value("generation")));
}

function phasesSection(report) {
    const rows = phaseRows(report);
    const hasNeighbours = report.layers.some((layer) => isKnown(layer.neighbours));
    return section("Prompt against generation",
        table("Reading a prompt and writing an answer", [
            { title: "",           text: ([name]) => name },
            { title: "Prompt",     text: ([, value, text]) => text(value("prompt")) },
            { title: "Generation", text: ([, value, text]) => text(value("generation")) },
        ], rows),
        explained("A prompt is read many tokens at a time and so touches nearly every expert; "
            + "an answer is written token by token.",
            "What helps with one need not help with the other."),
        ...(hasNeighbours ? [element("h3", {}, "From one token to the next"), makeChart(neighboursChart(report.layers)),
            explained("How many of its experts a token has in common with the token before it.",
                "Far above the dashed line, an expert that was just used is likely to be used again.")] : []));
}

function layersSection(layers) {
    const hasNeighbours = (phase) => layers.some((layer) => isKnown(layer.neighbours?.[phase]));
    const reuse = (phase, title) => hasNeighbours(phase)
        ? [{ title, hint: "Experts in common with the token before",
             text: (layer) => percent(layer.neighbours?.[phase]) }] : [];
    return section("Layer by layer",
        table("How even the routing of each layer is", [
            { title: "Layer",     text: (layer) => String(layer.layer) },
            { title: "Experts",   text: (layer) => count(layer.n_expert) },
            { title: "Evenness",  text: (layer) => decimal(layer.entropy, 3), hint: "Normalised entropy" },
            { title: "Effective", text: (layer) => decimal(layer.effective_experts, 1),
              hint: "Effective number of experts" },
            ...(layers.some((layer) => isKnown(layer.uniform_effective))
                ? [{ title: "By chance", hint: "Of as many tokens that use all experts alike",
                     text: (layer) => decimal(layer.uniform_effective, 1) }] : []),
            { title: "Hottest",   text: (layer) => isKnown(layer.hottest)
                ? `${layer.hottest.expert} (${percent(layer.hottest.share)})` : UNKNOWN },
            { title: "Never used", text: (layer) => count(layer.never_used) },
            ...reuse("generation", "Reuse, generation"),
            ...reuse("prompt", "Reuse, prompt"),
        ], layers),
        explained("Evenness is 1 where all experts are used alike and 0 where one does everything;",
            "\u201ceffective\u201d says how many experts, all used alike, would be as even as that."));
}

function reportSections(report) {
    const layers = report.layers ?? [];
    return [
        layers.length > 0 ? heatSection(layers) : null,
        coverageSection(report.coverage),
        ...(report.cache ? cacheSections(report.cache) : []),
        layers.length > 0 ? phasesSection(report) : null,
        layers.length > 0 ? layersSection(layers) : null,
    ];
}
