// What caches of experts would have hit.

const PHASES   = [["generation", "Generation"], ["prompt", "Prompt"]];
const POLICIES = ["static", "prompt_oracle", "lru", "lfu", "optimum", "llama_cpp", "pooled_lru",
                  "pooled_optimum"];

const POLICY_MEANINGS = {
    static:         "keeps the experts that were hottest in the first half of the trace, and never changes",
    prompt_oracle:  "keeps those that are hottest in this very answer, as if they were known beforehand: "
                    + "pinning cannot do better",
    lru:            "each layer drops what was not used for longest",
    lfu:            "each layer drops what was used least of late",
    optimum:        "knows the future: caches of one layer each cannot do better",
    llama_cpp:      "what --moe-cache-mib of llama.cpp 0.7.0 does: one LRU cache that all layers share",
    pooled_lru:     "one LRU cache that all layers share",
    pooled_optimum: "knows the future: a cache that all layers share cannot do better",
};

const WHOLE_COLUMNS = [["pooled_lru", "Shared LRU"], ["llama_cpp", "llama.cpp"], ["pooled_optimum", "Optimum, shared"]];

// Those that were judged in a phase; llama.cpp's own stands for the shared LRU where it is there.
function policiesOf(cache, phase) {
    const judged = (policy) => cache.sizes.some((size) => isKnown(size[phase]?.[policy]));
    return POLICIES.filter((policy) => judged(policy) && (policy !== "pooled_lru" || !judged("llama_cpp")));
}

function policyMeanings(policies) {
    return element("dl", { class: "meanings" }, ...policies.map((policy) =>
        element("div", {}, element("dt", {}, STYLES[policy].name), element("dd", {}, POLICY_MEANINGS[policy]))));
}

function slots(n) {
    return n.toLocaleString("en", { maximumFractionDigits: 1 });
}

function mebibytesOfSlot(cache) {
    const size = cache.sizes.find((one) => isKnown(one.mib) && one.slots > 0);
    return size ? size.mib / size.slots : null;
}

// LRU is known at every size, the others at some.
function policyPoints(cache, phase, policy, ofSlot) {
    if (policy === "lru" && isKnown(cache.lru?.[phase])) {
        const rates = cache.lru[phase].map((rate, n) => [n * ofSlot, rate]);
        return percents(rates.filter(([, rate]) => isKnown(rate)));
    }
    return percents(points(cache.sizes, (size) => size.slots * ofSlot, (size) => size[phase]?.[policy]));
}

function curveChart(cache, phase, isInBytes) {
    const ofSlot = isInBytes ? mebibytesOfSlot(cache) : 1;
    const most   = Math.max(cache.lru?.[phase] ? cache.lru[phase].length - 1 : 0,
                            ...cache.sizes.map((size) => size.slots));
    const x      = isInBytes
        ? { name: "Size of the cache", max: most * ofSlot, format: mebibytes, tip: mebibytes }
        : { name: "Experts that fit, in each layer", max: most, minInterval: 1, format: String,
            tip: (n) => `${slots(n)} ${n === 1 ? "slot" : "slots"} in each layer` };
    return {
        label:  `Hit rate against the size of the cache, ${phase}.`,
        x,
        y:      { ...PERCENT, name: "Hit rate", max: 100 },
        series: policiesOf(cache, phase).map((policy) => ({
            key: policy, points: policyPoints(cache, phase, policy, ofSlot) })),
    };
}

function curveTable(cache, phase) {
    const name = PHASES.find(([key]) => key === phase)[1];
    return table(`Hit rates, ${name.toLowerCase()}`, [
        { title: "Slots", text: (size) => slots(size.slots) },
        { title: "Share", text: (size) => percent(size.share) },
        { title: "Size",  text: (size) => mebibytes(size.mib) },
        ...policiesOf(cache, phase).map((policy) => ({
            title: STYLES[policy].name, hint: POLICY_MEANINGS[policy],
            text: (size) => percent(size[phase]?.[policy]) })),
    ], cache.sizes);
}

