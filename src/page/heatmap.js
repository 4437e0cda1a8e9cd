// Layers x experts, as a canvas: ten thousands of cells are drawn at once and looked up where the pointer is.

const RAMPS = {
    light: ["#fbfde3", "#d5eeb9", "#8fd3b9", "#41b0c3", "#2080b9", "#264d9c", "#0b1f5c"],
    dark:  ["#1d2240", "#263f83", "#2368a2", "#2b93ab", "#58bda3", "#aade91", "#fbfbc0"],
};
const DIVERGING = {
    light: ["#a33f00", "#e08a3c", "#f6d2a8", "#f7f7f7", "#a9cfe8", "#3a87c0", "#05427a"],
    dark:  ["#ffb066", "#c56f1e", "#6b4420", "#262b31", "#1f4d6e", "#3489c4", "#8fd0ff"],
};
const NEVER = { light: "#d3d6da", dark: "#3c434b" };

const LEAST_WIDTH = 1.5; // of a cell, in CSS pixels; where there is less room, the picture can be scrolled
const MOST_WIDTH  = 48;
const STEPS       = 1024; // of colours
const EVEN_WIDTH  = 4;   // in pixels of the screen: below that, cells may differ by one, and fill the room

function shade() {
    return darkness.matches && !onPaper ? "dark" : "light";
}

