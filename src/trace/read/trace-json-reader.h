// The chunks of a trace that are JSON.

#pragma once

#include "trace/format/trace-bytes.h"
#include "trace/read/trace-values.h"

#include <jansson.h>

// Tables of layers by their number. Zeroed: empty.
struct trace_tables {
    struct trace_table * tables; // without layers (NULL): not in the file
    size_t               n;
    size_t               room;
    json_t             * kept;   // what names point into
};

struct trace_end {
    bool    complete;
    bool    last_part;
    int64_t ubatches; // recorded in this part and those before, -1: not told
    char  * stopped;  // allocated, NULL: not told
};

// Fills in what the header tells. Returns NULL, or what is wrong. *kept is what the strings point into.
const char * trace_json_read_header(const struct trace_buffer * payload, struct trace_info * info, json_t ** kept);

bool trace_json_read_layers(const struct trace_buffer * payload, struct trace_tables * tables);
bool trace_json_read_end   (const struct trace_buffer * payload, struct trace_end * end);

// NULL where the file has no such table.
const struct trace_table * trace_tables_find(const struct trace_tables * tables, uint64_t number);
void                       trace_tables_free(struct trace_tables * tables);
