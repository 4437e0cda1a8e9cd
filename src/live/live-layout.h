// The memory that a running tracer shows: what the library counts in, and the tool maps to read (docs/live-format.md).
// Plain values at fixed places, the same for every compiler of a machine; places within the file are offsets.

#pragma once

#include "statistics/counters.h"

#include <stdatomic.h>
#include <stdint.h>

#define LIVE_MAGIC        "MOELIVE" // 8 bytes with its zero
#define LIVE_VERSION      1
#define LIVE_ENTRIES_MAX  480
#define LIVE_ENTRIES_AT   1024
#define LIVE_HEADER_ROOM  16384    // the header and its entries: what follows are segments
#define LIVE_NAME_SIZE    32
#define LIVE_PROGRAM_SIZE 256
#define LIVE_TRACER_SIZE  32

// Bits of live_header.switches: what is on.
enum {
    LIVE_COUNTS  = 1,
    LIVE_NAMES   = 2,
    LIVE_RECORDS = 4,
    LIVE_WATCHED = 8,
};

struct live_header {
    char             magic[8];
    uint32_t         version;
    uint32_t         entries_at;
    uint32_t         entry_size;
    uint32_t         n_entries;                   // there is room for
    uint64_t         file_size;
    int64_t          started;                     // microseconds since 1970
    int64_t          pid;                         // as the process itself sees it
    char             name   [LIVE_NAME_SIZE];     // unique in its folder, zero-terminated like the next two
    char             program[LIVE_PROGRAM_SIZE];
    char             tracer [LIVE_TRACER_SIZE];   // the library's version

    _Alignas(128)
    _Atomic uint32_t sequence;                    // odd while entries, and what they describe, change
    _Atomic uint32_t switches;
    _Atomic uint64_t n_hidden;                    // contexts that there was no room to show
};

enum live_kind {
    LIVE_NONE,    // free
    LIVE_MODEL,   // a struct live_model
    LIVE_CONTEXT, // a struct live_meter: what a context counts
    LIVE_CLOSED,  // a struct live_meter: what the contexts counted that are gone
    LIVE_RING,    // a struct live_ring: what a context routed last
};

struct live_entry {
    _Atomic uint32_t kind;
    _Atomic uint32_t model;   // number in this process, from 1
    _Atomic uint32_t context; // likewise; 0: of the model as a whole
    _Atomic uint32_t unused;
    _Atomic uint64_t offset;
    _Atomic uint64_t size;
};

struct live_string {
    uint32_t at;     // in its segment
    uint32_t length; // bytes, UTF-8 mostly; 0: not known
};

struct live_model {
    int32_t            n_layer; // without a multi-token-prediction head; numbers are 0 where they are not known
    int32_t            n_expert;
    int32_t            n_used;
    uint32_t           phases_known;
    struct live_string name;
    struct live_string architecture;
    struct live_string file;
    struct live_string engine;
    struct live_string capture; // how the routing was read when the entries changed last
};

// Where a table of counters is: n_layers times struct counters_layer, then n_layers times n_expert counters.
struct live_table {
    _Atomic int32_t  n_layers;
    _Atomic int32_t  n_expert;
    _Atomic uint64_t offset;    // 0: not in this file, nothing of it is shown
};

// Bits of live_meter.asked, below its number.
enum {
    LIVE_ORDER_RESET  = 1,
    LIVE_ORDER_START  = 2,
    LIVE_ORDER_STOP   = 4,
    LIVE_ORDER_CONFIG = 8,  // something else is to be done otherwise
    LIVE_ORDER_STEP   = 16, // number of the next order, times this
};

// One thread writes it; the sequence is odd meanwhile.
struct live_meter {
    _Atomic uint32_t       sequence;
    _Atomic uint32_t       done;        // the order that was followed last
    _Atomic uint64_t       since;       // the number of the ubatch from which that holds
    _Atomic uint64_t       next_ubatch; // behind the last one that was delivered
    _Atomic uint32_t       in_batch;    // more of the last batch may be to come
    _Atomic uint32_t       is_off;      // nothing is counted
    struct counters_totals counts;
    struct counters_totals pending;     // perhaps a warm-up's: to be added for now

    _Alignas(128)
    _Atomic uint32_t       asked;       // the last order
    struct live_table      counts_table;
    struct live_table      pending_table;
};

#define LIVE_RING_DATA_AT 256

// Records follow each other without a gap, around the end of the data; each is a multiple of 8 bytes.
struct live_ring {
    uint64_t         data_at;  // in the segment
    uint64_t         size;     // of the data, bytes: a power of two
    _Alignas(128)
    _Atomic uint64_t begun;    // bytes since the beginning of time, with those that are being written
    _Atomic uint64_t written;  // those of whole records
};

enum live_record_kind {
    LIVE_RECORD_UBATCH = 1,
    LIVE_RECORD_SETTLE = 2, // live_record.value: 1 what was pending was a warm-up, 0 it counts
    LIVE_RECORD_CUT    = 3, // a sequence lost its positions from one on
    LIVE_RECORD_REJECT = 4, // tokens of a ubatch were drafted and rejected
    LIVE_RECORD_GAP    = 5, // a ubatch that the ring has no room for
};

// Bits of live_record.flags.
enum {
    LIVE_UBATCH_PENDING    = 1, // perhaps a warm-up's
    LIVE_UBATCH_WARMUP     = 2,
    LIVE_UBATCH_MTP        = 4, // evaluated by a multi-token-prediction head
    LIVE_UBATCH_TOKENS     = 8, // there are tokens
    LIVE_UBATCH_ROWS_KNOWN = 16,
    LIVE_UBATCH_LOST       = 32, // its routing is not known
};

// What every record begins with.
struct live_record {
    uint32_t size;     // of the whole record, bytes
    uint32_t kind;
    uint32_t flags;
    int32_t  value;
    uint64_t ubatch;   // number in its context
    uint64_t batch;
    int64_t  time;     // microseconds since 1970
    uint32_t n_tokens; // a ubatch: of its tokens, if there are any, and then its layers follow. CUT: the sequence.
                       // REJECT: how many
    uint32_t n_layers; //                                                                       CUT: its life.
                       // REJECT: the index of the first
};

struct live_token {
    int32_t  sequence;
    int32_t  life;
    int32_t  position;
    uint32_t flags;    // 1: generation, otherwise prompt; 2: its logits or embedding were asked for
};

// Then n_rows times int32_t, where has_rows: which token each row is; and n_rows times n_used times uint16_t, the
// experts; zeros up to a multiple of 8 bytes.
struct live_layer {
    int32_t  layer;
    int32_t  n_expert;
    int32_t  n_used;
    int32_t  n_rows;
    uint32_t has_rows; // 0: row i is token i
    uint32_t size;     // of this layer, bytes
};
