// `info`: what is in a routing trace, and whether it is whole.

#include "commands/commands.h"
#include "tool/error.h"
#include "tool/input/trace-input.h"
#include "tool/input/trace-lives.h"
#include "tool/json-output.h"
#include "tool/options.h"
#include "tool/progress.h"
#include "tool/terminal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
// counting
//

struct sums {
    uint64_t ubatches;
    uint64_t tokens;
    uint64_t prompt;
    uint64_t generation;
    uint64_t warmup;        // in neither
    uint64_t rejected;      // in generation or prompt
    uint64_t warmup_ubatches;
    uint64_t mtp_ubatches;
    uint64_t batches;
    uint64_t cuts;
    uint64_t activations;   // without warm-up
    uint64_t warmup_activations;
    size_t   contexts;
    size_t   sequences;
    size_t   lives;
    int64_t  begin;         // microseconds since 1970, of the first ubatch
    int64_t  end;           // of the last one
    uint64_t lost;          // ubatches that do not check
};

static void count_token(struct sums * counts, struct trace_lives * lives, const struct trace_ubatch * ubatch, const struct trace_token * token) {
    counts->warmup     += ubatch->warmup;
    counts->prompt     += !ubatch->warmup && !token->generation;
    counts->generation += !ubatch->warmup && token->generation;
    counts->rejected   += token->rejected;
    if (token->sequence >= 0) {
        trace_lives_at(lives, ubatch->context, token->sequence, token->life);
    }
}

static void count_ubatch(struct sums * counts, struct trace_lives * lives, const struct trace_ubatch * ubatch) {
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        count_token(counts, lives, ubatch, &ubatch->tokens[i]);
    }
    uint64_t * const activations = ubatch->warmup ? &counts->warmup_activations : &counts->activations;
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        *activations += (uint64_t) ubatch->layers[i].n_rows * (uint64_t) ubatch->layers[i].n_used;
    }
    counts->ubatches        += 1;
    counts->tokens          += (uint64_t) ubatch->n_tokens;
    counts->warmup_ubatches += ubatch->warmup;
    counts->mtp_ubatches    += ubatch->mtp;
    counts->cuts            += ubatch->n_cuts;
    counts->batches          = ubatch->batch >= counts->batches ? ubatch->batch + 1 : counts->batches;
    counts->begin            = counts->begin == 0 ? ubatch->time : counts->begin;
    counts->end              = ubatch->time;
}

static bool is_unchanged(const struct trace * trace) {
    struct error error;
    const bool   changed = trace_input_changed(trace, &error);
    if (changed) {
        error_say("%s", error.text);
    }
    return !changed;
}

static bool count(const struct trace * trace, struct sums * counts) {
    struct trace_cursor * cursor = trace_cursor_new(trace);
    if (cursor == NULL) {
        error_say("out of memory");
        return false;
    }
    struct trace_lives * lives    = trace_lives_new();
    struct progress      progress = progress_begin("counting", trace_about(trace)->file_size);
    struct trace_ubatch  ubatch;
    while (trace_next(cursor, &ubatch)) {
        count_ubatch(counts, lives, &ubatch);
        progress_tell(&progress, trace_cursor_offset(cursor));
    }
    progress_end(&progress);
    counts->lost      = trace_cursor_lost(cursor);
    counts->contexts  = trace_lives_n_contexts(lives);
    counts->sequences = trace_lives_n_sequences(lives);
    counts->lives     = trace_lives_n(lives);
    trace_lives_free(lives);
    trace_cursor_free(cursor);
    return is_unchanged(trace);
}

//
// what both forms tell
//

static const char * ending_name(enum trace_ending ending) {
    static const char * const names[] = {
        [TRACE_COMPLETE] = "complete", [TRACE_INCOMPLETE] = "incomplete", [TRACE_ROTATED] = "rotated", [TRACE_INTERRUPTED] = "interrupted",
    };
    return names[ending];
}

// Least and most over the layers of all tables; -1: not known.
struct range {
    int64_t least;
    int64_t most;
};

typedef int64_t layer_number(const struct trace_layer * layer);

static int64_t n_expert(const struct trace_layer * layer) {
    return layer->n_expert;
}

static int64_t n_used(const struct trace_layer * layer) {
    return layer->n_used;
}

