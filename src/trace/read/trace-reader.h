// Reads routing traces (docs/trace-format.md), packed or not, from the first ubatch to the last.
//
// What a file has of ubatches, tokens, parts that are missing and how it ended is known when it is open; which
// ubatches were a warm-up and which tokens rejected as well, so that each ubatch is told whole. A broken file is no
// error as long as it begins as a trace does: what can be read is read, and what is missing is told. So is a file that
// a program still writes to: what it has when it is opened is read.
//
// Thread-safety: a trace may be read by several cursors in several threads; a cursor belongs to one thread.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_ERROR_MAX 256

struct trace;

struct trace_tensor {
    const char * name;
    int64_t      expert_bytes;   // of one expert, -1: not known
};

struct trace_layer {
    int32_t                     layer;      // as in blk.<layer>.
    int32_t                     n_expert;
    int32_t                     n_used;     // top-k
    size_t                      n_tensors;
    const struct trace_tensor * tensors;
};

// A table of layers: most traces have one. The layers of a multi-token-prediction head are in one of their own.
struct trace_table {
    size_t                     n_layers;
    const struct trace_layer * layers;      // in the order of evaluation
};

enum trace_ending {
    TRACE_COMPLETE,    // the model's contexts were freed, or the program ended
    TRACE_ROTATED,     // whole, and goes on in another file
    TRACE_INTERRUPTED, // the program still runs, or was killed
    TRACE_INCOMPLETE,  // it ended, and something is missing
};

// Strings live as long as the trace, and are NULL where they are not known.
struct trace_info {
    const char               * tracer;
    const char               * run;
    const char               * trace_id;
    const char               * engine;
    const char               * capture;
    const char               * model_name;
    const char               * architecture;
    const char               * model_file;
    const char               * fingerprint;
    int64_t                    pid;
    int64_t                    part;
    int32_t                    n_layer;
    bool                       phases_known;
    bool                       has_weights;
    bool                       has_tokens;       // token ids
    int64_t                    sample;           // one batch in so many
    int64_t                    seed;             // of the choice, -1: there is none, or it is not known
    int64_t                    shared_window;    // tokens that each ubatch has at least, of which counts alone are true; 0: not shared
    int64_t                    shared_left_out;  // tokens of phases with fewer than a window
    bool                       is_packed;
    size_t                     n_tables;
    const struct trace_table * tables;
    enum trace_ending          ending;
    const char               * stopped;          // why there would have been more
    uint64_t                   file_size;
    uint64_t                   n_ubatches;       // that can be read, but for those that a cursor finds damaged
    uint64_t                   n_tokens;         // of them
    uint64_t                   dropped_ubatches; // GAPs because the disk was slow, memory short, or the routing not known
    uint64_t                   dropped_tokens;
    uint64_t                   left_out_ubatches;// GAPs because of sampling
    uint64_t                   left_out_tokens;
    uint64_t                   lost_chunks;      // that are missing or do not check: not the one that a program had begun to write
    uint64_t                   lost_ubatches;    // of them, and of an unfinished one, as far as it is told
    uint64_t                   lost_bytes;       // of the file that are no whole chunk, or one that does not check
    int64_t                    first_time;       // microseconds since 1970, of the first chunk
    int64_t                    last_time;        // of the last one
};

struct trace_token {
    int32_t id;         // -1: an embedding, or not recorded
    int32_t sequence;   // -1: not known
    int32_t life;       // of that sequence, from 0
    int32_t position;   // -1: not known
    bool    generation; // otherwise prompt
    bool    output;     // its logits or embedding were asked for
    bool    rejected;   // drafted, and removed afterwards
};

// One layer of one ubatch.
struct trace_routing {
    int32_t          layer;
    int32_t          n_expert;
    int32_t          n_used;
    int32_t          n_rows;
    const uint16_t * experts; // [n_rows][n_used] in the router's order
    const float    * weights; // likewise, NULL: not recorded
    const int32_t  * tokens;  // [n_rows] index of each row's token, ascending; NULL: row i is token i
};

struct trace_cut {
    int32_t context;
    int32_t sequence;
    int32_t life;
    int32_t position; // the first that is lost
};

struct trace_ubatch {
    uint64_t                     number;   // in the trace; a hole: dropped, left out, or lost
    uint64_t                     batch;    // llama_decode calls that were recorded, from 0 in this file: rises with the first ubatch of one
    int32_t                      context;  // from 0, -1: no tokens
    int64_t                      time;     // microseconds since 1970, when it was submitted
    bool                         warmup;
    bool                         first;    // of its batch
    bool                         mtp;
    int32_t                      table;
    int32_t                      n_tokens;
    const struct trace_token   * tokens;   // [n_tokens] in the order of rows
    size_t                       n_layers;
    const struct trace_routing * layers;   // [n_layers] in the order of evaluation
    size_t                       n_cuts;   // that came after the ubatch before
    const struct trace_cut     * cuts;
};

// Opens a file, "-" being standard input (which is copied to a temporary file without a name). Returns NULL, and in
// `error` what is wrong and what to do, where it cannot be read or is no trace.
struct trace            * trace_open       (const char * path, char error[TRACE_ERROR_MAX]);
struct trace            * trace_open_memory(const void * data, size_t size, char error[TRACE_ERROR_MAX]); // which stays as it is
void                      trace_close      (struct trace * trace);
const struct trace_info * trace_about      (const struct trace * trace);
const char              * trace_name       (const struct trace * trace); // for people: the path, or where it is from

// Whether something of the file was read a second time and was not the same: it changed meanwhile, and what was gone
// through is not all of one trace. What was not there the first time is not there later either.
bool                      trace_changed    (const struct trace * trace);

// Goes through the ubatches from the first one on.
struct trace_cursor;
struct trace_cursor * trace_cursor_new (const struct trace * trace);   // NULL: out of memory
void                  trace_cursor_free(struct trace_cursor * cursor);

// Goes on with the first ubatch that has at least this number: chunks before it are not looked at, and their batches
// not counted.
void trace_cursor_seek(struct trace_cursor * cursor, uint64_t number);

// The next ubatch; what it points to is valid until the next call. Returns false at the end. Numbers rise. Of a chunk
// that does not check nothing is returned; all of its ubatches are counted in trace_cursor_lost(), and so is every one
// that cannot be told: they come in addition to the lost_ubatches of trace_about().
bool     trace_next       (struct trace_cursor * cursor, struct trace_ubatch * ubatch);
uint64_t trace_cursor_lost(const struct trace_cursor * cursor);

// Bytes of the file that have been gone through, for progress.
uint64_t trace_cursor_offset(const struct trace_cursor * cursor);
