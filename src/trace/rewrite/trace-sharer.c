// Goes through a trace three times, counts what the tokens of each window chose, and writes the counts as a trace.

#include "trace/rewrite/trace-sharer.h"

#include "trace/format/trace-bits.h"
#include "trace/read/trace-index.h"
#include "trace/read/trace-reader.h"
#include "trace/rewrite/chunk-output.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PHASES        2
#define PASSES        3 // through the trace: how many tokens, which layers have windows, and the windows
#define NO_EXPERTS    "it has no layers with experts"
#define TOO_FEW       "no phase has as many tokens as a window, in which they could hide: record more, or `cat` traces"
#define NO_LAYERS     "no layer was computed for all tokens of a window, and what few of them chose is not to be told"
#define TOO_MANY      "a window has more tokens than a trace can hold: choose a smaller --window"

// Tokens of one phase that were routed by one table of layers.
struct stream {
    uint64_t   n_tokens;  // in the trace
    uint64_t   n_windows;
    uint64_t   n_done;    // windows written
    uint64_t   n_in;      // tokens in the window that is being filled
    uint32_t * counts;    // of that window, by layer and expert
    uint32_t * rows;      // likewise, by layer
};

struct table {
    size_t        n_counts; // experts of all layers
    size_t        n_layers;
    uint32_t      place;    // in what is written
    bool          is_used;  // there is a window of it
    bool        * is_told;  // by layer: in one at least
    struct stream streams[PHASES];
};

struct sharer {
    const struct trace        * trace;
    struct chunk_output         out;
    uint64_t                    window;
    struct table              * tables;  // as many as the trace has
    int32_t                   * next;    // by layer: the first row that no token was looked for in
    uint16_t                  * ids;     // of a layer of a window
    size_t                      room;
    struct trace_buffer         payload;
    struct trace_share_report * report;
    rewriting_progress_fn        progress;
    void                      * self;
};

static void fail(struct sharer * sharer, const char * wrong) {
    chunk_output_fail(&sharer->out, wrong);
}

static size_t experts_of(const struct trace_table * table) {
    size_t n = 0;
    for (size_t i = 0; i < table->n_layers; i++) {
        n += (size_t) table->layers[i].n_expert;
    }
    return n;
}

uint64_t trace_share_window(const struct trace_info * info) {
    size_t most = 0;
    for (size_t i = 0; i < info->n_tables; i++) {
        const size_t n = experts_of(&info->tables[i]);
        most = n > most ? n : most;
    }
    return TRACE_SHARE_TOKENS_EACH * (uint64_t) most;
}

//
// writing
//

static void write_data(struct sharer * sharer, struct chunk_header header, const struct trace_buffer * records) {
    header.kind  = TRACE_CHUNK_DATA;
    header.first = sharer->report->n_windows;
    if (records->failed || records->size > UINT32_MAX) {
        fail(sharer, records->failed ? CHUNK_OUTPUT_NO_MEMORY : TOO_MANY);
    } else {
        chunk_output_put(&sharer->out, header, records->data, records->size);
    }
}

static void write_json(struct sharer * sharer, enum trace_chunk_kind kind, uint64_t first, json_t * json) {
    chunk_output_json(&sharer->out, (struct chunk_header) { .kind = (uint8_t) kind, .first = first }, json, 0);
    json_decref(json);
}

static json_t * json_text(const char * text) {
    return text != NULL ? json_string(text) : json_null();
}

// The engine without the paths of its libraries, which stand in parentheses and tell whose machine it was.
static json_t * engine_of(const struct trace_info * info) {
    char * text  = info->engine != NULL ? strdup(info->engine) : NULL;
    char * to    = text;
    int    depth = 0;
    for (const char * from = text; from != NULL && *from != '\0'; from++) {
        depth += *from == '(';
        if (depth == 0 && !(*from == ' ' && from[1] == '(')) {
            *to++ = *from;
        }
        depth -= *from == ')' && depth > 0;
    }
    if (to != NULL) {
        *to = '\0';
    }
    json_t * json = json_text(text);
    free(text);
    return json;
}

