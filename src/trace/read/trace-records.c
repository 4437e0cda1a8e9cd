// Decodes the records of a payload: lives, ubatches, cuts and gaps.

#include "trace/read/trace-records.h"

#include "trace/format/trace-bits.h"

#include <stdlib.h>

uint8_t trace_record_next(struct trace_bytes * records, struct trace_bytes * body) {
    const uint64_t  size   = trace_bytes_varint(records);
    const uint8_t * record = size > 0 ? trace_bytes_skip(records, size) : NULL;
    if (record == NULL) {
        records->failed = true;
        return 0;
    }
    *body = trace_bytes_of(record + 1, (size_t) size - 1);
    return record[0];
}

//
// gaps
//

struct gap {
    uint64_t ubatches;
    uint64_t tokens;
    uint8_t  why;
};

static bool parse_gap(struct trace_bytes * body, struct gap * gap) {
    gap->ubatches = trace_bytes_varint(body);
    gap->tokens   = trace_bytes_varint(body);
    gap->why      = trace_bytes_u8(body);
    return !body->failed;
}

void trace_records_gaps(const void * data, size_t size, struct trace_gaps * gaps) {
    struct trace_bytes records = trace_bytes_of(data, size);
    struct trace_bytes body    = { 0 };
    struct gap         gap;
    while (trace_bytes_left(&records) > 0) {
        if (trace_record_next(&records, &body) != TRACE_RECORD_GAP || !parse_gap(&body, &gap)) {
            continue;
        }
        gaps->ubatches += gap.ubatches;
        if (gap.why == TRACE_GAP_SAMPLING) {
            gaps->left_out_ubatches += gap.ubatches;
            gaps->left_out_tokens   += gap.tokens;
        } else {
            gaps->dropped_ubatches  += gap.ubatches;
            gaps->dropped_tokens    += gap.tokens;
        }
    }
}

//
// what a ubatch begins with
//

struct span {
    uint64_t bits;
    uint64_t life;
    uint64_t position; // + 1, where it does not continue
    int32_t  n_tokens;
};

static struct span next_span(struct trace_bytes * spans) {
    struct span span = { 0 };
    const uint64_t head = trace_bytes_varint_max(spans, (uint64_t) TRACE_TOKENS_MAX << TRACE_SPAN_BITS);
    span.n_tokens = (int32_t) (head >> TRACE_SPAN_BITS) + 1;
    span.bits     = head & ((1 << TRACE_SPAN_BITS) - 1);
    span.life     = trace_bytes_varint(spans);
    span.position = span.bits & TRACE_SPAN_CONTINUES ? 0 : trace_bytes_varint_max(spans, INT32_MAX);
    return span;
}

static void parse_spans(struct trace_head * head, struct trace_bytes * bytes) {
    head->n_spans = trace_bytes_varint(bytes);
    head->spans   = *bytes;
    for (uint64_t i = 0; i < head->n_spans && !bytes->failed; i++) {
        const struct span span = next_span(bytes);
        head->n_tokens  += span.n_tokens;
        head->n_outputs += span.bits & TRACE_SPAN_OUTPUT ? span.n_tokens : 0;
        bytes->failed    = bytes->failed || head->n_tokens > TRACE_TOKENS_MAX;
    }
}

static void parse_reduced(struct trace_head * head, struct trace_bytes * bytes) {
    const uint64_t n_reduced = head->flags & TRACE_UBATCH_REDUCED ? trace_bytes_varint(bytes) : 0;
    uint64_t       next      = 0; // the least index that may come
    for (uint64_t i = 0; i < n_reduced && !bytes->failed; i++) {
        const uint64_t reduced = trace_bytes_varint_max(bytes, 2 * TRACE_LAYERS_MAX - 1);
        const uint64_t index   = reduced / 2;
        if (index < next) {
            bytes->failed = true;
        } else if (head->table != NULL) {
            bytes->failed         = bytes->failed || index >= head->table->n_layers;
            head->reduced[index]  = true;
            head->rows   [index]  = reduced & 1 ? head->n_outputs : 0;
        }
        next = index + 1;
    }
}

