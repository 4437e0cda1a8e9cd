// The command `import`: makes a routing trace, or statistics, of what others wrote.

#include "commands/commands.h"
#include "commands/import/import-format.h"
#include "statistics/statistics-file.h"
#include "tool/error.h"
#include "tool/options.h"
#include "tool/output-file.h"
#include "trace/format/trace-format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct import_format * const formats[] = {
    &import_route_trace, &import_npy, &import_csv, &import_jsonl, &import_moe_trace, &import_moe_cache_profile,
    &import_sglang,
};

#define N_FORMATS (sizeof(formats) / sizeof(formats[0]))
#define HEAD_SIZE 4096
#define COPY_SIZE ((size_t) 64 * 1024)

struct options {
    const char                 * format_name;
    const struct import_format * format;     // NULL: as the file begins
    const char                 * model;
    uint64_t                     n_expert;
    uint64_t                     n_used;
    uint64_t                     expert_bytes;
    struct import_hints          hints;      // what these say
    const char                 * output;     // NULL: the standard output
    bool                         force;
    const char                 * file;
};

//
// the options
//

static const struct import_format * find_format(const char * name) {
    for (size_t i = 0; i < N_FORMATS; i++) {
        if (strcmp(formats[i]->name, name) == 0) {
            return formats[i];
        }
    }
    return NULL;
}

static const struct option_choice format_choices[] = {
    { "route-trace",       "the CSV of BigMoeOnEdge's --route-trace" },
    { "npy",               "an array [tokens, layers, top-k] of int16 or int32, as vLLM and SGLang return it or as "
                           "`export` writes it, with what lies beside that" },
    { "csv",               "a row for each token and layer, of `export`" },
    { "jsonl",             "an object for each token, of `export`" },
    { "moe-trace",         "layer,expert for each activation, as llama.cpp's moe-trace; needs --top-k" },
    { "moe-cache-profile", "pos,layer,id0,id1,… of a fork's llama-moe-trace" },
    { "sglang",            "JSON with logical_count, which SGLang keeps and `export -f sglang-json` writes: it has no "
                           "order, and becomes statistics for `show`, `report`, `compare` and `merge`" },
    { 0 },
};

_Static_assert(TRACE_EXPERTS_MAX == 65536 && TRACE_USED_MAX == 4096, "--experts and --top-k name these");

static const struct option_spec options_known[] = {
    { 'f', "format", OPTION_WORD, OPTION_AT(format_name), .value = "FORMAT", .choices = format_choices,
      .help = "which of those below (default: as the file begins)" },
    { 'o', "output", OPTION_FILE, OPTION_AT(output), .value = "OUT",
      .help = "write here, whole or not at all (default: -, the standard output)" },
    { 0, "force", OPTION_ON, OPTION_AT(force),
      .help = "replace whatever is there, not only an earlier routing trace, or statistics" },
    { 0, NULL, OPTION_GROUP, .help = "What the format does not tell of the model" },
    { 'm', "model", OPTION_FILE, OPTION_AT(model), .value = "NAME",
      .help = "its name, or its GGUF file, which tells experts, top-k and what an expert of each layer takes" },
    { 0, "experts", OPTION_COUNT, OPTION_AT(n_expert), .value = "N", .min = 1, .max = TRACE_EXPERTS_MAX,
      .expects = "needs a number of experts from 1 to 65536",
      .help = "experts of a layer: only route-trace and sglang tell that themselves" },
    { 0, "top-k", OPTION_COUNT, OPTION_AT(n_used), .value = "K", .min = 1, .max = TRACE_USED_MAX,
      .expects = "needs a number of experts from 1 to 4096", .help = "experts of a token: moe-trace needs it" },
    { 0, "expert-bytes", OPTION_BYTES, OPTION_AT(expert_bytes), .value = "SIZE", .min = 1,
      .expects = "needs a size, such as 3059712 or 3MiB",
      .help = "what one expert takes, in all tensors of its layer together" },
    { 0 },
};

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_import, options, &argc, &argv, status)) {
        return false;
    }
    if (argc != 1) {
        *status = command_usage_error(&command_import, argc == 0 ? "which file?" : "one file at a time (see `cat`)");
        return false;
    }
    options->format = options->format_name == NULL ? NULL : find_format(options->format_name);
    options->output = options->output != NULL && strcmp(options->output, "-") == 0 ? NULL : options->output;
    options->file   = argv[0];
    options->hints  = (struct import_hints) {
        .n_expert     = (int32_t) options->n_expert,
        .n_used       = (int32_t) options->n_used,
        .expert_bytes = options->expert_bytes,
    };
    return true;
}

//
// the format
//

// NULL, and what it is or what to do.
static const struct import_format * recognise(const struct import_input * input, struct error * error) {
    char         head[HEAD_SIZE + 1];
    const size_t n = import_input_head(input, head, HEAD_SIZE);
    head[n] = '\0';
    for (size_t i = 0; i < N_FORMATS; i++) {
        if (formats[i]->recognises(head, n)) {
            return formats[i];
        }
    }
    if (n == 0) {
        error_set(error, "%s: is empty", input->name);
    } else if (import_begins_as(head, n, TRACE_MAGIC)) {
        error_set(error, "%s: is a routing trace already", input->name);
    } else if (import_begins_as(head, n, "{\n  \"format\": \"llama-expert-tracer")) {
        error_set(error, "%s: is a statistics file already", input->name);
    } else {
        char * known = options_choices(format_choices);
        error_set(error, "%s: does not begin as any of these: --format is %s", input->name, known);
        free(known);
    }
    return NULL;
}

