// Tokens a second of the last ten minutes: rings of a fixed length, and their chart.

"use strict";

const RING_LENGTH = 600;  // frames, of a second each
const GAP         = 3.5;  // seconds without a frame: the line is broken
const LEAST_SPAN  = 60;   // seconds that the chart shows

class RateRing {
    constructor() {
        this.times      = new Float64Array(RING_LENGTH);
        this.prompt     = new Float64Array(RING_LENGTH);
        this.generation = new Float64Array(RING_LENGTH);
        this.all        = new Float64Array(RING_LENGTH);
        this.clear();
    }

    clear() {
        this.n = 0; // that were ever put in
    }

    put(time, { prompt, generation, all }) {
        const at = this.n++ % RING_LENGTH;
        this.times[at]      = time;
        this.prompt[at]     = prompt ?? NaN;
        this.generation[at] = generation ?? NaN;
        this.all[at]        = all ?? NaN;
    }

    // [[minutes before `now`, value]], oldest first, with a hole where nothing was seen.
    points(values, now) {
        const points = [];
        let   last   = null;
        for (let i = Math.max(0, this.n - RING_LENGTH); i < this.n; i++) {
            const at  = i % RING_LENGTH;
            const ago = this.times[at] - now;
            if (ago >= -RING_LENGTH && !Number.isNaN(values[at])) {
                if (last !== null && ago - last > GAP) {
                    points.push([ago / 60, null]);
                }
                points.push([ago / 60, values[at]]);
                last = ago;
            }
        }
        return points;
    }

    span(now) {
        const oldest = this.n === 0 ? now : this.times[Math.max(0, this.n - RING_LENGTH) % RING_LENGTH];
        return Math.min(Math.max(now - oldest, LEAST_SPAN), RING_LENGTH);
    }
}

function rate(value) {
    return isKnown(value) ? value.toFixed(value < 10 ? 1 : 0) : UNKNOWN;
}

function agoText(minutes) {
    const seconds = Math.round(-60 * minutes);
    return seconds < 60 ? `${seconds} s ago` : `${Math.floor(seconds / 60)} min ${seconds % 60} s ago`;
}

// Of these keys of `rates`.
function ratesChart(ring, keys) {
    const chart = {
        label:  "Tokens a second, of the last ten minutes",
        x:      { name: "Minutes ago", min: -1, max: 0, format: (value) => String(Number((-value).toFixed(1))),
                  tip: agoText },
        y:      { name: "Tokens/s", format: String, tip: rate },
        series: keys.map((key) => ({ key, points: [] })),
    };
    const drawn = livingChart(chart);
    return {
        node: drawn.node,
        show(time) {
            chart.x.min = -ring.span(time) / 60;
            chart.series.forEach((series) => {
                series.points = ring.points(ring[series.key], time);
            });
            drawn.show();
        },
    };
}

// One of two charts is in its place: of the phases, or of all tokens where phases are not known.
function ratesSection() {
    const ring    = new RateRing();
    const byPhase = ratesChart(ring, ["generation", "prompt"]);
    const ofAll   = ratesChart(ring, ["all"]);
    const place   = element("div", {}, byPhase.node);
    return {
        node:  section("Tokens a second", place),
        clear: () => ring.clear(),
        put:   ({ time, rates }) => ring.put(time, rates),
        show:  ({ time, model }) => {
            const chart = model.phases_known ? byPhase : ofAll;
            if (place.firstChild !== chart.node) {
                place.replaceChildren(chart.node);
            }
            chart.show(time);
        },
    };
}