function rgb(colour) {
    return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

// 0 <= t <= 1
function mixed(ramp, t) {
    const at   = Math.min(Math.max(t, 0), 1) * (ramp.length - 1);
    const low  = Math.min(Math.floor(at), ramp.length - 2);
    const from = rgb(ramp[low]);
    const to   = rgb(ramp[low + 1]);
    return from.map((value, i) => Math.round(value + (to[i] - value) * (at - low)));
}

// mixed() of a ramp, each step of it made once.
function paletteOf(ramp) {
    const made = [];
    return (t) => {
        const step = Math.round(Math.min(Math.max(t, 0), 1) * STEPS);
        return made[step] ??= mixed(ramp, step / STEPS);
    };
}

function quantile(values, share) {
    const sorted = Float64Array.from(values).sort();
    return sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

function byHeat(values) {
    return Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
}

// How values become colours. Differences lie around 0; heat starts at it, and its root is drawn,
// for a few experts are far above the rest.
function scaleOf(rows, isDifference) {
    const all = rows.flatMap((row) => row.values.map(Math.abs));
    const top = Math.max(quantile(all, 0.995), isDifference ? 0.1 : 2);
    return isDifference
        ? { top, place: (value) => 0.5 + value / (2 * top), ramps: DIVERGING }
        : { top, place: (value) => Math.sqrt(value / top), ramps: RAMPS };
}

function scaleLegend(scale, isDifference, names) {
    const times  = (value) => `${value.toFixed(value < 10 ? 1 : 0)}\u00a0\u00d7`;
    const labels = isDifference
        ? [[0, `${names[1]} +${times(scale.top)}`], [0.5, "alike"], [1, `${names[0]} +${times(scale.top)}`]]
        : [[0, "0"], [scale.place(1), "average"], [1, times(scale.top)]];
    const ramp   = `background: linear-gradient(to right, ${scale.ramps[shade()].join(", ")})`;
    const bar    = element("div", { class: "ramp", style: ramp });
    const texts  = labels.map(([at, text], i) =>
        element("span", { style: `left: ${100 * at}%`, class: ["first", "middle", "last"][i] }, text));
    const never  = isDifference ? null : element("span", { class: "never" },
        element("i", { style: `background: ${NEVER[shade()]}` }), "never used");
    return element("div", { class: "scale" },
                   element("div", { class: "bar" }, bar, element("div", { class: "ticks" }, ...texts)), never);
}

// show(rows, isSorted, scaled): rows are [{ layer, values, text: expert => [line] }];
// the colours are those for the rows `scaled`.
function makeHeatmap({ label, isDifference = false, names = [] }) {
    const canvas = element("canvas", {
        tabindex: "0", role: "img", "aria-label": `${label} Arrow keys move from cell to cell.` });
    const layers = element("div", { class: "layers", "aria-hidden": "true" });
    const ids    = element("div", { class: "ids", "aria-hidden": "true" });
    const mark   = element("div", { class: "mark", hidden: "" });
    const told   = element("div", { class: "tip cell", role: "status", hidden: "" });
    const stack  = element("div", { class: "stack" }, canvas, mark);
    const moving = element("div", { class: "scroll" }, stack, ids);
    const title  = element("div", { class: "title", "aria-hidden": "true" });
    const below  = element("div");
    const node   = element("div", { class: "heatmap" },
        element("div", { class: "field" }, layers, moving), title, below, told);

    const small  = document.createElement("canvas"); // a pixel for each cell

    let rows  = [];
    let order = []; // of each row's experts, from left to right
    let scale = null;
    let width = 0;  // experts
    let at    = null;

    const paint = () => {
        const colour = paletteOf(scale.ramps[shade()]);
        const never  = rgb(NEVER[shade()]);
        const image  = new ImageData(width, rows.length);
        rows.forEach((row, y) => order[y].forEach((expert, x) => {
            const value = row.values[expert];
            const at    = 4 * (y * width + x);
            image.data.set(value === 0 && !isDifference ? never : colour(scale.place(value)), at);
            image.data[at + 3] = 255;
        }));
        Object.assign(small, { width, height: rows.length });
        small.getContext("2d").putImageData(image, 0, 0);
        return small;
    };

    const draw = () => {
        if (rows.length === 0 || node.clientWidth === 0) {
            return;
        }
        const ratio = onPaper ? 3 : devicePixelRatio;
        const room  = (onPaper ? PAPER : node.clientWidth) - layers.offsetWidth;
        const fit   = Math.max(Math.min(room / width, MOST_WIDTH), onPaper ? 0 : LEAST_WIDTH) * ratio;
        const high  = Math.round(Math.min(Math.max(460 / rows.length, 5), 26) * ratio);
        canvas.width  = fit < EVEN_WIDTH ? Math.floor(fit * width) : Math.floor(fit) * width;
        canvas.height = high * rows.length;
        stack.style.width  = `${canvas.width / ratio}px`;
        ids.style.width    = stack.style.width;
        layers.style.height = `${canvas.height / ratio}px`;
        const context = canvas.getContext("2d");
        context.imageSmoothingEnabled = false;
        context.drawImage(paint(), 0, 0, canvas.width, canvas.height);
        below.replaceChildren(scaleLegend(scale, isDifference, names));
    };

    const labelAxes = (isSorted) => {
        const sorted = isDifference
            ? `from what ${names[0]} uses more to what ${names[1]} does` : "the hottest of each layer first";
        title.textContent = `Down: layers. Across: experts, ${isSorted ? sorted : "by number"}.`;
        const every = Math.ceil(rows.length / 24);
        layers.replaceChildren(...rows.map((row, y) => [row, y]).filter(([, y]) => y % every === 0).map(([row, y]) =>
            element("span", { style: `top: ${100 * (y + 0.5) / rows.length}%` }, String(row.layer))));
        const step  = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].find((size) => width / size <= 8) ?? Math.ceil(width / 8);
        const texts = isSorted
            ? [[0, isDifference ? `more in ${names[0]}` : "hottest"],
               [width, isDifference ? `more in ${names[1]}` : "coldest"]]
            : Array.from({ length: Math.ceil(width / step) }, (_, i) => [i * step, String(i * step)]);
        const place = (x) => x === 0 ? "first" : x === width ? "last" : null;
        ids.replaceChildren(...texts.map(([x, text]) =>
            element("span", { style: `left: ${100 * (isSorted ? x : x + 0.5) / width}%`, class: place(x) }, text)));
    };

    const tell = (x, y) => {
        at = { x, y };
        const box   = canvas.getBoundingClientRect();
        const cell  = { width: box.width / width, height: box.height / rows.length };
        Object.assign(mark.style, { left: `${100 * x / width}%`, top: `${100 * y / rows.length}%`,
            width: `${100 / width}%`, height: `${100 / rows.length}%` });
        told.replaceChildren(...rows[y].text(order[y][x]).map((line, i) => element(i === 0 ? "b" : "div", {}, line)));
        mark.hidden = told.hidden = false;
        const left  = box.left + (x + 1) * cell.width + 12;
        const fits  = left + told.offsetWidth < document.documentElement.clientWidth;
        const other = Math.max(8, box.left + x * cell.width - told.offsetWidth - 12);
        const most  = document.documentElement.clientWidth - told.offsetWidth - 8;
        told.style.left = `${fits ? left : Math.min(other, most)}px`;
        told.style.top  = `${Math.max(8, box.top + y * cell.height - told.offsetHeight - 8)}px`;
    };

    const hide = () => {
        mark.hidden = told.hidden = true;
    };

    const point = (event) => {
        const box = canvas.getBoundingClientRect();
        const x   = Math.floor((event.clientX - box.left) / box.width * width);
        const y   = Math.floor((event.clientY - box.top) / box.height * rows.length);
        if (y >= 0 && y < rows.length && x >= 0 && x < order[y].length) {
            tell(x, y);
        } else {
            hide();
        }
    };

    const move = (event) => {
        const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (event.key === "Escape") {
            hide();
        }
        if (step === undefined || rows.length === 0) {
            return;
        }
        event.preventDefault();
        told.setAttribute("aria-live", "polite");
        const y = Math.min(Math.max((at?.y ?? 0) + (at ? step[1] : 0), 0), rows.length - 1);
        const x = Math.min(Math.max((at?.x ?? 0) + (at ? step[0] : 0), 0), order[y].length - 1);
        tell(x, y);
    };

    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
    canvas.addEventListener("pointerleave", hide);
    canvas.addEventListener("keydown", move);
    canvas.addEventListener("blur", hide);
    addEventListener("scroll", hide, { passive: true });
    new ResizeObserver(() => onPaper || draw()).observe(node);
    pictures.push(draw);

    const take = (shown, isSorted, scaled) => {
        rows  = shown;
        width = Math.max(1, ...rows.map((row) => row.values.length));
        order = rows.map((row) => isSorted ? byHeat(row.values) : Array.from(row.values.keys()));
        scale = scaleOf(scaled, isDifference);
        labelAxes(isSorted);
        draw();
    };

    return {
        node,
        show(shown, isSorted, scaled = shown) {
            at = null;
            hide();
            take(shown, isSorted, scaled);
        },
        // The same rows with other numbers: who looks at a cell goes on looking at it, and is not told aloud.
        update(shown, isSorted) {
            take(shown, isSorted, shown);
            if (!mark.hidden && at.y < rows.length && at.x < order[at.y].length) {
                told.setAttribute("aria-live", "off");
                tell(at.x, at.y);
            } else {
                hide();
            }
        },
    };
}

function total(values) {
    return values.reduce((sum, value) => sum + value, 0);
}

// A row of heat: how many times the average of its layer an expert is used.
function heatRow(layer, counts) {
    const sum    = total(counts);
    const values = counts.map((value) => sum === 0 ? 0 : value * counts.length / sum);
    return {
        layer,
        values,
        text: (expert) => [
            `Layer ${layer}, expert ${expert}`,
            plural(counts[expert], "activation"),
            `${percent(sum === 0 ? 0 : counts[expert] / sum, 2)} of the layer\u2019s`,
            `${values[expert].toFixed(2)}\u00a0\u00d7 the average`,
        ],
    };
}