//
// statistics
//

static bool import_statistics(const struct options * options, struct import * import,
                              const struct import_format * format, struct error * error) {
    import->statistics = statistics_new(import->input->name);
    const bool ok = output_file_check(options->output, FILE_KIND_STATISTICS, options->force, error)
                 && format->read(import, error)
                 && statistics_file_save(options->output, import->statistics, options->force, error);
    statistics_free(import->statistics);
    return ok;
}

//
// a trace
//

static bool copy_to(FILE * from, FILE * to) {
    char   bytes[COPY_SIZE];
    size_t n = 1;
    rewind(from);
    while (n > 0) {
        n = fread(bytes, 1, sizeof(bytes), from);
        if (fwrite(bytes, 1, n, to) != n) {
            return false; // which is told when it is closed
        }
    }
    return ferror(from) == 0;
}

static bool read_into(FILE * out, const char * name, struct import * import, const struct import_format * format,
                      struct error * error) {
    import->trace = import_trace_new(out, name);
    const bool ok = format->read(import, error);
    import_trace_free(import->trace);
    return ok;
}

// The writer writes where it wants to in a file: a pipe gets a copy.
static bool read_by_way_of_copy(FILE * out, struct import * import, const struct import_format * format,
                                struct error * error) {
    FILE * copy = tmpfile();
    if (copy == NULL) {
        return error_set(error, P_tmpdir ": %s: make room there, or name a file with -o", strerror(errno));
    }
    bool ok = read_into(copy, "the copy in " P_tmpdir, import, format, error);
    if (ok && !copy_to(copy, out) && ferror(copy) != 0) {
        ok = error_set(error, P_tmpdir ": cannot be read: %s", strerror(errno));
    }
    fclose(copy);
    return ok;
}

static bool is_whole_file(const struct output_file * file) {
    struct stat status;
    return file->path != NULL && fstat(fileno(file->out), &status) == 0 && S_ISREG(status.st_mode)
        && status.st_size == 0;
}

static bool import_routing(const struct options * options, struct import * import, const struct import_format * format,
                           struct error * error) {
    struct output_file file;
    if (!output_file_open(&file, options->output, FILE_KIND_TRACE, options->force, error)) {
        return false;
    }
    const bool ok = is_whole_file(&file) ? read_into(file.out, options->output, import, format, error)
                                         : read_by_way_of_copy(file.out, import, format, error);
    if (ok) {
        return output_file_close(&file, error);
    }
    output_file_drop(&file);
    return false;
}

static bool import_input(const struct options * options, struct import_input * input, struct error * error) {
    struct import                import = { .hints = &options->hints, .input = input };
    const struct import_format * format = options->format != NULL ? options->format : recognise(input, error);
    if (format == NULL) {
        return false;
    }
    if (!format->has_statistics && options->output == NULL && isatty(STDOUT_FILENO)) {
        return error_set(error, "a trace is not for terminals: choose a file with -o");
    }
    return format->has_statistics ? import_statistics(options, &import, format, error)
                                  : import_routing(options, &import, format, error);
}

static int import_file(const struct options * options) {
    struct import_input input;
    struct error        error;
    bool                ok = import_input_open(&input, options->file, &error);
    if (ok) {
        ok = import_input(options, &input, &error);
        import_input_close(&input);
    }
    if (!ok) {
        error_say("%s", error.text);
    }
    return ok ? STATUS_OK : STATUS_FAILED;
}

// --model is a name or a file.
static int import_with_model(struct options * options) {
    if (options->model == NULL || !gguf_model_is_file(options->model)) {
        options->hints.model = options->model;
        return import_file(options);
    }
    struct error          error;
    struct gguf_model * model = gguf_model_open(options->model, &error);
    output_file_protect(options->model);
    if (model == NULL) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    if (model->n_layers == 0 && options->expert_bytes == 0) {
        error_warning("%s: is not all of the model: what an expert takes stays unknown, unless --expert-bytes tells",
                      options->model);
    }
    options->hints.file = model;
    const int status = import_file(options);
    gguf_model_free(model);
    return status;
}

static int import_main(int argc, char ** argv) {
    struct options options = { 0 };
    int            status;
    return parse_options(&options, argc, argv, &status) ? import_with_model(&options) : status;
}

const struct command command_import = {
    .name    = "import",
    .summary = "makes a routing trace of what other programs wrote",
    .usage   = "[OPTION]… [-o OUT] FILE",
    .about   = "Makes a routing trace, which all commands read, of what another program wrote. "
               "docs/export-formats.md describes the formats.",
    .options = options_known,
    .notes   = "What a format does not tell stays unknown. What is no routing is refused, with its line: an expert "
               "that its layer does not have, one twice for a token, nothing but expert 0. - is the standard input.",
    .main    = import_main,
};
