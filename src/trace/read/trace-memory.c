// Remembers which chunks of a trace checked when they were read.

#include "trace/read/trace-memory.h"

#include "trace/format/trace-bytes.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { NOT_READ, WAS_GOOD, WAS_BAD };

struct outcome {
    uint64_t offset; // of the chunk
    bool     good;
};

struct trace_memory {
    atomic_uchar   * data;        // [n_data] by chunk of data
    size_t           n_data;
    size_t           data_room;
    struct outcome * others;      // that were read when the trace was opened, their offsets rising
    size_t           n_others;
    size_t           others_room;
    uint64_t         lost_chunks; // of the walk
    uint64_t         lost_bytes;
    atomic_bool      changed;
};

struct trace_memory * trace_memory_new(void) {
    return calloc(1, sizeof(struct trace_memory));
}

void trace_memory_free(struct trace_memory * memory) {
    if (memory != NULL) {
        free(memory->data);
        free(memory->others);
        free(memory);
    }
}

bool trace_memory_add(struct trace_memory * memory, uint64_t offset, bool good) {
    if (!trace_array_grow(&memory->others, &memory->others_room, memory->n_others + 1, sizeof(memory->others[0]))) {
        return false;
    }
    memory->others[memory->n_others++] = (struct outcome) { offset, good };
    return true;
}

bool trace_memory_end(struct trace_memory * memory, size_t n_data, uint64_t lost_chunks, uint64_t lost_bytes) {
    if (!trace_array_grow(&memory->data, &memory->data_room, n_data + 1, sizeof(memory->data[0]))) {
        return false;
    }
    for (; memory->n_data < n_data; memory->n_data++) {
        atomic_init(&memory->data[memory->n_data], NOT_READ);
    }
    memory->lost_chunks = lost_chunks;
    memory->lost_bytes  = lost_bytes;
    return true;
}

bool trace_memory_data(struct trace_memory * memory, size_t i, bool good) {
    const unsigned char now    = good ? WAS_GOOD : WAS_BAD;
    unsigned char       before = NOT_READ;
    return atomic_compare_exchange_strong(&memory->data[i], &before, now) || before == now;
}

static int compare_outcomes(const void * a, const void * b) {
    const struct outcome * x = a;
    const struct outcome * y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

bool trace_memory_other(const struct trace_memory * memory, uint64_t offset, bool good) {
    const struct outcome   key    = { offset, good };
    const struct outcome * before = memory->n_others == 0 ? NULL :
        bsearch(&key, memory->others, memory->n_others, sizeof(key), compare_outcomes);
    return before == NULL || before->good == good;
}

bool trace_memory_walk(const struct trace_memory * memory, uint64_t lost_chunks, uint64_t lost_bytes) {
    return lost_chunks == memory->lost_chunks && lost_bytes == memory->lost_bytes;
}

void trace_memory_set_changed(struct trace_memory * memory) {
    atomic_store(&memory->changed, true);
}

bool trace_memory_changed(const struct trace_memory * memory) {
    return atomic_load(&memory->changed);
}
