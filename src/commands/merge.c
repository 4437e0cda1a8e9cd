#include "statistics/statistics-file.h"
#include "tool/command.h"
#include "tool/error.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct options {
    const char * output; // NULL: standard output
    bool         force;
    char      ** files;
    int          n_files;
};

// STATUS_OK, or the exit status; *help where help was asked for.
static int parse_options(struct options * options, int argc, char ** argv, bool * help) {
    static const struct option known[] = {
        { "output", required_argument, NULL, 'o' },
        { "force",  no_argument,       NULL, 'f' },
        { "help",   no_argument,       NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    for (int option; (option = getopt_long(argc, argv, ":o:fh", known, NULL)) != -1;) {
        switch (option) {
            case 'o': options->output = optarg; break;
            case 'f': options->force  = true;   break;
            case 'h': *help           = true;   return STATUS_OK;
            default:  return command_option_error(&command_merge, argv, option);
        }
    }
    options->files   = argv + optind;
    options->n_files = argc - optind;
    if (options->n_files == 0) {
        return command_usage_error(&command_merge, "which files?");
    }
    return STATUS_OK;
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
        error_warning("per_layer is left out: not every file has it (record it with `llama-expert-tracer run --per-layer`)");
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
    bool           help    = false;
    const int      status  = parse_options(&options, argc, argv, &help);
    if (help) {
        return command_help(&command_merge);
    }
    return status == STATUS_OK ? merge(&options) : status;
}

const struct command command_merge = {
    .name    = "merge",
    .summary = "adds up the statistics of several runs of one model",
    .main    = merge_main,
    .help    =
        "usage: llama-expert-tracer merge [--force] [-o OUT] FILE…\n"
        "\n"
        "Adds up the statistics of several runs, or machines, of the same model. A FILE is\n"
        "what `run -o` or llama-imatrix wrote, - the standard input.\n"
        "\n"
        "  -o, --output OUT  write here, whole or not at all (default: -, the standard output)\n"
        "  -f, --force       also add up different models of the same shape, and a run twice,\n"
        "                    and replace whatever OUT is\n"
        "  -h, --help        show this\n",
};
