// `show`: statistics as a table.

#include "analysis/counts.h"
#include "commands/commands.h"
#include "commands/show-entropy.h"
#include "statistics/statistics-file.h"
#include "statistics/statistics-json.h"
#include "tool/error.h"
#include "tool/options.h"
#include "tool/terminal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOP_DEFAULT 20
#define BAR_MAX     60

enum sort { SORT_ACTIVATIONS, SORT_ID };

struct options {
    bool                per_layer;
    bool                all;
    bool                json;
    uint64_t            top; // 0: not chosen
    enum sort           sort;
    enum terminal_color color;
    char             ** files;
    int                 n_files;
};

//
// the options
//

static const struct option_choice sort_keys[] = { // as enum sort
    { "activations", NULL }, { "id", NULL }, { 0 },
};

static const struct option_spec options_known[] = {
    { 'l', "per-layer", OPTION_ON, OPTION_AT(per_layer),
      .help = "a line for each layer, with as many of its widest experts as fit" },
    { 'n', "top", OPTION_COUNT, OPTION_AT(top), .value = "N", .min = 1, .expects = "needs a number from 1 on",
      .help = "only the N widest experts (default: 20; per layer: what fits)" },
    { 'a', "all", OPTION_ON, OPTION_AT(all), .help = "all experts" },
    { 0, "sort", OPTION_CHOICE, OPTION_AT(sort), .value = "KEY", .choices = sort_keys,
      .help = "activations (default), or id, which shows all without --top" },
    { 0, "json", OPTION_ON, OPTION_AT(json),
      .help = "all that is known as JSON, in the library's format, and the summary; one document a FILE" },
    TERMINAL_COLOR_OPTION(color),
    { 0 },
};

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_show, options, &argc, &argv, status)) {
        return false;
    }
    options->top     = options->top > STATISTICS_MAX_EXPERTS ? STATISTICS_MAX_EXPERTS : options->top;
    options->files   = argv;
    options->n_files = argc;
    *status = argc > 0 ? STATUS_OK : command_usage_error(&command_show, "which file?");
    return *status == STATUS_OK;
}

//
// the header
//

static bool is_text(const char * text) {
    return text != NULL && *text != '\0';
}

static void print_model(const struct terminal * terminal, const struct statistics * statistics) {
    char * text = memory_text("%s", is_text(statistics->name) ? statistics->name : "name unknown");
    if (is_text(statistics->architecture)) {
        text = memory_append(text, memory_text(" (%s)", statistics->architecture));
    }
    terminal_field_free(terminal, "model", text);
    if (is_text(statistics->file)) {
        terminal_field(terminal, "", statistics->file);
    }
    if (is_text(statistics->engine)) {
        terminal_field(terminal, "engine", statistics->engine);
    }
}

static void print_tokens(const struct terminal * terminal, const struct statistics * statistics) {
    if (statistics->model.total_tokens < 0) {
        terminal_field(terminal, "tokens", "unknown");
        return;
    }
    char * text = memory_text("%lld", (long long) statistics->model.total_tokens);
    if (statistics->prompt_tokens >= 0 && statistics->generation_tokens >= 0) {
        text = memory_append(text, memory_text(": %lld prompt, %lld generation", (long long) statistics->prompt_tokens,
                                               (long long) statistics->generation_tokens));
    }
    if (statistics->warmup_tokens > 0) {
        text = memory_append(text, memory_text("; not counted: %lld warm-up", (long long) statistics->warmup_tokens));
    }
    terminal_field_free(terminal, "tokens", text);
}

static size_t n_layers_seen(const struct statistics_section * section) {
    return section->layer_tokens.n > section->per_layer.n ? section->layer_tokens.n : section->per_layer.n;
}

static void print_layers(const struct terminal * terminal, const struct statistics * statistics) {
    const size_t n_seen = n_layers_seen(&statistics->model);
    if (statistics->n_layer >= 0 && n_seen > 0) {
        terminal_field_free(terminal, "layers", memory_text("%lld, %zu of them with experts",
                                                            (long long) statistics->n_layer, n_seen));
    } else if (statistics->n_layer >= 0) {
        terminal_field_free(terminal, "layers", memory_text("%lld", (long long) statistics->n_layer));
    } else if (n_seen > 0) {
        terminal_field_free(terminal, "layers", memory_text("%zu with experts", n_seen));
    }
}

static void print_experts(const struct terminal * terminal, const struct statistics * statistics) {
    const size_t n_expert = statistics->model.n_expert;
    if (n_expert == 0) {
        terminal_field(terminal, "experts", "none: a dense model, or none was reached");
        return;
    }
    char * text = memory_text("%zu", n_expert);
    if (statistics->n_expert < 0) {
        text = memory_append(text, memory_text(" or more"));
    } else if (statistics->n_expert_per_layer.known) {
        text = memory_append(text, memory_text(" at most, layers differ"));
    }
    if (statistics->n_expert_used > 0) {
        text = memory_append(text, memory_text(", %lld for each token%s", (long long) statistics->n_expert_used,
                                        statistics->n_expert_used_per_layer.known ? " at most" : ""));
    }
    terminal_field_free(terminal, "experts", text);
}

