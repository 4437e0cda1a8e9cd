#include "commands/compare/compare.h"

#include "tool/command.h"
#include "tool/document.h"

#include <getopt.h>

#define FILES_MAX 26 // each has a letter

struct options {
    struct document_output output;
    bool                   per_layer;
    enum terminal_color    color;
    struct trace_filter    filter;
    char                ** files;
    size_t                 n_files;
};

enum { OPTION_JSON = 256, OPTION_HTML, OPTION_FORCE, OPTION_COLOR };

static int check_options(const struct options * options) {
    if (options->n_files < 2) {
        return command_usage_error(&command_compare, "which files? two or more");
    }
    if (options->n_files > FILES_MAX) {
        return command_usage_error(&command_compare, "%d files at most", FILES_MAX);
    }
    return document_check(&command_compare, &options->output);
}

// STATUS_OK, or the exit status; *help where help was asked for.
static int parse_options(struct options * options, int argc, char ** argv, bool * help) {
    static const struct option known[] = {
        { "json",      no_argument,       NULL, OPTION_JSON  },
        { "html",      required_argument, NULL, OPTION_HTML  },
        { "force",     no_argument,       NULL, OPTION_FORCE },
        { "per-layer", no_argument,       NULL, 'l'          },
        { "color",     required_argument, NULL, OPTION_COLOR },
        { "help",      no_argument,       NULL, 'h'          },
        TRACE_FILTER_OPTIONS,
        { NULL, 0, NULL, 0 },
    };
    struct error error;
    for (int option; (option = getopt_long(argc, argv, ":lh", known, NULL)) != -1;) {
        switch (option) {
            case OPTION_JSON: options->output.json = true;   break;
            case OPTION_HTML: options->output.page = optarg; break;
            case OPTION_FORCE: options->output.force = true; break;
            case 'l':         options->per_layer   = true;   break;
            case 'h':         *help                = true;   return STATUS_OK;
            case OPTION_COLOR:
                if (!terminal_color_parse(optarg, &options->color)) {
                    return command_usage_error(&command_compare, "--color is auto, always or never, not '%s'", optarg);
                }
                break;
            default:
                switch (trace_filter_option(&options->filter, option, optarg, &error)) {
                    case TRACE_FILTER_TAKEN: break;
                    case TRACE_FILTER_WRONG: return command_usage_error(&command_compare, "%s", error.text);
                    case TRACE_FILTER_OTHER: return command_option_error(&command_compare, argv, option);
                }
        }
    }
    options->files   = argv + optind;
    options->n_files = (size_t) (argc - optind);
    return check_options(options);
}

static int tell(const struct options * options, const struct comparison * comparison) {
    const struct terminal terminal = terminal_of(stdout, options->color);
    if (document_leaves_terminal(&options->output)) {
        comparison_print(comparison, &terminal, options->per_layer);
    }
    return document_is_wanted(&options->output) ? document_put(&options->output, comparison_json(comparison)) : STATUS_OK;
}

static int compare_files(const struct options * options) {
    struct error        error;
    struct comparison * comparison = comparison_new(options->files, options->n_files, &options->filter, &error);
    if (comparison == NULL) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    int status = tell(options, comparison);
    for (size_t i = 0; i < comparison->n_files; i++) {
        status = routing_counts_check(comparison->files[i]) == STATUS_OK ? status : STATUS_FAILED;
    }
    comparison_free(comparison);
    return status;
}

static int compare_main(int argc, char ** argv) {
    struct options options = { .filter.default_phases = TRACE_PHASE_PROMPT | TRACE_PHASE_GENERATION | TRACE_PHASE_WARMUP };
    bool           help    = false;
    int            status  = parse_options(&options, argc, argv, &help);
    if (help) {
        status = command_help(&command_compare);
    } else if (status == STATUS_OK) {
        status = compare_files(&options);
    }
    trace_filter_free(&options.filter);
    return status;
}

const struct command command_compare = {
    .name    = "compare",
    .summary = "tells how differently two workloads use the same experts",
    .main    = compare_main,
    .help    =
        "usage: llama-expert-tracer compare [OPTION]… A B [C…]\n"
        "\n"
        "Tells how far the uses of experts in B, C… are from those in A, which experts\n"
        "differ most, and what the hot experts of one are worth to the other; beside it,\n"
        "how far the halves of one trace are from each other. Each is a routing trace of\n"
        "`run --routing`, or statistics of `run -o --per-layer`, of models of the same\n"
        "shape; - the standard input. A warm-up is not counted.\n"
        "\n"
        "  -l, --per-layer       all layers, and more of the experts that differ\n"
        "      --json            the same as JSON\n"
        "      --html PAGE       writes a page with pictures, which needs no network\n"
        "      --force           the page replaces whatever is there, not only an earlier page\n"
        "      --layer LIST      only these layers, such as 0,3-5,40-\n"
        "      --sequence LIST   only tokens of these sequences\n"
        "      --tokens LIST     only tokens at these positions of their sequence, from 0\n"
        "      --ubatch LIST     only these ubatches\n"
        "      --phase LIST      only of prompt, generation\n"
        "      --no-rejected     no tokens that were drafted and rejected\n"
        "      --mtp             also of a multi-token-prediction head\n"
        "      --color WHEN      auto (default; NO_COLOR is honoured), always or never\n"
        "  -h, --help            show this\n"
        "\n"
        "Exits with 1 where a trace is damaged: what can be read of it is compared.\n",
};