static struct range range_of(const struct trace_info * info, layer_number * number) {
    struct range range = { INT64_MAX, -1 };
    for (size_t i = 0; i < info->n_tables; i++) {
        for (size_t k = 0; k < info->tables[i].n_layers; k++) {
            const int64_t value = number(&info->tables[i].layers[k]);
            range.least = value < range.least ? value : range.least;
            range.most  = value > range.most  ? value : range.most;
        }
    }
    return range;
}

// Of all tables, each layer once; they must be freed.
static const struct trace_layer ** layers_of(const struct trace_info * info, size_t * n) {
    size_t room = 0;
    for (size_t i = 0; i < info->n_tables; i++) {
        room += info->tables[i].n_layers;
    }
    const struct trace_layer ** layers = memory_new(room, sizeof(*layers));
    *n = 0;
    for (size_t i = 0; i < info->n_tables; i++) {
        for (size_t k = 0; k < info->tables[i].n_layers; k++) {
            size_t seen = 0;
            while (seen < *n && layers[seen]->layer != info->tables[i].layers[k].layer) {
                seen++;
            }
            if (seen == *n) {
                layers[(*n)++] = &info->tables[i].layers[k];
            }
        }
    }
    return layers;
}

// Bytes of one expert in all layers together, -1: not known.
static int64_t bytes_of_experts(const struct trace_layer * const * layers, size_t n) {
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        const int64_t bytes = trace_input_expert_bytes(layers[i]);
        if (bytes < 0) {
            return -1;
        }
        sum += bytes;
    }
    return n == 0 ? -1 : sum;
}

//
// for people
//

static char * size_text(int64_t bytes) {
    static const char * const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    double value = (double) bytes;
    size_t unit  = 0;
    while (value >= 1024.0 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024.0;
        unit++;
    }
    return unit == 0 ? memory_text("%lld %s", (long long) bytes, units[0]) : memory_text("%.2f %s", value, units[unit]);
}

static char * time_text(int64_t microseconds) {
    const time_t seconds = (time_t) (microseconds / 1000000);
    struct tm    parts;
    char         text[64];
    if (localtime_r(&seconds, &parts) == NULL || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts) == 0) {
        return memory_text("?");
    }
    return memory_text("%s", text);
}

static char * range_text(struct range range) {
    if (range.least == range.most) {
        return memory_text("%lld", (long long) range.most);
    }
    return memory_text("%lld to %lld", (long long) range.least, (long long) range.most);
}

static const char * or_unknown(const char * text) {
    return text == NULL || *text == '\0' ? "unknown" : text;
}

static void print_model(const struct terminal * terminal, const struct trace_info * info) {
    char * text = memory_text("%s", info->model_name == NULL ? "name unknown" : info->model_name);
    if (info->architecture != NULL) {
        text = memory_append(text, memory_text(" (%s)", info->architecture));
    }
    terminal_field_free(terminal, "model", text);
    if (info->model_file != NULL) {
        terminal_field(terminal, "", info->model_file);
    }
    if (info->fingerprint != NULL) {
        terminal_field_free(terminal, "", memory_text("fingerprint %s", info->fingerprint));
    }
}

static void print_origin(const struct terminal * terminal, const struct trace_info * info) {
    terminal_field(terminal, "engine",  or_unknown(info->engine));
    terminal_field(terminal, "capture", or_unknown(info->capture));
    if (info->shared_window > 0) {
        terminal_field(terminal, "tracer", or_unknown(info->tracer));
    } else {
        terminal_field_free(terminal, "tracer", memory_text("%s, run %s, process %lld", or_unknown(info->tracer),
                                                            or_unknown(info->run), (long long) info->pid));
    }
    terminal_field_free(terminal, "trace",  memory_text("%s, part %lld", or_unknown(info->trace_id), (long long) info->part));
}

static void print_layers(const struct terminal * terminal, const struct trace_info * info) {
    size_t                      n;
    const struct trace_layer ** layers = layers_of(info, &n);
    const int64_t               bytes  = bytes_of_experts(layers, n);
    terminal_field_free(terminal, "layers", memory_text("%d, %zu of them with experts", (int) info->n_layer, n));
    if (n > 0) {
        char * text = memory_append(range_text(range_of(info, n_expert)), memory_text(", "));
        text = memory_append(text, range_text(range_of(info, n_used)));
        terminal_field_free(terminal, "experts", memory_append(text, memory_text(" for each token")));
    }
    if (bytes >= 0) {
        const struct range range = range_of(info, trace_input_expert_bytes);
        char             * text  = size_text(range.most);
        text = memory_append(text, memory_text("%s, in all layers ", range.least == range.most ? " in a layer" : " in a layer at most"));
        terminal_field_free(terminal, "one expert", memory_append(text, size_text(bytes)));
    }
    free(layers);
}