static void print_complete(const struct terminal * terminal, const struct statistics * statistics) {
    const bool is_missing = statistics->stopped != NULL || statistics->lost_ubatches > 0;
    if (statistics->complete >= 0) {
        terminal_field(terminal, "complete", statistics->complete == 1 ? "yes" : is_missing ? "no" :
            "no: the program was still running, or ended without a word");
    }
    if (statistics->stopped != NULL) {
        terminal_field_free(terminal, "", memory_text("it stopped early: %s", statistics->stopped));
    }
    if (statistics->lost_ubatches > 0) {
        terminal_field_free(terminal, "", memory_text("the routing of %lld tokens is not known (%s)",
                                                      (long long) statistics->lost_tokens,
                                                      statistics->lost_reason == NULL ? "nobody told why"
                                                      : statistics->lost_reason));
    }
}

static void print_header(const struct terminal * terminal, const struct statistics * statistics) {
    print_model  (terminal, statistics);
    print_tokens (terminal, statistics);
    print_layers (terminal, statistics);
    print_experts(terminal, statistics);
    terminal_field_free(terminal, "activations", memory_text("%llu",
                                                             (unsigned long long) statistics->model.total_activations));
    if (statistics->n_runs > 1) {
        terminal_field_free(terminal, "merged", memory_text("%zu runs", statistics->n_runs));
    }
    print_complete(terminal, statistics);
}

//
// the summary
//

static char * entropy_text(const uint64_t * activations, size_t n_expert) {
    const double entropy = counts_entropy(activations, n_expert);
    return isnan(entropy) ? memory_text("-") : memory_text("%.3f", entropy);
}

// Of the numbers of experts, whatever their layers.
static void print_summary(const struct terminal * terminal, const struct statistics_section * section) {
    const size_t n_expert = section->n_expert;
    const size_t n_tenth  = counts_tenth(n_expert);
    const double share    = counts_share_of_hottest(section->activations, n_expert, n_tenth);
    char       * entropy  = entropy_text(section->activations, n_expert);
    if (n_layers_seen(section) > 1) {
        terminal_field(terminal, "sum", "over the layers, whose experts of one number have nothing in common:");
    }
    terminal_field_free(terminal, "never used",   memory_text("%zu of %zu experts",
                                                              counts_unused(section->activations, n_expert), n_expert));
    terminal_field_free(terminal, "hottest 10%",
                        memory_text("%zu %s, with %.2f%% of the activations (%.2f%% if used alike)",
                   n_tenth, n_tenth == 1 ? "expert" : "experts", 100.0 * share,
                   100.0 * (double) n_tenth / (double) n_expert));
    terminal_field_free(terminal, "entropy",      memory_text("%s%s (1: all used alike, 0: only one used)", entropy,
                                                              n_layers_seen(section) > 1 ? " of the sum" : ""));
    free(entropy);
}

//
// the table of experts
//

static int compare_ids(const void * a, const void * b) {
    const size_t x = *(const size_t *) a;
    const size_t y = *(const size_t *) b;
    return (x > y) - (x < y);
}

static size_t n_rows(const struct options * options, size_t n_expert) {
    const bool   all   = options->all || (options->top == 0 && options->sort == SORT_ID);
    const size_t limit = options->top == 0 ? TOP_DEFAULT : options->top;
    return all || limit > n_expert ? n_expert : limit;
}

static int digits(uint64_t value) {
    int n = 1;
    for (; value >= 10; value /= 10) {
        n++;
    }
    return n;
}

static int wider(int a, int b) {
    return a > b ? a : b;
}

struct columns {
    int    rank;
    int    expert;
    int    activations;
    size_t bar;
};

static struct columns lay_out(const struct terminal * terminal, const struct statistics_section * section) {
    struct columns columns = {
        .rank        = wider(4,  digits(section->n_expert)),
        .expert      = wider(6,  digits(section->n_expert)),
        .activations = wider(11, digits(counts_widest(section->activations, section->n_expert))),
    };
    const size_t text = (size_t) (columns.rank + columns.expert + columns.activations) + 2 * 2 + 9 + 12 + 2;
    columns.bar = terminal->width > text ? terminal->width - text : 0;
    columns.bar = columns.bar > BAR_MAX ? BAR_MAX : columns.bar;
    return columns;
}

