// Encodes what a context delivers into the chunks of its writer, and leaves out what there is no room for.

#include "trace/write/trace-stream.h"

#include "trace/write/trace-sampling.h"
#include "trace/write/trace-state.h"
#include "trace/write/trace-trust.h"
#include "trace/write/trace-writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE     (512 << 10) // a chunk of so many bytes is sealed
#define WAIT_MAX       5000000     // nanoseconds that a batch waits for the disk, where that is limited
#define RECENT_MAX     1024        // ubatches of a context whose tokens may be rejected
#define GAPS_SIZE      ((TRACE_GAP_REASONS - 1) * TRACE_RECORD_MAX)
#define LOOKED_AT      8           // of the first ubatches of a table each expert is looked at,
#define LOOKED_AT_THEN 64          // and of one in so many then

struct trace_range {
    uint64_t first;
    uint64_t n;
};

// What a ubatch of a context is in the trace.
struct trace_recent {
    uint64_t number;
    uint64_t in_trace; // + 1, 0: nothing
};

struct trace_stream {
    struct trace_writer * writer;
    uint32_t              context;
    bool                  has_begun;
    bool                  is_trusted;    // a ubatch of it was looked at
    uint64_t              batch;
    bool                  is_first;      // nothing of the batch is recorded yet
    bool                  is_dropping;   // what is left of the batch
    int64_t               waited;        // for this batch, in nanoseconds
    uint32_t              table;         // of the last ubatch
    struct trace_range  * pending;       // numbers in the trace that may turn out to be a warm-up
    size_t                n_pending;
    size_t                room_pending;
    struct trace_recent   recent[RECENT_MAX]; // by the number's rest
};

//
// chunks
//

// Makes room in the open chunk of data, or in a new one. Returns false where there is none now: all is sealed then.
static bool reserve(struct trace_writer * writer, size_t size, uint64_t n_lives, int64_t time) {
    struct chunk_ring * buffer = &writer->buffer;
    if (buffer->is_open && chunk_ring_has_room(buffer, size) && trace_payload_has_room(&writer->payload, n_lives)) {
        return true;
    }
    trace_state_seal(writer);
    struct ring_chunk * chunk = chunk_ring_open(buffer, TRACE_CHUNK_DATA, size);
    if (chunk == NULL) {
        return false;
    }
    chunk->first = writer->n_told;
    chunk->time  = time;
    trace_payload_begin(&writer->payload, time);
    trace_state_set_due(writer);
    return true;
}

// What is in the open chunk now ends here.
static void commit(struct trace_writer * writer, const uint8_t * end) {
    chunk_ring_grow(&writer->buffer, end);
    if (writer->buffer.last->size >= CHUNK_SIZE || writer->buffer.last->size >= writer->buffer.size / 4) {
        trace_state_seal(writer);
    }
}

//
// what is written of a ubatch
//

static uint8_t * put_gaps(const struct trace_writer * writer, uint8_t * at) {
    for (int i = 0; i < TRACE_GAP_REASONS; i++) {
        if (writer->gaps[i].n_ubatches > 0) {
            at = trace_record_gap(at, writer->gaps[i].n_ubatches, writer->gaps[i].n_tokens, (enum trace_gap_reason) i);
        }
    }
    return at;
}

static bool table_fits(const struct recorded_table * table, const struct routing_ubatch * ubatch) {
    if (table->n_layers != ubatch->n_layers) {
        return false;
    }
    for (int32_t i = 0; i < table->n_layers; i++) {
        const struct recorded_table_layer * one   = &table->layers[i];
        const struct routing_layer     * other = &ubatch->layers[i];
        if (one->layer != other->layer || one->n_expert != other->n_expert || one->n_used != other->n_used) {
            return false;
        }
    }
    return true;
}

// Returns the number of tables where there is none.
static uint32_t find_table(struct trace_writer * writer, struct trace_stream * stream,
                           const struct routing_ubatch * ubatch) {
    if (stream->table < writer->n_tables && table_fits(writer->tables[stream->table], ubatch)) {
        return stream->table;
    }
    for (uint32_t i = 0; i < writer->n_tables; i++) {
        if (table_fits(writer->tables[i], ubatch)) {
            stream->table = i;
            return i;
        }
    }
    return writer->n_tables;
}

