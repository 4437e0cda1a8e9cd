// Encodes and decodes the headers of chunks, with their checksums.

#include "trace/format/chunk-header.h"

#include "base/crc32.h"
#include "trace/format/encoding.h"

#include <string.h>

void chunk_header_encode(uint8_t * to, const struct chunk_header * header, const void * payload) {
    memset(to, 0, TRACE_HEADER_SIZE);
    memcpy(to, TRACE_MAGIC, TRACE_MAGIC_SIZE);
    to[TRACE_AT_KIND] = header->kind;
    trace_put_u16(to + TRACE_AT_VERSION,     TRACE_VERSION);
    trace_put_u32(to + TRACE_AT_NUMBER,      header->number);
    trace_put_u32(to + TRACE_AT_SIZE,        header->size);
    trace_put_u32(to + TRACE_AT_N_UBATCHES,  header->n_ubatches);
    trace_put_u64(to + TRACE_AT_FIRST,       header->first);
    trace_put_u64(to + TRACE_AT_TIME,        (uint64_t) header->time);
    trace_put_u32(to + TRACE_AT_N_TOKENS,    header->n_tokens);
    trace_put_u32(to + TRACE_AT_CRC_PAYLOAD, trace_crc32(payload, header->size));
    trace_put_u32(to + TRACE_AT_CRC_HEADER,  trace_crc32(to, TRACE_AT_CRC_HEADER));
}

// A fuzzer that looks for what damaged files do to the reader would find nothing but checksums.
static bool has_checksum(const void * data, size_t size, uint32_t crc) {
#ifdef EXPERT_TRACER_FUZZING
    (void) data;
    (void) size;
    (void) crc;
    return true;
#else
    return trace_crc32(data, size) == crc;
#endif
}

enum chunk_header_state chunk_header_decode(struct chunk_header * header, const uint8_t * from, size_t n) {
    if (memcmp(from, TRACE_MAGIC, n < TRACE_MAGIC_SIZE ? n : TRACE_MAGIC_SIZE) != 0) {
        return CHUNK_HEADER_FOREIGN;
    }
    if (n < TRACE_HEADER_SIZE) {
        return CHUNK_HEADER_CUT_OFF;
    }
    if (!has_checksum(from, TRACE_AT_CRC_HEADER, trace_get_u32(from + TRACE_AT_CRC_HEADER))) {
        return CHUNK_HEADER_DAMAGED;
    }
    *header = (struct chunk_header) {
        .first      = trace_get_u64(from + TRACE_AT_FIRST),
        .time       = (int64_t) trace_get_u64(from + TRACE_AT_TIME),
        .number     = trace_get_u32(from + TRACE_AT_NUMBER),
        .size       = trace_get_u32(from + TRACE_AT_SIZE),
        .n_ubatches = trace_get_u32(from + TRACE_AT_N_UBATCHES),
        .n_tokens   = trace_get_u32(from + TRACE_AT_N_TOKENS),
        .crc        = trace_get_u32(from + TRACE_AT_CRC_PAYLOAD),
        .kind       = from[TRACE_AT_KIND],
    };
    return trace_get_u16(from + TRACE_AT_VERSION) > TRACE_VERSION ? CHUNK_HEADER_NEWER : CHUNK_HEADER_GOOD;
}

bool chunk_header_has_payload(const struct chunk_header * header, const void * payload) {
    return has_checksum(payload, header->size, header->crc);
}
