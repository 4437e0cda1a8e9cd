// Gathers the rows of a ubatch, whatever their order, and hands them to the trace's writer as the engine would. What
// the tracer does not trust is refused here as well, each ubatch being looked at.

#include "commands/import/import-trace.h"

#include "trace/format/trace-format.h"
#include "trace/write/trace-stream.h"
#include "trace/write/trace-trust.h"
#include "trace/write/trace-writer.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_SIZE  ((size_t) 256 << 20) // of which only as much is used as a ubatch needs
#define CONTEXTS_MAX 4096

// A layer that was seen, and its rows in this ubatch: those of token i begin at i × n_used.
struct built_layer {
    int32_t   layer;
    int32_t   n_used;
    int32_t   n_rows;
    bool      has_gates;
    size_t    room;       // tokens
    bool    * is_routed;  // by token
    int32_t * experts;
    float   * gates;
    int32_t * rows;       // tokens, when the ubatch ends
    char      name[40];   // of what its bytes are told of
};

struct built_context {
    struct trace_stream * stream;
    uint64_t              n_ubatches;
};

struct import_trace {
    struct import_about          about;
    const char                 * name;
    int                          descriptor;
    struct routing_model         model;
    char                       * texts[4];   // of it
    struct trace_writer        * writer;     // NULL: there was no ubatch yet
    bool                         is_lost;    // it cannot write
    struct built_context       * contexts;
    size_t                       n_contexts;
    uint64_t                   * bytes;      // by layer, + 1; 0: not told
    size_t                       n_bytes;

    struct built_layer         * layers;     // ascending
    size_t                       n_layers;
    struct routing_layer       * routed;     // room for as many
    struct expert_tracer_token * tokens;     // of this ubatch
    int64_t                    * keys;
    bool                       * rejected;
    int32_t                      n_tokens;
    int32_t                      room;
    int32_t                      last;       // token that was asked for
    bool                         is_rising;  // each key is above the one before

    uint64_t                   * seen;       // by expert: the row that had it last
    uint64_t                     row;        // counted from 1
    uint64_t                     n_rows;     // of layers with a choice
    bool                         has_choice; // one of them is of another expert than 0
};

struct import_trace * import_trace_new(FILE * out, const char * name) {
    struct import_trace * trace = memory_new(1, sizeof(*trace));
    trace->descriptor = fileno(out);
    trace->name       = name;
    trace->is_rising  = true;
    return trace;
}

struct import_about * import_trace_about(struct import_trace * trace) {
    return &trace->about;
}

void import_trace_bytes(struct import_trace * trace, int32_t layer, uint64_t expert_bytes) {
    if ((size_t) layer >= trace->n_bytes) {
        const size_t n = (size_t) layer + 1;
        trace->bytes = memory_resize(trace->bytes, n, sizeof(*trace->bytes));
        memset(trace->bytes + trace->n_bytes, 0, (n - trace->n_bytes) * sizeof(*trace->bytes));
        trace->n_bytes = n;
    }
    trace->bytes[layer] = expert_bytes + 1;
}

bool import_trace_has_bytes(const struct import_trace * trace, int32_t layer) {
    return (size_t) layer < trace->n_bytes && trace->bytes[layer] > 0;
}

static uint64_t bytes_of(const struct import_trace * trace, int32_t layer) {
    return import_trace_has_bytes(trace, layer) ? trace->bytes[layer] - 1 : trace->about.expert_bytes;
}

//
// tokens
//

static void make_room_for_tokens(struct import_trace * trace) {
    if (trace->n_tokens == trace->room) {
        trace->room     = 2 * trace->room + 64;
        trace->tokens   = memory_resize(trace->tokens,   (size_t) trace->room, sizeof(*trace->tokens));
        trace->keys     = memory_resize(trace->keys,     (size_t) trace->room, sizeof(*trace->keys));
        trace->rejected = memory_resize(trace->rejected, (size_t) trace->room, sizeof(*trace->rejected));
    }
}

