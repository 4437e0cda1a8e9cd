// The command `export`: writes what the filter leaves of a trace in a format that others read.

#include "commands/commands.h"
#include "commands/export/export-format.h"
#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "tool/input/trace-input.h"
#include "tool/options.h"
#include "tool/output-file.h"
#include "tool/progress.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct export_format * const formats[] = {
    &export_npy, &export_csv, &export_jsonl, &export_moe_trace, &export_moe_cache_profile, &export_libcachesim,
    &export_sglang, &export_sglang_json, &export_hot_csv, &export_hot_json, &export_importance,
};

#define N_FORMATS (sizeof(formats) / sizeof(formats[0]))

struct options {
    const char                 * format_name;
    const struct export_format * format;
    struct trace_filter          filter;
    const char                 * split_by;
    bool                         split;
    bool                         force;
    const char                 * output; // NULL: the standard output
    const char                 * file;
};

//
// the options
//

static const struct export_format * find_format(const char * name) {
    for (size_t i = 0; i < N_FORMATS; i++) {
        if (strcmp(formats[i]->name, name) == 0) {
            return formats[i];
        }
    }
    return NULL;
}

static const struct option_choice format_choices[] = {
    { "npy",               "an array [tokens, layers, top-k] for numpy, -1 where a layer did not route a token; beside "
                           "it OUT.layers.npy, OUT.tokens.npy and, with gate weights, OUT.weights.npy" },
    { "csv",               "a row for each token and layer" },
    { "jsonl",             "an object for each token" },
    { "moe-trace",         "layer,expert for each activation, as llama.cpp's moe-trace" },
    { "moe-cache-profile", "pos,layer,id0,id1,… for --moe-cache-profile of a fork" },
    { "libcachesim",       "requests for experts: time,obj_id,obj_size,layer,expert,tokens" },
    { "sglang",            "layer_id,expert_id,count, as SGLang's recorder" },
    { "sglang-json",       "logical_count: counts of each layer and expert, for SGLang's --init-expert-location" },
    { "hot-csv",           "layer,rank,expert,activations,share: the experts of each layer, hottest first" },
    { "hot-json",          "the same: each layer's experts, hottest first" },
    { "importance",        "layer,expert,activations,share,mean_weight,weight_sum: what pruning goes by" },
    { 0 },
};

static const struct option_choice split_choices[] = { { "sequence", NULL }, { 0 } };

static const struct option_spec options_known[] = {
    { 'f', "format", OPTION_WORD, OPTION_AT(format_name), .value = "FORMAT", .choices = format_choices,
      .help = "which of those below" },
    { 'o', "output", OPTION_FILE, OPTION_AT(output), .value = "OUT",
      .help = "write here, whole or not at all (default: -, the standard output)" },
    { 0, "force", OPTION_ON, OPTION_AT(force),
      .help = "replace whatever is there, not only an earlier export of the same format" },
    { 0, "split", OPTION_WORD, OPTION_AT(split_by), .value = "sequence", .choices = split_choices,
      .help = "npy: a file for each life of a sequence" },
    TRACE_FILTER_OPTIONS(filter),
    { 0 },
};

static int which_format(void) {
    char    * known  = options_choices(format_choices);
    const int status = command_usage_error(&command_export, "which --format? %s", known);
    free(known);
    return status;
}

static int check_options(const struct options * options, int n_files) {
    if (options->format == NULL) {
        return which_format();
    }
    if (n_files != 1) {
        return command_usage_error(&command_export, n_files == 0 ? "which file?" : "one file at a time (see `cat`)");
    }
    if (options->split && (options->format != &export_npy || options->output == NULL)) {
        return command_usage_error(&command_export, "--split needs --format npy, and -o");
    }
    if (options->format == &export_npy && options->output == NULL && isatty(STDOUT_FILENO)) {
        return command_usage_error(&command_export, "npy is not for terminals: choose a file with -o");
    }
    return STATUS_OK;
}

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_export, options, &argc, &argv, status)) {
        return false;
    }
    options->format = options->format_name == NULL ? NULL : find_format(options->format_name);
    options->split  = options->split_by != NULL;
    options->output = options->output != NULL && strcmp(options->output, "-") == 0 ? NULL : options->output;
    options->file   = argv[0];
    *status = check_options(options, argc);
    return *status == STATUS_OK;
}

//
// what is chosen of a ubatch
//

struct choice {
    struct export_ubatch ubatch;
    int32_t            * tokens;
    bool               * is_chosen;
    size_t               room_tokens;
    size_t               room_layers;
};

