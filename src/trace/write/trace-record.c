// Encodes events of the engine as records.

#include "trace/write/trace-record.h"

#include "trace/format/encoding.h"

#include <string.h>

#define NUMBER_MAX    5  // bytes of a varint of 32 bits
#define TOKEN_MAX    (6 * NUMBER_MAX + 4) // of a token: a life (two and three numbers), a span (three numbers), an id
#define UBATCH_MAX   (2 * TRACE_VARINT_MAX + 4 * NUMBER_MAX + 4) // of a ubatch: its length, time, flags and numbers

//
// lives
//

void trace_payload_begin(struct trace_payload * payload, int64_t time) {
    payload->time = time;
    if (payload->n_lives > 0) {
        payload->n_lives = 0;
        memset(payload->slots, 0, sizeof(payload->slots));
    }
}

bool trace_payload_has_room(const struct trace_payload * payload, uint64_t n_lives) {
    return n_lives <= TRACE_LIVES_MAX - payload->n_lives;
}

static uint32_t life_hash(uint32_t context, int32_t sequence, uint32_t life) {
    const uint32_t mixed = (context * 0x9e3779b1u ^ (uint32_t) sequence) * 0x85ebca6bu ^ life * 0xc2b2ae35u;
    return (mixed ^ mixed >> 15) & (TRACE_LIVE_SLOTS - 1);
}

// Finds a life, or adds it. There is room.
static struct recorded_life * life_of(struct trace_payload * payload, uint32_t context, int32_t sequence, int32_t life,
                                      bool * is_new) {
    const struct recorded_life wanted = { context, sequence < 0 ? -1 : sequence, (uint32_t) life, -1 };
    uint32_t slot = life_hash(wanted.context, wanted.sequence, wanted.life);
    for (; payload->slots[slot] != 0; slot = (slot + 1) & (TRACE_LIVE_SLOTS - 1)) {
        struct recorded_life * found = &payload->lives[payload->slots[slot] - 1];
        if (found->context == wanted.context && found->sequence == wanted.sequence && found->life == wanted.life) {
            *is_new = false;
            return found;
        }
    }
    struct recorded_life * added = &payload->lives[payload->n_lives++];
    payload->slots[slot] = (uint16_t) payload->n_lives;
    *added  = wanted;
    *is_new = true;
    return added;
}

static uint32_t life_index(const struct trace_payload * payload, const struct recorded_life * life) {
    return (uint32_t) (life - payload->lives);
}

static uint8_t * put_record(uint8_t * at, uint8_t kind, const uint64_t * numbers, int n) {
    uint8_t   body[TRACE_RECORD_MAX];
    uint8_t * end = body;
    for (int i = 0; i < n; i++) {
        end = trace_put_varint(end, numbers[i]);
    }
    at    = trace_put_varint(at, (uint64_t) (end - body) + 1);
    *at++ = kind;
    memcpy(at, body, (size_t) (end - body));
    return at + (end - body);
}

// Finds a life, and introduces it where that was not done.
static struct recorded_life * introduce(struct trace_payload * payload, uint8_t ** at, uint32_t context,
                                        int32_t sequence, int32_t life) {
    bool                is_new;
    struct recorded_life * found = life_of(payload, context, sequence, life, &is_new);
    if (is_new) {
        *at = put_record(*at, TRACE_RECORD_LIFE,
            (uint64_t[]) { found->context, (uint64_t) ((int64_t) found->sequence + 1), found->life }, 3);
    }
    return found;
}

//
// tokens
//

static bool is_same_life(const struct expert_tracer_token * one, const struct expert_tracer_token * other) {
    return one->sequence == other->sequence && one->life == other->life;
}

static bool goes_on(const struct expert_tracer_token * before, const struct expert_tracer_token * token) {
    return is_same_life(before, token) && before->generation == token->generation && before->output == token->output &&
           (before->position < 0 ? token->position < 0 : token->position == (int64_t) before->position + 1);
}

// Where the span ends that begins with a token.
static uint64_t span_end(const struct expert_tracer_token * tokens, uint64_t first, uint64_t n) {
    uint64_t end = first + 1;
    while (end < n && goes_on(&tokens[end - 1], &tokens[end])) {
        end++;
    }
    return end;
}

static uint64_t count_spans(const struct routing_ubatch * ubatch) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < ubatch->n_tokens; i = span_end(ubatch->tokens, i, ubatch->n_tokens)) {
        n++;
    }
    return n;
}

uint64_t trace_record_lives_max(const struct routing_ubatch * ubatch) {
    uint64_t n = 1;
    for (uint64_t i = 1; i < ubatch->n_tokens; i++) {
        n += !is_same_life(&ubatch->tokens[i - 1], &ubatch->tokens[i]);
    }
    return n;
}