// Rows come token by token, or layer by layer in the order of the tokens: it is mostly the last one or the next.
static int32_t find_token(const struct import_trace * trace, int64_t key) {
    for (int32_t i = 0; i < trace->n_tokens; i++) {
        const int32_t at = (trace->last + i) % trace->n_tokens;
        if (trace->keys[at] == key) {
            return at;
        }
    }
    return -1;
}

static bool is_above_all(const struct import_trace * trace, int64_t key) {
    return trace->is_rising && (trace->n_tokens == 0 || key > trace->keys[trace->n_tokens - 1]);
}

int32_t import_trace_token(struct import_trace * trace, int64_t key, const struct expert_tracer_token * token) {
    const bool is_above = is_above_all(trace, key);
    int32_t    at       = is_above ? -1 : find_token(trace, key);
    if (at < 0) {
        make_room_for_tokens(trace);
        at = trace->n_tokens++;
        trace->tokens  [at] = *token;
        trace->keys    [at] = key;
        trace->rejected[at] = false;
        trace->is_rising    = is_above;
    }
    trace->last = at;
    return at;
}

int32_t import_trace_tokens(const struct import_trace * trace) {
    return trace->n_tokens;
}

void import_trace_reject(struct import_trace * trace, int32_t token) {
    trace->rejected[token] = true;
}

//
// rows
//

static struct built_layer * insert_layer(struct import_trace * trace, size_t at, const struct import_row * row) {
    trace->layers = memory_resize(trace->layers, trace->n_layers + 1, sizeof(*trace->layers));
    trace->routed = memory_resize(trace->routed, trace->n_layers + 1, sizeof(*trace->routed));
    memmove(trace->layers + at + 1, trace->layers + at, (trace->n_layers - at) * sizeof(*trace->layers));
    trace->n_layers++;
    struct built_layer * layer = &trace->layers[at];
    *layer = (struct built_layer) { .layer = row->layer, .n_used = row->n_used };
    snprintf(layer->name, sizeof(layer->name), "blk.%d.ffn_exps", (int) row->layer);
    return layer;
}

static struct built_layer * layer_of(struct import_trace * trace, const struct import_row * row) {
    size_t low  = 0;
    size_t high = trace->n_layers;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (trace->layers[middle].layer < row->layer) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < trace->n_layers && trace->layers[low].layer == row->layer ? &trace->layers[low]
                                                                           : insert_layer(trace, low, row);
}

static void make_room_for_rows(struct import_trace * trace, struct built_layer * layer) {
    if ((size_t) trace->n_tokens <= layer->room) {
        return;
    }
    const size_t room  = (size_t) trace->room;
    const size_t cells = room * (size_t) layer->n_used;
    layer->is_routed = memory_resize(layer->is_routed, room,  sizeof(*layer->is_routed));
    layer->rows      = memory_resize(layer->rows,      room,  sizeof(*layer->rows));
    layer->experts   = memory_resize(layer->experts,   cells, sizeof(*layer->experts));
    layer->gates     = memory_resize(layer->gates,     cells, sizeof(*layer->gates));
    memset(layer->is_routed + layer->room, 0, room - layer->room);
    layer->room = room;
}

static bool check_used(const struct import_trace * trace, const struct import_row * row, int32_t n_used,
                       struct error * error) {
    const int32_t n_expert = trace->about.n_expert;
    if (row->n_used < 1 || row->n_used > n_expert || row->n_used > TRACE_USED_MAX) {
        return error_set(error, "%d experts of %d for one token", (int) row->n_used, (int) n_expert);
    }
    return row->n_used == n_used
        || error_set(error, "layer %d has %d experts for this token, and %d elsewhere: is the file whole?",
                     (int) row->layer, (int) row->n_used, (int) n_used);
}

