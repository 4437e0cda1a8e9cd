#include "answers/predict-answer.h"
#include "tool/command.h"
#include "tool/error.h"
#include "tool/input/trace-input.h"
#include "tool/json-output.h"

#include <getopt.h>
#include <stdio.h>

struct options {
    struct trace_filter filter;
    bool                per_layer;
    bool                json;
    enum terminal_color color;
    const char        * file;
};

enum { OPTION_JSON = 256, OPTION_COLOR };

// TRACE_FILTER_OTHER: it is none of these.
static enum trace_filter_answer take_option(struct options * options, int option, struct error * error) {
    switch (option) {
        case 'l':         options->per_layer = true; return TRACE_FILTER_TAKEN;
        case OPTION_JSON: options->json      = true; return TRACE_FILTER_TAKEN;
        case OPTION_COLOR:
            if (!terminal_color_parse(optarg, &options->color)) {
                error_set(error, "--color is auto, always or never, not '%s'", optarg);
                return TRACE_FILTER_WRONG;
            }
            return TRACE_FILTER_TAKEN;
        default:
            return trace_filter_option(&options->filter, option, optarg, error);
    }
}

// STATUS_OK, or the exit status; *help where help was asked for.
static int parse_options(struct options * options, int argc, char ** argv, bool * help) {
    static const struct option known[] = {
        TRACE_FILTER_OPTIONS,
        { "per-layer", no_argument,       NULL, 'l'          },
        { "json",      no_argument,       NULL, OPTION_JSON  },
        { "color",     required_argument, NULL, OPTION_COLOR },
        { "help",      no_argument,       NULL, 'h'          },
        { NULL, 0, NULL, 0 },
    };
    for (int option; (option = getopt_long(argc, argv, ":lh", known, NULL)) != -1;) {
        struct error error;
        if (option == 'h') {
            *help = true;
            return STATUS_OK;
        }
        switch (take_option(options, option, &error)) {
            case TRACE_FILTER_TAKEN: break;
            case TRACE_FILTER_WRONG: return command_usage_error(&command_predict, "%s", error.text);
            case TRACE_FILTER_OTHER: return command_option_error(&command_predict, argv, option);
        }
    }
    options->file = argv[optind];
    const int n_files = argc - optind;
    return n_files == 1 ? STATUS_OK : command_usage_error(&command_predict, n_files == 0 ? "which file?" : "one file at a time (see `cat`)");
}

static void tell(const struct options * options, const struct predict_answer * answer) {
    if (!options->json) {
        const struct terminal terminal = terminal_of(stdout, options->color);
        predict_answer_print(answer, &terminal, options->per_layer);
        return;
    }
    json_t * json = predict_answer_json(answer, options->file);
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
    struct options options = { .filter = { .default_phases = TRACE_PHASE_PROMPT | TRACE_PHASE_GENERATION } };
    bool           help    = false;
    int            status  = parse_options(&options, argc, argv, &help);
    if (help) {
        status = command_help(&command_predict);
    } else if (status == STATUS_OK) {
        status = predict_file(&options);
    }
    trace_filter_free(&options.filter);
    return status;
}

const struct command command_predict = {
    .name    = "predict",
    .summary = "tells how well experts follow from those chosen before",
    .main    = predict_main,
    .help    =
        "usage: llama-expert-tracer predict [OPTION]… FILE\n"
        "\n"
        "Tells what fetching experts ahead would gain: how many of the experts of a token's\n"
        "next layer, and of the next token in the same layer, are guessed from those just\n"
        "chosen, with 1, 1.5 and 2 guesses for each. What follows what is learned on the\n"
        "first half of the trace and judged on the second. Beside it\n"
        "\n"
        "  popular     the experts that were used most in the first half\n"
        "  repeated    those of the token before, again\n"
        "  control     the truth as the guess: 100 %, or the judging is wrong\n"
        "\n"
        "  -l, --per-layer       also each layer\n"
        "      --json            all of it as JSON\n"
        "      --color WHEN      auto (default; NO_COLOR is honoured), always or never\n"
        "      --layer LIST      guess only these layers, such as 0,3-5,40-\n"
        "      --sequence LIST   only tokens of these sequences\n"
        "      --tokens LIST     only tokens at these positions of their sequence, from 0\n"
        "      --ubatch LIST     only these ubatches\n"
        "      --phase LIST      only of prompt, generation, warmup\n"
        "      --warmup          also the warm-up, which is left out otherwise\n"
        "      --no-rejected     no tokens that were drafted and rejected\n"
        "      --mtp             also of a multi-token-prediction head\n"
        "  -h, --help            show this\n"
        "\n"
        "A FILE is what `run --routing` wrote, - the standard input.\n",
};