// A new name, of which nothing follows.
static json_t * new_id(struct sharer * sharer) {
    uint64_t number = 0;
    char     text[32];
    if (getrandom(&number, sizeof(number), 0) != (ssize_t) sizeof(number)) {
        fail(sharer, "no random number for its name");
    }
    snprintf(text, sizeof(text), "shared-%016" PRIx64, number);
    return json_string(text);
}

// What is not named here is not told: neither the run, the process and the file, nor what a later version may add.
static void write_header(struct sharer * sharer) {
    const struct trace_info * info = &sharer->trace->info;
    write_json(sharer, TRACE_CHUNK_HEADER, 0, json_pack(
        "{s:s, s:i, s:o, s:s, s:i, s:o, s:i, s:o, s:o, s:{s:o, s:o, s:n, s:o}, s:i, s:b, s:b, s:b, s:I, s:{s:I, s:I}}",
        "format", TRACE_FORMAT_NAME, "version", TRACE_VERSION, "tracer",
        json_string(info->tracer != NULL ? info->tracer : ""),
        "run", "", "pid", 0, "trace", new_id(sharer), "part", 0, "engine", engine_of(info),
        "capture", json_text(info->capture), "model", "name", json_text(info->model_name),
        "architecture", json_text(info->architecture), "file", "fingerprint", json_text(info->fingerprint),
        "n_layer", (int) (info->n_layer < 0 ? 0 : info->n_layer),
        "phases_known", info->phases_known, "weights", 0, "tokens", 0, "sample", (json_int_t) info->sample,
        "shared", "window", (json_int_t) sharer->window,
        "left_out_tokens", (json_int_t) sharer->report->left_out_tokens));
}

static json_t * json_tensors(const struct trace_layer * layer) {
    json_t * tensors = json_array();
    for (size_t i = 0; i < layer->n_tensors; i++) {
        const struct trace_tensor * tensor = &layer->tensors[i];
        json_t * bytes = tensor->expert_bytes < 0 ? json_null() : json_integer((json_int_t) tensor->expert_bytes);
        json_array_append_new(tensors, json_pack("{s:s, s:o}", "name", tensor->name, "expert_bytes", bytes));
    }
    return tensors;
}

static void write_table(struct sharer * sharer, const struct table * table, const struct trace_table * about) {
    json_t * layers = json_array();
    for (size_t i = 0; i < about->n_layers; i++) {
        const struct trace_layer * layer = &about->layers[i];
        if (!table->is_told[i]) {
            continue;
        }
        json_array_append_new(layers, json_pack("{s:i, s:i, s:i, s:o}", "layer", (int) layer->layer,
                                                "n_expert", (int) layer->n_expert, "n_expert_used",
                                                (int) layer->n_used, "tensors", json_tensors(layer)));
    }
    write_json(sharer, TRACE_CHUNK_LAYERS, 0, json_pack("{s:i, s:o}", "table", (int) table->place, "layers", layers));
}

static void write_tables(struct sharer * sharer) {
    uint32_t place = 0;
    for (size_t i = 0; i < sharer->trace->tables.n && sharer->out.wrong == NULL; i++) {
        struct table * table = &sharer->tables[i];
        if (table->is_used) {
            table->place = place++;
            write_table(sharer, table, &sharer->trace->tables.tables[i]);
        }
    }
}

//
// a window
//

static bool make_room(struct sharer * sharer, size_t n) {
    return trace_array_grow(&sharer->ids, &sharer->room, n, sizeof(sharer->ids[0]));
}

// Rows that follow from the counts alone: expert after expert, down the columns. As no expert has more than all rows,
// none is twice in a row.
static void lay_out(const uint32_t * counts, const struct trace_layer * layer, size_t n_rows, uint16_t * ids) {
    const size_t n_used = (size_t) layer->n_used;
    size_t       slot   = 0;
    for (int32_t expert = 0; expert < layer->n_expert; expert++) {
        for (uint32_t i = 0; i < counts[expert]; i++, slot++) {
            ids[slot % n_rows * n_used + slot / n_rows] = (uint16_t) expert;
        }
    }
}