// Each expert is one of the layer's, and none is there twice.
static bool check_experts(struct import_trace * trace, const struct import_row * row, int32_t * expert,
                          struct error * error) {
    if (trace->seen == NULL) {
        trace->seen = memory_new((size_t) trace->about.n_expert, sizeof(*trace->seen));
    }
    trace->row++;
    for (*expert = 0; *expert < row->n_used; (*expert)++) {
        const int32_t id = row->experts[*expert];
        if (id < 0 || id >= trace->about.n_expert) {
            return error_set(error, "expert %d of layer %d, which has %d: is that number right?", (int) id,
                             (int) row->layer, (int) trace->about.n_expert);
        }
        if (trace->seen[id] == trace->row) {
            return error_set(error, "expert %d twice for one token in layer %d: this is no routing", (int) id,
                             (int) row->layer);
        }
        trace->seen[id] = trace->row;
    }
    return true;
}

static void take_row(struct import_trace * trace, struct built_layer * layer, const struct import_row * row) {
    const size_t at = (size_t) row->token * (size_t) row->n_used;
    for (int32_t i = 0; i < row->n_used; i++) {
        layer->experts[at + (size_t) i] = row->experts[i];
        layer->gates  [at + (size_t) i] = row->gates == NULL ? NAN : row->gates[i];
        trace->has_choice = trace->has_choice || row->experts[i] != 0;
    }
    layer->has_gates             = layer->has_gates || row->gates != NULL;
    layer->is_routed[row->token] = true;
    layer->n_rows++;
    trace->n_rows += trace->about.n_expert > 1;
}

bool import_trace_check(struct import_trace * trace, const struct import_row * row, int32_t * expert,
                        struct error * error) {
    const int32_t n_used = trace->about.n_used > 0 ? trace->about.n_used : row->n_used;
    *expert = row->n_used;
    return check_used(trace, row, n_used, error) && check_experts(trace, row, expert, error);
}

bool import_trace_row(struct import_trace * trace, const struct import_row * row, int32_t * expert,
                      struct error * error) {
    if (!import_trace_check(trace, row, expert, error)) {
        return false;
    }
    struct built_layer * layer = layer_of(trace, row);
    if (!check_used(trace, row, layer->n_used, error)) {
        return false;
    }
    make_room_for_rows(trace, layer);
    if (layer->is_routed[row->token]) {
        return error_set(error, "layer %d has this token already", (int) row->layer);
    }
    take_row(trace, layer, row);
    return true;
}

//
// the writer
//

static atomic_bool has_failed; // to write: what comes is lost

// What went wrong is what trace_writer_end() returns.
static void listen(enum log_level level, const char * lines) {
    (void) lines;
    if (level == LOG_ERROR) {
        atomic_store(&has_failed, true);
    }
}

// The writer's thread reads it when it gets to it.
static const char * keep_text(struct import_trace * trace, int which, const char * text) {
    trace->texts[which] = text == NULL ? NULL : memory_text("%s", text);
    return trace->texts[which];
}

static bool begin_writer(struct import_trace * trace, struct error * error) {
    const struct import_about * about = &trace->about;
    trace->model = (struct routing_model) {
        .key          = trace,
        .name         = keep_text(trace, 0, about->model),
        .architecture = keep_text(trace, 1, about->architecture),
        .file         = keep_text(trace, 2, about->file),
        .capture      = keep_text(trace, 3, about->capture),
        .n_layer      = about->n_layer,
        .n_expert     = about->n_expert,
        .n_used       = about->n_used,
        .phases_known = about->phases_known,
    };
    const struct trace_options options = {
        .path       = trace->name,
        .weights    = about->weights,
        .tokens     = about->tokens,
        .wait       = true,
        .buffer     = BUFFER_SIZE,
        .descriptor = &trace->descriptor,
        .is_foreign = true,
    };
    atomic_store(&has_failed, false);
    trace->writer = trace_writer_new(&options, &trace->model, "", listen, listen);
    return trace->writer != NULL || error_set(error, "out of memory");
}

// NULL, and why, where there can be none. Contexts are numbered as their streams are made.
static struct built_context * context_of(struct import_trace * trace, int32_t number, struct error * error) {
    if (number >= CONTEXTS_MAX) {
        error_set(error, "context %d: %d at most", (int) number, CONTEXTS_MAX);
        return NULL;
    }
    while (trace->n_contexts <= (size_t) number) {
        struct trace_stream * stream = trace_stream_new(trace->writer);
        if (stream == NULL) {
            error_set(error, "out of memory");
            return NULL;
        }
        trace->contexts = memory_resize(trace->contexts, trace->n_contexts + 1, sizeof(*trace->contexts));
        trace->contexts[trace->n_contexts++] = (struct built_context) { stream, 0 };
    }
    return &trace->contexts[number];
}

