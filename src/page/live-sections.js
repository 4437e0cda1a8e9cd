// The parts of the live page: each is made once, and shows a frame (docs/json.md, watch) whenever one comes.

"use strict";

const N_HOT_SHOWN = 32;
const ENOUGH      = 0.9; // of requests: the smallest cache that serves so many is named

function bytes(value) {
    return mebibytes(isKnown(value) ? value / 1048576 : null);
}

function seconds(value) {
    if (!isKnown(value)) {
        return UNKNOWN;
    }
    const whole = Math.floor(value);
    return whole < 60 ? `${whole}\u00a0s`
        : whole < 3600 ? `${Math.floor(whole / 60)}\u00a0min ${whole % 60}\u00a0s`
        : `${Math.floor(whole / 3600)}\u00a0h ${Math.floor(whole % 3600 / 60)}\u00a0min`;
}

function windowText({ window }) {
    return isKnown(window) ? `in the last ${seconds(Math.round(window))}` : "since counting began";
}

//
// at a glance
//

const GLANCE = [
    ["Model"], ["Program"], ["Counting"],
    ["Tokens", "evaluated since counting began"],
    ["Prompt, tokens/s", "of the last second"], ["Generation, tokens/s", "of the last second"],
    ["All, tokens/s", "of the last second; what is prompt and what generation is not known"],
    ["Evenness", "entropy of the window, normalised: 1 is even; mean of the layers"],
    ["Experts kept from the token before", "share of a token\u2019s experts that the token before it had too"],
    ["Drift of the last minute", "Jensen-Shannon divergence from what was counted before, against the noise in it"],
    ["Routing not known", "tokens"],
];

function countingText(frame) {
    return `${frame.counting ? "on" : "stopped"}${frame.recording ? ", recording" : ""}`;
}

// prompt and generation: null where phases are not known.
function reuseText({ all, generation, prompt }) {
    if (!isKnown(generation)) {
        return percent(all.share);
    }
    const parts = [[generation, "generation"], [prompt, "prompt"]].filter(([{ share }]) => isKnown(share));
    return parts.length === 0 ? UNKNOWN : parts.map(([{ share }, name]) => `${percent(share)} ${name}`).join(", ");
}

function driftText({ divergence, noise, times }) {
    return isKnown(divergence)
        ? `${decimal(divergence, 3)} bits${isKnown(times) ? `, ${times.toFixed(1)}\u00a0\u00d7 its noise` : ""}`
        : isKnown(noise) ? `noise ${decimal(noise, 3)} bits` : UNKNOWN;
}

function glanceSection() {
    const shown = livingFacts(GLANCE);
    return {
        node: shown.node,
        show: (frame) => shown.show([
            frame.model.name ?? UNKNOWN,
            `${frame.program ?? UNKNOWN}${isKnown(frame.pid) ? ` (${frame.pid})` : ""}`,
            countingText(frame),
            count(frame.tokens.all),
            frame.model.phases_known ? rate(frame.rates.prompt) : null,
            frame.model.phases_known ? rate(frame.rates.generation) : null,
            frame.model.phases_known ? null : rate(frame.rates.all),
            decimal(frame.entropy, 3),
            reuseText(frame.reuse),
            driftText(frame.drift),
            count(frame.tokens.lost),
        ]),
    };
}

//
// heat
//

function hottestText({ hottest }) {
    return isKnown(hottest) ? `${hottest.expert} (${percent(hottest.share)})` : UNKNOWN;
}

const LAYER_COLUMNS = [
    { title: "Layer",       text: ({ layer }) => String(layer) },
    { title: "Activations", text: ({ activations }) => count(activations) },
    { title: "Evenness",    text: ({ entropy }) => decimal(entropy, 3), hint: "entropy, normalised: 1 is even" },
    { title: "Hottest",     text: hottestText, hint: "expert, and its share of the layer\u2019s activations" },
    { title: "Never used",  text: ({ never_used }) => count(never_used), hint: "experts" },
];

const HOT_COLUMNS = [
    { title: "Layer",       text: ({ layer }) => String(layer) },
    { title: "Expert",      text: ({ expert }) => String(expert) },
    { title: "Activations", text: (slot) => count(slot.count) },
    { title: "Share",       text: ({ share }) => percent(share, 2), hint: "of the layer\u2019s activations" },
];