static void make_room(struct choice * choice, const struct trace_ubatch * ubatch) {
    if ((size_t) ubatch->n_tokens > choice->room_tokens) {
        choice->room_tokens = (size_t) ubatch->n_tokens;
        choice->tokens      = memory_resize(choice->tokens,    choice->room_tokens, sizeof(*choice->tokens));
        choice->is_chosen   = memory_resize(choice->is_chosen, choice->room_tokens, sizeof(*choice->is_chosen));
    }
    if (ubatch->n_layers > choice->room_layers) {
        choice->room_layers   = ubatch->n_layers;
        choice->ubatch.layers = memory_resize(choice->ubatch.layers, choice->room_layers,
                                              sizeof(*choice->ubatch.layers));
    }
}

// False: nothing of it.
static bool choose(struct choice * choice, const struct trace_filter * filter, const struct trace_ubatch * ubatch) {
    make_room(choice, ubatch);
    struct export_ubatch * chosen = &choice->ubatch;
    *chosen = (struct export_ubatch) { ubatch, 0, choice->tokens, choice->is_chosen, 0, chosen->layers };
    if (!trace_filter_has_ubatch(filter, ubatch)) {
        return false;
    }
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        choice->is_chosen[i] = trace_filter_has_token(filter, ubatch, i);
        if (choice->is_chosen[i]) {
            choice->tokens[chosen->n_tokens++] = i;
        }
    }
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        if (trace_filter_has_layer(filter, ubatch->layers[i].layer)) {
            chosen->layers[chosen->n_layers++] = &ubatch->layers[i];
        }
    }
    return chosen->n_tokens > 0;
}

static void choice_free(struct choice * choice) {
    free(choice->tokens);
    free(choice->is_chosen);
    free(choice->ubatch.layers);
}

//
// going through the trace
//

struct source {
    const struct options * options;
    const struct trace   * trace;
    uint64_t               lost;    // ubatches that do not check
};

typedef bool visitor(void * self, const struct export_ubatch * ubatch, struct error * error);

static bool is_broken(const struct options * options) {
    return options->output == NULL && ferror(stdout) != 0;
}

static bool go_through(struct source * source, const char * what, visitor * visit, void * self, struct error * error) {
    const struct options * options = source->options;
    struct trace_cursor  * cursor  = trace_cursor_new(source->trace);
    if (cursor == NULL) {
        return error_set(error, "out of memory");
    }
    const uint64_t      size     = options->output == NULL ? 0 : trace_about(source->trace)->file_size;
    struct progress     progress = progress_begin(what, size);
    struct choice       choice   = { 0 };
    struct trace_ubatch ubatch;
    bool                ok       = true;
    trace_cursor_seek(cursor, trace_filter_first_ubatch(&options->filter));
    while (ok && !is_broken(options) && trace_next(cursor, &ubatch)
           && !trace_filter_is_past(&options->filter, ubatch.number)) {
        ok = !choose(&choice, &options->filter, &ubatch) || visit(self, &choice.ubatch, error);
        progress_tell(&progress, trace_cursor_offset(cursor));
    }
    progress_end(&progress);
    source->lost = trace_cursor_lost(cursor);
    choice_free(&choice);
    trace_cursor_free(cursor);
    return ok && !trace_input_changed(source->trace, error);
}

//
// the survey
//

static void survey_layer(struct export_survey * survey, const struct trace_routing * routing) {
    survey->n_used   = routing->n_used   > survey->n_used   ? routing->n_used   : survey->n_used;
    survey->n_expert = routing->n_expert > survey->n_expert ? routing->n_expert : survey->n_expert;
    size_t at = survey->n_layers;
    while (at > 0 && survey->layers[at - 1] > routing->layer) {
        at--;
    }
    if (at > 0 && survey->layers[at - 1] == routing->layer) {
        return;
    }
    survey->layers = memory_resize(survey->layers, survey->n_layers + 1, sizeof(*survey->layers));
    memmove(survey->layers + at + 1, survey->layers + at, (survey->n_layers - at) * sizeof(*survey->layers));
    survey->layers[at] = routing->layer;
    survey->n_layers++;
}

static bool survey_ubatch(void * self, const struct export_ubatch * ubatch, struct error * error) {
    (void) error;
    struct export_survey * survey = self;
    survey->n_tokens += ubatch->n_tokens;
    for (size_t i = 0; i < ubatch->n_tokens; i++) {
        const struct trace_token * token = &ubatch->all->tokens[ubatch->tokens[i]];
        survey->n_prompt += !token->generation;
        trace_lives_at(survey->lives, ubatch->all->context, token->sequence, token->life)->n_tokens++;
    }
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        survey_layer(survey, ubatch->layers[i]);
    }
    return true;
}