//
// ubatches
//

static bool is_reduced(const struct import_trace * trace, const struct built_layer * layer) {
    return layer->n_rows > 0 && layer->n_rows < trace->n_tokens;
}

// A layer that has rows for some tokens has those whose output was asked for, which a format need not tell otherwise.
static void find_outputs(struct import_trace * trace) {
    for (size_t i = 0; i < trace->n_layers; i++) {
        for (int32_t k = 0; is_reduced(trace, &trace->layers[i]) && k < trace->n_tokens; k++) {
            trace->tokens[k].output = trace->tokens[k].output || trace->layers[i].is_routed[k];
        }
    }
}

// Moves the rows together.
static void gather_rows(const struct import_trace * trace, struct built_layer * layer) {
    const size_t n_used = (size_t) layer->n_used;
    int32_t      n      = 0;
    for (int32_t i = 0; layer->n_rows > 0 && i < trace->n_tokens; i++) {
        if (layer->is_routed[i]) {
            memmove(layer->experts + (size_t) n * n_used, layer->experts + (size_t) i * n_used,
                    n_used * sizeof(*layer->experts));
            memmove(layer->gates + (size_t) n * n_used, layer->gates + (size_t) i * n_used,
                    n_used * sizeof(*layer->gates));
            layer->rows[n++] = i;
        }
    }
}

// Layers that were seen are there, with or without rows: one table serves most ubatches.
static void route_layers(struct import_trace * trace) {
    bool has_gates = false;
    for (size_t i = 0; i < trace->n_layers; i++) {
        has_gates = has_gates || trace->layers[i].has_gates;
    }
    for (size_t i = 0; i < trace->n_layers; i++) {
        struct built_layer * layer = &trace->layers[i];
        const uint64_t       bytes = bytes_of(trace, layer->layer);
        gather_rows(trace, layer);
        trace->routed[i] = (struct routing_layer) {
            .layer        = layer->layer,
            .n_expert     = trace->about.n_expert,
            .n_used       = layer->n_used,
            .n_tokens     = layer->n_rows,
            .experts      = layer->experts,
            .gates        = has_gates ? layer->gates : NULL,
            .rows         = layer->n_rows < trace->n_tokens ? layer->rows : NULL,
            .n_tensors    = bytes > 0,
            .tensor_names = { layer->name },
            .expert_bytes = { bytes },
        };
    }
}

static bool check_trust(const struct routing_ubatch * ubatch, struct error * error) {
    char doubt[256];
    if (ubatch->n_tokens > TRACE_TOKENS_MAX) {
        return error_set(error, "more than %d tokens in one ubatch", TRACE_TOKENS_MAX);
    }
    return (trace_trust_form(ubatch, doubt, sizeof(doubt)) && trace_trust_experts(ubatch, doubt, sizeof(doubt)))
        || error_set(error, "%s: this is no routing", doubt);
}

static void reject_tokens(const struct import_trace * trace, struct trace_stream * stream, uint64_t ubatch) {
    for (int32_t first = 0, end; first < trace->n_tokens; first = end + 1) {
        for (end = first; end < trace->n_tokens && trace->rejected[end]; end++) {
        }
        if (end > first) {
            trace_stream_reject(stream, &(struct routing_rejection) { ubatch, first, end - first });
        }
    }
}

