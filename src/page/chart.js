// Charts, drawn by ECharts as SVG: in the colours of the reader's choice, and in light ones on paper.
//
// The colours are those of Okabe and Ito, which people tell apart however they see colours; on a dark ground lighter.

const COLOURS = {
    light: {
        text: "#1b1f24", faint: "#59626c", grid: "#e3e7eb", ground: "#ffffff",
        blue: "#0072b2", orange: "#d98200", green: "#00875f", red: "#c94f00", purple: "#a8508a",
        sky: "#3a9ad9", grey: "#6b7480",
    },
    dark: {
        text: "#e8ebee", faint: "#a4adb7", grid: "#2d343c", ground: "#1c2127",
        blue: "#58b4f0", orange: "#f2b13c", green: "#35c99a", red: "#f5895a", purple: "#e29bc8",
        sky: "#9fd4f7", grey: "#98a2ad",
    },
};

const STYLES = {
    lru:           { name: "LRU",                  colour: "blue",   dash: "solid",  width: 3 },
    lfu:           { name: "LFU",                  colour: "green",  dash: "solid",  width: 2 },
    static:        { name: "Static",               colour: "orange", dash: "solid",  width: 2 },
    prompt_oracle: { name: "Per prompt",           colour: "purple", dash: "dotted", width: 2 },
    llama_cpp:     { name: "llama.cpp",            colour: "red",    dash: "dashed", width: 2, symbol: "diamond" },
    pooled_lru:    { name: "Shared LRU",           colour: "red",    dash: "dashed", width: 2 },
    optimum:       { name: "Optimum",              colour: "grey",   dash: "dashed", width: 2 },
    pooled_optimum: { name: "Optimum, shared",     colour: "sky",    dash: "dotted", width: 2 },
    all:           { name: "All tokens",           colour: "blue",   dash: "solid",  width: 3 },
    prompt:        { name: "Prompt",               colour: "orange", dash: "solid",  width: 2 },
    generation:    { name: "Generation",           colour: "green",  dash: "solid",  width: 2 },
    even:          { name: "All used alike",       colour: "grey",   dash: "dashed", width: 2 },
    chance:        { name: "By chance",            colour: "grey",   dash: "dashed", width: 2 },
    divergence:    { name: "Distance of the two",  colour: "blue",   dash: "solid",  width: 3 },
    noise_a:       { name: "Halves of A",          colour: "orange", dash: "dashed", width: 2 },
    noise_b:       { name: "Halves of B",          colour: "purple", dash: "dotted", width: 2 },
};

const FONT     = "system-ui, -apple-system, \"Segoe UI\", Roboto, \"Helvetica Neue\", Arial, sans-serif";
const PAPER    = 680; // CSS pixels across, on A4 and Letter
const darkness = matchMedia("(prefers-color-scheme: dark)");
const pictures = []; // what has to be drawn anew when the colours change: functions

let onPaper = false;

function colours() {
    return darkness.matches && !onPaper ? COLOURS.dark : COLOURS.light;
}

function drawAll() {
    pictures.forEach((draw) => draw());
}

function drawFor(isPaper) {
    onPaper = isPaper;
    drawAll();
}

darkness.addEventListener("change", drawAll);
addEventListener("beforeprint", () => drawFor(true));
addEventListener("afterprint", () => drawFor(false));

//
// what lines stand for
//

const DASHES = { solid: "none", dashed: "6 4", dotted: "2 3" };

function swatch(style) {
    const svg    = (tag, attributes) => {
        const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
        Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
        return node;
    };
    const sample = style.width > 0
        ? svg("line", { x1: 1, x2: 25, y1: 6, y2: 6,
                        "stroke-width": style.width, "stroke-dasharray": DASHES[style.dash] })
        : svg("path", { d: "M13 1 18 6 13 11 8 6Z" });
    const image  = svg("svg", { width: 26, height: 12, "aria-hidden": "true" });
    sample.classList.add(`ink-${style.colour}`);
    image.append(sample);
    return image;
}

// Buttons that take a line out of the chart and bring it back.
function legend(series, hidden, draw) {
    const items = series.map(({ key, name }) => {
        const style  = STYLES[key];
        const button = element("button", { type: "button", "aria-pressed": "true" }, swatch(style),
                               element("span", {}, name ?? style.name));
        button.addEventListener("click", () => {
            const isShown = hidden.delete(key);
            if (!isShown) {
                hidden.add(key);
            }
            button.setAttribute("aria-pressed", String(isShown));
            draw();
        });
        return element("li", {}, button);
    });
    return element("ul", { class: "legend", "aria-label": "Lines of this chart; press to hide" }, ...items);
}

