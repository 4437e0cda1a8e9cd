// Reads numbers from bytes, and grows buffers.

#include "trace/format/trace-bytes.h"

#include "trace/format/encoding.h"

#include <stdlib.h>
#include <string.h>

// None that has more bytes than it needs, or more than 64 bits.
uint64_t trace_bytes_long_varint(struct trace_bytes * bytes) {
    uint64_t value = 0;
    for (int shift = 0; shift < 70 && !bytes->failed; shift += 7) {
        const uint8_t byte = trace_bytes_u8(bytes);
        value |= (uint64_t) (byte & 0x7f) << shift;
        if (byte < 0x80) {
            bytes->failed = bytes->failed || (byte == 0 && shift > 0) || (shift == 63 && byte > 1);
            return bytes->failed ? 0 : value;
        }
    }
    bytes->failed = true;
    return 0;
}

bool trace_array_grow(void * array, size_t * room, size_t n, size_t size) {
    if (n <= *room) {
        return true;
    }
    void         * before;
    const size_t   more = n > *room + *room / 2 ? n : *room + *room / 2;
    memcpy(&before, array, sizeof(before));
    void * grown = more > (SIZE_MAX / 2) / size ? NULL : realloc(before, more * size);
    if (grown == NULL) {
        return false;
    }
    memcpy(array, &grown, sizeof(grown));
    *room = more;
    return true;
}

uint8_t * trace_buffer_more(struct trace_buffer * buffer, size_t n) {
    if (n > SIZE_MAX / 4 || !trace_array_grow(&buffer->data, &buffer->room, buffer->size + n + TRACE_BUFFER_SLACK,
        1)) {
        buffer->failed = true;
    }
    return buffer->failed ? NULL : buffer->data + buffer->size;
}

void trace_buffer_add(struct trace_buffer * buffer, const void * data, size_t n) {
    uint8_t * at = trace_buffer_more(buffer, n);
    if (at != NULL && n > 0) {
        memcpy(at, data, n);
        buffer->size += n;
    }
}

void trace_buffer_slice(struct trace_buffer * buffer, struct trace_slice slice) {
    trace_buffer_add(buffer, slice.data, slice.size);
}

void trace_buffer_u8(struct trace_buffer * buffer, uint8_t value) {
    trace_buffer_add(buffer, &value, 1);
}

void trace_buffer_varint(struct trace_buffer * buffer, uint64_t value) {
    uint8_t bytes[TRACE_VARINT_MAX];
    trace_buffer_add(buffer, bytes, (size_t) (trace_put_varint(bytes, value) - bytes));
}

void trace_buffer_zigzag(struct trace_buffer * buffer, int64_t value) {
    uint8_t bytes[TRACE_VARINT_MAX];
    trace_buffer_add(buffer, bytes, (size_t) (trace_put_zigzag(bytes, value) - bytes));
}

void trace_buffer_clear(struct trace_buffer * buffer) {
    buffer->size   = 0;
    buffer->failed = false;
}

void trace_buffer_free(struct trace_buffer * buffer) {
    free(buffer->data);
    *buffer = (struct trace_buffer) { 0 };
}
