#include "trace/read/trace-packed.h"

#include "trace/format/encoding.h"
#include "trace/format/trace-bits.h"
#include "trace/format/trace-deflate.h"

#include <stdlib.h>
#include <string.h>

//
// reading
//

struct unpacking {
    const struct trace_tables * tables;
    const struct trace_code   * code;
    struct trace_parts        * parts;
    struct chunk_header         header;   // of the chunk that is unpacked
    struct trace_buffer         plain  [TRACE_N_STREAMS];
    struct trace_bytes          streams[TRACE_N_STREAMS];
    size_t                    * layers;   // of the code: how many ids each has, then where the next one is
    uint16_t                  * ids;
    size_t                      n_ids;
    struct trace_decoding       decoding;
    struct trace_head           head;
};

// A run of bytes of a stream.
struct slice {
    const uint8_t * data;
    size_t          size;
};

static struct slice slice_since(const struct trace_bytes * bytes, size_t begin) {
    return (struct slice) { bytes->data + begin, bytes->at - begin };
}

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
    const struct trace_code_table * table = head->table ? trace_code_find(unpacking->code, head->table_number, &layer) : NULL;
    if (!table || table->n_layers != head->table->n_layers || head->n_ids > TRACE_PACKED_MAX - unpacking->n_ids) {
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
static struct slice next_body(struct trace_bytes * heads) {
    const uint64_t  size = trace_bytes_varint(heads);
    const uint8_t * body = trace_bytes_skip(heads, size);
    return (struct slice) { body, body ? (size_t) size : 0 };
}

// Goes through all records, to know how many ids each layer has.
static bool count_ids(struct unpacking * unpacking) {
    struct trace_bytes heads   = unpacking->streams[TRACE_STREAM_HEADS];
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
    if (!unpacking->ids) {
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
    if (!bits) {
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
    const uint8_t * low  = trace_bytes_skip(&unpacking->streams[TRACE_STREAM_WEIGHTS_LOW],  n);
    const uint8_t * high = trace_bytes_skip(&unpacking->streams[TRACE_STREAM_WEIGHTS_HIGH], n);
    uint8_t       * at   = low && high ? trace_buffer_more(data, 2 * n) : NULL;
    if (!at) {
        data->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        at[2 * i]     = low[i];
        at[2 * i + 1] = high[i];
    }
    data->size += 2 * n;
}

static struct slice next_time(struct unpacking * unpacking) {
    struct trace_bytes * times = &unpacking->streams[TRACE_STREAM_TIMES];
    const size_t         begin = times->at;
    trace_bytes_varint(times);
    return slice_since(times, begin);
}

static struct slice next_tokens(struct unpacking * unpacking) {
    struct trace_bytes * tokens = &unpacking->streams[TRACE_STREAM_TOKENS];
    const size_t         begin  = tokens->at;
    const int32_t        n      = unpacking->head.flags & TRACE_UBATCH_TOKENS ? unpacking->head.n_tokens : 0;
    for (int32_t i = 0; i < n; i++) {
        trace_bytes_varint(tokens);
    }
    return slice_since(tokens, begin);
}

// Returns false where it does not fit what was read before.
static bool write_ubatch(struct unpacking * unpacking, struct trace_part * part) {
    struct trace_bytes  * heads = &unpacking->streams[TRACE_STREAM_HEADS];
    struct trace_head   * head  = &unpacking->head;
    struct trace_buffer * data  = &unpacking->parts->data;
    const size_t          begin = heads->at;
    trace_head_parse(head, heads, unpacking->tables);

    const struct slice about     = slice_since(heads, begin);
    const struct slice time      = next_time(unpacking);
    const struct slice tokens    = next_tokens(unpacking);
    const size_t       n_weights = head->flags & TRACE_UBATCH_WEIGHTS ? (size_t) head->n_ids : 0;
    const uint64_t     size      = 1 + time.size + about.size + tokens.size + (head->n_bits + 7) / 8 + 2 * (uint64_t) n_weights;
    if (size > TRACE_PACKED_MAX - data->size) {
        return false;
    }
    trace_buffer_varint(data, size);
    trace_buffer_u8    (data, TRACE_RECORD_UBATCH);
    trace_buffer_add   (data, time.data,   time.size);
    trace_buffer_add   (data, about.data,  about.size);
    trace_buffer_add   (data, tokens.data, tokens.size);
    write_experts(unpacking, data);
    write_weights(unpacking, data, n_weights);
    part->header.n_ubatches += 1;
    part->header.n_tokens   += (uint32_t) head->n_tokens;
    return data->size <= TRACE_PACKED_MAX;
}

static bool write_other(struct unpacking * unpacking, uint8_t kind) {
    struct trace_buffer * data = &unpacking->parts->data;
    const struct slice    body = next_body(&unpacking->streams[TRACE_STREAM_HEADS]);
    trace_buffer_varint(data, 1 + (uint64_t) body.size);
    trace_buffer_u8    (data, kind);
    trace_buffer_add   (data, body.data, body.size);
    return data->size <= TRACE_PACKED_MAX;
}

static bool write_part(struct unpacking * unpacking, const struct trace_part * before) {
    struct trace_bytes  * heads = &unpacking->streams[TRACE_STREAM_HEADS];
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
    struct trace_bytes * heads  = &unpacking->streams[TRACE_STREAM_HEADS];
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
    for (int i = 0; i < TRACE_N_STREAMS; i++) {
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
    for (int i = 0; i < TRACE_N_STREAMS; i++) {
        struct trace_buffer * plain = &unpacking->plain[i];
        if (!trace_inflate(packed, plain, left)) {
            return false;
        }
        left -= plain->size;
        unpacking->streams[i] = trace_bytes_of(plain->data, plain->size);
    }
    return true;
}

bool trace_packed_read(struct trace_parts * parts, const struct chunk_header * header, const struct trace_tables * tables,
                       const struct trace_code * code) {
    struct unpacking * unpacking = calloc(1, sizeof(*unpacking));
    struct trace_bytes packed    = trace_bytes_of(parts->packed.data, parts->packed.size);
    if (!unpacking) {
        return false;
    }
    unpacking->tables = tables;
    unpacking->code   = code;
    unpacking->parts  = parts;
    unpacking->header = *header;
    unpacking->layers = calloc(code->n_layers + 1, sizeof(unpacking->layers[0]));
    parts->n = 0;
    trace_buffer_clear(&parts->data);

    const bool ok = unpacking->layers && inflate_streams(unpacking, &packed) && count_ids(unpacking) && decode_ids(unpacking, &packed) &&
                    write_parts(unpacking) && is_all(unpacking);
    for (int i = 0; i < TRACE_N_STREAMS; i++) {
        trace_buffer_free(&unpacking->plain[i]);
    }
    free(unpacking->layers);
    free(unpacking->ids);
    free(unpacking);
    return ok;
}

//
// writing
//

bool trace_packing_begin(struct trace_packing * packing, const struct trace_tables * tables, const struct trace_code * code) {
    *packing = (struct trace_packing) { .tables = tables, .code = code };
    packing->layers = calloc(code->n_layers + 1, sizeof(packing->layers[0]));
    return packing->layers != NULL;
}

void trace_packing_clear(struct trace_packing * packing) {
    for (int i = 0; i < TRACE_N_STREAMS; i++) {
        trace_buffer_clear(&packing->streams[i]);
    }
    for (size_t i = 0; i < packing->code->n_layers; i++) {
        packing->layers[i].n = 0;
    }
    packing->n_ids   = 0;
    packing->n_parts = 0;
}

void trace_packing_free(struct trace_packing * packing) {
    for (int i = 0; i < TRACE_N_STREAMS; i++) {
        trace_buffer_free(&packing->streams[i]);
    }
    for (size_t i = 0; packing->layers && i < packing->code->n_layers; i++) {
        free(packing->layers[i].ids);
    }
    trace_buffer_free(&packing->records);
    free(packing->layers);
}

static void add_slice(struct trace_buffer * stream, struct slice slice) {
    trace_buffer_add(stream, slice.data, slice.size);
}

static bool add_experts(struct trace_packing * packing, const uint8_t * bits) {
    const struct trace_head       * head  = &packing->head;
    size_t                          layer = 0;
    uint64_t                        bit   = 0;
    const struct trace_code_table * table = trace_code_find(packing->code, head->table_number, &layer);
    if (!table) {
        return false;
    }
    for (size_t i = 0; i < head->table->n_layers; i++, layer++) {
        const struct trace_layer * about  = &head->table->layers[i];
        struct trace_ids         * ids    = &packing->layers[layer];
        const size_t               n      = (size_t) head->rows[i] * (size_t) about->n_used;
        const int                  n_bits = trace_bits(about->n_expert);
        if (!trace_array_grow(&ids->ids, &ids->room, ids->n + n + 1, sizeof(ids->ids[0])) ||
            trace_bits_unpack(bits, bit, n_bits, ids->ids + ids->n, n) >= about->n_expert) {
            return false;
        }
        ids->n += n;
        bit    += n * (uint64_t) n_bits;
    }
    packing->n_ids += head->n_ids;
    return bit % 8 == 0 || bits[bit / 8] >> bit % 8 == 0;
}

static void add_weights(struct trace_packing * packing, const uint8_t * weights, size_t n) {
    struct trace_buffer * streams = packing->streams;
    uint8_t             * low     = trace_buffer_more(&streams[TRACE_STREAM_WEIGHTS_LOW],  n);
    uint8_t             * high    = trace_buffer_more(&streams[TRACE_STREAM_WEIGHTS_HIGH], n);
    if (!low || !high) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        low [i] = weights[2 * i];
        high[i] = weights[2 * i + 1];
    }
    streams[TRACE_STREAM_WEIGHTS_LOW] .size += n;
    streams[TRACE_STREAM_WEIGHTS_HIGH].size += n;
}

static bool add_ubatch(struct trace_packing * packing, struct trace_bytes * body) {
    struct trace_head * head = &packing->head;
    trace_bytes_varint(body);
    const struct slice time  = slice_since(body, 0);
    const size_t       begin = body->at;
    if (!trace_head_parse(head, body, packing->tables) || !head->table) {
        return false;
    }
    const struct slice about  = slice_since(body, begin);
    const size_t       middle = body->at;
    for (int32_t i = 0; head->flags & TRACE_UBATCH_TOKENS && i < head->n_tokens; i++) {
        trace_bytes_varint(body);
    }
    const struct slice tokens    = slice_since(body, middle);
    const size_t       n_weights = head->flags & TRACE_UBATCH_WEIGHTS ? (size_t) head->n_ids : 0;
    const uint8_t    * bits      = trace_bytes_skip(body, (head->n_bits + 7) / 8);
    const uint8_t    * weights   = trace_bytes_skip(body, 2 * (uint64_t) n_weights);
    if (body->failed || trace_bytes_left(body) > 0 || head->n_ids > TRACE_PACKED_MAX - packing->n_ids || !add_experts(packing, bits)) {
        return false;
    }
    trace_buffer_u8(&packing->records, TRACE_RECORD_UBATCH);
    add_slice(&packing->records,                      about);
    add_slice(&packing->streams[TRACE_STREAM_TIMES],  time);
    add_slice(&packing->streams[TRACE_STREAM_TOKENS], tokens);
    add_weights(packing, weights, n_weights);
    return true;
}

static void add_other(struct trace_packing * packing, uint8_t kind, const struct trace_bytes * body) {
    trace_buffer_u8    (&packing->records, kind);
    trace_buffer_varint(&packing->records, body->size);
    trace_buffer_add   (&packing->records, body->data, body->size);
}

// Numbers, ubatches and times are told from the part before, of the first one from the chunk.
static bool add_part(struct trace_packing * packing, const struct chunk_header * header, uint64_t n_records) {
    struct trace_buffer * heads  = &packing->streams[TRACE_STREAM_HEADS];
    const bool            first  = packing->n_parts++ == 0;
    if (first) {
        packing->header      = *header;
        packing->header.kind = TRACE_CHUNK_PACKED;
        packing->before      = *header;
    } else if (header->n_tokens > UINT32_MAX - packing->header.n_tokens) {
        return false;
    } else {
        packing->header.n_ubatches += header->n_ubatches;
        packing->header.n_tokens   += header->n_tokens;
    }
    trace_buffer_varint(heads, first ? header->number : header->number - packing->before.number - 1);
    trace_buffer_zigzag(heads, (int64_t) (header->first - packing->before.first));
    trace_buffer_zigzag(heads, (int64_t) ((uint64_t) header->time - (uint64_t) packing->before.time));
    trace_buffer_varint(heads, n_records);
    trace_buffer_add   (heads, packing->records.data, packing->records.size);
    packing->before = *header;
    return !heads->failed;
}

bool trace_packing_add(struct trace_packing * packing, const struct chunk_header * header, const uint8_t * data) {
    struct trace_bytes records    = trace_bytes_of(data, header->size);
    struct trace_bytes body       = { 0 };
    uint64_t           n_records  = 0;
    uint64_t           n_tokens   = 0;
    uint32_t           n_ubatches = 0;
    trace_buffer_clear(&packing->records);
    for (; trace_bytes_left(&records) > 0; n_records++) {
        const uint8_t kind = trace_record_next(&records, &body);
        if (kind != TRACE_RECORD_UBATCH) {
            add_other(packing, kind, &body);
        } else if (add_ubatch(packing, &body)) {
            n_ubatches += 1;
            n_tokens   += (uint64_t) packing->head.n_tokens;
        } else {
            return false;
        }
    }
    if (records.failed || packing->records.failed || n_ubatches != header->n_ubatches || n_tokens != header->n_tokens) {
        return false;
    }
    return add_part(packing, header, n_records);
}

static bool write_ids(struct trace_packing * packing, struct trace_buffer * payload) {
    const struct trace_code * code = packing->code;
    const size_t              size = TRACE_ENCODING_ROOM((size_t) packing->n_ids);
    struct trace_encoding     encoding;
    uint8_t                 * room = malloc(size);
    bool                      ok   = room != NULL;
    size_t                    k    = code->n_layers;
    if (ok) {
        trace_encoding_begin(&encoding, room, size, packing->n_ids);
    }
    for (size_t i = code->n; i > 0; i--) {
        const struct trace_code_table * table = &code->tables[i - 1];
        for (size_t j = table->n_layers; ok && j > 0; j--) {
            k -= 1;
            ok = trace_encoding_layer(&encoding, &table->layers[j - 1], packing->layers[k].ids, packing->layers[k].n);
        }
    }
    if (ok) {
        trace_encoding_end(&encoding);
        trace_buffer_add(payload, encoding.at, (size_t) (room + size - encoding.at));
    }
    free(room);
    return ok;
}

bool trace_packing_write(struct trace_packing * packing, struct trace_buffer * payload) {
    struct trace_buffer   heads = { 0 };
    struct trace_buffer * parts = &packing->streams[TRACE_STREAM_HEADS];
    trace_buffer_clear(payload);
    trace_buffer_varint(&heads, packing->n_parts);
    trace_buffer_add   (&heads, parts->data, parts->size);
    heads.failed = heads.failed || parts->failed;
    trace_deflate(&heads, payload);
    trace_buffer_free(&heads);
    for (int i = TRACE_STREAM_HEADS + 1; i < TRACE_N_STREAMS; i++) {
        trace_deflate(&packing->streams[i], payload);
    }
    return write_ids(packing, payload) && !payload->failed;
}