static struct recorded_table * table_new(const struct routing_ubatch * ubatch) {
    const size_t         n     = (size_t) ubatch->n_layers;
    struct recorded_table * table = malloc(sizeof(*table) + n * sizeof(table->layers[0]));
    if (table == NULL) {
        return NULL;
    }
    *table = (struct recorded_table) { ubatch->n_layers, 0, (struct recorded_table_layer *) (table + 1) };
    for (size_t i = 0; i < n; i++) {
        table->layers[i] = (struct recorded_table_layer) { ubatch->layers[i].layer, ubatch->layers[i].n_expert,
            ubatch->layers[i].n_used };
    }
    return table;
}

// What became of a ubatch.
enum outcome {
    RECORDED,
    NO_ROOM,    // now
    TOO_LARGE,  // for the buffer
    NO_MEMORY,
    OUT_OF_RANGE,
};

static enum outcome write_table(struct trace_writer * writer, const struct text * json) {
    if (json->failed) {
        return NO_MEMORY;
    }
    if (json->length > chunk_ring_largest(&writer->buffer)) {
        return TOO_LARGE;
    }
    trace_state_seal(writer);
    struct ring_chunk * chunk = chunk_ring_open(&writer->buffer, TRACE_CHUNK_LAYERS, json->length);
    if (chunk == NULL) {
        return NO_ROOM;
    }
    memcpy(chunk_ring_at(&writer->buffer), json->data, json->length);
    chunk_ring_grow(&writer->buffer, chunk_ring_at(&writer->buffer) + json->length);
    chunk_ring_seal(&writer->buffer);
    chunk->first = writer->n_told;
    chunk->time  = trace_now();
    return RECORDED;
}

static enum outcome add_table(struct trace_writer * writer, const struct routing_ubatch * ubatch) {
    const bool              fits  = writer->n_tables < TRACE_WRITER_TABLES && ubatch->n_layers <= TRACE_LAYERS_MAX;
    struct recorded_table * table = fits ? table_new(ubatch) : NULL;
    if (table == NULL) {
        return NO_MEMORY;
    }
    struct text json = { 0 };
    trace_json_write_layers(&json, writer->n_tables, ubatch);
    const enum outcome outcome = write_table(writer, &json);
    if (outcome == RECORDED) {
        writer->tables[writer->n_tables++] = table;
    } else {
        free(table);
    }
    text_free(&json);
    return outcome;
}

static bool make_room_pending(struct trace_stream * stream) {
    if (stream->n_pending < stream->room_pending) {
        return true;
    }
    const size_t         room    = stream->room_pending * 2 + 8;
    struct trace_range * pending = realloc(stream->pending, room * sizeof(*pending));
    if (pending == NULL) {
        return false;
    }
    stream->pending      = pending;
    stream->room_pending = room;
    return true;
}

static void note_pending(struct trace_stream * stream, uint64_t number) {
    struct trace_range * last = stream->n_pending > 0 ? &stream->pending[stream->n_pending - 1] : NULL;
    if (last != NULL && last->first + last->n == number) {
        last->n++;
    } else {
        stream->pending[stream->n_pending++] = (struct trace_range) { number, 1 };
    }
}

static void note_recorded(struct trace_stream * stream, const struct routing_ubatch * ubatch) {
    struct trace_writer * writer = stream->writer;
    struct trace_counts   counts = { .n_ubatches = 1, .n_tokens = ubatch->n_tokens };
    memcpy(counts.gaps, writer->gaps, sizeof(counts.gaps));
    memset(writer->gaps, 0, sizeof(writer->gaps));
    trace_counts_add(&writer->buffer.last->counts, &counts);
    writer->n_told += trace_counts_told(&counts);

    const uint64_t number = writer->n_told - 1;
    stream->recent[ubatch->number % RECENT_MAX] = (struct trace_recent) { ubatch->number, number + 1 };
    stream->is_first = false;
    if (ubatch->fate == ROUTING_PENDING) {
        note_pending(stream, number);
    }
}

static const char cannot_be_trusted[] = "the routing cannot be trusted";