static bool is_whole(const struct stream * stream, size_t i_layer) {
    return stream->rows[i_layer] == stream->n_in;
}

// Layers that routed fewer tokens than there are: of a prompt the last layer is computed for a token or two, and what
// few tokens chose is not to be told.
static uint64_t layers_left_out(const struct stream * stream, const struct table * table) {
    uint64_t n = 0;
    for (size_t i = 0; i < table->n_layers; i++) {
        n += table->is_told[i] && !is_whole(stream, i);
    }
    return n;
}

static void put_left_out(struct sharer * sharer, const struct stream * stream, const struct table * table) {
    uint64_t place = 0; // of a layer among those of its table that are told
    trace_buffer_varint(&sharer->payload, layers_left_out(stream, table));
    for (size_t i = 0; i < table->n_layers; i++) {
        if (table->is_told[i] && !is_whole(stream, i)) {
            trace_buffer_varint(&sharer->payload, 2 * place);
        }
        place += table->is_told[i];
    }
}

static void put_experts(struct sharer * sharer, const struct stream * stream, const struct trace_table * about) {
    const size_t     n_rows = (size_t) stream->n_in;
    const uint32_t * counts = stream->counts;
    uint64_t         n_bits = 0;
    uint64_t         n_free = 0; // ids that take none
    for (size_t i = 0; i < about->n_layers; i++) {
        const uint64_t n = is_whole(stream, i) ? n_rows * (uint64_t) about->layers[i].n_used : 0;
        n_bits += n * (uint64_t) trace_bits(about->layers[i].n_expert);
        n_free += about->layers[i].n_expert == 1 ? n : 0;
    }
    if (n_free > TRACE_FREE_IDS_MAX || n_bits / 8 > UINT32_MAX / 2) {
        fail(sharer, TOO_MANY);
        return;
    }
    const size_t size = (size_t) ((n_bits + 7) / 8);
    uint8_t    * data = trace_buffer_more(&sharer->payload, size + TRACE_BUFFER_SLACK);
    uint64_t     bit  = 0;
    if (data != NULL) {
        memset(data, 0, size + TRACE_BUFFER_SLACK);
    }
    for (size_t i = 0; i < about->n_layers && data != NULL; i++) {
        const struct trace_layer * layer = &about->layers[i];
        const size_t               n     = n_rows * (size_t) layer->n_used;
        if (is_whole(stream, i) && !make_room(sharer, n)) {
            fail(sharer, CHUNK_OUTPUT_NO_MEMORY);
            return;
        }
        if (is_whole(stream, i)) {
            lay_out(counts, layer, n_rows, sharer->ids);
            trace_bits_pack(data, bit, trace_bits(layer->n_expert), sharer->ids, n);
            bit += n * (uint64_t) trace_bits(layer->n_expert);
        }
        counts += layer->n_expert;
    }
    sharer->payload.size += data != NULL ? size : 0;
}

static void put_record(struct trace_buffer * to, const struct trace_buffer * body) {
    trace_buffer_varint(to, body->size);
    trace_buffer_add   (to, body->data, body->size);
}

static void write_window(struct sharer * sharer, size_t i_table, int phase) {
    static const uint8_t    life[]  = { TRACE_RECORD_LIFE, 0, 0, 0 }; // of a sequence that is not known
    const struct table    * table   = &sharer->tables[i_table];
    const struct stream   * stream  = &table->streams[phase];
    struct trace_buffer   * payload = &sharer->payload;
    const bool              reduced = layers_left_out(stream, table) > 0;
    struct trace_buffer     records = { 0 };
    trace_buffer_clear (payload);
    trace_buffer_u8    (payload, TRACE_RECORD_UBATCH);
    trace_buffer_zigzag(payload, 0);
    trace_buffer_u8    (payload, (uint8_t) (TRACE_UBATCH_FIRST | (reduced ? TRACE_UBATCH_REDUCED : 0)));
    trace_buffer_varint(payload, table->place);
    trace_buffer_varint(payload, 1);
    trace_buffer_varint(payload, (stream->n_in - 1) << TRACE_SPAN_BITS | (phase ? TRACE_SPAN_GENERATION : 0));
    trace_buffer_varint(payload, 0);
    trace_buffer_varint(payload, 0);
    if (reduced) {
        put_left_out(sharer, stream, table);
    }
    put_experts (sharer, stream, &sharer->trace->tables.tables[i_table]);
    trace_buffer_varint(&records, sizeof(life));
    trace_buffer_add   (&records, life, sizeof(life));
    put_record(&records, payload);
    records.failed = records.failed || payload->failed;
    write_data(sharer, (struct chunk_header) { .n_ubatches = 1, .n_tokens = (uint32_t) stream->n_in }, &records);
    trace_buffer_free(&records);
    sharer->report->n_windows++;
    sharer->report->n_tokens += stream->n_in;
}

