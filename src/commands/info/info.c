// The command `info`: what is in a routing trace, and whether it is whole, as text or JSON.

#include "answers/info-answer.h"
#include "commands/commands.h"
#include "commands/info/info-json.h"
#include "commands/info/info-text.h"
#include "tool/error.h"
#include "tool/input/trace-input.h"
#include "tool/json-output.h"
#include "tool/options.h"
#include "tool/terminal.h"

struct options {
    bool                json;
    enum terminal_color color;
    char             ** files;
    int                 n_files;
};

static const struct option_spec options_known[] = {
    { 0, "json", OPTION_ON, OPTION_AT(json),
      .help = "all of it as JSON, one document a FILE: beside what is printed, the layers one by one, and times in "
              "seconds since 1970" },
    TERMINAL_COLOR_OPTION(color),
    { 0 },
};

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_info, options, &argc, &argv, status)) {
        return false;
    }
    options->files   = argv;
    options->n_files = argc;
    *status = argc > 0 ? STATUS_OK : command_usage_error(&command_info, "which file?");
    return *status == STATUS_OK;
}

//
// a file
//

static void print(const struct terminal * terminal, const struct options * options, int i_file,
                  const struct info_answer * answer) {
    const char * path = options->files[i_file];
    if (options->json) {
        json_t * json = info_json(answer, path);
        json_output_put(terminal->out, json, JSON_INDENT(2));
        json_decref(json);
        return;
    }
    if (options->n_files > 1) {
        terminal_title(terminal, trace_input_name(path), i_file == 0);
    }
    info_text_print(answer, terminal);
}

static int info_file(const struct terminal * terminal, const struct options * options, int i_file) {
    const char   * path  = options->files[i_file];
    struct trace * trace = trace_input_open(path);
    if (trace == NULL) {
        return STATUS_FAILED;
    }
    struct error         error;
    int                  status = STATUS_FAILED;
    struct info_answer * answer = info_answer_new(trace, &error);
    if (answer == NULL) {
        error_say("%s", error.text);
    } else {
        print(terminal, options, i_file, answer);
        status = trace_input_check(path, answer->info, answer->lost);
        info_answer_free(answer);
    }
    trace_close(trace);
    return status;
}

static int info_files(const struct options * options) {
    const struct terminal terminal = terminal_of(stdout, options->color);
    int                   status   = STATUS_OK;
    for (int i = 0; i < options->n_files; i++) {
        status = info_file(&terminal, options, i) == STATUS_OK ? status : STATUS_FAILED;
    }
    return status;
}

static int info_main(int argc, char ** argv) {
    struct options options = { 0 };
    int            status;
    return parse_options(&options, argc, argv, &status) ? info_files(&options) : status;
}

const struct command command_info = {
    .name    = "info",
    .summary = "tells what is in a routing trace, and whether it is whole",
    .usage   = "[OPTION]… FILE…",
    .about   = "Tells which model a routing trace is of, what it has of tokens, sequences and activations, what is "
               "missing, and how it ended. A FILE is what `run --routing` wrote, packed or not, also while it is "
               "being written; - the standard input.",
    .options = options_known,
    .notes   = "Exits with 1 where a FILE is damaged. One of a program that still runs, or was killed, is not: it "
               "is whole up to its last second.",
    .main    = info_main,
};