static void print_table_head(const struct terminal * terminal, const struct columns * columns, bool cumulative) {
    terminal_style(terminal, TERMINAL_STRONG);
    fprintf(terminal->out, "%*s  %*s  %*s  %7s", columns->rank, "rank", columns->expert, "expert", columns->activations,
            "activations", "share");
    fputs(cumulative ? "  cumulative" : "", terminal->out);
    terminal_style(terminal, TERMINAL_PLAIN);
    fputc('\n', terminal->out);
}

struct row {
    size_t   rank; // from 1 on
    size_t   expert;
    uint64_t activations;
    uint64_t total;
    uint64_t widest;
    uint64_t so_far;
    bool     cumulative;
};

static void print_row(const struct terminal * terminal, const struct columns * columns, const struct row * row) {
    if (row->activations == 0) {
        terminal_style(terminal, TERMINAL_FAINT);
    }
    fprintf(terminal->out, "%*zu  %*zu  %*llu  %6.2f%%", columns->rank, row->rank, columns->expert, row->expert,
            columns->activations, (unsigned long long) row->activations,
            100.0 * counts_share(row->activations, row->total));
    if (row->cumulative) {
        fprintf(terminal->out, "  %9.2f%%", 100.0 * counts_share(row->so_far, row->total));
    }
    if (row->activations > 0) {
        fputs("  ", terminal->out);
        terminal_bar(terminal, counts_share(row->activations, row->widest), columns->bar);
    } else {
        terminal_style(terminal, TERMINAL_PLAIN);
    }
    fputc('\n', terminal->out);
}

static void print_rest(const struct terminal * terminal, size_t n_left, uint64_t activations, uint64_t total) {
    if (n_left > 0) {
        terminal_style(terminal, TERMINAL_FAINT);
        fprintf(terminal->out, "and %zu more with %.2f%% of the activations (--all shows them)", n_left,
                100.0 * counts_share(activations, total));
        terminal_style(terminal, TERMINAL_PLAIN);
        fputc('\n', terminal->out);
    }
}

// Ranks of the experts shown, which stay what they are when rows are in the order of ids.
static size_t * ranks_of(const size_t * order, size_t n_expert) {
    size_t * ranks = memory_new(n_expert, sizeof(*ranks));
    for (size_t i = 0; i < n_expert; i++) {
        ranks[order[i]] = i + 1;
    }
    return ranks;
}

static void print_table(const struct terminal * terminal, const struct statistics_section * section,
                        const struct options * options) {
    const size_t         n_expert = section->n_expert;
    const size_t         n_shown  = n_rows(options, n_expert);
    const struct columns columns  = lay_out(terminal, section);
    size_t             * order    = memory_new(n_expert, sizeof(*order));
    counts_rank(section->activations, n_expert, order);
    size_t             * ranks    = ranks_of(order, n_expert);
    if (options->sort == SORT_ID) {
        qsort(order, n_shown, sizeof(*order), compare_ids);
    }

    struct row row = {
        .total      = section->total_activations,
        .widest     = counts_widest(section->activations, n_expert),
        .cumulative = options->sort == SORT_ACTIVATIONS,
    };
    print_table_head(terminal, &columns, row.cumulative);
    for (size_t i = 0; i < n_shown; i++) {
        row.rank        = ranks[order[i]];
        row.expert      = order[i];
        row.activations = section->activations[order[i]];
        row.so_far     += row.activations;
        print_row(terminal, &columns, &row);
    }
    print_rest(terminal, n_expert - n_shown, row.total - row.so_far, row.total);
    free(ranks);
    free(order);
}

//
// the table of layers
//

// As many of the layer's widest experts as were asked for, or as there is room for.
static void print_widest_experts(const struct terminal * terminal, const uint64_t * activations, size_t n_expert,
                                 const struct options * options, size_t room) {
    const bool     limited = !options->all && options->top == 0;
    const size_t   n_most  = options->all || options->top == 0 || options->top > n_expert ? n_expert : options->top;
    const uint64_t total   = counts_sum(activations, n_expert);
    size_t       * order   = memory_new(n_expert, sizeof(*order));
    counts_rank(activations, n_expert, order);
    for (size_t i = 0; i < n_most && (options->all || activations[order[i]] > 0); i++) {
        char         text[64];
        const size_t length = (size_t) snprintf(text, sizeof(text), "  %zu (%.1f%%)", order[i],
                                                100.0 * counts_share(activations[order[i]], total));
        if (limited && length > room) {
            break;
        }
        room -= limited ? length : 0;
        fputs(text, terminal->out);
    }
    free(order);
}