static void add_up_ids(struct trace_head * head) {
    for (size_t i = 0; i < head->table->n_layers; i++) {
        const struct trace_layer * layer = &head->table->layers[i];
        const uint64_t             n     = (uint64_t) head->rows[i] * (uint64_t) layer->n_used;
        head->n_ids  += n;
        head->n_bits += n * (uint64_t) trace_bits(layer->n_expert);
    }
}

bool trace_head_parse(struct trace_head * head, struct trace_bytes * bytes, const struct trace_tables * tables) {
    head->flags        = trace_bytes_u8(bytes);
    head->table_number = trace_bytes_varint(bytes);
    head->table        = trace_tables_find(tables, head->table_number);
    head->n_tokens     = 0;
    head->n_outputs    = 0;
    head->n_ids        = 0;
    head->n_bits       = 0;
    parse_spans(head, bytes);
    for (size_t i = 0; head->table != NULL && i < head->table->n_layers; i++) {
        head->rows   [i] = head->n_tokens;
        head->reduced[i] = false;
    }
    parse_reduced(head, bytes);
    if (head->table != NULL) {
        add_up_ids(head);
    }
    return !bytes->failed && (head->n_ids < head->n_bits || head->n_ids - head->n_bits <= TRACE_FREE_IDS_MAX);
}

//
// decoding
//

void trace_decoder_begin(struct trace_decoder * decoder, const void * data, size_t size, uint64_t first,
                         int64_t time) {
    decoder->records = trace_bytes_of(data, size);
    decoder->number  = first;
    decoder->time    = time;
    decoder->n_lives = 0;
}

void trace_decoder_free(struct trace_decoder * decoder) {
    free(decoder->lives);
    free(decoder->tokens);
    free(decoder->outputs);
    free(decoder->layers);
    free(decoder->ids);
    free(decoder->weights);
    free(decoder->cuts);
}

// One that is none is kept all the same: those behind it have the indices that they have.
static bool decode_life(struct trace_decoder * decoder, struct trace_bytes * body) {
    if (!trace_array_grow(&decoder->lives, &decoder->lives_room, decoder->n_lives + 1, sizeof(decoder->lives[0]))) {
        return false;
    }
    const uint64_t context  = trace_bytes_varint_max(body, INT32_MAX);
    const uint64_t sequence = trace_bytes_varint_max(body, INT32_MAX);
    const uint64_t life     = trace_bytes_varint_max(body, INT32_MAX);
    decoder->lives[decoder->n_lives++] = (struct trace_life) {
        body->failed ? -1 : (int32_t) context,
        (int32_t) sequence - 1,
        (int32_t) life,
        -1,
    };
    return true;
}

static struct trace_life * find_life(struct trace_decoder * decoder, uint64_t index) {
    return index < decoder->n_lives && decoder->lives[index].context >= 0 ? &decoder->lives[index] : NULL;
}

static bool decode_cut(struct trace_decoder * decoder, struct trace_bytes * body) {
    const struct trace_life * life     = find_life(decoder, trace_bytes_varint(body));
    const uint64_t            position = trace_bytes_varint_max(body, INT32_MAX);
    if (life == NULL || body->failed) {
        return true;
    }
    if (!trace_array_grow(&decoder->cuts, &decoder->cuts_room, decoder->n_cuts + 1, sizeof(decoder->cuts[0]))) {
        return false;
    }
    decoder->cuts[decoder->n_cuts++] = (struct trace_cut) { life->context, life->sequence, life->life,
        (int32_t) position };
    return true;
}

static void put_span(struct trace_token * tokens, const struct span * span, const struct trace_life * life,
                     int64_t position) {
    const struct trace_token token = {
        .id         = -1,
        .sequence   = life->sequence,
        .life       = life->life,
        .position   = -1,
        .generation = span->bits & TRACE_SPAN_GENERATION,
        .output     = span->bits & TRACE_SPAN_OUTPUT,
    };
    for (int32_t i = 0; i < span->n_tokens; i++) {
        tokens[i] = token;
        tokens[i].position = position < 0 ? -1 : (int32_t) position + i;
    }
}