function curves(cache) {
    const phases = PHASES.filter(([phase]) => cache.sizes.some((size) => isKnown(size[phase])));
    const scales = mebibytesOfSlot(cache) === null ? [["slots", "Slots"]] : [["slots", "Slots"], ["bytes", "Memory"]];
    const place  = element("div");
    const shown  = {};
    const make   = () => place.replaceChildren(makeChart(curveChart(cache, shown.phase, shown.scale === "bytes")),
        element("details", {}, element("summary", {}, "The numbers"), curveTable(cache, shown.phase)));
    const pick   = (key) => (value) => {
        shown[key] = value;
        if (shown.phase && shown.scale) {
            make();
        }
    };
    const choices = [choice("Tokens", phases, pick("phase")), choice("Size in", scales, pick("scale"))];
    return element("div", {}, element("div", { class: "choices" }, ...choices), place);
}

// How sure the rates of a phase are, at their worst.
function sureness(cache, phase) {
    const units  = cache.units?.[phase];
    const widths = cache.sizes.flatMap((size) => Object.values(size[phase]?.intervals ?? {}))
        .filter(isKnown).map(([low, high]) => (high - low) / 2);
    if (!isKnown(units)) {
        return "";
    }
    const of = units.of === "lives" ? plural(units.n, "conversation") : `${plural(units.n, "block")} of 64 tokens`;
    return widths.length > 0 ? `\u00b1${percent(Math.max(...widths))} at most, from ${of}`
                             : `not known, ${of} are too few`;
}

function wholeRunSection(cache) {
    const sizes = cache.sizes.filter((size) => isKnown(size.whole_run));
    if (sizes.length === 0) {
        return null;
    }
    const columns = [["all", "all"], ...PHASES].flatMap(([phase, name]) => WHOLE_COLUMNS
        .filter(([key]) => sizes.some((size) => isKnown(size.whole_run[phase]?.[key])))
        .map(([key, title]) => ({ title: `${title}, ${name.toLowerCase()}`,
                                  text: (size) => percent(size.whole_run[phase]?.[key]) })));
    return section("The whole run",
        element("details", {}, element("summary", {}, "The numbers"), table("Hit rates of the whole run", [
            { title: "Size", text: (size) => isKnown(size.mib) ? mebibytes(size.mib) : percent(size.share) },
            ...columns,
        ], sizes)),
        explained("From an empty cache that layers share, with everything that is used for the first time: "
            + "this is what an engine counts when it ends."));
}

function curvesSection(cache) {
    const policies = POLICIES.filter((policy) => PHASES.some(([phase]) => policiesOf(cache, phase).includes(policy)));
    if (policies.length === 0) {
        return null;
    }
    return section("What a cache would have hit",
        curves(cache),
        explained("A hit is an expert that a layer asks for and that the cache already holds, "
            + "so that nothing has to be copied.",
            "A curve that rises early means that a small cache is enough."),
        policyMeanings(policies),
        element("p", { class: "note" },
            `Judged on the second half of the trace, having seen the first: ${PHASES.map(([phase, name]) =>
                `${plural(cache.requests[phase] ?? 0, "request")} (${name.toLowerCase()})`).join(", ")}.`),
        ...PHASES.filter(([phase]) => sureness(cache, phase) !== "").map(([phase, name]) =>
            element("p", { class: "note" }, `How sure, 95 % (${name.toLowerCase()}): ${sureness(cache, phase)}.`)));
}

function distanceChart(distances, phase) {
    const { counts, first } = distances[phase];
    const sum = total(counts) + (first ?? 0);
    return {
        label:  `How many other experts were used since an expert's last use, ${phase}.`,
        x:      { name: "Other experts of the layer used in between", max: counts.length, minInterval: 1,
                  format: String, tip: (distance) => plural(distance, "other expert") },
        y:      { ...PERCENT, name: "Share of requests", tip: (value) => `${value.toFixed(2)}%` },
        series: [{ key: phase, bars: true, points: percents(counts.map((n, d) => [d, sum === 0 ? 0 : n / sum])) }],
    };
}

