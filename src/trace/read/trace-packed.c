// Unpacks chunks: inflates their streams, decodes the ids, and puts the payloads together that they were made of.

#include "trace/read/trace-packed.h"

#include "trace/format/trace-bits.h"
#include "trace/format/trace-deflate.h"

#include <stdlib.h>
#include <string.h>

struct unpacking {
    const struct trace_tables * tables;
    const struct trace_code   * code;
    struct trace_parts        * parts;
    struct chunk_header         header;   // of the chunk that is unpacked
    struct trace_buffer         plain  [PACKED_STREAMS];
    struct trace_bytes          streams[PACKED_STREAMS];
    size_t                    * layers;   // of the code: how many ids each has, then where the next one is
    uint16_t                  * ids;
    size_t                      n_ids;
    struct trace_decoding       decoding;
    struct trace_head           head;
};

static struct trace_part next_part(struct trace_bytes * heads, const struct trace_part * before) {
    struct trace_part part = { 0 };
    part.header.number = (uint32_t) trace_bytes_varint(heads) + before->header.number;
    part.header.first  = (uint64_t) trace_bytes_zigzag(heads) + before->header.first;
    part.header.time   = (int64_t) ((uint64_t) trace_bytes_zigzag(heads) + (uint64_t) before->header.time);
    return part;
}

static bool add_up_layers(struct unpacking * unpacking) {
    const struct trace_head       * head  = &unpacking->head;
    size_t                          layer = 0;
    const struct trace_code_table * table =
        head->table != NULL ? trace_code_find(unpacking->code, head->table_number, &layer) : NULL;
    if (table == NULL || table->n_layers != head->table->n_layers ||
        head->n_ids > TRACE_PACKED_MAX - unpacking->n_ids) {
        return false;
    }
    for (size_t i = 0; i < table->n_layers; i++) {
        if (table->layers[i].n_expert != head->table->layers[i].n_expert) {
            return false;
        }
        unpacking->layers[layer + i] += (size_t) head->rows[i] * (size_t) head->table->layers[i].n_used;
    }
    unpacking->n_ids += (size_t) head->n_ids;
    return true;
}

// What is no ubatch is there as it was, its size before it.
static struct trace_slice next_body(struct trace_bytes * heads) {
    const uint64_t  size = trace_bytes_varint(heads);
    const uint8_t * body = trace_bytes_skip(heads, size);
    return (struct trace_slice) { body, body != NULL ? (size_t) size : 0 };
}

// Goes through all records, to know how many ids each layer has.
static bool count_ids(struct unpacking * unpacking) {
    struct trace_bytes heads   = unpacking->streams[PACKED_STREAM_HEADS];
    const uint64_t     n_parts = trace_bytes_varint(&heads);
    for (uint64_t i = 0; i < n_parts && !heads.failed; i++) {
        const struct trace_part none = { 0 };
        next_part(&heads, &none);
        const uint64_t n_records = trace_bytes_varint(&heads);
        for (uint64_t j = 0; j < n_records && !heads.failed; j++) {
            if (trace_bytes_u8(&heads) != TRACE_RECORD_UBATCH) {
                next_body(&heads);
            } else if (!trace_head_parse(&unpacking->head, &heads, unpacking->tables) || !add_up_layers(unpacking)) {
                return false;
            }
        }
    }
    return !heads.failed && trace_bytes_left(&heads) == 0;
}

static bool decode_ids(struct unpacking * unpacking, struct trace_bytes * packed) {
    const struct trace_code * code = unpacking->code;
    size_t                    at   = 0;
    size_t                    k    = 0;
    unpacking->ids = malloc((unpacking->n_ids + 1) * sizeof(unpacking->ids[0]));
    if (unpacking->ids == NULL) {
        return false;
    }
    trace_decoding_begin(&unpacking->decoding, packed->data + packed->at, trace_bytes_left(packed));
    for (size_t i = 0; i < code->n; i++) {
        for (size_t j = 0; j < code->tables[i].n_layers; j++, k++) {
            const size_t n = unpacking->layers[k];
            trace_decoding_layer(&unpacking->decoding, &code->tables[i].layers[j], unpacking->ids + at, n);
            unpacking->layers[k] = at;
            at += n;
        }
    }
    return trace_decoding_end(&unpacking->decoding);
}

