// The command `compare`: one answer of several files, as text, JSON or a page.

#include "answers/compare-answer.h"
#include "commands/commands.h"
#include "commands/compare/compare-json.h"
#include "commands/compare/compare-text.h"
#include "tool/document.h"
#include "tool/options.h"

#define FILES_MAX 26 // each has a letter

struct options {
    struct document_output output;
    bool                   per_layer;
    enum terminal_color    color;
    struct trace_filter    filter;
    char                ** files;
    size_t                 n_files;
};

static const struct option_spec options_known[] = {
    { 'l', "per-layer", OPTION_ON, OPTION_AT(per_layer), .help = "all layers, and more of the experts that differ" },
    DOCUMENT_OPTIONS(output),
    TERMINAL_COLOR_OPTION(color),
    TRACE_FILTER_OPTIONS(filter),
    { 0 },
};

static int check_options(const struct options * options) {
    if (options->n_files < 2) {
        return command_usage_error(&command_compare, "which files? two or more");
    }
    if (options->n_files > FILES_MAX) {
        return command_usage_error(&command_compare, "%d files at most", FILES_MAX);
    }
    return document_check(&command_compare, &options->output);
}

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_compare, options, &argc, &argv, status)) {
        return false;
    }
    options->files   = argv;
    options->n_files = (size_t) argc;
    *status = check_options(options);
    return *status == STATUS_OK;
}

static int tell(const struct options * options, const struct compare_answer * comparison) {
    const struct terminal terminal = terminal_of(stdout, options->color);
    if (document_leaves_terminal(&options->output)) {
        compare_text_print(comparison, &terminal, options->per_layer);
    }
    return document_is_wanted(&options->output) ? document_put(&options->output, compare_json(comparison)) : STATUS_OK;
}

static int compare_files(const struct options * options) {
    struct error            error;
    struct compare_answer * comparison = compare_answer_new(options->files, options->n_files, &options->filter, &error);
    if (comparison == NULL) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    int status = tell(options, comparison);
    for (size_t i = 0; i < comparison->n_files; i++) {
        status = routing_counts_check(comparison->files[i]) == STATUS_OK ? status : STATUS_FAILED;
    }
    compare_answer_free(comparison);
    return status;
}

static int compare_main(int argc, char ** argv) {
    struct options options = { .filter.default_phases = PHASES_ALL };
    int            status;
    if (parse_options(&options, argc, argv, &status)) {
        status = compare_files(&options);
    }
    trace_filter_free(&options.filter);
    return status;
}

const struct command command_compare = {
    .name    = "compare",
    .summary = "tells how differently two workloads use the same experts",
    .usage   = "[OPTION]… A B [C…]",
    .about   = "Tells whether one hot list may serve several workloads: what the hot experts of A are worth to B, C… "
               "beside their own, how far the uses of experts diverge, and which experts differ most; beside it, how "
               "far the halves of one trace are from each other. Each is a routing trace of `run --routing`, or "
               "statistics of `run -o --per-layer`, of models of the same shape; - the standard input. A warm-up is "
               "not counted.",
    .options = options_known,
    .notes   = "Exits with 1 where a trace is damaged: what can be read of it is compared. docs/analysis.md tells "
               "what each number is.",
    .main    = compare_main,
};
