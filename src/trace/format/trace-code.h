// How packed chunks tell experts: each layer has frequencies of its own, and rANS turns an expert into as many bits as
// its frequency is worth (docs/trace-format.md, "Code").

#pragma once

#include "trace/format/trace-bytes.h"
#include "trace/format/trace-format.h"

struct trace_code_layer {
    int32_t    n_expert;
    uint32_t * experts;     // [n_expert] where each begins << 16 | its frequency
};

struct trace_code_table {
    uint64_t                  number;
    size_t                    n_layers;
    struct trace_code_layer * layers;
};

// Zeroed: empty.
struct trace_code {
    struct trace_code_table * tables;   // their numbers rising
    size_t                    n;
    size_t                    room;
    size_t                    n_layers; // of all tables
};

bool trace_code_parse(struct trace_code * code, const void * payload, size_t size);
void trace_code_write(const struct trace_code * code, struct trace_buffer * payload);
void trace_code_free (struct trace_code * code);

// NULL where there is none. *before is how many layers the tables before it have.
const struct trace_code_table * trace_code_find(const struct trace_code * code, uint64_t number, size_t * before);

// Appends a table whose layers have no experts yet. Returns NULL where memory runs out.
struct trace_code_table * trace_code_add(struct trace_code * code, uint64_t number, size_t n_layers);

// Frequencies that are proportional to the counts. Returns false where there are more experts than frequencies, or
// memory runs out.
bool trace_code_fit(struct trace_code_layer * layer, const uint64_t * counts, int32_t n_expert);

// Forwards, after begin(). What is not coded at all comes out as something, which end() tells.
struct trace_decoding {
    struct trace_bytes words;
    uint32_t           states[TRACE_CODE_STATES];
    uint64_t           n;
    uint16_t           expert_of[1 << TRACE_CODE_BITS];
};

void trace_decoding_begin(struct trace_decoding * decoding, const void * data, size_t size);
void trace_decoding_layer(struct trace_decoding * decoding, const struct trace_code_layer * layer, uint16_t * ids,
                          size_t n);
bool trace_decoding_end  (struct trace_decoding * decoding);

// Backwards: of what comes last the first. The room is for two bytes each.
struct trace_encoding {
    uint8_t * begin;
    uint8_t * at;       // what was written last
    uint32_t  states[TRACE_CODE_STATES];
    uint64_t  n;        // to come
};

#define TRACE_ENCODING_ROOM(n) (2 * (n) + 4 * TRACE_CODE_STATES)

void trace_encoding_begin(struct trace_encoding * encoding, uint8_t * room, size_t size, uint64_t n);
bool trace_encoding_layer(struct trace_encoding * encoding, const struct trace_code_layer * layer,
                          const uint16_t * ids, size_t n);
void trace_encoding_end  (struct trace_encoding * encoding);  // the result is from `at` to the end of the room
