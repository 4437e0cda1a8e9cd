// The live page as a whole: what is chosen, how the connection is, and the parts that show a frame.

"use strict";

const WINDOWS = [["10", "10 s"], ["1", "1 s"], ["60", "1 min"], ["all", "Since the start"]];

const STATES = {
    waiting:      "Waiting for a traced program: start one with `llama-expert-tracer run`, or attach to one",
    connecting:   "Connecting",
    connected:    "Connected",
    stalled:      "Waiting",
    reconnecting: "Reconnecting: the server does not answer, or has as many streams as it can",
    ended:        "The process has ended. This page goes on when one of its name begins",
};

// The choice of a process and a model. Its options are written anew only where they have changed.
function targetChoice(change) {
    const select = element("select", { id: "target" });
    const node   = element("div", { class: "target" }, element("label", { for: "target" }, "Model"), select);
    let   shown  = "";
    const name   = ({ process, model }) => model === null ? process : `${process}: ${model}`;
    select.addEventListener("change", () => change(JSON.parse(select.value)));
    return {
        node,
        show(targets, chosen) {
            const options = [...targets];
            if (chosen !== null && !targets.some((one) => name(one) === name(chosen))) {
                options.push(chosen);
            }
            const key = JSON.stringify(options);
            if (key !== shown) {
                shown = key;
                select.replaceChildren(...options.map((one) =>
                    element("option", { value: JSON.stringify(one) }, name(one))));
            }
            select.disabled = options.length === 0;
            if (chosen !== null) {
                select.value = JSON.stringify(chosen);
            }
        },
    };
}

function freezeButton(change) {
    const button = element("button", { type: "button", class: "freeze", "aria-pressed": "false" }, "Freeze");
    button.addEventListener("click", () => {
        const isFrozen = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(isFrozen));
        change(isFrozen);
    });
    return button;
}

// What is in the address behind "#": the process, and its model.
function targetOfAddress() {
    const [process, model] = location.hash.slice(1).split("/").map((part) => {
        try {
            return decodeURIComponent(part);
        } catch {
            return "";
        }
    });
    return process ? { process, model: model || null } : null;
}

class LivePage {
    constructor(page) {
        this.isFrozen = false;
        this.frame    = null; // the last one
        this.chosen   = targetOfAddress();
        this.status   = livingText("p", { class: "status", role: "status" });
        this.targets  = targetChoice((target) => this.choose(target));
        this.glance   = glanceSection();
        this.rates    = ratesSection();
        this.parts    = [this.glance, this.rates, heatSection(), cacheSection(), sequenceSection()];
        this.body     = element("div", { hidden: "" }, ...this.parts.map(({ node }) => node));
        this.untraced = untracedSection();
        this.stream   = null;
        page.replaceChildren(this.head(), this.body, this.untraced.node);
        this.stream   = new LiveStream({
            onTargets:  (targets) => this.found(targets),
            onUntraced: (processes) => this.untraced.show(processes),
            onState:    (state, note) => this.tell(state, note),
            onFrame:    (frame) => this.take(frame),
        });
        if (this.chosen !== null) {
            this.stream.watch(this.chosen);
        }
        page.dataset.ready = "";
    }

    head() {
        const windows = choice("Window", WINDOWS, (value) => this.stream?.show(value));
        return element("header", {},
            element("h1", {}, "What a running model does"), this.status.node,
            element("div", { class: "choices" }, this.targets.node, windows,
                    freezeButton((isFrozen) => this.freeze(isFrozen))));
    }

    found(targets) {
        const same  = targets.filter(({ process }) => process === this.chosen?.process);
        const other = same.find(({ model }) => model === this.chosen.model) ?? same[0];
        if (this.chosen === null && targets.length > 0) {
            this.choose(targets[0]);
        } else if (other !== undefined && other.model !== this.chosen.model) {
            this.choose(other);
        }
        this.targets.show(targets, this.chosen);
    }

    choose(target) {
        const { process, model } = target;
        if (process !== this.chosen?.process || model !== this.chosen.model) {
            this.rates.clear();
        }
        this.chosen = target;
        history.replaceState(null, "", `#${[process, model].filter(isKnown).map(encodeURIComponent).join("/")}`);
        this.stream.watch(target);
    }

    freeze(isFrozen) {
        this.isFrozen = isFrozen;
        this.draw();
    }

    take(frame) {
        this.frame = frame;
        this.rates.put(frame);
        if (!this.isFrozen) {
            this.draw();
        }
    }

    draw() {
        if (this.frame !== null && !this.isFrozen) {
            this.body.hidden = false;
            this.parts.forEach((part) => part.show(this.frame));
        }
    }

    tell(state, note) {
        this.status.node.dataset.state = state;
        this.status.show(`${STATES[state]}${isKnown(note) ? `: ${note}` : ""}.`);
    }
}

new LivePage(document.getElementById("page"));
