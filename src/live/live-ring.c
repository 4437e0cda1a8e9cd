// Writes records of ubatches into a ring: first how far it is going to be overwritten, then the bytes, then that they
// are there.

#include "live/live-ring.h"

#include <stdlib.h>
#include <string.h>

#define RING_DATA_SIZE ((uint64_t) 8 << 20)
#define RING_EXPERTS_MAX 65536

struct live_ring_writer {
    struct live_memory * memory;
    struct live_ring   * shown;
    uint8_t            * data;
    uint64_t             at;    // bytes since the beginning of time
    int                  entry;
};

static size_t ring_segment_size(void) {
    return LIVE_RING_DATA_AT + (size_t) RING_DATA_SIZE;
}

struct live_ring_writer * live_ring_new(struct live_memory * memory, uint32_t model, uint32_t context) {
    const struct memory_source * source = live_memory_source(memory);
    struct live_ring_writer    * ring   = source ? calloc(1, sizeof(*ring)) : NULL;
    const struct live_entry      entry  = {
        .kind = LIVE_RING, .model = model, .context = context, .size = ring_segment_size(),
    };
    if (ring == NULL) {
        return NULL;
    }
    ring->memory = memory;
    ring->entry  = -1;
    ring->shown  = source->take(source->self, ring_segment_size());
    if (ring->shown) {
        ring->shown->data_at = LIVE_RING_DATA_AT;
        ring->shown->size    = RING_DATA_SIZE;
        ring->data           = (uint8_t *) ring->shown + LIVE_RING_DATA_AT;
        live_memory_change(memory);
        ring->entry = live_memory_add(memory, &entry, ring->shown);
        live_memory_change_end(memory);
    }
    if (ring->entry < 0) {
        live_ring_free(ring);
        return NULL;
    }
    return ring;
}

void live_ring_free(struct live_ring_writer * ring) {
    if (ring == NULL) {
        return;
    }
    const struct memory_source * source = live_memory_source(ring->memory);
    live_memory_change(ring->memory);
    live_memory_remove(ring->memory, ring->entry);
    live_memory_change_end(ring->memory);
    if (ring->shown) {
        source->give(source->self, ring->shown, ring_segment_size());
    }
    free(ring);
}

//
// bytes
//