// Without waiting for anything.
static enum outcome record(struct trace_stream * stream, const struct routing_ubatch * ubatch, bool is_mtp) {
    struct trace_writer * writer = stream->writer;
    const uint32_t        table  = find_table(writer, stream, ubatch);
    if (table == writer->n_tables) {
        const enum outcome outcome = add_table(writer, ubatch);
        if (outcome != RECORDED) {
            return outcome;
        }
    }
    const struct trace_recording recording = {
        .context  = stream->context,
        .table    = table,
        .is_first = stream->is_first,
        .is_mtp   = is_mtp,
        .tokens   = writer->options.tokens,
        .weights  = writer->options.weights,
    };
    const size_t   size    = GAPS_SIZE + trace_record_size_max(ubatch, &recording);
    const uint64_t n_lives = trace_record_lives_max(ubatch);
    if (size > chunk_ring_largest(&writer->buffer) || n_lives > TRACE_LIVES_MAX ||
        ubatch->n_tokens > TRACE_TOKENS_MAX) {
        return TOO_LARGE;
    }
    if (ubatch->fate == ROUTING_PENDING && !make_room_pending(stream)) {
        return NO_MEMORY;
    }
    if (!reserve(writer, size, n_lives, ubatch->time)) {
        return NO_ROOM;
    }
    const uint8_t * end = trace_record_ubatch(&writer->payload, put_gaps(writer, chunk_ring_at(&writer->buffer)),
        ubatch, &recording);
    if (end == NULL) {
        return OUT_OF_RANGE;
    }
    note_recorded(stream, ubatch);
    writer->tables[table]->n_ubatches++;
    commit(writer, end);
    return RECORDED;
}

//
// what is waited for
//

// The buffer is full. Waits for the disk, where that is allowed and may help. Returns false where it is not.
static bool wait_for_room(struct trace_stream * stream) {
    struct trace_writer * writer = stream->writer;
    const bool is_limited = !writer->options.wait;
    if (writer->is_failing || (is_limited && (writer->is_stuck || stream->waited >= WAIT_MAX))) {
        return false;
    }
    const int64_t before = trace_state_now();
    if (is_limited) {
        writer->is_stuck = true; // unless the thread says otherwise meanwhile
        trace_state_wait(&writer->room, &writer->mutex, before + WAIT_MAX - stream->waited);
    } else {
        pthread_cond_wait(&writer->room, &writer->mutex);
    }
    const int64_t waited = trace_state_now() - before;
    stream->waited += waited;
    writer->waited += waited;
    return writer->state == TRACE_RUNS && !(is_limited && writer->is_stuck);
}

//
// ubatches
//

// What comes is not recorded, but counted.
static void distrust(struct trace_writer * writer, const char * doubt, uint64_t n_tokens,
                     struct trace_remark * remark) {
    remark->level = LOG_ERROR;
    text_add_line(&remark->text, "%s (%s): %s", cannot_be_trusted, doubt,
        writer->state == TRACE_RUNS ? "the routing trace ends before it" : "no routing trace is written");
    if (writer->state == TRACE_RUNS) {
        writer->stopped = cannot_be_trusted;
        trace_state_note_gap(writer, 1, n_tokens, TRACE_GAP_LOST);
    } else {
        trace_writer_stop(writer);
    }
}

static bool is_looked_at(struct trace_stream * stream, const struct routing_ubatch * ubatch) {
    struct trace_writer * writer = stream->writer;
    const uint32_t        table  = find_table(writer, stream, ubatch);
    if (!stream->is_trusted || table == writer->n_tables) {
        return true;
    }
    const uint64_t n = writer->tables[table]->n_ubatches;
    return n < LOOKED_AT || n % LOOKED_AT_THEN == 0;
}

static bool is_trusted(struct trace_stream * stream, const struct routing_ubatch * ubatch, char * doubt, size_t size) {
    if (!trace_trust_form(ubatch, doubt, size) ||
        (is_looked_at(stream, ubatch) && !trace_trust_experts(ubatch, doubt, size))) {
        return false;
    }
    stream->is_trusted = true;
    return true;
}

static void begin_batch(struct trace_stream * stream, uint64_t batch) {
    if (!stream->has_begun || stream->batch != batch) {
        stream->has_begun   = true;
        stream->batch       = batch;
        stream->is_first    = true;
        stream->is_dropping = false;
        stream->waited      = 0;
    }
}

