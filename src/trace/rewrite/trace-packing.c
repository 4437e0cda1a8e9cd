// Takes the records of payloads apart into streams that deflate well, and codes the ids of each layer.

#include "trace/rewrite/trace-packing.h"

#include "trace/format/trace-bits.h"
#include "trace/format/trace-deflate.h"

#include <stdlib.h>

bool trace_packing_begin(struct trace_packing * packing, const struct trace_tables * tables,
                         const struct trace_code * code) {
    *packing = (struct trace_packing) { .tables = tables, .code = code };
    packing->layers = calloc(code->n_layers + 1, sizeof(packing->layers[0]));
    return packing->layers != NULL;
}

void trace_packing_clear(struct trace_packing * packing) {
    for (int i = 0; i < PACKED_STREAMS; i++) {
        trace_buffer_clear(&packing->streams[i]);
    }
    for (size_t i = 0; i < packing->code->n_layers; i++) {
        packing->layers[i].n = 0;
    }
    packing->n_ids   = 0;
    packing->n_parts = 0;
}

void trace_packing_free(struct trace_packing * packing) {
    for (int i = 0; i < PACKED_STREAMS; i++) {
        trace_buffer_free(&packing->streams[i]);
    }
    for (size_t i = 0; packing->layers != NULL && i < packing->code->n_layers; i++) {
        free(packing->layers[i].ids);
    }
    trace_buffer_free(&packing->records);
    free(packing->layers);
}

static bool add_experts(struct trace_packing * packing, const uint8_t * bits) {
    const struct trace_head       * head  = &packing->head;
    size_t                          layer = 0;
    uint64_t                        bit   = 0;
    const struct trace_code_table * table = trace_code_find(packing->code, head->table_number, &layer);
    if (table == NULL) {
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
    uint8_t             * low     = trace_buffer_more(&streams[PACKED_STREAM_WEIGHTS_LOW],  n);
    uint8_t             * high    = trace_buffer_more(&streams[PACKED_STREAM_WEIGHTS_HIGH], n);
    if (low == NULL || high == NULL) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        low [i] = weights[2 * i];
        high[i] = weights[2 * i + 1];
    }
    streams[PACKED_STREAM_WEIGHTS_LOW] .size += n;
    streams[PACKED_STREAM_WEIGHTS_HIGH].size += n;
}

static bool add_ubatch(struct trace_packing * packing, struct trace_bytes * body) {
    struct trace_head * head = &packing->head;
    trace_bytes_varint(body);
    const struct trace_slice time  = trace_bytes_since(body, 0);
    const size_t       begin = body->at;
    if (!trace_head_parse(head, body, packing->tables) || head->table == NULL) {
        return false;
    }
    const struct trace_slice about  = trace_bytes_since(body, begin);
    const size_t       middle = body->at;
    for (int32_t i = 0; head->flags & TRACE_UBATCH_TOKENS && i < head->n_tokens; i++) {
        trace_bytes_varint(body);
    }
    const struct trace_slice tokens    = trace_bytes_since(body, middle);
    const size_t       n_weights = head->flags & TRACE_UBATCH_WEIGHTS ? (size_t) head->n_ids : 0;
    const uint8_t    * bits      = trace_bytes_skip(body, (head->n_bits + 7) / 8);
    const uint8_t    * weights   = trace_bytes_skip(body, 2 * (uint64_t) n_weights);
    if (body->failed || trace_bytes_left(body) > 0 || head->n_ids > TRACE_PACKED_MAX - packing->n_ids ||
        !add_experts(packing, bits)) {
        return false;
    }
    trace_buffer_u8(&packing->records, TRACE_RECORD_UBATCH);
    trace_buffer_slice(&packing->records,                      about);
    trace_buffer_slice(&packing->streams[PACKED_STREAM_TIMES],  time);
    trace_buffer_slice(&packing->streams[PACKED_STREAM_TOKENS], tokens);
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
    struct trace_buffer * heads  = &packing->streams[PACKED_STREAM_HEADS];
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
    if (records.failed || packing->records.failed || n_ubatches != header->n_ubatches ||
        n_tokens != header->n_tokens) {
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
    struct trace_buffer * parts = &packing->streams[PACKED_STREAM_HEADS];
    trace_buffer_clear(payload);
    trace_buffer_varint(&heads, packing->n_parts);
    trace_buffer_add   (&heads, parts->data, parts->size);
    heads.failed = heads.failed || parts->failed;
    trace_deflate(&heads, payload);
    trace_buffer_free(&heads);
    for (int i = PACKED_STREAM_HEADS + 1; i < PACKED_STREAMS; i++) {
        trace_deflate(&packing->streams[i], payload);
    }
    return write_ids(packing, payload) && !payload->failed;
}