static void ring_begin(struct live_ring_writer * ring, uint64_t size) {
    atomic_store_explicit(&ring->shown->begun, ring->at + size, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static void ring_end(struct live_ring_writer * ring) {
    atomic_store_explicit(&ring->shown->written, ring->at, memory_order_release);
}

// Around the end of the data.
static void ring_put(struct live_ring_writer * ring, const void * bytes, size_t size) {
    const size_t place = (size_t) (ring->at % RING_DATA_SIZE);
    const size_t left  = (size_t) RING_DATA_SIZE - place;
    const size_t first = size < left ? size : left;
    if (size > 0) {
        memcpy(ring->data + place, bytes, first);
        memcpy(ring->data, (const uint8_t *) bytes + first, size - first);
    }
    ring->at += size;
}

static size_t ring_rounded(size_t size) {
    return (size + 7) / 8 * 8;
}

static void ring_pad(struct live_ring_writer * ring, size_t size) {
    static const uint8_t zeros[8];
    ring_put(ring, zeros, ring_rounded(size) - size);
}

//
// records
//

static size_t ring_layer_size(const struct routing_layer * layer) {
    const size_t n_rows = (size_t) layer->n_tokens;
    return sizeof(struct live_layer) + (layer->rows ? n_rows * sizeof(int32_t) : 0) +
           n_rows * (size_t) layer->n_used * sizeof(uint16_t);
}

static void ring_put_experts(struct live_ring_writer * ring, const struct routing_layer * layer) {
    uint16_t     some[256];
    const size_t n      = (size_t) layer->n_tokens * (size_t) layer->n_used;
    size_t       n_some = 0;
    for (size_t i = 0; i < n; i++) {
        some[n_some++] = (uint16_t) layer->experts[i];
        if (n_some == sizeof(some) / sizeof(some[0]) || i == n - 1) {
            ring_put(ring, some, n_some * sizeof(some[0]));
            n_some = 0;
        }
    }
}

static void ring_put_layer(struct live_ring_writer * ring, const struct routing_layer * layer) {
    const size_t            size = ring_layer_size(layer);
    const struct live_layer head = {
        .layer    = layer->layer,    .n_expert = layer->n_expert,      .n_used = layer->n_used,
        .n_rows   = layer->n_tokens, .has_rows = layer->rows != NULL,  .size   = (uint32_t) ring_rounded(size),
    };
    ring_put(ring, &head, sizeof(head));
    if (layer->rows) {
        ring_put(ring, layer->rows, (size_t) layer->n_tokens * sizeof(*layer->rows));
    }
    ring_put_experts(ring, layer);
    ring_pad(ring, size);
}

static void ring_put_tokens(struct live_ring_writer * ring, const struct routing_ubatch * ubatch) {
    for (uint64_t i = 0; i < ubatch->n_tokens; i++) {
        const struct expert_tracer_token * token = &ubatch->tokens[i];
        const struct live_token            shown = {
            token->sequence, token->life, token->position, (token->generation ? 1u : 0) | (token->output ? 2u : 0),
        };
        ring_put(ring, &shown, sizeof(shown));
    }
}

static uint32_t ring_flags(const struct routing_ubatch * ubatch, bool is_mtp) {
    return (ubatch->fate == ROUTING_PENDING ? LIVE_UBATCH_PENDING    : 0u) |
           (ubatch->fate == ROUTING_WARMUP  ? LIVE_UBATCH_WARMUP     : 0u) |
           (is_mtp                          ? LIVE_UBATCH_MTP        : 0u) |
           (ubatch->tokens                  ? LIVE_UBATCH_TOKENS     : 0u) |
           (ubatch->rows_known              ? LIVE_UBATCH_ROWS_KNOWN : 0u) |
           (ubatch->lost                    ? LIVE_UBATCH_LOST       : 0u);
}

// 0: it does not fit into a ring, or is of no model that a ring knows.
static size_t ring_ubatch_size(const struct routing_ubatch * ubatch) {
    size_t size = sizeof(struct live_record);
    size += ubatch->tokens ? (size_t) ubatch->n_tokens * sizeof(struct live_token) : 0;
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        size += ring_rounded(ring_layer_size(&ubatch->layers[i]));
        if (ubatch->layers[i].n_expert > RING_EXPERTS_MAX) {
            return 0;
        }
    }
    return size <= RING_DATA_SIZE / 2 ? size : 0;
}

static void ring_put_plain(struct live_ring_writer * ring, struct live_record record) {
    record.size = sizeof(record);
    ring_begin(ring, sizeof(record));
    ring_put(ring, &record, sizeof(record));
    ring_end(ring);
}

void live_ring_ubatch(struct live_ring_writer * ring, const struct routing_ubatch * ubatch, bool is_mtp) {
    const size_t       size   = ring_ubatch_size(ubatch);
    struct live_record record = {
        .size     = (uint32_t) size,  .kind     = size > 0 ? LIVE_RECORD_UBATCH : LIVE_RECORD_GAP,
        .ubatch   = ubatch->number,   .flags    = ring_flags(ubatch, is_mtp),
        .batch    = ubatch->batch,    .n_tokens = (uint32_t) ubatch->n_tokens,
        .time     = ubatch->time,     .n_layers = (uint32_t) ubatch->n_layers,
    };
    if (size == 0) {
        ring_put_plain(ring, record);
        return;
    }
    ring_begin(ring, size);
    ring_put(ring, &record, sizeof(record));
    if (ubatch->tokens) {
        ring_put_tokens(ring, ubatch);
    }
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        ring_put_layer(ring, &ubatch->layers[i]);
    }
    ring_end(ring);
}

void live_ring_settle(struct live_ring_writer * ring, bool warmup) {
    ring_put_plain(ring, (struct live_record) { .kind = LIVE_RECORD_SETTLE, .value = warmup });
}

void live_ring_cut(struct live_ring_writer * ring, const struct routing_cut * cut) {
    ring_put_plain(ring, (struct live_record) {
        .kind = LIVE_RECORD_CUT, .value = cut->position, .n_tokens = (uint32_t) cut->sequence,
        .n_layers = (uint32_t) cut->life,
    });
}

void live_ring_reject(struct live_ring_writer * ring, const struct routing_rejection * rejection) {
    ring_put_plain(ring, (struct live_record) {
        .kind = LIVE_RECORD_REJECT, .ubatch = rejection->ubatch, .n_tokens = (uint32_t) rejection->n,
        .n_layers = (uint32_t) rejection->first,
    });
}