static void print_tokens(const struct terminal * terminal, const struct trace_info * info, const struct sums * counts) {
    char * text = memory_text("%llu", (unsigned long long) (counts->prompt + counts->generation));
    if (info->phases_known) {
        text = memory_append(text, memory_text(": %llu prompt, %llu generation", (unsigned long long) counts->prompt,
                                               (unsigned long long) counts->generation));
    }
    if (counts->warmup > 0) {
        text = memory_append(text, memory_text("; not counted: %llu warm-up", (unsigned long long) counts->warmup));
    }
    terminal_field_free(terminal, "tokens", text);
    if (counts->rejected > 0) {
        terminal_field_free(terminal, "", memory_text("%llu of them drafted and rejected", (unsigned long long) counts->rejected));
    }
}

static void print_sharing(const struct terminal * terminal, const struct trace_info * info) {
    if (info->shared_window == 0) {
        return;
    }
    const long long window = (long long) info->shared_window;
    terminal_field_free(terminal, "shared", memory_text("counts of each expert of each layer, in windows of %lld tokens or more", window));
    terminal_field(terminal, "", "gone: order, positions, sequences, times, token ids, gate weights");
    if (info->shared_left_out > 0) {
        terminal_field_free(terminal, "", memory_text("left out: %lld tokens of a phase that has fewer than a window",
                                                      (long long) info->shared_left_out));
    }
}

static void print_sequences(const struct terminal * terminal, const struct trace_info * info, const struct sums * counts) {
    if (!info->phases_known || info->shared_window > 0) {
        terminal_field(terminal, "sequences", "unknown");
        return;
    }
    char * text = memory_text("%zu with %zu %s", counts->sequences, counts->lives, counts->lives == 1 ? "life" : "lives");
    if (counts->contexts > 1) {
        text = memory_append(text, memory_text(", in %zu contexts", counts->contexts));
    }
    if (counts->cuts > 0) {
        text = memory_append(text, memory_text(", cut %llu %s", (unsigned long long) counts->cuts, counts->cuts == 1 ? "time" : "times"));
    }
    terminal_field_free(terminal, "sequences", text);
}

static void print_ubatches(const struct terminal * terminal, const struct trace_info * info,
                           const struct sums * counts) {
    if (info->shared_window > 0) {
        terminal_field_free(terminal, "windows",     memory_text("%llu", (unsigned long long) counts->ubatches));
        terminal_field_free(terminal, "activations", memory_text("%llu", (unsigned long long) counts->activations));
        return;
    }
    char * text = memory_text("%llu in %llu batches", (unsigned long long) counts->ubatches, (unsigned long long) counts->batches);
    if (counts->warmup_ubatches > 0) {
        text = memory_append(text, memory_text(", %llu of them warm-up", (unsigned long long) counts->warmup_ubatches));
    }
    if (counts->mtp_ubatches > 0) {
        text = memory_append(text, memory_text(", %llu of a multi-token-prediction head", (unsigned long long) counts->mtp_ubatches));
    }
    terminal_field_free(terminal, "ubatches", text);
    text = memory_text("%llu", (unsigned long long) counts->activations);
    if (counts->warmup_activations > 0) {
        text = memory_append(text, memory_text("; not counted: %llu of warm-up", (unsigned long long) counts->warmup_activations));
    }
    terminal_field_free(terminal, "activations", text);
}

static void print_time(const struct terminal * terminal, const struct sums * counts) {
    if (counts->begin > 0) {
        char * text = memory_append(time_text(counts->begin), memory_append(memory_text(" to "), time_text(counts->end)));
        terminal_field_free(terminal, "recorded", memory_append(text, memory_text(" (%.3f s)", (double) (counts->end - counts->begin) / 1e6)));
    }
}

static void print_size(const struct terminal * terminal, const struct trace_info * info, const struct sums * counts) {
    char * text = size_text((int64_t) info->file_size);
    const uint64_t activations = counts->activations + counts->warmup_activations;
    if (activations > 0) {
        text = memory_append(text, memory_text(", %.3f bytes for each activation", (double) info->file_size / (double) activations));
    }
    terminal_field_free(terminal, "size", memory_append(text, memory_text("%s", info->is_packed ? ", packed" : "")));
    terminal_field_free(terminal, "records", memory_text("experts%s%s", info->has_weights ? ", gate weights" : "", info->has_tokens ? ", token ids" : ""));
}

