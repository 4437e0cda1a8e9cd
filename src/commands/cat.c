// `cat`: joins routing traces of one model into one.

#include "commands/commands.h"
#include "tool/error.h"
#include "tool/input/trace-input.h"
#include "tool/options.h"
#include "tool/output-file.h"
#include "tool/progress.h"
#include "trace/rewrite/trace-join.h"

#include <unistd.h>

struct options {
    const char * output; // NULL: the standard output
    bool         force;
    char      ** files;
    size_t       n_files;
};

static const struct option_spec options_known[] = {
    { 'o', "output", OPTION_FILE, OPTION_AT(output), .value = "OUT",
      .help = "write here, whole or not at all (default: -, the standard output)" },
    { 'f', "force", OPTION_ON, OPTION_AT(force), .help = "replace whatever OUT is, not only a routing trace" },
    { 0 },
};

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_cat, options, &argc, &argv, status)) {
        return false;
    }
    options->files   = argv;
    options->n_files = (size_t) argc;
    *status = argc == 0                                          ? command_usage_error(&command_cat, "which files?")
            : options->output == NULL && isatty(STDOUT_FILENO) ?
                  command_usage_error(&command_cat, "a trace is not for terminals: choose a file with -o")
            : STATUS_OK;
    return *status == STATUS_OK;
}

static void warn(const char * line) {
    error_warning("%s", line);
}

static uint64_t size_of(const struct trace_join * join) {
    uint64_t size = 0;
    for (size_t i = 0; i < trace_join_n(join); i++) {
        size += trace_about(trace_join_trace(join, i))->file_size;
    }
    return size;
}

static void tell(void * self, double done) {
    struct progress * progress = self;
    progress_tell(progress, (uint64_t) (done * (double) progress->total));
}

// Whether all of it was written; *is_whole: and nothing of the inputs is missing.
static bool write_all(struct trace_join * join, struct output_file * file, bool * is_whole, struct error * error) {
    struct progress progress = progress_begin("joining", size_of(join));
    const char    * wrong    = trace_join_write(join, file->out, tell, &progress, is_whole);
    progress_end(&progress);
    bool ok = wrong == NULL || error_set(error, "%s", wrong);
    for (size_t i = 0; i < trace_join_n(join) && ok; i++) {
        ok = !trace_input_changed(trace_join_trace(join, i), error);
    }
    return ok;
}

static int write_joined(const struct options * options, struct trace_join * join) {
    struct output_file file;
    struct error       error;
    bool               is_whole = false;
    bool               ok       = output_file_open(&file, options->output, FILE_KIND_TRACE, options->force, &error);
    if (ok && !write_all(join, &file, &is_whole, &error)) {
        output_file_drop(&file);
        ok = false;
    }
    ok = ok && output_file_close(&file, &error);
    if (!ok) {
        error_say("%s", error.text);
    }
    return ok && is_whole ? STATUS_OK : STATUS_FAILED;
}

static int cat(const struct options * options) {
    struct text why = { 0 };
    for (size_t i = 0; i < options->n_files; i++) {
        output_file_protect(options->files[i]);
    }
    struct trace_join * join = trace_join_open(options->files, options->n_files, warn, &why);
    if (join == NULL) {
        error_say("%s", why.data != NULL ? why.data : "out of memory");
        text_free(&why);
        return STATUS_FAILED;
    }
    const int status = write_joined(options, join);
    trace_join_close(join);
    return status;
}

static int cat_main(int argc, char ** argv) {
    struct options options = { 0 };
    int            status;
    return parse_options(&options, argc, argv, &status) ? cat(&options) : status;
}

const struct command command_cat = {
    .name    = "cat",
    .summary = "joins routing traces of one model",
    .usage   = "[--force] [-o OUT] FILE…",
    .about   = "Joins routing traces of one model into one: the parts of a trace that was rotated, in their order, "
               "or the traces of several runs. Ubatches and contexts of the latter are numbered on.",
    .options = options_known,
    .notes   = "A FILE is what `run --routing` wrote, packed or not, - the standard input. The result is not packed.",
    .main    = cat_main,
};