//
// going through the trace
//

typedef void visitor(struct sharer * sharer, const struct trace_ubatch * ubatch);

static bool go_through(struct sharer * sharer, double done, visitor * visit) {
    struct trace_cursor * cursor = trace_cursor_new(sharer->trace);
    struct trace_ubatch   ubatch;
    const double          size   = (double) sharer->trace->source.size;
    if (cursor == NULL) {
        fail(sharer, CHUNK_OUTPUT_NO_MEMORY);
    }
    while (sharer->out.wrong == NULL && trace_next(cursor, &ubatch)) {
        if (!ubatch.warmup && !ubatch.mtp) {
            visit(sharer, &ubatch);
        }
        if (sharer->progress) {
            sharer->progress(sharer->self, (done + (double) trace_cursor_offset(cursor) / size) / PASSES);
        }
    }
    sharer->report->lost = cursor != NULL ? trace_cursor_lost(cursor) : 0;
    trace_cursor_free(cursor);
    return sharer->out.wrong == NULL;
}

static void count_tokens(struct sharer * sharer, const struct trace_ubatch * ubatch) {
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        sharer->tables[ubatch->table].streams[ubatch->tokens[i].generation].n_tokens++;
    }
}

// The row in which a token was routed, tokens being asked for in order; NULL: none.
static const uint16_t * next_row(const struct trace_routing * routing, int32_t token, int32_t * next) {
    while (routing->tokens != NULL && *next < routing->n_rows && routing->tokens[*next] < token) {
        (*next)++;
    }
    const int32_t row  = routing->tokens != NULL ? *next : token;
    const bool    is   = row < routing->n_rows && (routing->tokens == NULL || routing->tokens[row] == token);
    return is ? routing->experts + (size_t) row * (size_t) routing->n_used : NULL;
}

static void add_token(struct sharer * sharer, const struct trace_ubatch * ubatch, int32_t token,
                      struct stream * stream) {
    uint32_t * counts = stream->counts;
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        const struct trace_routing * routing = &ubatch->layers[i];
        const uint16_t             * experts = next_row(routing, token, &sharer->next[i]);
        for (int32_t k = 0; experts != NULL && k < routing->n_used; k++) {
            counts[experts[k]]++;
        }
        stream->rows[i] += experts != NULL;
        counts          += routing->n_expert;
    }
    stream->n_in++;
}

// Windows are about alike: what is left after the last whole one is spread over them.
static uint64_t size_of_window(const struct stream * stream) {
    return stream->n_tokens / stream->n_windows + (stream->n_done < stream->n_tokens % stream->n_windows);
}

static void end_window(struct stream * stream, const struct table * table) {
    memset(stream->counts, 0, table->n_counts * sizeof(stream->counts[0]));
    memset(stream->rows,   0, table->n_layers * sizeof(stream->rows[0]));
    stream->n_in = 0;
    stream->n_done++;
}

// How many rows of a window are not told.
static uint64_t rows_left_out(const struct stream * stream, size_t n_layers) {
    uint64_t n = 0;
    for (size_t i = 0; i < n_layers; i++) {
        n += is_whole(stream, i) ? 0 : stream->rows[i];
    }
    return n;
}

static void note_window(struct sharer * sharer, struct table * table, const struct stream * stream) {
    for (size_t i = 0; i < table->n_layers; i++) {
        table->is_told[i] = table->is_told[i] || is_whole(stream, i);
        table->is_used    = table->is_used || table->is_told[i];
    }
    sharer->report->left_out_rows += rows_left_out(stream, table->n_layers);
}

