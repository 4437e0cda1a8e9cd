// Copies what is new in a ring, looks whether it was overwritten meanwhile, and makes events of its records.

#include "live/live-tail.h"

#include <stdlib.h>
#include <string.h>

#define DEADLINE    200 // milliseconds
#define EXPERTS_MAX 65536
#define LAYERS_MAX  65536
#define LOST        "the routing is not known"

struct live_tail {
    uint32_t                     model;
    uint32_t                     context;
    bool                         all;
    bool                         has_begun;
    uint64_t                     offset;   // of the ring that `position` is in
    uint64_t                     position;
    uint64_t                     overrun;

    uint8_t                    * bytes;    // the copy, of `n_bytes`
    size_t                       n_bytes;
    size_t                       room;
    struct routing_layer       * layers;   // of the ubatch that is being delivered, like those that follow
    size_t                       n_layers;
    int32_t                    * numbers;  // experts and rows
    size_t                       n_numbers;
    struct expert_tracer_token * tokens;
    size_t                       n_tokens;
};

struct live_tail * live_tail_new(uint32_t model, uint32_t context, bool all) {
    struct live_tail * tail = memory_new(1, sizeof(*tail));
    tail->model   = model;
    tail->context = context;
    tail->all     = all;
    return tail;
}

void live_tail_free(struct live_tail * tail) {
    if (tail != NULL) {
        free(tail->bytes);
        free(tail->layers);
        free(tail->numbers);
        free(tail->tokens);
        free(tail);
    }
}

uint64_t live_tail_overrun(const struct live_tail * tail) {
    return tail->overrun;
}

//
// bytes
//

// A ring of the file, and how far it is.
struct ring_place {
    const struct live_ring * ring;
    const uint8_t          * data;
    uint64_t                 size;
};

enum finding { FOUND, FOUND_NONE, FOUND_NONSENSE };

static enum finding look_at_ring(const struct live_map * map, const struct live_segment * segment,
                                 struct ring_place * place) {
    const char * base = live_map_at(map, segment->offset, segment->size);
    if (base == NULL || segment->size < sizeof(struct live_ring)) {
        return FOUND_NONSENSE;
    }
    place->ring = (const void *) base;
    place->size = place->ring->size;
    const uint64_t at = place->ring->data_at;
    if (place->size == 0 || (place->size & (place->size - 1)) != 0 || at > segment->size ||
        place->size > segment->size - at) {
        return FOUND_NONSENSE;
    }
    place->data = (const uint8_t *) base + at;
    return FOUND;
}

static enum finding find_ring(struct live_tail * tail, const struct live_map * map, struct ring_place * place) {
    for (size_t i = 0; i < map->n_entries; i++) {
        const struct live_segment segment = live_map_segment(map, i);
        if (segment.kind != LIVE_RING || segment.model != tail->model || segment.context != tail->context) {
            continue;
        }
        if (segment.offset != tail->offset) { // the first, or a new one
            tail->has_begun = tail->offset != 0;
            tail->position  = 0;
            tail->offset    = segment.offset;
        }
        return look_at_ring(map, &segment, place);
    }
    return FOUND_NONE;
}

static void copy_bytes(struct live_tail * tail, const struct ring_place * place, uint64_t n) {
    if (n > tail->room) {
        tail->bytes = memory_resize(tail->bytes, (size_t) n, 1);
        tail->room  = (size_t) n;
    }
    const size_t at    = (size_t) (tail->position % place->size);
    const size_t left  = (size_t) place->size - at;
    const size_t first = n < left ? (size_t) n : left;
    if (n > 0) {
        memcpy(tail->bytes, place->data + at, first);
        memcpy(tail->bytes + first, place->data, (size_t) n - first);
    }
    tail->n_bytes = (size_t) n;
}

// Where reading begins in a ring that was never read before.
static void begin(struct live_tail * tail, const struct ring_place * place, uint64_t written) {
    if (!tail->has_begun) {
        tail->position  = tail->all && written <= place->size ? 0 : written;
        tail->has_begun = true;
    }
}

// Moves on to `written`; what could not be read on the way is counted.
static void take_bytes(struct live_tail * tail, const struct ring_place * place) {
    const uint64_t written = atomic_load_explicit(&place->ring->written, memory_order_acquire);
    begin(tail, place, written);
    const uint64_t n = written - tail->position;
    bool           overwritten = written < tail->position || n > place->size;
    tail->n_bytes = 0;
    if (!overwritten) {
        copy_bytes(tail, place, n);
        atomic_thread_fence(memory_order_acquire);
        const uint64_t begun = atomic_load_explicit(&place->ring->begun, memory_order_relaxed);
        overwritten = begun > place->size && begun - place->size > tail->position;
    }
    if (overwritten) {
        tail->overrun += written < tail->position ? 0 : n;
        tail->n_bytes  = 0;
    }
    tail->position = written;
}