static void print_missing(const struct terminal * terminal, const char * label, uint64_t ubatches, uint64_t tokens, const char * why) {
    if (ubatches > 0 || tokens > 0) {
        terminal_field_free(terminal, label, memory_text("%llu ubatches with %llu tokens: %s", (unsigned long long) ubatches,
                                                         (unsigned long long) tokens, why));
    }
}

static void print_ending(const struct terminal * terminal, const struct trace_info * info, const struct sums * counts) {
    static const char * const texts[] = {
        [TRACE_COMPLETE]    = "complete",
        [TRACE_INCOMPLETE]  = "incomplete: something is missing",
        [TRACE_ROTATED]     = "rotated: it goes on in the next file",
        [TRACE_INTERRUPTED] = "interrupted: the program still runs, or was killed",
    };
    if (info->sample > 1) {
        terminal_field_free(terminal, "sampled", info->seed >= 0 ?
            memory_text("one batch in %lld, at random (seed %lld)", (long long) info->sample, (long long) info->seed) :
            memory_text("one batch in %lld", (long long) info->sample));
    }
    print_missing(terminal, "left out", info->left_out_ubatches, info->left_out_tokens, "sampled");
    print_missing(terminal, "dropped",  info->dropped_ubatches,  info->dropped_tokens,  "the disk could not keep up, memory was "
        "short, or the routing is not known");
    if (trace_input_is_damaged(info, counts->lost)) {
        terminal_field_free(terminal, "damaged", memory_text("%llu ubatches or more cannot be read",
                                                             (unsigned long long) (info->lost_ubatches + counts->lost)));
    }
    terminal_field(terminal, "ended", texts[info->ending]);
    if (info->stopped != NULL) {
        terminal_field_free(terminal, "", memory_text("it stopped early: %s", info->stopped));
    }
}

static void print_text(const struct terminal * terminal, const struct trace_info * info, const struct sums * counts) {
    print_model    (terminal, info);
    print_origin   (terminal, info);
    print_layers   (terminal, info);
    print_sharing  (terminal, info);
    print_tokens   (terminal, info, counts);
    print_sequences(terminal, info, counts);
    print_ubatches (terminal, info, counts);
    print_time     (terminal, counts);
    print_size     (terminal, info, counts);
    print_ending   (terminal, info, counts);
}

//
// for machines
//

static json_t * json_text(const char * text) {
    json_t * json = text == NULL ? NULL : json_string(text);
    return json == NULL ? json_null() : json;
}

static json_t * json_number(int64_t number) {
    return number < 0 ? json_null() : json_integer(number);
}

static json_t * json_count(uint64_t number) {
    return json_integer((json_int_t) number);
}

static json_t * json_model(const struct trace_info * info) {
    return json_pack("{s:o, s:o, s:o, s:o}", "name", json_text(info->model_name), "architecture", json_text(info->architecture),
                     "file", json_text(info->model_file), "fingerprint", json_text(info->fingerprint));
}

static json_t * json_layers(const struct trace_info * info) {
    size_t                      n;
    const struct trace_layer ** layers = layers_of(info, &n);
    json_t                    * array  = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(array, json_pack("{s:i, s:i, s:i, s:o}", "layer", (int) layers[i]->layer, "n_expert", (int) layers[i]->n_expert,
                                               "n_expert_used", (int) layers[i]->n_used, "expert_bytes", json_number(trace_input_expert_bytes(layers[i]))));
    }
    free(layers);
    return array;
}

static json_t * json_sharing(const struct trace_info * info) {
    return json_pack("{s:I, s:I}", "window", (json_int_t) info->shared_window, "left_out_tokens", (json_int_t) info->shared_left_out);
}

static json_t * json_tokens(const struct trace_info * info, const struct sums * counts) {
    const bool known = info->phases_known;
    return json_pack("{s:o, s:o, s:o, s:o, s:o}",
                     "all",        json_count(counts->tokens),
                     "prompt",     known ? json_count(counts->prompt)     : json_null(),
                     "generation", known ? json_count(counts->generation) : json_null(),
                     "warmup",     json_count(counts->warmup),
                     "rejected",   known ? json_count(counts->rejected)   : json_null());
}

static json_t * json_pair(uint64_t ubatches, uint64_t tokens) {
    return json_pack("{s:o, s:o}", "ubatches", json_count(ubatches), "tokens", json_count(tokens));
}