static void write_experts(struct unpacking * unpacking, struct trace_buffer * data) {
    const struct trace_head * head  = &unpacking->head;
    const size_t              size  = (size_t) ((head->n_bits + 7) / 8);
    uint8_t                 * bits  = trace_buffer_more(data, size);
    uint64_t                  bit   = 0;
    size_t                    layer = 0;
    if (bits == NULL) {
        return;
    }
    memset(bits, 0, size + TRACE_BUFFER_SLACK);
    trace_code_find(unpacking->code, head->table_number, &layer);
    for (size_t i = 0; i < head->table->n_layers; i++, layer++) {
        const struct trace_layer * about  = &head->table->layers[i];
        const size_t               n      = (size_t) head->rows[i] * (size_t) about->n_used;
        const int                  n_bits = trace_bits(about->n_expert);
        trace_bits_pack(bits, bit, n_bits, unpacking->ids + unpacking->layers[layer], n);
        unpacking->layers[layer] += n;
        bit += n * (uint64_t) n_bits;
    }
    data->size += size;
}

static void write_weights(struct unpacking * unpacking, struct trace_buffer * data, size_t n) {
    const uint8_t * low  = trace_bytes_skip(&unpacking->streams[PACKED_STREAM_WEIGHTS_LOW],  n);
    const uint8_t * high = trace_bytes_skip(&unpacking->streams[PACKED_STREAM_WEIGHTS_HIGH], n);
    uint8_t       * at   = low != NULL && high != NULL ? trace_buffer_more(data, 2 * n) : NULL;
    if (at == NULL) {
        data->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        at[2 * i]     = low[i];
        at[2 * i + 1] = high[i];
    }
    data->size += 2 * n;
}

static struct trace_slice next_time(struct unpacking * unpacking) {
    struct trace_bytes * times = &unpacking->streams[PACKED_STREAM_TIMES];
    const size_t         begin = times->at;
    trace_bytes_varint(times);
    return trace_bytes_since(times, begin);
}

static struct trace_slice next_tokens(struct unpacking * unpacking) {
    struct trace_bytes * tokens = &unpacking->streams[PACKED_STREAM_TOKENS];
    const size_t         begin  = tokens->at;
    const int32_t        n      = unpacking->head.flags & TRACE_UBATCH_TOKENS ? unpacking->head.n_tokens : 0;
    for (int32_t i = 0; i < n; i++) {
        trace_bytes_varint(tokens);
    }
    return trace_bytes_since(tokens, begin);
}

// Returns false where it does not fit what was read before.
static bool write_ubatch(struct unpacking * unpacking, struct trace_part * part) {
    struct trace_bytes  * heads = &unpacking->streams[PACKED_STREAM_HEADS];
    struct trace_head   * head  = &unpacking->head;
    struct trace_buffer * data  = &unpacking->parts->data;
    const size_t          begin = heads->at;
    trace_head_parse(head, heads, unpacking->tables);

    const struct trace_slice about     = trace_bytes_since(heads, begin);
    const struct trace_slice time      = next_time(unpacking);
    const struct trace_slice tokens    = next_tokens(unpacking);
    const size_t             n_weights = head->flags & TRACE_UBATCH_WEIGHTS ? (size_t) head->n_ids : 0;
    const uint64_t           n_bytes   = (head->n_bits + 7) / 8; // of the ids
    const uint64_t           size      = 1 + time.size + about.size + tokens.size + n_bytes + 2 * (uint64_t) n_weights;
    if (size > TRACE_PACKED_MAX - data->size) {
        return false;
    }
    trace_buffer_varint(data, size);
    trace_buffer_u8    (data, TRACE_RECORD_UBATCH);
    trace_buffer_slice (data, time);
    trace_buffer_slice (data, about);
    trace_buffer_slice (data, tokens);
    write_experts(unpacking, data);
    write_weights(unpacking, data, n_weights);
    part->header.n_ubatches += 1;
    part->header.n_tokens   += (uint32_t) head->n_tokens;
    return data->size <= TRACE_PACKED_MAX;
}