//
// the chart itself
//

function axis(palette, description, isVertical) {
    return {
        type:          "value",
        min:           description.min ?? 0,
        max:           description.max,
        minInterval:   description.minInterval ?? 0,
        splitNumber:   isVertical ? 5 : 6,
        name:          description.name,
        nameLocation:  isVertical ? "end" : "middle",
        nameGap:       isVertical ? 12 : 30,
        nameTextStyle: { color: palette.faint, fontSize: 13, align: isVertical ? "left" : "center" },
        axisLabel:     { color: palette.faint, fontSize: 12, formatter: description.format, hideOverlap: true },
        axisLine:      { show: !isVertical, onZero: false, lineStyle: { color: palette.faint } },
        axisTick:      { show: !isVertical, lineStyle: { color: palette.faint } },
        splitLine:     { show: isVertical, lineStyle: { color: palette.grid } },
    };
}

function tip(chart, params) {
    const lines = params.map((item) => {
        const { key, name } = chart.series[Number(item.seriesId)];
        return element("div", {}, swatch(STYLES[key]), ` ${name ?? STYLES[key].name} `,
                       element("b", {}, chart.y.tip(item.value[1])));
    });
    return element("div", { class: "tip" }, element("div", {}, chart.x.tip(params[0].value[0])), ...lines);
}

function drawnSeries(palette, series, id) {
    const style  = STYLES[series.key];
    const colour = palette[style.colour];
    if (series.bars) {
        return { id, type: "bar", data: series.points, itemStyle: { color: colour },
                 barCategoryGap: "15%", large: false };
    }
    return {
        id,
        type:       "line",
        data:       series.points,
        symbol:     style.symbol ?? "circle",
        symbolSize: style.symbol ? 12 : 6,
        showSymbol: style.symbol !== undefined || series.points.length <= 16,
        lineStyle:  { color: colour, width: style.width, type: style.dash },
        itemStyle:  { color: colour },
        z:          style.width,
    };
}

function options(chart, hidden) {
    const palette = colours();
    const series  = chart.series.map((one, i) => ({ one, id: String(i) })).filter(({ one }) => !hidden.has(one.key));
    return {
        animation: false,
        textStyle: { fontFamily: FONT, color: palette.text },
        grid:      { left: 4, right: 20, top: 36, bottom: 40, containLabel: true },
        xAxis:     axis(palette, chart.x, false),
        yAxis:     axis(palette, chart.y, true),
        series:    series.map(({ one, id }) => drawnSeries(palette, one, id)),
        tooltip:   {
            trigger:         "axis",
            confine:         true,
            backgroundColor: palette.ground,
            borderColor:     palette.grid,
            textStyle:       { color: palette.text, fontSize: 13, fontFamily: FONT },
            axisPointer:     { lineStyle: { color: palette.faint } },
            formatter:       (params) => tip(chart, params),
        },
    };
}

// chart: { label, x: { name, max, format, tip }, y: the same, series: [{ key, points: [[x, y]], bars, name }] }; its
// draw() is what draws it anew.
function makeChart(chart) {
    const place   = element("div", { class: "chart", role: "img", "aria-label": chart.label });
    const hidden  = new Set();
    let   drawing = null;
    const draw    = () => {
        if (!place.isConnected) {
            return;
        }
        drawing ??= echarts.init(place, null, { renderer: "svg" });
        drawing.resize({ width: onPaper ? PAPER : place.clientWidth });
        drawing.setOption(options(chart, hidden), true);
        drawing.getZr().flush();
    };
    new ResizeObserver(() => onPaper || draw()).observe(place);
    pictures.push(draw);
    chart.draw = draw;
    return element("div", {}, chart.series.length > 1 ? legend(chart.series, hidden, draw) : null, place);
}

// One chart of several, by a choice: [[value, label]]; make(value) returns the chart.
function chosenChart(title, options, make) {
    const place = element("div");
    const made  = {};
    const pick  = choice(title, options, (value) => {
        made[value] ??= makeChart(make(value));
        place.replaceChildren(made[value]);
    });
    return element("div", {}, pick, place);
}

const PERCENT = { format: (value) => `${Number(value.toFixed(2))}%`, tip: (value) => `${value.toFixed(1)}%` };
const LAYERS  = { name: "Layer", min: "dataMin", max: "dataMax", minInterval: 1, format: String,
                  tip: (value) => `Layer ${value}` };

function percents(values) {
    return values.map(([x, share]) => [x, 100 * share]);
}

// [[x, value]] of those rows where it is known.
function points(rows, x, value) {
    return rows.filter((row) => isKnown(value(row))).map((row) => [x(row), value(row)]);
}