static bool decode_spans(struct trace_decoder * decoder, struct trace_ubatch * ubatch) {
    const struct trace_head * head  = &decoder->head;
    struct trace_bytes        spans = head->spans;
    int32_t                   n     = 0;
    ubatch->context = -1;
    for (uint64_t i = 0; i < head->n_spans; i++) {
        const struct span   span      = next_span(&spans);
        const bool          continues = span.bits & TRACE_SPAN_CONTINUES;
        struct trace_life * life      = find_life(decoder, span.life);
        if (life == NULL || (i > 0 && life->context != ubatch->context)) {
            return false;
        }
        const int64_t position = continues ? life->next : (int64_t) span.position - 1;
        if ((continues && position < 0) || position > INT32_MAX - span.n_tokens) {
            return false;
        }
        put_span(decoder->tokens + n, &span, life, position);
        life->next      = position < 0 ? -1 : position + span.n_tokens;
        ubatch->context = life->context;
        n += span.n_tokens;
    }
    return true;
}

static void list_outputs(struct trace_decoder * decoder) {
    int32_t n = 0;
    for (int32_t i = 0; i < decoder->head.n_tokens; i++) {
        if (decoder->tokens[i].output) {
            decoder->outputs[n++] = i;
        }
    }
}

static void decode_token_ids(struct trace_decoder * decoder, struct trace_bytes * body) {
    for (int32_t i = 0; i < decoder->head.n_tokens; i++) {
        decoder->tokens[i].id = (int32_t) trace_bytes_varint_max(body, INT32_MAX) - 1;
    }
}

static void put_layer(struct trace_decoder * decoder, size_t i, uint64_t at, bool has_weights) {
    const struct trace_head  * head  = &decoder->head;
    const struct trace_layer * layer = &head->table->layers[i];
    decoder->layers[i] = (struct trace_routing) {
        .layer    = layer->layer,
        .n_expert = layer->n_expert,
        .n_used   = layer->n_used,
        .n_rows   = head->rows[i],
        .experts  = decoder->ids + at,
        .weights  = has_weights ? decoder->weights + at : NULL,
        .tokens   = head->reduced[i] && head->rows[i] < head->n_tokens ? decoder->outputs : NULL,
    };
}

// Returns false where an expert is none.
static bool decode_layers(struct trace_decoder * decoder, const uint8_t * experts, bool has_weights) {
    const struct trace_head * head = &decoder->head;
    uint64_t at  = 0;
    uint64_t bit = 0;
    for (size_t i = 0; i < head->table->n_layers; i++) {
        const struct trace_layer * layer  = &head->table->layers[i];
        const size_t               n      = (size_t) head->rows[i] * (size_t) layer->n_used;
        const int                  n_bits = trace_bits(layer->n_expert);
        if (trace_bits_unpack(experts, bit, n_bits, decoder->ids + at, n) >= layer->n_expert) {
            return false;
        }
        put_layer(decoder, i, at, has_weights);
        at  += n;
        bit += n * (uint64_t) n_bits;
    }
    return true;
}

static bool make_room(struct trace_decoder * decoder, bool has_weights) {
    const struct trace_head * head     = &decoder->head;
    const size_t              n_layers = head->table->n_layers;
    const size_t              n_ids    = (size_t) head->n_ids + 1;
    return trace_array_grow(&decoder->layers,  &decoder->layers_room,  n_layers + 1, sizeof(decoder->layers[0])) &&
           trace_array_grow(&decoder->ids,     &decoder->ids_room,     n_ids,        sizeof(decoder->ids[0])) &&
           (!has_weights ||
            trace_array_grow(&decoder->weights, &decoder->weights_room, n_ids,        sizeof(decoder->weights[0])));
}