static bool write_other(struct unpacking * unpacking, uint8_t kind) {
    struct trace_buffer * data = &unpacking->parts->data;
    const struct trace_slice    body = next_body(&unpacking->streams[PACKED_STREAM_HEADS]);
    trace_buffer_varint(data, 1 + (uint64_t) body.size);
    trace_buffer_u8    (data, kind);
    trace_buffer_slice (data, body);
    return data->size <= TRACE_PACKED_MAX;
}

static bool write_part(struct unpacking * unpacking, const struct trace_part * before) {
    struct trace_bytes  * heads = &unpacking->streams[PACKED_STREAM_HEADS];
    struct trace_buffer * data  = &unpacking->parts->data;
    struct trace_part     part  = next_part(heads, before);
    const uint64_t        n     = trace_bytes_varint(heads);
    bool                  ok    = true;
    part.offset = data->size;
    for (uint64_t i = 0; i < n && ok; i++) {
        const uint8_t kind = trace_bytes_u8(heads);
        ok = kind == TRACE_RECORD_UBATCH ? write_ubatch(unpacking, &part) : write_other(unpacking, kind);
    }
    part.header.size = (uint32_t) (data->size - part.offset);
    return ok && trace_parts_add(unpacking->parts, &part);
}

// Numbers, ubatches and times are told from the part before, of the first one from the chunk.
static bool write_parts(struct unpacking * unpacking) {
    struct trace_bytes * heads  = &unpacking->streams[PACKED_STREAM_HEADS];
    struct trace_part    before = { .header = { .first = unpacking->header.first, .time = unpacking->header.time } };
    const uint64_t       n      = trace_bytes_varint(heads);
    bool                 ok     = true;
    for (uint64_t i = 0; i < n && ok; i++) {
        ok = write_part(unpacking, &before);
        if (ok) {
            before = unpacking->parts->parts[i];
            before.header.number += 1;
        }
    }
    return ok && !unpacking->parts->data.failed;
}

// Whether all was used, and is what the header told.
static bool is_all(const struct unpacking * unpacking) {
    const struct trace_parts * parts      = unpacking->parts;
    uint64_t                   n_ubatches = 0;
    uint64_t                   n_tokens   = 0;
    bool                       ok         = true;
    for (int i = 0; i < PACKED_STREAMS; i++) {
        ok = ok && !unpacking->streams[i].failed && trace_bytes_left(&unpacking->streams[i]) == 0;
    }
    for (size_t i = 0; i < parts->n; i++) {
        n_ubatches += parts->parts[i].header.n_ubatches;
        n_tokens   += parts->parts[i].header.n_tokens;
    }
    return ok && n_ubatches == unpacking->header.n_ubatches && n_tokens == unpacking->header.n_tokens;
}

static bool inflate_streams(struct unpacking * unpacking, struct trace_bytes * packed) {
    size_t left = TRACE_PACKED_MAX;
    for (int i = 0; i < PACKED_STREAMS; i++) {
        struct trace_buffer * plain = &unpacking->plain[i];
        if (!trace_inflate(packed, plain, left)) {
            return false;
        }
        left -= plain->size;
        unpacking->streams[i] = trace_bytes_of(plain->data, plain->size);
    }
    return true;
}

bool trace_packed_read(struct trace_parts * parts, const struct chunk_header * header,
                       const struct trace_tables * tables, const struct trace_code * code) {
    struct unpacking * unpacking = calloc(1, sizeof(*unpacking));
    struct trace_bytes packed    = trace_bytes_of(parts->packed.data, parts->packed.size);
    if (unpacking == NULL) {
        return false;
    }
    unpacking->tables = tables;
    unpacking->code   = code;
    unpacking->parts  = parts;
    unpacking->header = *header;
    unpacking->layers = calloc(code->n_layers + 1, sizeof(unpacking->layers[0]));
    parts->n = 0;
    trace_buffer_clear(&parts->data);

    const bool ok = unpacking->layers != NULL && inflate_streams(unpacking, &packed) && count_ids(unpacking) &&
                    decode_ids(unpacking, &packed) && write_parts(unpacking) && is_all(unpacking);
    for (int i = 0; i < PACKED_STREAMS; i++) {
        trace_buffer_free(&unpacking->plain[i]);
    }
    free(unpacking->layers);
    free(unpacking->ids);
    free(unpacking);
    return ok;
}