function heatSection() {
    const heatmap  = makeHeatmap({ label: "How often each expert of each layer is used, as a picture." });
    const about    = livingText("p", { class: "note" });
    const layers   = livingTable("Each layer", LAYER_COLUMNS, "No layer has routed anything yet.");
    const hot      = livingTable("The hottest experts", HOT_COLUMNS, "No expert was used in the window.");
    let   isSorted = false;
    let   last     = null;
    const draw     = () => {
        heatmap.node.hidden = last.layers.length === 0;
        heatmap.update(last.layers.map(({ layer, counts }) => heatRow(layer, counts)), isSorted);
    };
    const pick = choice("Experts", [["id", "By number"], ["heat", "By heat"]], (value) => {
        isSorted = value === "heat";
        if (last !== null) {
            draw();
        }
    });
    return {
        node: section("Which experts", element("div", { class: "choices" }, pick), about.node, heatmap.node,
            element("div", { class: "pair" }, hot.node, layers.node)),
        show: (frame) => {
            last = frame;
            about.show(`Activations ${windowText(frame)}: ${count(frame.activations)}.`);
            draw();
            hot.show(frame.hot.slice(0, N_HOT_SHOWN));
            layers.show(frame.layers);
        },
    };
}

//
// caches
//

const PHASES = [["generation", "Generation"], ["prompt", "Prompt"]];
const SPANS  = [["window", "In the window"], ["all", "Since the watch began"]];
const SERVED = { window: { lru: "lru", llama_cpp: "llama" }, all: { lru: "lru_all", llama_cpp: "llama_all" } };

// Of the requests of a phase, or of all, the share that a cache of a size served; null: there were none, or it is off.
function served(size, policy, span, phase) {
    return policy === "llama_cpp" && size.llama_slots === 0 ? null : size[SERVED[span][policy]][phase].share;
}

function servedColumn(title, policy, span, chosen, hint) {
    const isOff = (size) => policy === "llama_cpp" && size.llama_slots === 0;
    return { title, hint, text: (size) => isOff(size) ? "off" : percent(served(size, policy, span, chosen.of)) };
}

function cacheColumns(chosen) {
    return [
        { title: "Slots", text: ({ slots }) => decimal(slots, Number.isInteger(slots) ? 0 : 1),
          hint: "in each layer, on the mean" },
        { title: "Of all experts", text: ({ share }) => percent(share) },
        { title: "Memory",         text: (size) => bytes(size.bytes) },
        servedColumn("LRU", "lru", "window", chosen, "requests that are served, in the window"),
        servedColumn("LRU, all along", "lru", "all", chosen, "since the watch began, from an empty cache on"),
        servedColumn("llama.cpp\u2019s", "llama_cpp", "window", chosen, "llama.cpp\u2019s own cache, in the window"),
        servedColumn("llama.cpp\u2019s, all along", "llama_cpp", "all", chosen, "since the watch began"),
    ];
}

const ASKED = {
    generation: { none: "Nothing was generated",   what: "what generation asked for" },
    prompt:     { none: "No prompt was evaluated", what: "what prompts asked for" },
    all:        { none: "Nothing was routed",      what: "what was asked for" },
};

function cacheAnswer({ sizes, watched }, { of }) {
    const shareOf = (size) => served(size, "lru", "all", of);
    if (!sizes.some((size) => isKnown(shareOf(size)))) {
        return `${ASKED[of].none} since this page watches.`;
    }
    const since  = `of ${ASKED[of].what} in ${seconds(watched.seconds)}`;
    const enough = sizes.find((size) => shareOf(size) >= ENOUGH);
    if (enough === undefined) {
        return `None of these caches would have served ${percent(ENOUGH, 0)} ${since}.`;
    }
    const memory = isKnown(enough.bytes) ? `, ${bytes(enough.bytes)}` : "";
    return `The smallest of these caches that would have served ${percent(ENOUGH, 0)} ${since}: `
         + `${plural(Math.round(enough.slots), "slot")} in each layer${memory}.`;
}