function distancesSection(distances) {
    const phases = known(distances, PHASES);
    if (phases.length === 0) {
        return null;
    }
    const firsts = phases.map(([phase, name]) => `${count(distances[phase].first)} (${name.toLowerCase()})`).join(", ");
    return section("How soon an expert comes back",
        chosenChart("Tokens", phases, (phase) => distanceChart(distances, phase)),
        explained("The reuse distance: how many other experts of its layer were used since an expert was used last.",
            "A cache with room for N experts has all those with a distance below N, "
            + "so bars on the left are good news."),
        element("p", { class: "note" }, `Requests for an expert that was never used before: ${firsts}.`));
}

function concurrencySection(rows) {
    if (!rows?.length) {
        return null;
    }
    return section("Several conversations at once",
        table("What one step of generation touches", [
            { title: "Conversations",    text: (row) => count(row.sequences) },
            { title: "Experts of a layer", text: (row) => decimal(row.experts, 1) },
            { title: "Share",            text: (row) => percent(row.share) },
            { title: "Size",             text: (row) => mebibytes(row.mib) },
        ], rows),
        explained("Each conversation brings experts of its own: the more are answered at the same time, "
            + "the more experts every step needs."));
}

// What to give llama.cpp, for each way to use the memory.
function waysOf({ llama_cpp, whole_layers, equal_slots, slots_by_layer, kept_layers }) {
    const cached = `--moe-cache-mib ${llama_cpp?.moe_cache_mib}`;
    const whole  = `--n-cpu-moe ${whole_layers?.n_cpu_moe}`;
    const kept   = kept_layers && [`-ot '${kept_layers.override_tensor}' -cmoe`,
        ...(kept_layers.slots > 0 ? [`--moe-cache-mib ${kept_layers.moe_cache_mib}`] : [])].join(" ");
    return [
        { way: "llama.cpp\u2019s cache",                  of: llama_cpp,      how: cached },
        { way: "The last layers whole, no cache",         of: whole_layers,   how: whole },
        { way: "Whole layers where a cache serves worst", of: kept_layers,    how: kept },
        { way: "LRU, as many slots in each layer",        of: equal_slots,    how: UNKNOWN },
        { way: "LRU, more slots where they help more",    of: slots_by_layer, how: UNKNOWN },
    ].filter(({ of }) => isKnown(of));
}

// "55.0% (53.9%–56.1%)"
function withInterval(value, interval, text) {
    return isKnown(value) && isKnown(interval) ? `${text(value)} (${interval.map(text).join("\u2013")})` : text(value);
}

function budgetSection(budget) {
    if (!isKnown(budget)) {
        return null;
    }
    const ways    = waysOf(budget);
    const hasTime = ways.some(({ of }) => isKnown(of.tokens_per_second));
    return section(`What to do with ${mebibytes(budget.bytes / (1 << 20))}`,
        table(`Device memory for experts, judged by the ${budget.phase}`, [
            { title: "Way",      text: (row) => row.way },
            { title: "Hit rate", text: ({ of }) => withInterval(of.rate, of.rate_interval, percent) },
            ...(hasTime ? [{ title: "Tokens per second", text: ({ of }) =>
                withInterval(of.tokens_per_second, of.tokens_per_second_interval, (one) => decimal(one, 1)) }] : []),
            { title: "llama.cpp\u2019s options", text: (row) => row.how, isText: true },
        ], ways),
        explained("The hit rate is the share of experts that are already where they are computed.",
            isKnown(budget.break_even)
                ? `A cache is faster than none where it hits more than ${percent(budget.break_even)} of them.` : ""));
}

function cacheSections(cache) {
    return [budgetSection(cache.budget), curvesSection(cache), wholeRunSection(cache),
            distancesSection(cache.distances), concurrencySection(cache.concurrency)];
}
