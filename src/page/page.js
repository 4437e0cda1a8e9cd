// Which document is in the page, and what stands above everything else.

const KINDS = [
    { key: "llama_expert_tracer_report",  title: "Expert report",     sections: reportSections },
    { key: "llama_expert_tracer_cache",   title: "Expert caches",     sections: cacheSections },
    { key: "llama_expert_tracer_compare", title: "Expert comparison", sections: compareSections },
];

// The first sentence is the answer, the others are its reasons. A full stop inside a number or a name ends nothing.
function verdictOf(text) {
    const end = text.search(/[.!?] +(?=[A-Z-])/);
    return end < 0 ? [text, ""] : [text.slice(0, end + 1), text.slice(end + 1).trim()];
}

function masthead(kind, content) {
    const name              = content.model?.name;
    const [answer, reasons] = verdictOf(content.verdict ?? "");
    const options           = (content.recommendation ?? content.cache?.recommendation)?.options;
    return element("header", {},
        element("h1", {}, name ? `${kind.title}: ${name}` : kind.title),
        answer ? element("p", { class: "verdict" }, answer) : null,
        reasons ? element("p", { class: "reasons" }, reasons) : null,
        options ? element("pre", { class: "options", tabindex: "0", "aria-label": "llama.cpp\u2019s options" },
                          element("code", {}, options)) : null,
        content.model || content.tokens ? modelFacts(content) : null);
}

function show(page) {
    const content = JSON.parse(document.getElementById("document").textContent);
    const kind    = KINDS.find(({ key }) => isKnown(content[key]));
    if (!kind) {
        throw new Error("the document in this page is of no kind that it knows");
    }
    document.title = content.model?.name ? `${kind.title}: ${content.model.name}` : kind.title;
    page.replaceChildren(masthead(kind, content));
    page.append(...kind.sections(content).filter(Boolean));
    drawAll();
    page.dataset.ready = "";
}

addEventListener("error", (event) => {
    document.getElementById("page")
        .prepend(element("p", { class: "failed", role: "alert" }, `This page could not be drawn: ${event.message}`));
});

show(document.getElementById("page"));