static uint8_t * put_lives(struct trace_payload * payload, uint8_t * at, const struct routing_ubatch * ubatch,
                           uint32_t context) {
    const struct expert_tracer_token * tokens = ubatch->tokens;
    for (uint64_t i = 0; i < ubatch->n_tokens; i++) {
        if (i == 0 || !is_same_life(&tokens[i - 1], &tokens[i])) {
            introduce(payload, &at, context, tokens[i].sequence, tokens[i].life);
        }
    }
    return at;
}

static uint8_t * put_spans(struct trace_payload * payload, uint8_t * at, const struct routing_ubatch * ubatch,
                           uint32_t context) {
    for (uint64_t i = 0, end; i < ubatch->n_tokens; i = end) {
        const struct expert_tracer_token * token = &ubatch->tokens[i];
        struct recorded_life          * life  = introduce(payload, &at, context, token->sequence, token->life);
        end = span_end(ubatch->tokens, i, ubatch->n_tokens);

        const bool     is_known  = token->position >= 0;
        const bool     continues = is_known && token->position == life->next;
        const uint64_t bits      = (token->generation ? TRACE_SPAN_GENERATION : 0) |
                                   (token->output     ? TRACE_SPAN_OUTPUT     : 0) |
                                   (continues         ? TRACE_SPAN_CONTINUES  : 0);
        at = trace_put_varint(at, (end - i - 1) << TRACE_SPAN_BITS | bits);
        at = trace_put_varint(at, life_index(payload, life));
        if (!continues) {
            at = trace_put_varint(at, is_known ? (uint64_t) token->position + 1 : 0);
        }
        life->next = is_known ? (int64_t) token->position + (int64_t) (end - i) : -1;
    }
    return at;
}

static bool has_ids(const struct routing_ubatch * ubatch) {
    for (uint64_t i = 0; i < ubatch->n_tokens; i++) {
        if (ubatch->tokens[i].id >= 0) {
            return true;
        }
    }
    return false;
}

static uint8_t * put_token_ids(uint8_t * at, const struct routing_ubatch * ubatch) {
    for (uint64_t i = 0; i < ubatch->n_tokens; i++) {
        const int32_t id = ubatch->tokens[i].id;
        at = trace_put_varint(at, id < 0 ? 0 : (uint64_t) id + 1);
    }
    return at;
}

//
// layers
//

static size_t n_selected(const struct routing_layer * layer) {
    return (size_t) layer->n_tokens * (size_t) layer->n_used;
}

static bool is_reduced(const struct routing_ubatch * ubatch, const struct routing_layer * layer) {
    return (uint64_t) layer->n_tokens != ubatch->n_tokens;
}

static bool has_gates(const struct routing_ubatch * ubatch) {
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        if (ubatch->layers[i].n_tokens > 0 && ubatch->layers[i].gates == NULL) {
            return false;
        }
    }
    return true;
}

static uint64_t count_reduced(const struct routing_ubatch * ubatch) {
    uint64_t n = 0;
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        n += is_reduced(ubatch, &ubatch->layers[i]);
    }
    return n;
}

static uint8_t * put_reduced(uint8_t * at, const struct routing_ubatch * ubatch, uint64_t n) {
    at = trace_put_varint(at, n);
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const struct routing_layer * layer = &ubatch->layers[i];
        if (is_reduced(ubatch, layer)) {
            at = trace_put_varint(at, (uint64_t) i << 1 | (layer->n_tokens > 0));
        }
    }
    return at;
}

static size_t experts_size(const struct routing_ubatch * ubatch) {
    size_t n_bits = 0;
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        n_bits += n_selected(&ubatch->layers[i]) * (size_t) trace_bits(ubatch->layers[i].n_expert);
    }
    return (n_bits + 7) / 8;
}

static size_t weights_size(const struct routing_ubatch * ubatch) {
    size_t n = 0;
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        n += n_selected(&ubatch->layers[i]);
    }
    return n * 2;
}

// Bits that do not fill 32 yet.
struct packing {
    uint8_t * at;
    uint64_t  held;
    int       n_held;
};

// Returns the highest id, so that those that are none are noticed.
static uint32_t pack(struct packing * packing, const int32_t * ids, size_t n, int bits) {
    uint8_t * at      = packing->at;
    uint64_t  held    = packing->held;
    int       n_held  = packing->n_held;
    uint32_t  highest = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t id = (uint32_t) ids[i];
        highest = id > highest ? id : highest;
        held   |= (uint64_t) id << n_held;
        n_held += bits;
        if (n_held >= 32) {
            at      = trace_put_u32(at, (uint32_t) held);
            held  >>= 32;
            n_held -= 32;
        }
    }
    *packing = (struct packing) { at, held, n_held };
    return highest;
}

