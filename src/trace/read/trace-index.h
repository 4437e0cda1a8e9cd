// A trace that is open, for those who read more of it than its ubatches.

#pragma once

#include "trace/format/trace-code.h"
#include "trace/read/trace-amendments.h"
#include "trace/read/trace-chunks.h"
#include "trace/read/trace-json-reader.h"
#include "trace/read/trace-memory.h"
#include "trace/read/trace-parts.h"
#include "trace/read/trace-source.h"
#include "trace/read/trace-values.h"

struct trace {
    char                  * name;
    struct trace_source     source;
    struct trace_info       info;
    json_t                * header;
    struct trace_tables     tables;
    struct trace_code       code;
    struct trace_amendments amendments;
    struct trace_chunk    * chunks;    // of data, packed or not, their numbers rising
    size_t                  n_chunks;
    size_t                  chunks_room;
    struct trace_memory   * memory;    // of what was read
    bool                    is_open;   // from now on it is compared with that
    struct trace_opening  * opening;   // how far it was read
};

// Reads the payload of a chunk. Returns false where it does not check, or did not the last time: who went through the
// trace once finds nothing more the next time.
bool trace_read(const struct trace * trace, const struct trace_chunk * chunk, struct trace_buffer * payload);

// Reads a chunk of data, likewise.
bool trace_load(const struct trace * trace, const struct trace_chunk * chunk, struct trace_parts * parts);

// For who has gone through the chunks again, up to the end: whether as many were found is noted for trace_changed().
void trace_compare_walk(const struct trace * trace, const struct chunk_walk * walk);
