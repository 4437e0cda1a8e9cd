// `merge`: adds up the statistics of several runs.

#include "commands/commands.h"
#include "statistics/statistics-file.h"
#include "tool/error.h"
#include "tool/options.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct options {
    const char * output; // NULL: standard output
    bool         force;
    char      ** files;
    int          n_files;
};

static const struct option_spec options_known[] = {
    { 'o', "output", OPTION_FILE, OPTION_AT(output), .value = "OUT",
      .help = "write here, whole or not at all (default: -, the standard output)" },
    { 'f', "force", OPTION_ON, OPTION_AT(force),
      .help = "also add up different models of the same shape (as many layers and experts), and a run twice, and "
              "replace whatever OUT is, not only statistics" },
    { 0 },
};

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_merge, options, &argc, &argv, status)) {
        return false;
    }
    options->files   = argv;
    options->n_files = argc;
    *status = argc == 0 ? command_usage_error(&command_merge, "which files?") : STATUS_OK;
    return *status == STATUS_OK;
}

static bool check_same_model(const struct statistics * sum, const struct statistics * next, bool force) {
    struct error error;
    if (!statistics_same_model(sum, next, true, &error)) {
        error_say("not of the same model, and of different shapes, which --force cannot add either:");
        error_more(error.text);
        return false;
    }
    if (statistics_same_model(sum, next, false, &error)) {
        return true;
    }
    if (!force) {
        error_say("not of the same model (--force merges them all the same):");
        error_more(error.text);
        return false;
    }
    error_warning("merging different models, as --force says:");
    error_more(error.text);
    return true;
}

static bool check_runs(const struct statistics * sum, const struct statistics * next, bool force) {
    const char * run = statistics_common_run(sum, next);
    if (run == NULL) {
        return true;
    }
    if (!force) {
        error_say("%s: run %s is in what was given before it already, and would be counted twice: leave one out "
                  "(--force, if one process had the model twice)", next->path, run);
        return false;
    }
    error_warning("%s: run %s is counted twice, as --force says", next->path, run);
    return true;
}

static bool add(struct statistics * sum, const struct statistics * next, bool force) {
    struct error error;
    if (!check_same_model(sum, next, force) || !check_runs(sum, next, force)) {
        return false;
    }
    if (!statistics_add(sum, next, &error)) {
        error_say("%s: %s", next->path, error.text);
        return false;
    }
    return true;
}

struct parts {
    bool per_layer;
    bool layer_tokens;
    bool mtp_per_layer;
    bool mtp_layer_tokens;
};

static void note_parts(struct parts * parts, const struct statistics * statistics) {
    parts->per_layer        = parts->per_layer        || statistics->model.per_layer.known;
    parts->layer_tokens     = parts->layer_tokens     || statistics->model.layer_tokens.known;
    parts->mtp_per_layer    = parts->mtp_per_layer    || statistics->mtp.per_layer.known;
    parts->mtp_layer_tokens = parts->mtp_layer_tokens || statistics->mtp.layer_tokens.known;
}

static void say_what_was_left_out(const struct parts * given, const struct statistics * sum) {
    struct parts kept = { false, false, false, false };
    note_parts(&kept, sum);
    if ((given->per_layer && !kept.per_layer) || (given->mtp_per_layer && !kept.mtp_per_layer)) {
        error_warning("per_layer is left out: not every file has it (record it with `llama-expert-tracer run "
                      "--per-layer`)");
    }
    if ((given->layer_tokens && !kept.layer_tokens) || (given->mtp_layer_tokens && !kept.mtp_layer_tokens)) {
        error_warning("layer_tokens is left out: not every file has it");
    }
}

static bool merge_into(struct statistics * sum, const struct options * options) {
    struct parts given = { false, false, false, false };
    note_parts(&given, sum);
    for (int i = 1; i < options->n_files; i++) {
        struct error        error;
        struct statistics * next = statistics_file_load(options->files[i], &error);
        if (next == NULL) {
            error_say("%s", error.text);
            return false;
        }
        note_parts(&given, next);
        const bool ok = add(sum, next, options->force);
        statistics_free(next);
        if (!ok) {
            return false;
        }
    }
    say_what_was_left_out(&given, sum);
    return true;
}

// What was read as statistics may get the sum, however it was written: nothing of it is lost.
static bool is_input(const struct options * options) {
    struct stat output;
    struct stat input;
    bool        found = false;
    for (int i = 0; i < options->n_files && options->output != NULL && !found; i++) {
        found = stat(options->output, &output) == 0 && stat(options->files[i], &input) == 0
             && output.st_dev == input.st_dev && output.st_ino == input.st_ino;
    }
    return found;
}

static int merge(const struct options * options) {
    struct error        error;
    struct statistics * sum = statistics_file_load(options->files[0], &error);
    if (sum == NULL) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    bool ok = merge_into(sum, options);
    if (ok && !statistics_file_save(options->output, sum, options->force || is_input(options), &error)) {
        error_say("%s", error.text);
        ok = false;
    }
    statistics_free(sum);
    return ok ? STATUS_OK : STATUS_FAILED;
}

static int merge_main(int argc, char ** argv) {
    struct options options = { 0 };
    int            status;
    return parse_options(&options, argc, argv, &status) ? merge(&options) : status;
}

const struct command command_merge = {
    .name    = "merge",
    .summary = "adds up the statistics of several runs of one model",
    .usage   = "[--force] [-o OUT] FILE…",
    .about   = "Adds up the statistics of several runs, or machines, of the same model. A FILE is what `run -o` or "
               "llama-imatrix wrote, - the standard input.",
    .options = options_known,
    .main    = merge_main,
};