//
// the export
//

struct writer {
    const struct export_format * format;
    struct trace_export        * export;
};

// What was counted is what the formats have room for.
static bool has_room(const struct export_survey * survey, const struct export_ubatch * ubatch) {
    bool ok = true;
    for (size_t i = 0; survey != NULL && i < ubatch->n_layers && ok; i++) {
        const struct trace_routing * routing = ubatch->layers[i];
        const size_t                 index   = export_layer_index(survey, routing->layer);
        ok = index < survey->n_layers && survey->layers[index] == routing->layer && routing->n_used <= survey->n_used
          && routing->n_expert <= survey->n_expert;
    }
    return ok;
}

static bool write_ubatch(void * self, const struct export_ubatch * ubatch, struct error * error) {
    const struct writer * writer = self;
    if (!has_room(writer->export->survey, ubatch)) {
        return export_changed(writer->export, error);
    }
    return writer->format->ubatch(writer->export, ubatch, error);
}

static bool write_out(struct source * source, struct trace_export * export, struct error * error) {
    const struct export_format * format = source->options->format;
    struct writer                writer = { format, export };
    const bool                   ok     = format->begin(export, error)
                                       && go_through(source, "exporting", write_ubatch, &writer, error);
    return format->end(export, ok, error);
}

static bool write_to_file(struct source * source, struct trace_export * export, struct error * error) {
    struct output_file file;
    if (!output_file_open(&file, export->output, source->options->format->kind, export->force, error)) {
        return false;
    }
    export->out = file.out;
    if (write_out(source, export, error)) {
        return output_file_close(&file, error);
    }
    output_file_drop(&file);
    return false;
}

static bool export_trace(struct source * source, struct error * error) {
    const struct options * options = source->options;
    struct export_survey   survey  = { .lives = trace_lives_new() };
    struct trace_export    export  = {
        .info   = trace_about(source->trace),
        .input  = trace_name(source->trace),
        .output = options->output,
        .force  = options->force,
        .split  = options->split,
    };
    bool                   ok      = true;
    if (options->format->needs_survey) {
        export.survey = &survey;
        ok = go_through(source, "counting", survey_ubatch, &survey, error);
    }
    if (ok) {
        ok = options->format->own_files ? write_out(source, &export, error) : write_to_file(source, &export, error);
    }
    trace_lives_free(survey.lives);
    free(survey.layers);
    return ok;
}

static bool needs_phases(const struct options * options) {
    return options->split || options->format == &export_moe_cache_profile;
}

static bool needs_order(const struct export_format * format) {
    return format != &export_hot_csv && format != &export_hot_json && format != &export_importance;
}

static bool fits(const struct options * options, const struct trace_info * info, struct error * error) {
    if (needs_order(options->format) && !trace_input_has_order(info, options->format->name, error)) {
        return false;
    }
    if (needs_phases(options) && !info->phases_known) {
        return error_set(error, "has no phases and sequences, which %s needs: the program called llama.cpp in a way "
                                "that shows none",
                         options->split ? "--split" : options->format->name);
    }
    return trace_filter_fits(&options->filter, info, error);
}

static int export_open(const struct options * options, const struct trace * trace) {
    struct source source = { options, trace, 0 };
    struct error  error;
    if (!output_file_check(options->output, options->format->kind, options->force, &error)) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    if (!fits(options, trace_about(trace), &error)) {
        error_say("%s: %s", trace_input_name(options->file), error.text);
        return STATUS_FAILED;
    }
    if (!export_trace(&source, &error)) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    return trace_input_check(options->file, trace_about(trace), source.lost);
}

static int export_file(const struct options * options) {
    struct trace * trace = trace_input_open(options->file);
    if (trace == NULL) {
        return STATUS_FAILED;
    }
    const int status = export_open(options, trace);
    trace_close(trace);
    return status;
}

static int export_main(int argc, char ** argv) {
    struct options options = { .filter = { .default_phases = PHASES_OF_TOKENS } };
    int            status;
    if (parse_options(&options, argc, argv, &status)) {
        status = export_file(&options);
    }
    trace_filter_free(&options.filter);
    return status;
}

const struct command command_export = {
    .name    = "export",
    .summary = "writes a routing trace in a format that other programs read",
    .usage   = "--format FORMAT [OPTION]… [-o OUT] FILE",
    .about   = "Writes a routing trace in a format that other programs read. docs/export-formats.md describes them.",
    .options = options_known,
    .notes   = "The warm-up is left out unless --warmup or --phase chooses it. A FILE is what `run --routing` "
               "wrote, - the standard input.",
    .main    = export_main,
};
