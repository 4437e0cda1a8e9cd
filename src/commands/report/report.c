// The command `report`: one answer a FILE, as text, JSON or a page.

#include "answers/report-answer.h"
#include "commands/commands.h"
#include "commands/follow-answers.h"
#include "commands/report/report-json.h"
#include "commands/report/report-text.h"
#include "tool/document.h"
#include "tool/options.h"

struct options {
    struct document_output output;
    bool                   per_layer;
    bool                   follow;
    enum terminal_color    color;
    struct trace_filter    filter;
    char                ** files;
    int                    n_files;
};

//
// the options
//

static const struct option_spec options_known[] = {
    { 'l', "per-layer", OPTION_ON, OPTION_AT(per_layer), .help = "all layers" },
    FOLLOW_OPTION(follow),
    DOCUMENT_OPTIONS(output),
    TERMINAL_COLOR_OPTION(color),
    TRACE_FILTER_OPTIONS(filter),
    { 0 },
};

static int check_options(const struct options * options) {
    if (options->n_files == 0) {
        return command_usage_error(&command_report, "which file?");
    }
    if (options->n_files > 1 && options->output.page != NULL) {
        return command_usage_error(&command_report, "--html makes a page of one FILE");
    }
    if (options->n_files > 1 && options->follow) {
        return command_usage_error(&command_report, "--follow takes one FILE, and goes on with its next parts itself");
    }
    const int status = options->follow ? follow_answers_check(&command_report, options->files[0], &options->output)
                                       : STATUS_OK;
    return status == STATUS_OK ? document_check(&command_report, &options->output) : status;
}

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_report, options, &argc, &argv, status)) {
        return false;
    }
    options->files   = argv;
    options->n_files = argc;
    *status = check_options(options);
    return *status == STATUS_OK;
}

//
// the command
//

static int tell(const struct terminal * terminal, const struct options * options, int i_file,
                const struct report_answer * report) {
    if (document_leaves_terminal(&options->output)) {
        if (options->n_files > 1) {
            terminal_title(terminal, routing_counts_name(report->counts), i_file == 0);
        }
        report_text_print(report, terminal, options->per_layer);
    }
    return document_is_wanted(&options->output) ? document_put(&options->output, report_json(report)) : STATUS_OK;
}

static int report_file(const struct terminal * terminal, const struct options * options, int i_file) {
    struct error           error;
    struct report_answer * report = report_answer_new(options->files[i_file], &options->filter, &error);
    if (report == NULL) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    const int told  = tell(terminal, options, i_file, report);
    const int whole = routing_counts_check(report->counts);
    report_answer_free(report);
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

// See follow-answers.h.
static bool report_anew(const void * self, const struct trace * trace, const struct terminal * terminal, int * written,
                        uint64_t * lost, struct error * error) {
    const struct options * options = self;
    struct report_answer * report  = report_answer_of(options->files[0], trace, &options->filter, error);
    if (report == NULL) {
        return false;
    }
    *written = tell(terminal, options, 0, report);
    *lost    = report->counts->lost;
    report_answer_free(report);
    return true;
}

static int report_follow(const struct options * options) {
    const struct follow_answers wish = {
        .file   = options->files[0],
        .output = &options->output,
        .color  = options->color,
        .filter = &options->filter,
        .answer = report_anew,
        .self   = options,
    };
    return follow_answers(&wish);
}

static int report_main(int argc, char ** argv) {
    struct options options = { .filter.default_phases = PHASES_ALL };
    int            status;
    if (parse_options(&options, argc, argv, &status)) {
        status = options.follow ? report_follow(&options) : report_files(&options);
    }
    trace_filter_free(&options.filter);
    return status;
}

const struct command command_report = {
    .name    = "report",
    .summary = "tells how experts are used, and what a cache of them would do",
    .usage   = "[OPTION]… FILE…",
    .about   = "Tells how evenly experts are used, which share of them takes how much of the work, how alike "
               "neighbouring tokens are routed, and what a cache of experts would hit. A warm-up is not counted. A "
               "FILE is a routing trace of `run --routing`, or, as far as they go, statistics of `run -o "
               "--per-layer`; - the standard input.",
    .options = options_known,
    .notes   = "--json prints one document for each FILE, with --follow one for each answer. Exits with 1 where a FILE "
               "is damaged: what can be read of it is reported. docs/analysis.md tells what each number is.",
    .main    = report_main,
};