static void print_layer(const struct terminal * terminal, const struct statistics * statistics,
                        const struct statistics_section * section,
                        size_t i_layer, const struct options * options) {
    const uint32_t   layer       = section->per_layer.layers[i_layer];
    const uint64_t * activations = section->per_layer.activations[i_layer];
    const size_t     n_expert    = statistics_n_expert(statistics, section, layer);
    const int64_t    tokens      = statistics_value(&section->layer_tokens, layer);
    const double     hottest     = counts_share_of_hottest(activations, n_expert, counts_tenth(n_expert));
    char           * entropy     = entropy_text(activations, n_expert);
    char           * tokens_text = tokens < 0 ? memory_text("-") : memory_text("%lld", (long long) tokens);

    const int length = fprintf(terminal->out, "%5u  %10s  %7zu  %6zu  %10.2f%%  %7s", (unsigned) layer, tokens_text,
                               n_expert,
                               counts_unused(activations, n_expert), 100.0 * hottest, entropy);
    const size_t used = length < 0 ? 0 : (size_t) length;
    print_widest_experts(terminal, activations, n_expert, options, terminal->width > used ? terminal->width - used : 0);
    fputc('\n', terminal->out);
    free(tokens_text);
    free(entropy);
}

static void print_per_layer(const struct terminal * terminal, const struct statistics * statistics,
                            const struct statistics_section * section,
                            const struct options * options) {
    terminal_style(terminal, TERMINAL_STRONG);
    fprintf(terminal->out, "%5s  %10s  %7s  %6s  %11s  %7s  %s", "layer", "tokens", "experts", "unused", "hottest 10%",
            "entropy", "widest experts");
    terminal_style(terminal, TERMINAL_PLAIN);
    fputc('\n', terminal->out);
    for (size_t i = 0; i < section->per_layer.n; i++) {
        print_layer(terminal, statistics, section, i, options);
    }
}

//
// a file
//

static void print_section(const struct terminal * terminal, const struct statistics * statistics,
                          const struct statistics_section * section,
                          const struct options * options) {
    if (section->n_expert == 0) {
        return;
    }
    show_entropy_print(terminal, statistics, section);
    print_summary(terminal, section);
    fputc('\n', terminal->out);
    if (options->per_layer) {
        print_per_layer(terminal, statistics, section, options);
    } else {
        print_table(terminal, section, options);
    }
}

static void print_mtp(const struct terminal * terminal, const struct statistics * statistics,
                      const struct options * options) {
    const struct statistics_section * mtp = &statistics->mtp;
    terminal_style(terminal, TERMINAL_STRONG);
    fputs("\nmulti-token-prediction head\n", terminal->out);
    terminal_style(terminal, TERMINAL_PLAIN);
    if (mtp->total_tokens >= 0) {
        terminal_field_free(terminal, "tokens", memory_text("%lld", (long long) mtp->total_tokens));
    }
    terminal_field_free(terminal, "activations", memory_text("%llu", (unsigned long long) mtp->total_activations));
    print_section(terminal, statistics, mtp, options);
}

static void print_text(const struct terminal * terminal, const struct statistics * statistics,
                       const struct options * options) {
    print_header (terminal, statistics);
    print_section(terminal, statistics, &statistics->model, options);
    if (statistics->has_mtp) {
        print_mtp(terminal, statistics, options);
    }
}

static bool check_per_layer(const struct statistics * statistics, const struct options * options) {
    const bool missing = options->per_layer && !options->json && statistics->model.n_expert > 0
        && !statistics->model.per_layer.known;
    if (missing) {
        error_say("%s: has no counts per layer: record them with `llama-expert-tracer run --per-layer -o FILE`",
                  statistics->path);
    }
    return !missing;
}

static bool show_file(const struct terminal * terminal, const struct options * options, int i_file) {
    struct error        error;
    const char        * path       = options->files[i_file];
    struct statistics * statistics = statistics_file_load(path, &error);
    if (statistics == NULL) {
        error_say("%s", error.text);
        return false;
    }
    const bool ok = check_per_layer(statistics, options);
    if (ok && options->json) {
        statistics_file_write(terminal->out, statistics, true);
    } else if (ok) {
        if (options->n_files > 1) {
            terminal_title(terminal, path, i_file == 0);
        }
        print_text(terminal, statistics, options);
    }
    statistics_free(statistics);
    return ok;
}

static int show(const struct options * options) {
    const struct terminal terminal = terminal_of(stdout, options->color);
    int status = STATUS_OK;
    for (int i = 0; i < options->n_files; i++) {
        if (!show_file(&terminal, options, i)) {
            status = STATUS_FAILED;
        }
    }
    return status;
}

static int show_main(int argc, char ** argv) {
    struct options options = { 0 };
    int            status;
    return parse_options(&options, argc, argv, &status) ? show(&options) : status;
}

const struct command command_show = {
    .name    = "show",
    .summary = "prints statistics as a table, widest use first",
    .usage   = "[OPTION]… FILE…",
    .about   = "Prints which experts were used how often. A FILE is what `run -o` wrote, or an imatrix of "
               "llama-imatrix (.gguf), - the standard input.",
    .options = options_known,
    .main    = show_main,
};
