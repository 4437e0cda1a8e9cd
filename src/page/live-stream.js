// What the page knows of a server: the processes that it sees, and the events of the one that is watched. Nothing is
// asked while nobody sees the page.

"use strict";

const API       = "api/v1/processes";
const LIST_EVERY = 3000; // milliseconds
const TRY_AFTER  = 2000;

function pathOf(target, parameters) {
    const query = new URLSearchParams(parameters);
    if (target.model !== null) {
        query.set("model", target.model);
    }
    return `${API}/${encodeURIComponent(target.process)}/live?${query}`;
}

// Of a list of processes, what can be watched: [{ process, model }], where a model may not be known yet (null).
function targetsOf(processes) {
    return processes.flatMap(({ process, models }) => (models ?? []).length === 0
        ? [{ process, model: null }]
        : models.map(({ label }) => ({ process, model: label })));
}

// Calls back: onTargets(targets), onUntraced(processes), onFrame(frame), onState(state, note), where state is
// "waiting", "connecting", "connected", "stalled", "reconnecting", "ended".
class LiveStream {
    constructor(callbacks) {
        this.callbacks = callbacks;
        this.target    = null; // that is watched
        this.window    = "10";
        this.source    = null;
        this.name      = null; // of the stream
        this.ended     = false;
        this.timer     = 0;
        this.looks     = 0;
        document.addEventListener("visibilitychange", () => this.turn());
        this.turn();
    }

    // Goes on where the page is seen, and is silent where it is not.
    turn() {
        if (document.hidden) {
            clearTimeout(this.looks);
            this.close();
        } else {
            this.look();
            this.open();
        }
    }

    async look() {
        clearTimeout(this.looks);
        const { processes, untraced } = await fetch(API).then((answer) => answer.json()).catch(() => ({}));
        if (document.hidden) {
            return;
        }
        clearTimeout(this.looks);
        this.looks = setTimeout(() => this.look(), LIST_EVERY);
        if (processes !== undefined) {
            this.found(targetsOf(processes));
            this.callbacks.onUntraced(untraced);
        }
    }

    // A program that was started anew has its name again.
    found(targets) {
        this.callbacks.onTargets(targets);
        if (this.ended && targets.some(({ process }) => process === this.target.process)) {
            this.ended = false;
            this.open();
        }
    }

    watch(target) {
        const isSame = this.target?.process === target.process && !this.ended;
        this.target  = target;
        this.ended   = false;
        if (isSame) {
            this.ask();
        } else {
            this.open();
        }
    }

    show(window) {
        this.window = window;
        this.ask();
    }

    // Asks the stream that is open for something else: what was watched so far stays known.
    async ask() {
        if (this.source === null) {
            return;
        }
        const asked  = this.name;
        const answer = asked === null ? null
            : await fetch(pathOf(this.target, { stream: asked, window: this.window }), { method: "POST" })
                .catch(() => null);
        if (!answer?.ok && this.source !== null && this.name === asked) {
            this.open();
        }
    }

    close() {
        clearTimeout(this.timer);
        this.source?.close();
        this.source = null;
        this.name   = null;
    }

    open() {
        this.close();
        if (this.target === null) {
            this.callbacks.onState("waiting", null);
        }
        if (this.target === null || this.ended || document.hidden) {
            return;
        }
        this.callbacks.onState("connecting", null);
        this.source = new EventSource(pathOf(this.target, { window: this.window }));
        const listen = (event, react) => this.source.addEventListener(event, ({ data }) => react(JSON.parse(data)));
        listen("stream", ({ stream }) => { this.name = stream; });
        listen("wait",   ({ note }) => this.callbacks.onState("stalled", note));
        listen("end",    () => this.end());
        listen("frame",  (frame) => {
            this.callbacks.onState("connected", null);
            this.callbacks.onFrame(frame);
        });
        this.source.onerror = () => this.retry();
    }

    end() {
        this.close();
        this.ended = true;
        this.callbacks.onState("ended", null);
    }

    // A browser tries again by itself only where there was an answer.
    retry() {
        this.close();
        this.callbacks.onState("reconnecting", null);
        this.timer = setTimeout(() => this.open(), TRY_AFTER);
    }
}