// Said once: there may be no end of it.
static void say_left_out(struct trace_writer * writer, enum outcome outcome, const struct routing_ubatch * ubatch,
                         struct trace_remark * remark) {
    if (writer->left_out_said) {
        return;
    }
    writer->left_out_said = true;
    remark->level         = LOG_WARNING;
    if (outcome == NO_MEMORY) {
        text_add_line(&remark->text, "out of memory: some ubatches are left out of the routing trace");
    } else {
        text_add_line(&remark->text, "%" PRIu64 " tokens in one ubatch do not fit into LLAMA_EXPERT_TRACE_BUFFER (%zu "
            "bytes): they are left out of the routing trace, and so are all that do not. Raise it", ubatch->n_tokens,
            writer->options.buffer);
    }
}

static void deal_with(struct trace_stream * stream, enum outcome outcome, const struct routing_ubatch * ubatch,
                      struct trace_remark * remark) {
    struct trace_writer * writer = stream->writer;
    char doubt[256];
    if (outcome == NO_ROOM) {
        stream->is_dropping = true;
        trace_state_note_gap(writer, 1, ubatch->n_tokens, TRACE_GAP_SLOW_DISK);
    } else if (outcome == OUT_OF_RANGE) {
        trace_trust_experts(ubatch, doubt, sizeof(doubt));
        distrust(writer, doubt, ubatch->n_tokens, remark);
    } else if (outcome != RECORDED) {
        trace_state_note_gap(writer, 1, ubatch->n_tokens, TRACE_GAP_TOO_LARGE);
        say_left_out(writer, outcome, ubatch, remark);
    }
}

// A trace that says so is there, also where nothing comes that is recorded.
static void leave_out(struct trace_writer * writer, const struct routing_ubatch * ubatch, enum trace_gap_reason reason,
                      struct trace_remark * remark) {
    if (writer->state == TRACE_NOT_BEGUN) {
        trace_writer_begin(writer, ubatch, remark);
    }
    trace_state_note_gap(writer, ubatch->lost != NULL ? ubatch->n_lost : 1, ubatch->n_tokens, reason);
}

// Once. Where the routing itself is lost that was said already.
static void say_tokens_lost(struct trace_writer * writer, struct trace_remark * remark) {
    if (!writer->lost_said) {
        writer->lost_said = true;
        remark->level     = LOG_WARNING;
        text_add_line(&remark->text, "out of memory: of some ubatches it is not known which tokens they have, and they "
            "are left out of the routing trace");
    }
}

static void take(struct trace_stream * stream, const struct routing_ubatch * ubatch, bool is_mtp,
                 struct trace_remark * remark) {
    struct trace_writer * writer = stream->writer;
    char doubt[256];
    begin_batch(stream, ubatch->batch);
    if (!trace_sampling_takes(writer->options.seed, writer->options.sample, stream->context, ubatch->batch)) {
        leave_out(writer, ubatch, TRACE_GAP_SAMPLING, remark);
        return;
    }
    if (ubatch->tokens_lost) {
        say_tokens_lost(writer, remark);
        leave_out(writer, ubatch, TRACE_GAP_LOST, remark);
        return;
    }
    if (stream->is_dropping) {
        trace_state_note_gap(writer, 1, ubatch->n_tokens, TRACE_GAP_SLOW_DISK);
        return;
    }
    if (!is_trusted(stream, ubatch, doubt, sizeof(doubt))) {
        distrust(writer, doubt, ubatch->n_tokens, remark);
        return;
    }
    if (writer->state == TRACE_NOT_BEGUN) {
        trace_writer_begin(writer, ubatch, remark);
    }
    enum outcome outcome = NO_ROOM;
    while (writer->state == TRACE_RUNS && (outcome = record(stream, ubatch, is_mtp)) == NO_ROOM &&
           wait_for_room(stream)) {
    }
    if (writer->state == TRACE_RUNS) {
        deal_with(stream, outcome, ubatch, remark);
    }
}

static void say_remark(struct trace_remark * remark, log_fn say) {
    if (remark->text.data != NULL) {
        say(remark->level, remark->text.data);
    }
    text_free(&remark->text);
}

static bool is_over(const struct trace_writer * writer) {
    return writer->state == TRACE_ENDS || writer->state == TRACE_OFF;
}

