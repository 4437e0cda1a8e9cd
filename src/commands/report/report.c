#include "commands/report/report.h"

#include "tool/command.h"
#include "tool/document.h"

#include <getopt.h>

struct options {
    struct document_output output;
    bool                   per_layer;
    enum terminal_color    color;
    struct trace_filter    filter;
    char                ** files;
    int                    n_files;
};

//
// the options
//

enum { OPTION_JSON = 256, OPTION_HTML, OPTION_FORCE, OPTION_COLOR };

static int check_options(const struct options * options) {
    if (options->n_files == 0) {
        return command_usage_error(&command_report, "which file?");
    }
    if (options->n_files > 1 && options->output.page != NULL) {
        return command_usage_error(&command_report, "--html makes a page of one FILE");
    }
    return document_check(&command_report, &options->output);
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
                    return command_usage_error(&command_report, "--color is auto, always or never, not '%s'", optarg);
                }
                break;
            default:
                switch (trace_filter_option(&options->filter, option, optarg, &error)) {
                    case TRACE_FILTER_TAKEN: break;
                    case TRACE_FILTER_WRONG: return command_usage_error(&command_report, "%s", error.text);
                    case TRACE_FILTER_OTHER: return command_option_error(&command_report, argv, option);
                }
        }
    }
    options->files   = argv + optind;
    options->n_files = argc - optind;
    return check_options(options);
}

//
// the command
//

static int tell(const struct terminal * terminal, const struct options * options, int i_file, const struct report * report) {
    if (document_leaves_terminal(&options->output)) {
        if (options->n_files > 1) {
            terminal_title(terminal, routing_counts_name(report->counts), i_file == 0);
        }
        report_print(report, terminal, options->per_layer);
    }
    return document_is_wanted(&options->output) ? document_put(&options->output, report_json(report)) : STATUS_OK;
}

static int report_file(const struct terminal * terminal, const struct options * options, int i_file) {
    struct error    error;
    struct report * report = report_new(options->files[i_file], &options->filter, options->per_layer, &error);
    if (report == NULL) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    const int told  = tell(terminal, options, i_file, report);
    const int whole = routing_counts_check(report->counts);
    report_free(report);
    return told == STATUS_OK ? whole : told;
}

static int report_files(const struct options * options) {
    const struct terminal terminal = terminal_of(stdout, options->color);
    int                   status   = STATUS_OK;
    for (int i = 0; i < options->n_files; i++) {
        status = report_file(&terminal, options, i) == STATUS_OK ? status : STATUS_FAILED;
    }
    return status;
}

static int report_main(int argc, char ** argv) {
    struct options options = { .filter.default_phases = TRACE_PHASE_PROMPT | TRACE_PHASE_GENERATION | TRACE_PHASE_WARMUP };
    bool           help    = false;
    int            status  = parse_options(&options, argc, argv, &help);
    if (help) {
        status = command_help(&command_report);
    } else if (status == STATUS_OK) {
        status = report_files(&options);
    }
    trace_filter_free(&options.filter);
    return status;
}

const struct command command_report = {
    .name    = "report",
    .summary = "tells how experts are used, and what a cache of them would do",
    .main    = report_main,
    .help    =
        "usage: llama-expert-tracer report [OPTION]… FILE…\n"
        "\n"
        "Tells how evenly experts are used, which share of them takes how much of the\n"
        "work, how alike neighbouring tokens are routed, and what a cache of experts\n"
        "would hit. A warm-up is not counted. A FILE is a routing\n"
        "trace of `run --routing`, or, as far as they go,\n"
        "statistics of `run -o --per-layer`; - the standard input.\n"
        "\n"
        "  -l, --per-layer       all layers\n"
        "      --json            the same as JSON, one document a FILE\n"
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
        "Exits with 1 where a FILE is damaged: what can be read of it is reported.\n"
        "docs/analysis.md tells what each number is.\n",
};
