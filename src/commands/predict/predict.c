// The command `predict`: how well experts of a trace follow from those before, as text or JSON.

#include "answers/predict-answer.h"
#include "commands/commands.h"
#include "commands/predict/predict-json.h"
#include "commands/predict/predict-text.h"
#include "tool/error.h"
#include "tool/input/trace-input.h"
#include "tool/json-output.h"
#include "tool/options.h"
#include "tool/terminal.h"

#include <stdio.h>

struct options {
    struct trace_filter filter;
    bool                per_layer;
    bool                json;
    enum terminal_color color;
    const char        * file;
};

static const struct option_spec options_known[] = {
    { 'l', "per-layer", OPTION_ON, OPTION_AT(per_layer), .help = "also each layer" },
    { 0, "json", OPTION_ON, OPTION_AT(json), .help = "all of it as JSON, with each layer" },
    TERMINAL_COLOR_OPTION(color),
    TRACE_FILTER_OPTIONS(filter),
    { 0 },
};

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_predict, options, &argc, &argv, status)) {
        return false;
    }
    options->file = argv[0];
    *status = argc == 1 ? STATUS_OK : command_usage_error(&command_predict, "%s",
        argc == 0 ? "which file?" : "one file at a time (see `cat`)");
    return *status == STATUS_OK;
}

static void tell(const struct options * options, const struct predict_answer * answer) {
    if (!options->json) {
        const struct terminal terminal = terminal_of(stdout, options->color);
        predict_text_print(answer, &terminal, options->per_layer);
        return;
    }
    json_t * json = predict_json(answer, options->file);
    json_output_put(stdout, json, JSON_INDENT(2));
    json_decref(json);
}

static int predict_open(const struct options * options, const struct trace * trace) {
    const struct trace_info * info   = trace_about(trace);
    struct predict_answer   * answer = NULL;
    struct error              error;
    uint64_t                  lost;
    if (trace_input_has_order(info, "predict", &error) && trace_filter_fits(&options->filter, info, &error)) {
        answer = predict_answer_new(trace, &options->filter, &lost, &error);
    }
    if (answer == NULL) {
        error_say("%s: %s", trace_input_name(options->file), error.text);
        return STATUS_FAILED;
    }
    tell(options, answer);
    predict_answer_free(answer);
    return trace_input_check(options->file, info, lost);
}

static int predict_file(const struct options * options) {
    struct trace * trace = trace_input_open(options->file);
    if (trace == NULL) {
        return STATUS_FAILED;
    }
    const int status = predict_open(options, trace);
    trace_close(trace);
    return status;
}

static int predict_main(int argc, char ** argv) {
    struct options options = { .filter = { .default_phases = PHASES_OF_TOKENS } };
    int            status;
    if (parse_options(&options, argc, argv, &status)) {
        status = predict_file(&options);
    }
    trace_filter_free(&options.filter);
    return status;
}

const struct command command_predict = {
    .name    = "predict",
    .summary = "tells how well experts follow from those chosen before",
    .usage   = "[OPTION]… FILE",
    .about   = "Tells what fetching experts ahead would gain: how many of the experts of a token's next layer, and "
               "of the next token in the same layer, are guessed from those just chosen, with 1, 1.5 and 2 guesses "
               "for each. What follows what is learned on the first half of the trace and judged on the second. "
               "Says which guess is best, and whether it is worth more than pinning popular experts. Beside it\n"
               "\n"
               "  popular     the experts that were used most in the first half\n"
               "  repeated    those of the token before, again\n"
               "  control     the truth as the guess: 100 %, or the judging is wrong",
    .options = options_known,
    .notes   = "The warm-up is left out unless --warmup or --phase chooses it. Tokens that are not chosen are "
               "neither learned from nor judged; --layer chooses the layers whose experts are guessed.\n"
               "\n"
               "A FILE is what `run --routing` wrote, - the standard input.",
    .main    = predict_main,
};