// What is in `bytes` counts if the entries are the same behind.
static enum live_tail_state fetch(struct live_tail * tail, const struct live_map * map) {
    const _Atomic uint32_t * sequence = &live_map_header(map)->sequence;
    const int64_t            deadline = live_map_deadline(DEADLINE);
    while (!live_map_is_late(deadline)) {
        const struct live_tail before = *tail;
        struct ring_place      place;
        uint32_t               number;
        if (!live_map_begin(sequence, deadline, &number)) {
            break;
        }
        const enum finding finding = find_ring(tail, map, &place);
        if (finding == FOUND) {
            take_bytes(tail, &place);
        }
        if (live_map_is_same(sequence, number)) {
            return finding == FOUND ? LIVE_TAIL_READ : finding == FOUND_NONE ? LIVE_TAIL_GONE : LIVE_TAIL_DAMAGED;
        }
        tail->has_begun = before.has_begun;
        tail->offset    = before.offset;
        tail->position  = before.position;
        tail->overrun   = before.overrun;
    }
    return LIVE_TAIL_LATE;
}

//
// records
//

// What is left of a record.
struct cursor {
    const uint8_t * at;
    size_t          left;
};

static bool take(struct cursor * cursor, void * to, size_t size) {
    if (size > cursor->left) {
        return false;
    }
    memcpy(to, cursor->at, size);
    cursor->at   += size;
    cursor->left -= size;
    return true;
}

static bool read_tokens(struct live_tail * tail, struct cursor * cursor, size_t n) {
    if (n > cursor->left / sizeof(struct live_token)) {
        return false;
    }
    if (n > tail->n_tokens) {
        tail->tokens   = memory_resize(tail->tokens, n, sizeof(*tail->tokens));
        tail->n_tokens = n;
    }
    for (size_t i = 0; i < n; i++) {
        struct live_token shown;
        take(cursor, &shown, sizeof(shown));
        tail->tokens[i] = (struct expert_tracer_token) {
            .id = -1, .sequence = shown.sequence, .life = shown.life, .position = shown.position,
            .generation = (shown.flags & 1) != 0, .output = (shown.flags & 2) != 0,
        };
    }
    return true;
}

// Rows name tokens, ascending.
static bool read_rows(struct cursor * cursor, int32_t * rows, int32_t n, uint64_t n_tokens) {
    for (int32_t i = 0; i < n; i++) {
        if (!take(cursor, &rows[i], sizeof(rows[i])) || rows[i] < 0 || (uint64_t) rows[i] >= n_tokens ||
            (i > 0 && rows[i] <= rows[i - 1])) {
            return false;
        }
    }
    return true;
}

static bool read_experts(struct cursor * cursor, int32_t * experts, size_t n, int32_t n_expert) {
    for (size_t i = 0; i < n; i++) {
        uint16_t expert;
        if (!take(cursor, &expert, sizeof(expert)) || expert >= n_expert) {
            return false;
        }
        experts[i] = expert;
    }
    return true;
}

static bool is_possible(const struct live_layer * layer, size_t left, uint64_t n_tokens) {
    return layer->size >= sizeof(*layer) && layer->size % 8 == 0 && layer->size <= left + sizeof(*layer) &&
           layer->layer >= 0 && layer->layer < LAYERS_MAX && layer->n_expert >= 0 && layer->n_expert <= EXPERTS_MAX &&
           layer->n_used >= 0 && layer->n_used <= layer->n_expert && layer->n_rows >= 0 &&
           (uint64_t) layer->n_rows <= n_tokens;
}

// `numbers` has room for all that the layer's bytes can have.
static bool read_layer(struct cursor * record, uint64_t n_tokens, int32_t * numbers, size_t * n_numbers,
                       struct routing_layer * layer) {
    struct live_layer shown;
    if (!take(record, &shown, sizeof(shown)) || !is_possible(&shown, record->left, n_tokens)) {
        return false;
    }
    struct cursor  cursor = { record->at, shown.size - sizeof(shown) };
    const size_t   n_rows = shown.has_rows != 0 ? (size_t) shown.n_rows : 0;
    const uint64_t n_ids  = (uint64_t) shown.n_rows * (uint64_t) shown.n_used;
    const uint64_t needed = n_rows * sizeof(int32_t) + n_ids * sizeof(uint16_t);
    if (needed > cursor.left || cursor.left - needed >= 8) {
        return false;
    }
    int32_t * rows    = numbers;
    int32_t * experts = numbers + n_rows;
    if (!read_rows(&cursor, rows, (int32_t) n_rows, n_tokens) ||
        !read_experts(&cursor, experts, (size_t) n_ids, shown.n_expert)) {
        return false;
    }
    *layer = (struct routing_layer) {
        .layer = shown.layer, .n_expert = shown.n_expert, .n_used = shown.n_used, .n_tokens = shown.n_rows,
        .experts = experts, .rows = shown.has_rows != 0 ? rows : NULL,
    };
    *n_numbers    = n_rows + (size_t) n_ids;
    record->at   += shown.size - sizeof(shown);
    record->left -= shown.size - sizeof(shown);
    return true;
}

