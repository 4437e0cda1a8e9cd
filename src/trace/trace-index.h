// A trace that is open, for those who read more of it than its ubatches.

#ifndef TRACE_INDEX_H
#define TRACE_INDEX_H

#include "trace-amendments.h"
#include "trace-chunks.h"
#include "trace-code.h"
#include "trace-json.h"
#include "trace-parts.h"
#include "trace-reader.h"
#include "trace-source.h"

struct trace {
    struct trace_source     source;
    struct trace_info       info;
    json_t                * header;
    struct trace_tables     tables;
    struct trace_code       code;
    struct trace_amendments amendments;
    struct trace_chunk    * chunks;    // of data, packed or not, their numbers rising
    size_t                  n_chunks;
    size_t                  chunks_room;
};

// Reads a chunk of data. Returns false where it does not check.
bool trace_load(const struct trace * trace, const struct trace_chunk * chunk, struct trace_parts * parts);

#endif // TRACE_INDEX_H
