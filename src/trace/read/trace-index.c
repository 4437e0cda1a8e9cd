// Reads chunks of an open trace, and looks whether they are what they were.

#include "trace/read/trace-index.h"

#include "trace/read/trace-packed.h"

// The chunk of data that is there; the number of chunks where there is none.
static size_t find_data(const struct trace * trace, uint64_t offset) {
    size_t low  = 0;
    size_t high = trace->n_chunks;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (trace->chunks[middle].offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < trace->n_chunks && trace->chunks[low].offset == offset ? low : trace->n_chunks;
}

static bool is_same_header(const struct chunk_header * a, const struct chunk_header * b) {
    return a->crc == b->crc && a->size == b->size && a->first == b->first && a->n_ubatches == b->n_ubatches &&
           a->kind == b->kind;
}

static bool is_as_before(const struct trace * trace, const struct trace_chunk * chunk, bool good) {
    const size_t i = find_data(trace, chunk->offset);
    return i == trace->n_chunks ? trace_memory_other(trace->memory, chunk->offset, good)
                                : is_same_header(&trace->chunks[i].header, &chunk->header) &&
                                  trace_memory_data(trace->memory, i, good);
}

bool trace_read(const struct trace * trace, const struct trace_chunk * chunk, struct trace_buffer * payload) {
    const bool good = trace_chunk_load(&trace->source, chunk, payload);
    if (!trace->is_open || is_as_before(trace, chunk, good)) {
        return good;
    }
    trace_memory_set_changed(trace->memory);
    return false;
}

bool trace_load(const struct trace * trace, const struct trace_chunk * chunk, struct trace_parts * parts) {
    const bool packed = chunk->header.kind == TRACE_CHUNK_PACKED;
    parts->n = 0;
    if (!trace_read(trace, chunk, packed ? &parts->packed : &parts->data)) {
        return false;
    }
    return packed ? trace_packed_read(parts, &chunk->header, &trace->tables, &trace->code)
                  : trace_parts_single(parts, &chunk->header);
}

void trace_compare_walk(const struct trace * trace, const struct chunk_walk * walk) {
    if (!trace_memory_walk(trace->memory, walk->lost_chunks, walk->lost_bytes)) {
        trace_memory_set_changed(trace->memory);
    }
}