static bool decode_routing(struct trace_decoder * decoder, struct trace_bytes * body) {
    const struct trace_head * head        = &decoder->head;
    const bool                has_weights = head->flags & TRACE_UBATCH_WEIGHTS;
    const uint8_t           * experts     = trace_bytes_skip(body, (head->n_bits + 7) / 8);
    const uint8_t           * weights     = trace_bytes_skip(body, has_weights ? 2 * head->n_ids : 0);
    if (body->failed || trace_bytes_left(body) > 0 || !make_room(decoder, has_weights) ||
        !decode_layers(decoder, experts, has_weights)) {
        return false;
    }
    if (has_weights) {
        trace_bits_floats(weights, decoder->weights, (size_t) head->n_ids);
    }
    return true;
}

static bool decode_ubatch(struct trace_decoder * decoder, struct trace_bytes * body, struct trace_ubatch * ubatch) {
    struct trace_head * head = &decoder->head;
    ubatch->number = decoder->number++;
    decoder->time  = (int64_t) ((uint64_t) decoder->time + (uint64_t) trace_bytes_zigzag(body));
    if (!trace_head_parse(head, body, decoder->tables) ||
        !trace_array_grow(&decoder->tokens, &decoder->tokens_room, (size_t) head->n_tokens + 1,
                          sizeof(decoder->tokens[0])) ||
        !trace_array_grow(&decoder->outputs, &decoder->outputs_room, (size_t) head->n_outputs + 1,
                          sizeof(decoder->outputs[0])) ||
        !decode_spans(decoder, ubatch) || head->table == NULL) {
        return false;
    }
    if (head->flags & TRACE_UBATCH_REDUCED) {
        list_outputs(decoder);
    }
    if (head->flags & TRACE_UBATCH_TOKENS) {
        decode_token_ids(decoder, body);
    }
    if (!decode_routing(decoder, body)) {
        return false;
    }
    ubatch->time     = decoder->time;
    ubatch->warmup   = head->flags & TRACE_UBATCH_WARMUP;
    ubatch->first    = head->flags & TRACE_UBATCH_FIRST;
    ubatch->mtp      = head->flags & TRACE_UBATCH_MTP;
    ubatch->table    = (int32_t) head->table_number;
    ubatch->n_tokens = head->n_tokens;
    ubatch->tokens   = decoder->tokens;
    ubatch->n_layers = head->table->n_layers;
    ubatch->layers   = decoder->layers;
    ubatch->n_cuts   = decoder->n_cuts;
    ubatch->cuts     = decoder->cuts;
    return true;
}

// Returns false where numbers would begin anew.
static bool skip_gap(struct trace_decoder * decoder, struct trace_bytes * body) {
    struct gap gap;
    if (!parse_gap(body, &gap) || gap.ubatches > UINT64_MAX - decoder->number) {
        return false;
    }
    decoder->number += gap.ubatches;
    return true;
}

enum decoder_step trace_decoder_next(struct trace_decoder * decoder, struct trace_ubatch * ubatch) {
    if (decoder->cuts_told) {
        decoder->cuts_told = false;
        decoder->n_cuts    = 0;
    }
    struct trace_bytes body = { 0 };
    bool               ok   = true;
    while (ok && trace_bytes_left(&decoder->records) > 0) {
        switch (trace_record_next(&decoder->records, &body)) {
            case TRACE_RECORD_LIFE: ok = decode_life(decoder, &body); break;
            case TRACE_RECORD_CUT:  ok = decode_cut (decoder, &body); break;
            case TRACE_RECORD_GAP:  ok = skip_gap   (decoder, &body); break;
            case TRACE_RECORD_UBATCH:
                decoder->cuts_told = decode_ubatch(decoder, &body, ubatch);
                return decoder->cuts_told ? DECODER_STEP_UBATCH : DECODER_STEP_LOST;
            default:
                break;
        }
    }
    decoder->records.failed = true;
    return DECODER_STEP_END;
}