static void add_ubatch(struct sharer * sharer, const struct trace_ubatch * ubatch, bool writes) {
    struct table * table = &sharer->tables[ubatch->table];
    memset(sharer->next, 0, table->n_layers * sizeof(sharer->next[0]));
    for (int32_t i = 0; i < ubatch->n_tokens && sharer->out.wrong == NULL; i++) {
        const int       phase  = ubatch->tokens[i].generation;
        struct stream * stream = &table->streams[phase];
        if (stream->n_windows == 0) {
            continue;
        }
        add_token(sharer, ubatch, i, stream);
        if (stream->n_in < size_of_window(stream)) {
            continue;
        }
        if (writes && table->is_used) {
            write_window(sharer, (size_t) ubatch->table, phase);
        } else if (!writes) {
            note_window(sharer, table, stream);
        }
        end_window(stream, table);
    }
}

static void look_at_ubatch(struct sharer * sharer, const struct trace_ubatch * ubatch) {
    add_ubatch(sharer, ubatch, false);
}

static void share_ubatch(struct sharer * sharer, const struct trace_ubatch * ubatch) {
    add_ubatch(sharer, ubatch, true);
}

//
// what is missing, and the end
//

static void put_gap(struct trace_buffer * records, uint64_t ubatches, uint64_t tokens, enum trace_gap_reason why) {
    struct trace_buffer body = { 0 };
    if (ubatches > 0) {
        trace_buffer_u8    (&body, TRACE_RECORD_GAP);
        trace_buffer_varint(&body, ubatches);
        trace_buffer_varint(&body, tokens);
        trace_buffer_u8    (&body, (uint8_t) why);
        put_record(records, &body);
    }
    records->failed = records->failed || body.failed;
    trace_buffer_free(&body);
}

// Where they were is not told: they are behind all windows.
static void write_gaps(struct sharer * sharer) {
    const struct trace_info * info    = &sharer->trace->info;
    struct trace_buffer       records = { 0 };
    put_gap(&records, info->dropped_ubatches,  info->dropped_tokens,  TRACE_GAP_SLOW_DISK);
    put_gap(&records, info->left_out_ubatches, info->left_out_tokens, TRACE_GAP_SAMPLING);
    if (records.failed || records.size > 0) {
        write_data(sharer, (struct chunk_header) { 0 }, &records);
    }
    trace_buffer_free(&records);
}

// A trace that has not ended, or is damaged, stays one: a hole in the numbers of chunks tells that some are missing.
static void write_end(struct sharer * sharer) {
    const struct trace_info * info = &sharer->trace->info;
    if (info->lost_chunks > 0 || sharer->report->lost > 0) {
        sharer->out.number++;
    }
    if (info->ending != TRACE_INTERRUPTED) {
        write_json(sharer, TRACE_CHUNK_END, sharer->report->n_windows, json_pack(
            "{s:b, s:b, s:s*, s:I, s:I, s:I, s:I, s:I, s:I, s:i}",
            "complete",          info->ending == TRACE_COMPLETE,
            "last_part",         info->ending != TRACE_ROTATED,
            "stopped",           info->stopped,
            "ubatches",          (json_int_t) sharer->report->n_windows,
            "tokens",            (json_int_t) sharer->report->n_tokens,
            "dropped_ubatches",  (json_int_t) info->dropped_ubatches,
            "dropped_tokens",    (json_int_t) info->dropped_tokens,
            "left_out_ubatches", (json_int_t) info->left_out_ubatches,
            "left_out_tokens",   (json_int_t) info->left_out_tokens,
            "waited_ms",         0));
    }
}

//
// the whole
//

static bool begin_stream(const struct sharer * sharer, struct table * table, struct stream * stream) {
    stream->n_windows = stream->n_tokens / sharer->window;
    if (stream->n_windows == 0) {
        sharer->report->left_out_tokens += stream->n_tokens;
        return true;
    }
    stream->counts = calloc(table->n_counts + 1, sizeof(stream->counts[0]));
    stream->rows   = calloc(table->n_layers + 1, sizeof(stream->rows[0]));
    return stream->counts != NULL && stream->rows != NULL;
}