static json_t * json_lost(const struct trace_info * info, const struct sums * counts) {
    return json_pack("{s:b, s:o}", "damaged", trace_input_is_damaged(info, counts->lost), "ubatches",
                     json_count(info->lost_ubatches + counts->lost));
}

static void add_origin(json_t * root, const char * path, const struct trace_info * info) {
    json_object_set_new(root, "file",     json_text(path));
    json_object_set_new(root, "tracer",   json_text(info->tracer));
    json_object_set_new(root, "run",      json_text(info->run));
    json_object_set_new(root, "pid",      json_integer(info->pid));
    json_object_set_new(root, "trace",    json_text(info->trace_id));
    json_object_set_new(root, "part",     json_integer(info->part));
    json_object_set_new(root, "engine",   json_text(info->engine));
    json_object_set_new(root, "capture",  json_text(info->capture));
    json_object_set_new(root, "model",    json_model(info));
    json_object_set_new(root, "n_layer",  json_integer(info->n_layer));
    json_object_set_new(root, "layers",   json_layers(info));
}

static void add_counts(json_t * root, const struct trace_info * info, const struct sums * counts) {
    const bool known = info->phases_known && info->shared_window == 0;
    if (info->shared_window > 0) {
        json_object_set_new(root, "shared",   json_sharing(info));
    }
    json_object_set_new(root, "phases_known", json_boolean(info->phases_known));
    json_object_set_new(root, "weights",      json_boolean(info->has_weights));
    json_object_set_new(root, "tokens_known", json_boolean(info->has_tokens));
    json_object_set_new(root, "sample",       json_integer(info->sample));
    json_object_set_new(root, "seed",         info->seed >= 0 ? json_integer(info->seed) : json_null());
    json_object_set_new(root, "tokens",       json_tokens(info, counts));
    json_object_set_new(root, "ubatches",     json_count(counts->ubatches));
    json_object_set_new(root, "batches",      json_count(counts->batches));
    json_object_set_new(root, "activations",  json_count(counts->activations));
    json_object_set_new(root, "warmup_activations", json_count(counts->warmup_activations));
    json_object_set_new(root, "contexts",     known ? json_count(counts->contexts)  : json_null());
    json_object_set_new(root, "sequences",    known ? json_count(counts->sequences) : json_null());
    json_object_set_new(root, "lives",        known ? json_count(counts->lives)     : json_null());
    json_object_set_new(root, "cuts",         known ? json_count(counts->cuts)      : json_null());
}

static void add_ending(json_t * root, const struct trace_info * info, const struct sums * counts) {
    json_object_set_new(root, "begin",    counts->begin > 0 ? json_real((double) counts->begin / 1e6) : json_null());
    json_object_set_new(root, "end",      counts->begin > 0 ? json_real((double) counts->end   / 1e6) : json_null());
    json_object_set_new(root, "size",     json_count(info->file_size));
    json_object_set_new(root, "packed",   json_boolean(info->is_packed));
    json_object_set_new(root, "left_out", json_pair(info->left_out_ubatches, info->left_out_tokens));
    json_object_set_new(root, "dropped",  json_pair(info->dropped_ubatches,  info->dropped_tokens));
    json_object_set_new(root, "lost",     json_lost(info, counts));
    json_object_set_new(root, "ended",    json_text(ending_name(info->ending)));
    json_object_set_new(root, "stopped",  json_text(info->stopped));
}

static void print_json(FILE * out, const char * path, const struct trace_info * info, const struct sums * counts) {
    json_t * root = json_object();
    add_origin(root, path, info);
    add_counts(root, info, counts);
    add_ending(root, info, counts);
    json_output_put(out, root, JSON_INDENT(2));
    json_decref(root);
}

//
// a file
//

static int info_file(const struct terminal * terminal, const struct options * options, int i_file) {
    const char   * path  = options->files[i_file];
    struct trace * trace = trace_input_open(path);
    if (trace == NULL) {
        return STATUS_FAILED;
    }
    const struct trace_info * info   = trace_about(trace);
    struct sums             counts = { 0 };
    int                       status = STATUS_FAILED;
    if (count(trace, &counts)) {
        if (options->json) {
            print_json(terminal->out, path, info, &counts);
        } else {
            if (options->n_files > 1) {
                terminal_title(terminal, trace_input_name(path), i_file == 0);
            }
            print_text(terminal, info, &counts);
        }
        status = trace_input_check(path, info, counts.lost);
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
