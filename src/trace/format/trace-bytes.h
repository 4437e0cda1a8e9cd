// Bytes that are read from the first to the last, and never beyond it, and bytes that grow.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// After what is not there, or is no number, it has failed and reads zeros.
struct trace_bytes {
    const uint8_t * data;
    size_t          size;
    size_t          at;
    bool            failed;
};

static inline struct trace_bytes trace_bytes_of(const void * data, size_t size) {
    return (struct trace_bytes) { data, size, 0, false };
}

static inline size_t trace_bytes_left(const struct trace_bytes * bytes) {
    return bytes->failed ? 0 : bytes->size - bytes->at;
}

// NULL where there are not as many.
static inline const uint8_t * trace_bytes_skip(struct trace_bytes * bytes, uint64_t n) {
    if (n > trace_bytes_left(bytes)) {
        bytes->failed = true;
    }
    if (bytes->failed) {
        return NULL;
    }
    const uint8_t * here = bytes->data + bytes->at;
    bytes->at += (size_t) n;
    return here;
}

// A run of bytes of others.
struct trace_slice {
    const uint8_t * data;
    size_t          size;
};

// What was read from there on.
static inline struct trace_slice trace_bytes_since(const struct trace_bytes * bytes, size_t begin) {
    return (struct trace_slice) { bytes->data + begin, bytes->at - begin };
}

static inline uint8_t trace_bytes_u8(struct trace_bytes * bytes) {
    const uint8_t * here = trace_bytes_skip(bytes, 1);
    return here != NULL ? *here : 0;
}

uint64_t trace_bytes_long_varint(struct trace_bytes * bytes);

static inline uint64_t trace_bytes_varint(struct trace_bytes * bytes) {
    if (trace_bytes_left(bytes) > 0 && bytes->data[bytes->at] < 0x80) {
        return bytes->data[bytes->at++];
    }
    return trace_bytes_long_varint(bytes);
}

// One that is larger than it may be has failed as well.
static inline uint64_t trace_bytes_varint_max(struct trace_bytes * bytes, uint64_t max) {
    const uint64_t value = trace_bytes_varint(bytes);
    if (value > max) {
        bytes->failed = true;
    }
    return bytes->failed ? 0 : value;
}

static inline int64_t trace_bytes_zigzag(struct trace_bytes * bytes) {
    const uint64_t value = trace_bytes_varint(bytes);
    return (int64_t) (value >> 1 ^ (0 - (value & 1)));
}

// Zeroed: empty. Where memory runs out it has failed, and holds what it held until then.
struct trace_buffer {
    uint8_t * data;
    size_t    size;
    size_t    room;
    bool      failed;
};

#define TRACE_BUFFER_SLACK 8 // bytes that may be read behind what a buffer holds

// Room for as many more; NULL where there is none. What is written there counts when `size` is raised.
uint8_t * trace_buffer_more  (struct trace_buffer * buffer, size_t n);
void      trace_buffer_add   (struct trace_buffer * buffer, const void * data, size_t n);
void      trace_buffer_slice (struct trace_buffer * buffer, struct trace_slice slice);
void      trace_buffer_u8    (struct trace_buffer * buffer, uint8_t value);
void      trace_buffer_varint(struct trace_buffer * buffer, uint64_t value);
void      trace_buffer_zigzag(struct trace_buffer * buffer, int64_t value);
void      trace_buffer_clear (struct trace_buffer * buffer); // the memory stays
void      trace_buffer_free  (struct trace_buffer * buffer);

// Makes room for at least n elements in an array that has room for *room. Returns false where memory runs out.
bool trace_array_grow(void * array, size_t * room, size_t n, size_t size);