static void begin_streams(struct sharer * sharer) {
    bool any = false;
    for (size_t i = 0; i < sharer->trace->tables.n; i++) {
        for (int phase = 0; phase < PHASES; phase++) {
            struct table * table = &sharer->tables[i];
            if (!begin_stream(sharer, table, &table->streams[phase])) {
                fail(sharer, CHUNK_OUTPUT_NO_MEMORY);
            }
            any = any || table->streams[phase].n_windows > 0;
        }
    }
    if (!any) {
        fail(sharer, TOO_FEW);
    }
}

// Having gone through the trace: from its beginning on, what is told of it being known.
static void begin_windows(struct sharer * sharer) {
    bool any = false;
    for (size_t i = 0; i < sharer->trace->tables.n; i++) {
        struct table * table = &sharer->tables[i];
        for (int phase = 0; phase < PHASES; phase++) {
            struct stream * stream = &table->streams[phase];
            if (stream->n_windows > 0) {
                end_window(stream, table);
                stream->n_done = 0;
                sharer->report->left_out_tokens += table->is_used ? 0 : stream->n_tokens;
            }
        }
        any = any || table->is_used;
    }
    if (!any) {
        fail(sharer, NO_LAYERS);
    }
}

static void begin(struct sharer * sharer) {
    const struct trace_tables * tables    = &sharer->trace->tables;
    size_t                      most      = 0;
    bool                        no_memory = false;
    sharer->tables = calloc(tables->n + 1, sizeof(sharer->tables[0]));
    for (size_t i = 0; sharer->tables != NULL && i < tables->n; i++) {
        sharer->tables[i].n_layers = tables->tables[i].n_layers;
        sharer->tables[i].n_counts = experts_of(&tables->tables[i]);
        sharer->tables[i].is_told  = calloc(tables->tables[i].n_layers + 1, sizeof(bool));
        no_memory = no_memory || sharer->tables[i].is_told == NULL;
        most = tables->tables[i].n_layers > most ? tables->tables[i].n_layers : most;
    }
    sharer->next = calloc(most + 1, sizeof(sharer->next[0]));
    if (sharer->tables == NULL || sharer->next == NULL || no_memory) {
        fail(sharer, CHUNK_OUTPUT_NO_MEMORY);
    } else if (most == 0) {
        fail(sharer, NO_EXPERTS);
    } else if (sharer->window > TRACE_TOKENS_MAX / 2) { // a window may take twice as many
        fail(sharer, TOO_MANY);
    }
}

static void end(struct sharer * sharer) {
    for (size_t i = 0; sharer->tables != NULL && i < sharer->trace->tables.n; i++) {
        for (int phase = 0; phase < PHASES; phase++) {
            free(sharer->tables[i].streams[phase].counts);
            free(sharer->tables[i].streams[phase].rows);
        }
        free(sharer->tables[i].is_told);
    }
    free(sharer->tables);
    free(sharer->next);
    free(sharer->ids);
    trace_buffer_free(&sharer->payload);
}

const char * trace_share(const struct trace * trace, uint64_t window, FILE * out, rewriting_progress_fn progress,
                         void * self, struct trace_share_report * report) {
    struct sharer sharer = { .trace = trace, .out = { .file = out }, .window = window, .report = report,
        .progress = progress,
                             .self = self };
    *report = (struct trace_share_report) { 0 };
    begin(&sharer);
    if (sharer.out.wrong == NULL && go_through(&sharer, 0, count_tokens)) {
        begin_streams(&sharer);
    }
    if (sharer.out.wrong == NULL && go_through(&sharer, 1, look_at_ubatch)) {
        begin_windows(&sharer);
    }
    if (sharer.out.wrong == NULL) {
        write_header(&sharer);
        write_tables(&sharer);
        go_through(&sharer, 2, share_ubatch);
        write_gaps(&sharer);
        write_end (&sharer);
    }
    report->size = sharer.out.size;
    end(&sharer);
    return sharer.out.wrong;
}
