// Prints the values of a report, as wide as the terminal allows.

#include "commands/report/report-text.h"

#include "commands/cache/cache-text.h"
#include "commands/cache/cache-verdict.h"
#include "commands/model-text.h"
#include "commands/report/report-verdict.h"
#include "tool/heatmap.h"
#include "tool/quantity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FEW_LAYERS   8  // all of them are shown
#define EXTREMES     3  // layers that are shown of many: the most even ones, and the least
#define HEATMAP_LINES 32

struct page {
    const struct report_answer * report;
    const struct terminal      * terminal;
    bool                         per_layer;
};

static void print_heading(const struct page * page, const char * text) {
    fputc('\n', page->terminal->out);
    terminal_style(page->terminal, TERMINAL_STRONG);
    fputs(text, page->terminal->out);
    terminal_style(page->terminal, TERMINAL_PLAIN);
    fputc('\n', page->terminal->out);
}

//
// the header
//

static void print_model(const struct page * page) {
    const struct routing_counts * counts = page->report->counts;
    terminal_field_free(page->terminal, "model", model_text(&counts->model));
    if (counts->model.file != NULL) {
        terminal_field(page->terminal, "", counts->model.file);
    }
    if (counts->model.engine != NULL) {
        terminal_field(page->terminal, "engine", counts->model.engine);
    }
}

static void print_tokens(const struct page * page) {
    const struct routing_tokens * tokens = &page->report->counts->tokens;
    if (tokens->all < 0) {
        terminal_field(page->terminal, "tokens", "unknown");
        return;
    }
    char * text = memory_text("%lld", (long long) tokens->all);
    if (tokens->prompt >= 0 && tokens->generation >= 0) {
        text = memory_append(text, memory_text(": %lld prompt, %lld generation", (long long) tokens->prompt,
                                               (long long) tokens->generation));
    }
    if (tokens->warmup > 0) {
        text = memory_append(text, memory_text("; not counted: %lld warm-up", (long long) tokens->warmup));
    }
    terminal_field_free(page->terminal, "tokens", text);
}

static char * range_text(const struct report_range * range) {
    return range->least == range->most ? memory_text("%lld", (long long) range->most)
                                       : memory_text("%lld to %lld", (long long) range->least, (long long) range->most);
}

static void print_experts(const struct page * page) {
    const struct report_answer * report = page->report;
    const struct report_range  * bytes  = &report->expert_bytes;
    char                       * text   = range_text(&report->n_expert);
    if (report->n_used.least > 0) {
        char * used = memory_append(range_text(&report->n_used), memory_text(" for each token"));
        text = memory_append(text, memory_append(memory_text(", "), used));
    }
    if (bytes->least > 0) {
        char quantity[QUANTITY_MAX];
        quantity_text((double) bytes->most, quantity);
        text = memory_append(text, memory_text(", %s%s each", bytes->least == bytes->most ? "" : "up to ", quantity));
    }
    terminal_field_free(page->terminal, "layers",  memory_text("%zu with experts", report->counts->n_layers));
    terminal_field_free(page->terminal, "experts", text);
}

static void print_sum(const struct page * page) {
    const struct report_sum * sum = &page->report->sum;
    terminal_field(page->terminal, "layers",
                   "not told apart: record them with `llama-expert-tracer run --per-layer -o FILE`");
    if (sum->is_known && sum->total_activations > 0) {
        terminal_field_free(page->terminal, "experts", memory_text("%zu, %.1f of them effective, %zu never used",
                                                                   sum->n_expert, sum->effective, sum->never_used));
    }
}

static void print_header(const struct page * page) {
    print_model (page);
    print_tokens(page);
    if (page->report->counts->n_layers > 0) {
        print_experts(page);
    } else if (page->report->counts->statistics != NULL) {
        print_sum(page);
    }
    terminal_field_free(page->terminal, "activations", memory_text("%" PRIu64, page->report->activations));
}

//
// the table of layers
//

#define CELL_MAX 32

struct column {
    const char * head;
    int          width;
    void      (* text)(const struct report_layer * layer, bool is_mean, char * text);
};

static void number_text(double value, int digits, const char * behind, char * text) {
    if (isnan(value)) {
        strcpy(text, "-");
    } else {
        snprintf(text, CELL_MAX, "%.*f%s", digits, value, behind);
    }
}

static void entropy_text(const struct report_layer * layer, bool is_mean, char * text) {
    (void) is_mean;
    number_text(layer->entropy, 3, "", text);
}

static void effective_text(const struct report_layer * layer, bool is_mean, char * text) {
    (void) is_mean;
    number_text(layer->effective, 1, "", text);
}