static void make_room(struct live_tail * tail, size_t n_layers, size_t n_numbers) {
    if (n_layers > tail->n_layers) {
        tail->layers   = memory_resize(tail->layers, n_layers, sizeof(*tail->layers));
        tail->n_layers = n_layers;
    }
    if (n_numbers > tail->n_numbers) {
        tail->numbers   = memory_resize(tail->numbers, n_numbers, sizeof(*tail->numbers));
        tail->n_numbers = n_numbers;
    }
}

static bool read_layers(struct live_tail * tail, struct cursor * cursor, const struct live_record * record) {
    if (record->n_layers > cursor->left / sizeof(struct live_layer)) {
        return false;
    }
    make_room(tail, record->n_layers, cursor->left / sizeof(uint16_t));
    size_t at = 0;
    for (uint32_t i = 0; i < record->n_layers; i++) {
        size_t n = 0;
        if (!read_layer(cursor, record->n_tokens, tail->numbers + at, &n, &tail->layers[i])) {
            return false;
        }
        at += n;
    }
    return true;
}

static enum routing_fate fate_of(uint32_t flags) {
    return flags & LIVE_UBATCH_WARMUP ? ROUTING_WARMUP : flags & LIVE_UBATCH_PENDING ? ROUTING_PENDING : ROUTING_COUNT;
}

static bool deliver_ubatch(struct live_tail * tail, const struct live_record * record, struct cursor cursor,
                           const struct live_tail_sink * sink, void * self) {
    const bool has_tokens = (record->flags & LIVE_UBATCH_TOKENS) != 0;
    if ((has_tokens && !read_tokens(tail, &cursor, record->n_tokens)) || !read_layers(tail, &cursor, record) ||
        cursor.left != 0) {
        return false;
    }
    const bool                  lost   = (record->flags & LIVE_UBATCH_LOST) != 0;
    const struct routing_ubatch ubatch = {
        .fate     = fate_of(record->flags),     .n_tokens   = record->n_tokens,
        .n_layers = (int32_t) record->n_layers, .layers     = tail->layers,
        .is_moe   = record->n_layers > 0,       .lost       = lost ? LOST : NULL,
        .n_lost   = lost,                       .number     = record->ubatch,
        .batch    = record->batch,              .time       = record->time,
        .tokens   = has_tokens ? tail->tokens : NULL,
        .rows_known = (record->flags & LIVE_UBATCH_ROWS_KNOWN) != 0,
    };
    if (sink->ubatch) {
        sink->ubatch(self, &ubatch, (record->flags & LIVE_UBATCH_MTP) != 0);
    }
    return true;
}

static bool deliver_cut(const struct live_record * record, const struct live_tail_sink * sink, void * self) {
    const struct routing_cut cut = { (int32_t) record->n_tokens, (int32_t) record->n_layers, record->value };
    if (sink->cut) {
        sink->cut(self, &cut);
    }
    return true;
}

static bool deliver_rejection(const struct live_record * record, const struct live_tail_sink * sink, void * self) {
    const struct routing_rejection rejection = {
        record->ubatch, (int32_t) record->n_layers, (int32_t) record->n_tokens,
    };
    if (rejection.first < 0 || rejection.n < 0) {
        return false;
    }
    if (sink->reject) {
        sink->reject(self, &rejection);
    }
    return true;
}

// Of kinds that are not known it is only known how long they are.
static bool deliver(struct live_tail * tail, const struct live_record * record, struct cursor cursor,
                    const struct live_tail_sink * sink, void * self) {
    switch (record->kind) {
        case LIVE_RECORD_UBATCH: return deliver_ubatch(tail, record, cursor, sink, self);
        case LIVE_RECORD_CUT:    return deliver_cut(record, sink, self);
        case LIVE_RECORD_REJECT: return deliver_rejection(record, sink, self);
        case LIVE_RECORD_SETTLE:
            if (sink->settle) {
                sink->settle(self, record->value != 0);
            }
            return true;
        case LIVE_RECORD_GAP:
            if (sink->gap) {
                sink->gap(self, record->ubatch, record->n_tokens);
            }
            return true;
        default: return true;
    }
}

static bool deliver_all(struct live_tail * tail, const struct live_tail_sink * sink, void * self) {
    struct cursor cursor = { tail->bytes, tail->n_bytes };
    while (cursor.left > 0) {
        struct live_record record;
        struct cursor      rest = cursor;
        if (!take(&rest, &record, sizeof(record)) || record.size < sizeof(record) || record.size % 8 != 0 ||
            record.size > cursor.left) {
            return false;
        }
        rest.left = record.size - sizeof(record);
        if (!deliver(tail, &record, rest, sink, self)) {
            return false;
        }
        cursor.at   += record.size;
        cursor.left -= record.size;
    }
    return true;
}

enum live_tail_state live_tail_read(struct live_tail * tail, const struct live_map * map,
                                    const struct live_tail_sink * sink, void * self) {
    const enum live_tail_state state = fetch(tail, map);
    return state == LIVE_TAIL_READ && !deliver_all(tail, sink, self) ? LIVE_TAIL_DAMAGED : state;
}
