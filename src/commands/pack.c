// `pack`: a routing trace made smaller, made what it was again, or made into one that can be shared.

#include "commands/commands.h"
#include "tool/error.h"
#include "tool/input/trace-input.h"
#include "tool/options.h"
#include "tool/output-file.h"
#include "tool/progress.h"
#include "trace/rewrite/trace-packer.h"
#include "trace/rewrite/trace-sharer.h"
#include "trace/rewrite/trace-unpacker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRACE_END    ".moetrace"
#define PACKED_END   ".packed.moetrace"
#define UNPACKED_END ".unpacked.moetrace"
#define SHARED_END   ".shared.moetrace"

struct options {
    const char * file;
    const char * output; // NULL: beside the file
    bool         unpack;
    bool         share;
    bool         force;
    uint64_t     window; // tokens that a window has at least, 0: as many as it takes
};

static const struct option_spec options_known[] = {
    { 'o', "output", OPTION_FILE, OPTION_AT(output), .value = "OUT",
      .help = "write here, whole or not at all, - the standard output (default: run.packed.moetrace of "
              "run.moetrace, and the other way round)" },
    { 'u', "unpack", OPTION_ON, OPTION_AT(unpack), .help = "make the trace that was packed, byte by byte" },
    { 's', "share", OPTION_ON, OPTION_AT(share),
      .help = "make run.shared.moetrace, of which prompts cannot be made again: how often each layer chose each "
              "expert, in windows of many tokens of one phase. Order, positions, sequences, times, token ids and "
              "gate weights are gone; info, report, compare, cat and export's hot lists and importance work. The "
              "manual has what it still gives away, under SECURITY CONSIDERATIONS" },
    { 0, "window", OPTION_COUNT, OPTION_AT(window), .value = "TOKENS", .min = 1, .max = UINT64_MAX - 1,
      .expects = "needs a number of tokens",
      .help    = "tokens of a window, at least 4 for each expert of each layer, which is the default; a trace with "
                 "fewer is refused" },
    { 'f', "force", OPTION_ON, OPTION_AT(force), .help = "replace a file that is there already, but not FILE itself" },
    { 0 },
};

static int check_options(const struct options * options) {
    if (options->share && options->unpack) {
        return command_usage_error(&command_pack, "what --share leaves out nothing brings back: not with --unpack");
    }
    if (options->window > 0 && !options->share) {
        return command_usage_error(&command_pack, "--window goes with --share");
    }
    if (options->output == NULL && strcmp(options->file, "-") == 0) {
        return command_usage_error(&command_pack, "where to? Of the standard input -o has to tell");
    }
    if (options->output != NULL && strcmp(options->output, "-") == 0 && isatty(STDOUT_FILENO)) {
        return command_usage_error(&command_pack, "a trace is not for terminals: choose a file with -o");
    }
    return STATUS_OK;
}

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_pack, options, &argc, &argv, status)) {
        return false;
    }
    options->file = argv[0];
    *status = argc == 1 ? check_options(options)
                        : command_usage_error(&command_pack, argc == 0 ? "which file?" : "one file at a time");
    return *status == STATUS_OK;
}

// The length of a path without an ending, all of it where it has another one.
static int stem(const char * path, const char * end) {
    const size_t length = strlen(path);
    const size_t n      = strlen(end);
    return (int) (length > n && strcmp(path + length - n, end) == 0 ? length - n : length);
}

static char * default_output(const struct options * options) {
    const int packed = stem(options->file, PACKED_END);
    const int plain  = stem(options->file, TRACE_END);
    if (options->share) {
        return memory_text("%.*s" SHARED_END, options->file[packed] != '\0' ? packed : plain, options->file);
    }
    if (!options->unpack) {
        return memory_text("%.*s" PACKED_END, plain, options->file);
    }
    return options->file[packed] != '\0' ? memory_text("%.*s" TRACE_END, packed, options->file)
                                         : memory_text("%.*s" UNPACKED_END, plain, options->file);
}

static bool may_write(const char * output, bool force) {
    struct stat status;
    if (force || strcmp(output, "-") == 0 || stat(output, &status) != 0 || !S_ISREG(status.st_mode)) {
        return true;
    }
    error_say("%s: is there already (--force replaces it, -o chooses another name)", output);
    return false;
}

static void tell(void * self, double done) {
    struct progress * progress = self;
    progress_tell(progress, (uint64_t) (done * (double) progress->total));
}

//
// what packs, unpacks and shares
//

struct result {
    struct trace_pack_report  pack;
    struct trace_share_report share;
};

static const char * call(const struct options * options, const struct trace * trace, FILE * out,
                         struct progress * progress, struct result * result) {
    if (options->share) {
        return trace_share(trace, options->window, out, tell, progress, &result->share);
    }
    return (options->unpack ? trace_unpack : trace_pack)(trace, out, tell, progress, &result->pack);
}

static bool convert(const struct options * options, const struct trace * trace, FILE * out, struct result * result) {
    const char    * what     = options->share ? "counting" : options->unpack ? "unpacking" : "packing";
    struct progress progress = progress_begin(what, trace_about(trace)->file_size);
    const char    * wrong    = call(options, trace, out, &progress, result);
    progress_end(&progress);
    if (wrong != NULL && !ferror(out)) { // of what cannot be written closing it tells
        error_say("%s: %s", trace_input_name(options->file), wrong);
    }
    return wrong == NULL;
}

