// Keeps the payloads that a chunk has.

#include "trace/read/trace-parts.h"

#include <stdlib.h>

bool trace_parts_add(struct trace_parts * parts, const struct trace_part * part) {
    if (!trace_array_grow(&parts->parts, &parts->room, parts->n + 1, sizeof(parts->parts[0]))) {
        return false;
    }
    parts->parts[parts->n++] = *part;
    return true;
}

bool trace_parts_single(struct trace_parts * parts, const struct chunk_header * header) {
    const struct trace_part part = { .header = *header };
    parts->n = 0;
    return trace_parts_add(parts, &part);
}

void trace_parts_free(struct trace_parts * parts) {
    trace_buffer_free(&parts->data);
    trace_buffer_free(&parts->packed);
    free(parts->parts);
    *parts = (struct trace_parts) { 0 };
}