static uint8_t * put_experts(uint8_t * at, const struct routing_ubatch * ubatch) {
    struct packing packing = { at, 0, 0 };
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const struct routing_layer * layer = &ubatch->layers[i];
        const int                    bits  = trace_bits(layer->n_expert);
        if (layer->n_tokens > 0 &&
            pack(&packing, layer->experts, n_selected(layer), bits) >= (uint32_t) layer->n_expert) {
            return NULL;
        }
    }
    for (; packing.n_held > 0; packing.n_held -= 8, packing.held >>= 8) {
        *packing.at++ = (uint8_t) packing.held;
    }
    return packing.at;
}

static uint8_t * put_weights(uint8_t * at, const struct routing_ubatch * ubatch) {
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const size_t n = n_selected(&ubatch->layers[i]);
        for (size_t j = 0; j < n; j++) {
            at = trace_put_u16(at, trace_f16(ubatch->layers[i].gates[j]));
        }
    }
    return at;
}

//
// records
//

size_t trace_record_size_max(const struct routing_ubatch * ubatch, const struct trace_recording * recording) {
    return UBATCH_MAX + (size_t) ubatch->n_tokens * TOKEN_MAX + (size_t) ubatch->n_layers * NUMBER_MAX +
           experts_size(ubatch) + (recording->weights ? weights_size(ubatch) : 0);
}

// All that stands before the experts.
static uint8_t * put_head(struct trace_payload * payload, uint8_t * at, const struct routing_ubatch * ubatch,
                          const struct trace_recording * recording, uint8_t flags, uint64_t n_reduced) {
    *at++ = TRACE_RECORD_UBATCH;
    at    = trace_put_zigzag(at, (int64_t) ((uint64_t) ubatch->time - (uint64_t) payload->time));
    *at++ = flags;
    at    = trace_put_varint(at, recording->table);
    at    = trace_put_varint(at, count_spans(ubatch));
    at    = put_spans(payload, at, ubatch, recording->context);
    if (flags & TRACE_UBATCH_REDUCED) {
        at = put_reduced(at, ubatch, n_reduced);
    }
    return flags & TRACE_UBATCH_TOKENS ? put_token_ids(at, ubatch) : at;
}

uint8_t * trace_record_ubatch(struct trace_payload * payload, uint8_t * at, const struct routing_ubatch * ubatch,
                              const struct trace_recording * recording) {
    const bool     tokens    = recording->tokens  && has_ids(ubatch);
    const bool     weights   = recording->weights && has_gates(ubatch);
    const uint64_t n_reduced = count_reduced(ubatch);
    const uint8_t  flags     = (uint8_t) ((ubatch->fate == ROUTING_WARMUP ? TRACE_UBATCH_WARMUP : 0) |
        (recording->is_first ? TRACE_UBATCH_FIRST  : 0) | (recording->is_mtp ? TRACE_UBATCH_MTP     : 0) |
        (tokens              ? TRACE_UBATCH_TOKENS : 0) | (weights           ? TRACE_UBATCH_WEIGHTS : 0) |
        (n_reduced > 0       ? TRACE_UBATCH_REDUCED : 0));

    at = put_lives(payload, at, ubatch, recording->context);
    uint8_t    * head = at + TRACE_VARINT_MAX; // behind a length that is not known yet
    const size_t size = (size_t) (put_head(payload, head, ubatch, recording, flags, n_reduced) - head);
    payload->time = ubatch->time;

    at  = trace_put_varint(at, size + experts_size(ubatch) + (weights ? weights_size(ubatch) : 0));
    at  = (uint8_t *) memmove(at, head, size) + size;
    at  = put_experts(at, ubatch);
    return at != NULL && weights ? put_weights(at, ubatch) : at;
}

uint8_t * trace_record_cut(struct trace_payload * payload, uint8_t * at, uint32_t context,
                           const struct routing_cut * cut) {
    const struct recorded_life * life = introduce(payload, &at, context, cut->sequence, cut->life);
    return put_record(at, TRACE_RECORD_CUT,
        (uint64_t[]) { life_index(payload, life), cut->position < 0 ? 0 : (uint64_t) cut->position }, 2);
}

uint8_t * trace_record_gap(uint8_t * at, uint64_t n_ubatches, uint64_t n_tokens, enum trace_gap_reason reason) {
    return put_record(at, TRACE_RECORD_GAP, (uint64_t[]) { n_ubatches, n_tokens, (uint64_t) reason }, 3);
}

uint8_t * trace_record_warmup(uint8_t * at, uint64_t first, uint64_t n) {
    return put_record(at, TRACE_AMENDMENT_WARMUP, (uint64_t[]) { first, n }, 2);
}

uint8_t * trace_record_rejected(uint8_t * at, uint64_t ubatch, uint64_t first, uint64_t n) {
    return put_record(at, TRACE_AMENDMENT_REJECTED, (uint64_t[]) { ubatch, first, n }, 3);
}
