// Elements, numbers and tables. What comes out of a file becomes text, never markup.

const UNKNOWN = "\u2013";

function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (name === "style") {
            node.style.cssText = value; // which a page may do that allows no styles inside
        } else if (value !== null && value !== false) {
            node.setAttribute(name, value);
        }
    }
    node.append(...children.filter((child) => child !== null));
    return node;
}

function isKnown(value) {
    return value !== null && value !== undefined;
}

function count(value) {
    return isKnown(value) ? value.toLocaleString("en") : UNKNOWN;
}

function decimal(value, digits) {
    return isKnown(value) ? value.toFixed(digits) : UNKNOWN;
}

function percent(share, digits = 1) {
    return isKnown(share) ? `${(100 * share).toFixed(digits)}%` : UNKNOWN;
}

function mebibytes(value) {
    if (!isKnown(value)) {
        return UNKNOWN;
    }
    const [size, unit] = value >= 1024 ? [value / 1024, "GiB"] : value >= 1 ? [value, "MiB"] : [value * 1024, "KiB"];
    return `${size.toFixed(size < 10 ? 2 : size < 100 ? 1 : 0)}\u00a0${unit}`;
}

function plural(n, one, many = `${one}s`) {
    return `${count(n)} ${n === 1 ? one : many}`;
}

// columns: [{ title, text: row => string, hint, isText }]; the first is the row's heading.
function table(caption, columns, rows) {
    const side  = (column) => column.isText ? "text" : null;
    const head  = columns.map((column) =>
        element("th", { scope: "col", title: column.hint ?? null, class: side(column) }, column.title));
    const cells = (row) => columns.map((column, i) => i === 0
        ? element("th", { scope: "row" }, column.text(row))
        : element("td", { class: side(column) }, column.text(row)));
    const body  = rows.map((row) => element("tr", {}, ...cells(row)));
    return element("div", {},
        element("p", { class: "caption", "aria-hidden": "true" }, caption),
        element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
            element("table", { "aria-label": caption },
                element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body))));
}

function facts(pairs) {
    const known = pairs.filter(([, value]) => isKnown(value) && value !== "");
    return element("dl", { class: "facts" }, ...known.map(([name, value]) =>
        element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function section(title, ...children) {
    return element("section", {}, element("h2", {}, title), ...children);
}

function explained(...sentences) {
    return element("p", { class: "explained" }, sentences.join(" "));
}

let nChoices = 0;

// A choice of one: buttons side by side. options: [[value, label]]; change(value) is called at once with the first.
function choice(title, options, change) {
    const name = `choice-${nChoices++}`;
    if (options.length > 0) {
        change(options[0][0]);
    }
    if (options.length < 2) {
        return null;
    }
    const buttons = options.map(([value, label], i) => {
        const input = element("input", { type: "radio", name, value, checked: i === 0 ? "" : null });
        input.addEventListener("change", () => change(value));
        return element("label", {}, input, element("span", {}, label));
    });
    return element("fieldset", { class: "choice" }, element("legend", {}, title), ...buttons);
}

// What there is of [[key, label]]: the entries of `object` that are known.
function known(object, options) {
    return options.filter(([key]) => isKnown(object?.[key]));
}
