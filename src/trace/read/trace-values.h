// What a routing trace tells, as plain values: of itself, of its tables of layers, and of a ubatch.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
    // tokens that each ubatch has at least, of which counts alone are true; 0: not shared
    int64_t                    shared_window;
    int64_t                    shared_left_out;  // tokens of phases with fewer than a window
    bool                       is_packed;
    size_t                     n_tables;
    const struct trace_table * tables;
    enum trace_ending          ending;
    const char               * stopped;          // why there would have been more
    uint64_t                   file_size;
    uint64_t                   n_ubatches;       // that can be read, but for those that a cursor finds damaged
    uint64_t                   n_tokens;         // of them
    // GAPs because the disk was slow, memory short, or the routing not known
    uint64_t                   dropped_ubatches;
    uint64_t                   dropped_tokens;
    uint64_t                   left_out_ubatches;// GAPs because of sampling
    uint64_t                   left_out_tokens;
    // that are missing or do not check: not the one that a program had begun to write
    uint64_t                   lost_chunks;
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
    // llama_decode calls that were recorded, from 0 in this file: rises with the first ubatch of one
    uint64_t                     batch;
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
