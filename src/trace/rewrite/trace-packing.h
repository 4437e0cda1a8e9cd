// Packs payloads of data into one chunk (docs/trace-format.md, "Packed"): the reverse of trace/read/trace-packed.h.

#pragma once

#include "trace/format/chunk-header.h"
#include "trace/format/trace-code.h"
#include "trace/read/trace-json-reader.h"
#include "trace/read/trace-records.h"

struct trace_ids {
    uint16_t * ids;
    size_t     n;
    size_t     room;
};

// What is being packed. Zeroed, and with the tables and the code, to begin with.
struct trace_packing {
    const struct trace_tables * tables;
    const struct trace_code   * code;
    struct trace_buffer         streams[PACKED_STREAMS];
    struct trace_ids          * layers;   // of the code, one table after the other
    uint64_t                    n_ids;
    struct trace_buffer         records;  // heads of the part that is being added
    size_t                      n_parts;
    struct chunk_header         before;   // of the last part
    struct chunk_header         header;   // of the chunk that is to be written, but for its number and size
    struct trace_head           head;
};

bool trace_packing_begin(struct trace_packing * packing, const struct trace_tables * tables,
                         const struct trace_code * code);

// Adds a payload of data. Returns false where it holds something that would not come out again as it is: nothing can
// be added or written then before trace_packing_clear().
bool trace_packing_add  (struct trace_packing * packing, const struct chunk_header * header, const uint8_t * data);
bool trace_packing_write(struct trace_packing * packing, struct trace_buffer * payload);
void trace_packing_clear(struct trace_packing * packing);
void trace_packing_free (struct trace_packing * packing);