static void uniform_text(const struct report_layer * layer, bool is_mean, char * text) {
    (void) is_mean;
    number_text(layer->uniform, 1, "", text);
}

static void hottest_text(const struct report_layer * layer, bool is_mean, char * text) {
    if (is_mean || layer->share == 0.0) {
        strcpy(text, "-");
    } else {
        snprintf(text, CELL_MAX, "%zu", layer->hottest);
    }
}

static void share_text(const struct report_layer * layer, bool is_mean, char * text) {
    (void) is_mean;
    number_text(100.0 * layer->share, 1, "%", text);
}

static void never_text(const struct report_layer * layer, bool is_mean, char * text) {
    (void) is_mean;
    snprintf(text, CELL_MAX, "%zu", layer->never_used);
}

static void reuse_text(const struct report_layer * layer, bool is_mean, char * text) {
    (void) is_mean;
    number_text(100.0 * (isnan(layer->reuse.generation) ? layer->reuse.prompt : layer->reuse.generation), 1, "%", text);
}

static const struct column columns[] = {
    { "entropy",    7,  entropy_text   },
    { "effective",  9,  effective_text },
    { "chance",     6,  uniform_text   },
    { "hottest",    7,  hottest_text   },
    { "share",      6,  share_text     },
    { "never used", 10, never_text     },
    { "reused",     6,  reuse_text     },
};

#define N_COLUMNS     (sizeof(columns) / sizeof(columns[0]))
#define LABEL_WIDTH   5

static size_t columns_that_fit(const struct page * page) {
    size_t width = LABEL_WIDTH;
    size_t n     = 0;
    while (n < N_COLUMNS && width + 2 + (size_t) columns[n].width <= page->terminal->width) {
        width += 2 + (size_t) columns[n++].width;
    }
    return n;
}

static void print_table_head(const struct page * page) {
    terminal_style(page->terminal, TERMINAL_FAINT);
    fprintf(page->terminal->out, "%*s", LABEL_WIDTH, "layer");
    for (size_t i = 0; i < columns_that_fit(page); i++) {
        fprintf(page->terminal->out, "  %*s", columns[i].width, columns[i].head);
    }
    terminal_style(page->terminal, TERMINAL_PLAIN);
    fputc('\n', page->terminal->out);
}

static void print_table_row(const struct page * page, const char * label, const struct report_layer * layer,
                            bool is_mean) {
    fprintf(page->terminal->out, "%*s", LABEL_WIDTH, label);
    for (size_t i = 0; i < columns_that_fit(page); i++) {
        char text[CELL_MAX];
        columns[i].text(layer, is_mean, text);
        fprintf(page->terminal->out, "  %*s", columns[i].width, text);
    }
    fputc('\n', page->terminal->out);
}

static void print_layer(const struct page * page, size_t i) {
    char label[CELL_MAX];
    snprintf(label, sizeof(label), "%d", (int) page->report->counts->layers[i].layer);
    print_table_row(page, label, &page->report->layers[i], false);
}

static void print_extremes(const struct page * page) {
    const size_t   n     = page->report->counts->n_layers;
    const size_t * order = page->report->by_evenness;
    for (size_t i = 0; i < EXTREMES; i++) {
        print_layer(page, order[i]);
    }
    fprintf(page->terminal->out, "%*s  %zu more, --per-layer shows them\n", LABEL_WIDTH,
            page->terminal->utf8 ? "  …" : "...", n - 2 * EXTREMES);
    for (size_t i = n - EXTREMES; i < n; i++) {
        print_layer(page, order[i]);
    }
}

static void print_layers(const struct page * page) {
    const size_t n   = page->report->counts->n_layers;
    const bool   all = page->per_layer || n <= FEW_LAYERS;
    print_heading(page, all ? "How evenly each layer uses its experts"
                            : "How evenly layers use their experts, from the most even to the least");
    print_table_head(page);
    for (size_t i = 0; i < n && all; i++) {
        print_layer(page, i);
    }
    if (!all) {
        print_extremes(page);
    }
    if (n > 1) {
        print_table_row(page, "mean", &page->report->mean, true);
    }
    terminal_style(page->terminal, TERMINAL_FAINT);
    terminal_paragraph(page->terminal, "chance: the effective experts of as many tokens that use all experts alike");
    terminal_style(page->terminal, TERMINAL_PLAIN);
}

//
// coverage
//

// Room for shares alone, and for what chance would have beside them.
static bool is_narrow(const struct page * page) {
    return page->terminal->width < 50;
}

static bool is_wide(const struct page * page) {
    return page->terminal->width >= 73;
}