static bool write_ubatch(struct import_trace * trace, struct built_context * context, bool warmup,
                         struct error * error) {
    const struct routing_ubatch ubatch = {
        .fate       = warmup ? ROUTING_WARMUP : ROUTING_COUNT,
        .n_tokens   = (uint64_t) trace->n_tokens,
        .n_layers   = (int32_t) trace->n_layers,
        .layers     = trace->routed,
        .is_moe     = true,
        .number     = context->n_ubatches,
        .batch      = context->n_ubatches,
        .tokens     = trace->tokens,
        .rows_known = true,
    };
    if (!check_trust(&ubatch, error)) {
        return false;
    }
    trace_stream_ubatch(context->stream, &ubatch, false);
    reject_tokens(trace, context->stream, context->n_ubatches++);
    if (atomic_load(&has_failed)) {
        trace->is_lost = true;
        return import_trace_end(trace, error) && error_set(error, "%s: cannot be written", trace->name);
    }
    return true;
}

static void clear_ubatch(struct import_trace * trace) {
    for (size_t i = 0; i < trace->n_layers; i++) {
        struct built_layer * layer = &trace->layers[i];
        if (layer->n_rows > 0) {
            memset(layer->is_routed, 0, (size_t) trace->n_tokens);
        }
        layer->n_rows    = 0;
        layer->has_gates = false;
    }
    trace->n_tokens  = 0;
    trace->last      = 0;
    trace->is_rising = true;
}

bool import_trace_ubatch(struct import_trace * trace, int32_t context, bool warmup, struct error * error) {
    if (trace->n_tokens == 0) {
        return true;
    }
    if (trace->writer == NULL && !begin_writer(trace, error)) {
        return false;
    }
    struct built_context * built = context_of(trace, context, error);
    if (built == NULL) {
        return false;
    }
    for (size_t i = 0; i < trace->n_layers; i++) {
        make_room_for_rows(trace, &trace->layers[i]);
    }
    find_outputs(trace);
    route_layers(trace);
    const bool ok = write_ubatch(trace, built, warmup, error);
    clear_ubatch(trace);
    return ok;
}

bool import_trace_is_lost(const struct import_trace * trace) {
    return trace->is_lost;
}

void import_trace_cut(struct import_trace * trace, const struct routing_cut * cut) {
    if (trace->n_contexts > 0) {
        trace_stream_cut(trace->contexts[0].stream, cut);
    }
}

//
// the end
//

static bool explain(struct import_trace * trace, int why, struct error * error) {
    trace->is_lost = why != 0;
    switch (why) {
        case 0:       return true;
        case ENODATA: return error_set(error, "%s: a ubatch is larger than the %zu MiB of memory for it", trace->name,
                                       BUFFER_SIZE >> 20);
        case ENOSPC:
        case EDQUOT:  return error_set(error, "%s: cannot be written: %s: make room there, or name a file elsewhere",
                                       trace->name, strerror(why));
        default:      return error_set(error, "%s: cannot be written: %s", trace->name, strerror(why));
    }
}

bool import_trace_end(struct import_trace * trace, struct error * error) {
    if (trace->writer == NULL || trace->row == 0) {
        return error_set(error, "no routing is in it");
    }
    if (!trace->has_choice && trace->n_rows > TRACE_TRUST_ROWS_ALIKE) {
        return error_set(error, "%" PRIu64 " rows, and all of them take expert 0: this is no routing", trace->n_rows);
    }
    return explain(trace, -trace_writer_end(trace->writer, NULL), error);
}

void import_trace_free(struct import_trace * trace) {
    if (trace == NULL) {
        return;
    }
    if (trace->writer != NULL) {
        trace_writer_end(trace->writer, NULL);
    }
    for (size_t i = 0; i < trace->n_contexts; i++) {
        trace_stream_free(trace->contexts[i].stream);
    }
    trace_writer_free(trace->writer);
    for (size_t i = 0; i < trace->n_layers; i++) {
        free(trace->layers[i].is_routed);
        free(trace->layers[i].rows);
        free(trace->layers[i].experts);
        free(trace->layers[i].gates);
    }
    for (size_t i = 0; i < sizeof(trace->texts) / sizeof(trace->texts[0]); i++) {
        free(trace->texts[i]);
    }
    free(trace->contexts);
    free(trace->bytes);
    free(trace->layers);
    free(trace->routed);
    free(trace->tokens);
    free(trace->keys);
    free(trace->rejected);
    free(trace->seen);
    free(trace);
}
