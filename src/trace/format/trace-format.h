// Numbers of the routing trace's format, shared by who writes it and who reads it: docs/trace-format.md.

#pragma once

#define TRACE_MAGIC          "\x89MOET\r\n\x1a"
#define TRACE_MAGIC_SIZE     8
#define TRACE_VERSION        1
#define TRACE_HEADER_SIZE    52
#define TRACE_FORMAT_NAME    "llama-expert-tracer-routing"

// Where a chunk's header has what, in bytes.
enum {
    TRACE_AT_VERSION     =  8,
    TRACE_AT_KIND        = 10,
    TRACE_AT_NUMBER      = 12,
    TRACE_AT_SIZE        = 16,
    TRACE_AT_N_UBATCHES  = 20,
    TRACE_AT_FIRST       = 24,
    TRACE_AT_TIME        = 32,
    TRACE_AT_N_TOKENS    = 40,
    TRACE_AT_CRC_PAYLOAD = 44,
    TRACE_AT_CRC_HEADER  = 48,
};

enum trace_chunk_kind {
    TRACE_CHUNK_HEADER     = 1,
    TRACE_CHUNK_LAYERS     = 2,
    TRACE_CHUNK_DATA       = 3,
    TRACE_CHUNK_AMENDMENTS = 4,
    TRACE_CHUNK_END        = 5,
    TRACE_CHUNK_CODE       = 6,
    TRACE_CHUNK_PACKED     = 7,
};

enum trace_record_kind {
    TRACE_RECORD_LIFE   = 1,
    TRACE_RECORD_UBATCH = 2,
    TRACE_RECORD_GAP    = 3,
    TRACE_RECORD_CUT    = 4,
};

enum trace_amendment_kind {
    TRACE_AMENDMENT_WARMUP   = 1,
    TRACE_AMENDMENT_REJECTED = 2,
};

enum trace_ubatch_flag {
    TRACE_UBATCH_WARMUP  =  1,
    TRACE_UBATCH_FIRST   =  2, // of its batch
    TRACE_UBATCH_MTP     =  4,
    TRACE_UBATCH_TOKENS  =  8,
    TRACE_UBATCH_WEIGHTS = 16,
    TRACE_UBATCH_REDUCED = 32,
};

enum trace_span_bit {
    TRACE_SPAN_GENERATION = 1, // a bit in the file: 0 is a token of the prompt, see routing/phase.h
    TRACE_SPAN_OUTPUT     = 2,
    TRACE_SPAN_CONTINUES  = 4,
};
#define TRACE_SPAN_BITS 3

enum trace_gap_reason {
    TRACE_GAP_SLOW_DISK = 1,
    TRACE_GAP_SAMPLING  = 2,
    TRACE_GAP_TOO_LARGE = 3,
    TRACE_GAP_LOST      = 4,
};

// The streams of a packed chunk, in their order.
enum packed_stream {
    PACKED_STREAM_HEADS,
    PACKED_STREAM_TIMES,
    PACKED_STREAM_TOKENS,
    PACKED_STREAM_WEIGHTS_LOW,
    PACKED_STREAM_WEIGHTS_HIGH,
    PACKED_STREAMS,
};

// No trace has more.
#define TRACE_TABLES_MAX     4096
#define TRACE_LAYERS_MAX     4096    // of a table
#define TRACE_EXPERTS_MAX    65536   // of a layer
#define TRACE_USED_MAX       4096    // top-k
#ifdef EXPERT_TRACER_FUZZING         // less to wait for
#    define TRACE_TOKENS_MAX   4096
#    define TRACE_FREE_IDS_MAX 4096
#    define TRACE_PACKED_MAX   0x100000
#else
#    define TRACE_TOKENS_MAX   1048576   // of a ubatch
#    define TRACE_FREE_IDS_MAX 4194304   // of a ubatch, of layers with one expert: they take no bits
#    define TRACE_PACKED_MAX   0x4000000 // bytes of data in a packed chunk, and ids
#endif

// How packed chunks are coded.
#define TRACE_CODE_BITS      14       // the frequencies of a layer's experts add up to 2^14
#define TRACE_CODE_STATES    4        // that take turns
#define TRACE_CODE_LOWEST    0x10000u // of a state

// Bits that tell one of n experts.
static inline int trace_bits(int n_expert) {
    int bits = 0;
    while (bits < 31 && (1 << bits) < n_expert) {
        bits++;
    }
    return bits;
}
