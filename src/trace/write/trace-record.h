// Records of the routing trace (docs/trace-format.md), encoded into memory of the caller.

#pragma once

#include "routing/routing.h"
#include "trace/format/trace-format.h"

#define TRACE_LIVES_MAX  4096              // in one payload
#define TRACE_LIVE_SLOTS 16384             // a power of two, more than twice as many
#define TRACE_RECORD_MAX 64                // bytes of any record but a UBATCH, and of a CUT with its LIFE

struct recorded_life {
    uint32_t context;
    int32_t  sequence;
    uint32_t life;
    int64_t  next;                         // position that follows its last one, -1: none does
};

// What the records of a payload have in common. A payload tells of nothing that another one does.
struct trace_payload {
    int64_t           time;                // of the ubatch before
    uint32_t          n_lives;
    struct recorded_life lives[TRACE_LIVES_MAX];
    uint16_t          slots[TRACE_LIVE_SLOTS]; // hash table: index + 1 of a life, 0: free
};

// What is recorded of a ubatch, besides itself.
struct trace_recording {
    uint32_t context;
    uint32_t table;
    bool     is_first;                     // of its batch
    bool     is_mtp;
    bool     tokens;                       // token ids
    bool     weights;                      // gate weights, where they were read
};

// `time`: of the chunk.
void trace_payload_begin(struct trace_payload * payload, int64_t time);

// Whether there is room for so many lives. Where there is none in an empty payload, there never is.
bool trace_payload_has_room(const struct trace_payload * payload, uint64_t n_lives);

// Lives that a ubatch is of, at most.
uint64_t trace_record_lives_max(const struct routing_ubatch * ubatch);

// Bytes that a ubatch takes at most.
size_t trace_record_size_max(const struct routing_ubatch * ubatch, const struct trace_recording * recording);

// These return where the next record goes. A ubatch: NULL where an expert is none of its layer's.
uint8_t * trace_record_ubatch  (struct trace_payload * payload, uint8_t * at, const struct routing_ubatch * ubatch,
                                const struct trace_recording * recording);
uint8_t * trace_record_cut     (struct trace_payload * payload, uint8_t * at, uint32_t context,
                                const struct routing_cut * cut);
uint8_t * trace_record_gap     (uint8_t * at, uint64_t n_ubatches, uint64_t n_tokens, enum trace_gap_reason reason);
uint8_t * trace_record_warmup  (uint8_t * at, uint64_t first, uint64_t n);
uint8_t * trace_record_rejected(uint8_t * at, uint64_t ubatch, uint64_t first, uint64_t n);