static bool copy(FILE * from, FILE * to) {
    char block[65536];
    rewind(from);
    for (size_t n; (n = fread(block, 1, sizeof(block), from)) > 0;) {
        if (fwrite(block, 1, n, to) != n) {
            return false;
        }
    }
    return ferror(from) == 0;
}

// What cannot be written twice gets what is ready.
static bool convert_aside(const struct options * options, const struct trace * trace, FILE * out,
                          struct result * result) {
    FILE * aside = tmpfile();
    bool   ok    = aside != NULL || (error_say("no temporary file: %s", strerror(errno)), false);
    ok = ok && convert(options, trace, aside, result);
    if (aside != NULL && ferror(aside)) {
        error_say("the temporary file that the result is made in (in " P_tmpdir ") cannot be written: is there room?");
    }
    if (ok && !copy(aside, out)) {
        error_say("the result cannot be written: %s", strerror(errno));
        ok = false;
    }
    if (aside != NULL) {
        fclose(aside);
    }
    return ok;
}

static bool write_result(const struct options * options, const char * path, const struct trace * trace,
                         struct result * result) {
    struct output_file file;
    struct error       error;
    if (!output_file_open(&file, path, FILE_KIND_TRACE, options->force, &error)) {
        error_say("%s", error.text);
        return false;
    }
    const bool ok = (file.aside != NULL ? convert : convert_aside)(options, trace, file.out, result);
    if (!ok && !ferror(file.out)) {
        output_file_drop(&file);
    } else if (!output_file_close(&file, &error)) {
        error_say("%s", error.text);
        return false;
    }
    return ok;
}

// To where the trace does not go.
static void print_report(const struct options * options, const char * path, const struct trace_info * info,
                         const struct trace_pack_report * report) {
    FILE * out = strcmp(path, "-") == 0 ? stderr : stdout;
    if (report->copied) {
        const bool is_so = info->is_packed != options->unpack;
        fprintf(out, "%s, %" PRIu64 " bytes: copied as it is\n",
                !is_so ? "would not become smaller" : options->unpack ? "not packed" : "packed already", report->size);
        return;
    }
    const double before = (double) info->file_size;
    const double after  = (double) report->size;
    fprintf(out, "%" PRIu64 " bytes before, %" PRIu64 " after (%.1f%%)\n", info->file_size, report->size,
            100.0 * after / before);
    if (report->entropy > 0) {
        fprintf(out, "the experts alone take %.0f bytes at best: %.3f times that\n", report->entropy,
                after / report->entropy);
    }
}

static void print_share(const struct options * options, const char * path, const struct trace_share_report * report) {
    FILE * out = strcmp(path, "-") == 0 ? stderr : stdout;
    fprintf(out, "%" PRIu64 " tokens in %" PRIu64 " %s of %" PRIu64 " or more, %" PRIu64 " bytes\n", report->n_tokens,
            report->n_windows, report->n_windows == 1 ? "window" : "windows", options->window, report->size);
    if (report->left_out_tokens > 0) {
        fprintf(out, "left out: %" PRIu64 " tokens of a phase that has fewer than a window\n", report->left_out_tokens);
    }
    if (report->left_out_rows > 0) {
        fprintf(out, "left out: what %" PRIu64 " tokens chose in layers that were not computed for the whole window\n",
                report->left_out_rows);
    }
}

// Sets the window. False where that cannot be done.
static bool may_share(struct options * options, const struct trace_info * info) {
    const char   * name  = trace_input_name(options->file);
    const uint64_t least = trace_share_window(info);
    if (info->shared_window > 0) {
        error_say("%s: made by `pack --share` already", name);
        return false;
    }
    if (options->window > 0 && options->window < least) {
        error_say("%s: windows of %" PRIu64 " tokens would give away which tokens they have: %" PRIu64
                  " is the least, %d for each expert of each layer", name, options->window, least,
                  TRACE_SHARE_TOKENS_EACH);
        return false;
    }
    options->window = options->window > 0 ? options->window : least;
    return true;
}

static int pack_to(struct options * options, const char * path) {
    if (!may_write(path, options->force)) {
        return STATUS_FAILED;
    }
    struct trace * trace = trace_input_open(options->file);
    if (trace == NULL) {
        return STATUS_FAILED;
    }
    struct result             result = { 0 };
    const struct trace_info * info   = trace_about(trace);
    int                       status = STATUS_FAILED;
    if ((!options->share || may_share(options, info)) && write_result(options, path, trace, &result)) {
        if (options->share) {
            print_share(options, path, &result.share);
        } else {
            print_report(options, path, info, &result.pack);
        }
        status = trace_input_check(options->file, info, options->share ? result.share.lost : result.pack.lost);
    }
    trace_close(trace);
    return status;
}

static int pack_main(int argc, char ** argv) {
    struct options options = { 0 };
    int            status;
    if (!parse_options(&options, argc, argv, &status)) {
        return status;
    }
    char    * path   = options.output != NULL ? memory_text("%s", options.output) : default_output(&options);
    const int result = pack_to(&options, path);
    free(path);
    return result;
}

const struct command command_pack = {
    .name    = "pack",
    .summary = "makes a routing trace smaller, or makes one that can be shared",
    .usage   = "[--unpack] [--force] [-o OUT] FILE\n--share [--window TOKENS] [-f] [-o OUT] FILE",
    .about   = "Makes a routing trace smaller: about as small as its experts can be told, with each layer's "
               "frequencies. Every command reads packed traces as they are.",
    .options = options_known,
    .notes   = "A FILE is what `run --routing` wrote, - the standard input. One that would not become smaller is "
               "copied.",
    .main    = pack_main,
};