static void print_mark(const struct page * page, const struct report_coverage * coverage, size_t i) {
    const struct report_mark * mark = &coverage->marks[i];
    if (is_narrow(page)) {
        fprintf(page->terminal->out, "  %9.1f%%", 100.0 * mark->share);
    } else {
        fprintf(page->terminal->out, "  %6zu %5.1f%%", mark->slots, 100.0 * mark->share);
    }
    if (is_wide(page)) {
        fprintf(page->terminal->out, "  %5.1f%%", 100.0 * coverage->uniform[i].mean / (double) coverage->n_slots);
    }
}

static void print_coverage_head(const struct page * page) {
    static const char * const heads[REPORT_N_PHASES] = { "all", "prompt", "generation" };
    terminal_style(page->terminal, TERMINAL_FAINT);
    fprintf(page->terminal->out, "%-4s", "");
    for (int part = COUNTED_ALL; part < REPORT_N_PHASES; part++) {
        if (page->report->coverage[part].is_known) {
            fprintf(page->terminal->out, "  %*s", is_narrow(page) ? 10 : 13, heads[part]);
            fputs(is_wide(page) ? "  chance" : "", page->terminal->out);
        }
    }
    terminal_style(page->terminal, TERMINAL_PLAIN);
    fputc('\n', page->terminal->out);
}

static void print_coverage(const struct page * page) {
    const struct report_coverage * coverage = page->report->coverage;
    print_heading(page, "How few experts take how much");
    print_coverage_head(page);
    for (size_t i = 0; i < REPORT_N_MARKS; i++) {
        fprintf(page->terminal->out, "%3d%%", coverage[COUNTED_ALL].marks[i].percent);
        for (int part = COUNTED_ALL; part < REPORT_N_PHASES; part++) {
            if (coverage[part].is_known) {
                print_mark(page, &coverage[part], i);
            }
        }
        fputc('\n', page->terminal->out);
    }
    terminal_paragraph_free(page->terminal,
                            memory_text("of the activations go to so many of %zu experts in all layers%s",
                                        coverage[COUNTED_ALL].n_slots,
                                        is_wide(page) ? "; chance: if all were used alike" : ""));
}

//
// neighbours, heat
//

static void print_reuse_of(const struct page * page, const char * label, double reuse, double chance) {
    if (!isnan(reuse)) {
        terminal_field_free(page->terminal, label,
                            memory_text("%.1f%% (%.1f%% would be chance)", 100.0 * reuse, 100.0 * chance));
    }
}

static void print_neighbours(const struct page * page) {
    const struct report_reuse * reuse = &page->report->reuse;
    if (!isnan(reuse->generation) || !isnan(reuse->prompt)) {
        print_heading(page, "Experts that a token shares with the token before");
        print_reuse_of(page, "generation", reuse->generation, reuse->generation_chance);
        print_reuse_of(page, "prompt",     reuse->prompt,     reuse->prompt_chance);
    }
}

static void print_heatmap(const struct page * page) {
    const struct routing_counts * counts = page->report->counts;
    struct heatmap_row          * rows   = memory_new(counts->n_layers, sizeof(*rows));
    for (size_t i = 0; i < counts->n_layers; i++) {
        const struct counted_layer * layer = &counts->layers[i];
        rows[i] = (struct heatmap_row) { layer->layer, layer->n_expert, layer->activations[COUNTED_ALL] };
    }
    print_heading(page, "Which experts are hot");
    heatmap_print(page->terminal, rows, counts->n_layers, page->per_layer ? counts->n_layers : HEATMAP_LINES);
    free(rows);
}

static void print_cache(const struct page * page) {
    const struct report_answer * report = page->report;
    if (report->cache != NULL) {
        cache_text_print(report->cache, page->terminal, page->per_layer);
    } else if (report->cache_error.text[0] != '\0') {
        fputc('\n', page->terminal->out);
        terminal_paragraph_free(page->terminal, memory_text("What a cache would hit cannot be told: %s",
                                                            report->cache_error.text));
    }
}

// The answer first: what the routing is like, and what to do with device memory.
static void print_verdicts(const struct page * page) {
    const struct report_answer * report = page->report;
    terminal_paragraph_free(page->terminal, report_verdict(report));
    if (report->cache != NULL) {
        fputc('\n', page->terminal->out);
        cache_text_print_verdict(report->cache, page->terminal);
    }
    fputc('\n', page->terminal->out);
}

void report_text_print(const struct report_answer * report, const struct terminal * terminal, bool per_layer) {
    const struct page page = { report, terminal, per_layer };
    print_verdicts(&page);
    print_header  (&page);
    if (report->coverage[COUNTED_ALL].is_known) {
        print_layers    (&page);
        print_coverage  (&page);
        print_neighbours(&page);
        print_heatmap   (&page);
    }
    print_cache(&page);
}