// A model's last layer may be its only one that routes, and routes nothing where no output is asked for. Dense models
// have no trace.
static bool is_recorded(const struct routing_ubatch * ubatch) {
    return ubatch->n_tokens > 0 && (ubatch->n_layers > 0 || ubatch->is_moe);
}

void trace_stream_ubatch(struct trace_stream * stream, const struct routing_ubatch * ubatch, bool is_mtp) {
    struct trace_writer * writer = stream->writer;
    struct trace_remark   remark = { LOG_INFO, { 0 } };
    if (ubatch->lost == NULL && !is_recorded(ubatch)) {
        return;
    }
    pthread_mutex_lock(&writer->mutex);
    if (ubatch->stopped) {
        writer->stopped = ubatch->lost;
    }
    if (!is_over(writer) && (ubatch->lost != NULL || writer->stopped != NULL)) {
        leave_out(writer, ubatch, TRACE_GAP_LOST, &remark);
    } else if (!is_over(writer)) {
        take(stream, ubatch, is_mtp, &remark);
    }
    pthread_mutex_unlock(&writer->mutex);
    say_remark(&remark, writer->say);
}

//
// what becomes known later
//

// Where there is no room for it, it is lost.
static void amend(struct trace_stream * stream, enum trace_amendment_kind kind, uint64_t ubatch, uint64_t first,
                  uint64_t n) {
    struct trace_writer * writer = stream->writer;
    while (writer->amendments_size + TRACE_RECORD_MAX > TRACE_WRITER_AMENDMENTS) {
        trace_state_seal(writer);
        if (writer->amendments_size > 0 && !wait_for_room(stream)) {
            writer->n_amendments_lost++;
            return;
        }
    }
    uint8_t * at  = writer->amendments + writer->amendments_size;
    uint8_t * end = kind == TRACE_AMENDMENT_WARMUP ? trace_record_warmup(at, ubatch, n)
                                                   : trace_record_rejected(at, ubatch, first, n);
    writer->amendments_size += (size_t) (end - at);
    trace_state_set_due(writer);
}

void trace_stream_settle(struct trace_stream * stream, bool warmup) {
    struct trace_writer * writer = stream->writer;
    pthread_mutex_lock(&writer->mutex);
    for (size_t i = 0; warmup && i < stream->n_pending && !is_over(writer); i++) {
        amend(stream, TRACE_AMENDMENT_WARMUP, stream->pending[i].first, 0, stream->pending[i].n);
    }
    stream->n_pending = 0;
    pthread_mutex_unlock(&writer->mutex);
}

void trace_stream_reject(struct trace_stream * stream, const struct routing_rejection * rejection) {
    struct trace_writer       * writer = stream->writer;
    const struct trace_recent * recent = &stream->recent[rejection->ubatch % RECENT_MAX];
    pthread_mutex_lock(&writer->mutex);
    if (!is_over(writer) && recent->in_trace > 0 && recent->number == rejection->ubatch && rejection->n > 0) {
        amend(stream, TRACE_AMENDMENT_REJECTED, recent->in_trace - 1, (uint64_t) rejection->first,
            (uint64_t) rejection->n);
    }
    pthread_mutex_unlock(&writer->mutex);
}

// What a reader can tell from the positions that follow is not waited for.
void trace_stream_cut(struct trace_stream * stream, const struct routing_cut * cut) {
    struct trace_writer * writer = stream->writer;
    pthread_mutex_lock(&writer->mutex);
    if (writer->state == TRACE_RUNS && reserve(writer, TRACE_RECORD_MAX, 1, trace_now())) {
        commit(writer, trace_record_cut(&writer->payload, chunk_ring_at(&writer->buffer), stream->context, cut));
    }
    pthread_mutex_unlock(&writer->mutex);
}

struct trace_stream * trace_stream_new(struct trace_writer * writer) {
    struct trace_stream * stream = calloc(1, sizeof(*stream));
    if (stream != NULL) {
        stream->writer = writer;
        pthread_mutex_lock(&writer->mutex);
        stream->context = writer->n_streams++;
        pthread_mutex_unlock(&writer->mutex);
    }
    return stream;
}

void trace_stream_free(struct trace_stream * stream) {
    if (stream != NULL) {
        free(stream->pending);
        free(stream);
    }
}