function cacheSection() {
    const chart = {
        label:  "Requests that a cache of experts serves, by its slots",
        x:      { name: "Slots in each layer", format: String, tip: (slots) => `${decimal(slots, 1)} slots` },
        y:      { name: "Requests served", max: 100, ...PERCENT },
        series: [{ key: "lru", points: [] }, { key: "llama_cpp", points: [] }],
    };
    const chosen = { phase: "generation", span: "window", of: "generation" }; // of: "all" where phases are not known
    const drawn  = livingChart(chart);
    const answer = livingText("p", { class: "reasons" });
    const rows   = livingTable("Caches of experts", cacheColumns(chosen), "There is nothing to tell yet.");
    let   last   = null;
    const draw   = () => {
        phases.hidden = !last.model.phases_known;
        chosen.of     = last.model.phases_known ? chosen.phase : "all";
        chart.series.forEach((series) => {
            series.points = percents(points(last.sizes, ({ slots }) => slots,
                                            (size) => served(size, series.key, chosen.span, chosen.of)));
        });
        drawn.show();
        answer.show(cacheAnswer(last, chosen));
        rows.show(last.sizes);
    };
    const pick = (title, options, key) => choice(title, options, (value) => {
        chosen[key] = value;
        if (last !== null) {
            draw();
        }
    });
    const phases = pick("Requests of", PHASES, "phase");
    return {
        node: section("What a cache would serve", answer.node,
            element("div", { class: "choices" }, phases, pick("Chart", SPANS, "span")),
            drawn.node, rows.node,
            explained("A request is one layer of one batch asking for one expert.",
                "LRU: each layer has slots of its own, and the expert that was used longest ago makes room.",
                "llama.cpp\u2019s is its own cache of experts, --moe-cache-mib.")),
        show: (frame) => {
            last = frame;
            draw();
        },
    };
}

//
// conversations
//

const SEQUENCE_COLUMNS = [
    { title: "Slot",       text: ({ sequence }) => String(sequence), hint: "the number of the sequence" },
    { title: "Context",    text: ({ context }) => String(context) },
    { title: "Conversation", text: ({ life }) => count(life + 1), hint: "how many the slot has had, with this one" },
    { title: "Now",        text: ({ phase }) => phase ?? UNKNOWN },
    { title: "Position",   text: ({ position }) => count(position) },
    { title: "Prompt",     text: ({ prompt_tokens }) => count(prompt_tokens), hint: "tokens since the watch began" },
    { title: "Generated",  text: ({ generation_tokens }) => count(generation_tokens),
      hint: "tokens since the watch began" },
    { title: "Tokens/s",   text: (sequence) => rate(sequence.rate), hint: "in the window" },
    { title: "Experts used", text: ({ used }) => percent(used), hint: "share of all experts of all layers" },
    { title: "Last token", text: ({ age }) => age < 1 ? "now" : `${seconds(age)} ago` },
];

function sequenceSection() {
    const rows  = livingTable("Conversations", SEQUENCE_COLUMNS, "Nothing was routed since this page watches.");
    const about = livingText("p", { class: "note" });
    return {
        node: section("Who uses them", rows.node, about.node),
        show: ({ sequences, watched, model }) => {
            rows.show(sequences, model.phases_known ? undefined : "Which conversation a token is of is not known.");
            const lost = watched.overrun_bytes > 0 ? `; ${bytes(watched.overrun_bytes)} came too fast to be seen` : "";
            about.show(`Watched for ${seconds(watched.seconds)}: ${count(watched.tokens)} tokens${lost}.`);
        },
    };
}

//
// who could be traced
//

const UNTRACED_COLUMNS = [
    { title: "Program", text: ({ program }) => program || UNKNOWN },
    { title: "Process", text: ({ pid }) => String(pid) },
    { title: "Traced as it runs by", text: ({ pid }) => `llama-expert-tracer attach ${pid}`, isText: true },
];

// show() takes what the list of processes has of them.
function untracedSection() {
    const rows = livingTable("Processes that run llama.cpp", UNTRACED_COLUMNS, "");
    const node = section("Not traced", rows.node,
        explained("Nothing is restarted, and no answer changes."));
    const show = (untraced) => {
        node.hidden = untraced.length === 0;
        rows.show(untraced);
    };
    show([]);
    return { node, show };
}
