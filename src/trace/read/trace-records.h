// The records of a payload of data, one after the other.

#pragma once

#include "trace/format/trace-bytes.h"
#include "trace/format/trace-format.h"
#include "trace/read/trace-json-reader.h"
#include "trace/read/trace-values.h"

// What a UBATCH record tells before its token ids, but for its time.
struct trace_head {
    uint8_t                    flags;
    const struct trace_table * table;      // NULL: the file does not have it
    uint64_t                   table_number;
    uint64_t                   n_spans;
    struct trace_bytes         spans;
    int32_t                    n_tokens;
    int32_t                    n_outputs;
    uint64_t                   n_ids;
    uint64_t                   n_bits;     // that they take
    int32_t                    rows   [TRACE_LAYERS_MAX];
    bool                       reduced[TRACE_LAYERS_MAX]; // rows are of tokens whose output was asked for, if any
};

// Returns false where it is none.
bool trace_head_parse(struct trace_head * head, struct trace_bytes * bytes, const struct trace_tables * tables);

struct trace_gaps {
    uint64_t ubatches;
    uint64_t dropped_ubatches;
    uint64_t dropped_tokens;
    uint64_t left_out_ubatches;
    uint64_t left_out_tokens;
};

// The next record: its kind, 0 at the end and where there is none, and its body.
uint8_t trace_record_next(struct trace_bytes * records, struct trace_bytes * body);

// Adds up the gaps of a payload.
void trace_records_gaps(const void * data, size_t size, struct trace_gaps * gaps);

struct trace_life {
    int32_t context;
    int32_t sequence;
    int32_t life;
    int64_t next;     // position; -1: none or not known
};

// Zeroed, and with the tables, to begin with.
struct trace_decoder {
    const struct trace_tables * tables;
    struct trace_bytes          records;
    uint64_t                    number;   // of the next ubatch
    int64_t                     time;     // of the one before
    struct trace_head           head;
    struct trace_life         * lives;
    size_t                      n_lives;
    size_t                      lives_room;
    struct trace_token        * tokens;
    size_t                      tokens_room;
    int32_t                   * outputs;  // indices of tokens
    size_t                      outputs_room;
    struct trace_routing      * layers;
    size_t                      layers_room;
    uint16_t                  * ids;
    size_t                      ids_room;
    float                     * weights;
    size_t                      weights_room;
    struct trace_cut          * cuts;     // since the last ubatch that was told
    size_t                      n_cuts;
    size_t                      cuts_room;
    bool                        cuts_told;
};

enum decoder_step {
    DECODER_STEP_UBATCH,
    DECODER_STEP_LOST,   // a ubatch that cannot be told
    DECODER_STEP_END,    // or what is no record
};

// The data has TRACE_BUFFER_SLACK bytes behind it that may be read.
void            trace_decoder_begin(struct trace_decoder * decoder, const void * data, size_t size, uint64_t first,
                                    int64_t time);
enum decoder_step trace_decoder_next (struct trace_decoder * decoder, struct trace_ubatch * ubatch);
void            trace_decoder_free (struct trace_decoder * decoder);
