// Keeps a tail for each ring that the entries of a running tracer's memory have.

#include "live/live-tails.h"

#include <stdlib.h>

struct opened_tail {
    uint32_t           model;
    uint32_t           context;
    struct live_tail * tail;
    void             * opened; // by the receiver
};

struct live_tails {
    struct live_tails_receiver receiver;
    struct opened_tail       * all;
    size_t                     n;
    uint64_t                   overrun; // of those that are gone
};

struct live_tails * live_tails_new(const struct live_tails_receiver * receiver) {
    struct live_tails * tails = memory_new(1, sizeof(*tails));
    tails->receiver = *receiver;
    return tails;
}

static bool is_open(const struct live_tails * tails, const struct live_segment * segment) {
    for (size_t i = 0; i < tails->n; i++) {
        if (tails->all[i].model == segment->model && tails->all[i].context == segment->context) {
            return true;
        }
    }
    return false;
}

static void open_tail(struct live_tails * tails, const struct live_segment * segment) {
    const struct live_tails_receiver * receiver = &tails->receiver;
    tails->all = memory_resize(tails->all, tails->n + 1, sizeof(*tails->all));
    tails->all[tails->n++] = (struct opened_tail) {
        .model   = segment->model,
        .context = segment->context,
        .tail    = live_tail_new(segment->model, segment->context, true),
        .opened  = receiver->open(receiver->self, segment->model, segment->context),
    };
}

static void close_tail(struct live_tails * tails, size_t i) {
    tails->overrun += live_tail_overrun(tails->all[i].tail);
    live_tail_free(tails->all[i].tail);
    tails->receiver.close(tails->receiver.self, tails->all[i].opened);
    tails->all[i] = tails->all[--tails->n];
}

void live_tails_free(struct live_tails * tails) {
    if (tails == NULL) {
        return;
    }
    while (tails->n > 0) {
        close_tail(tails, tails->n - 1);
    }
    free(tails->all);
    free(tails);
}

static void find_rings(struct live_tails * tails, const struct live_map * map) {
    for (size_t i = 0; i < map->n_entries && tails->n < LIVE_ENTRIES_MAX; i++) {
        const struct live_segment segment = live_map_segment(map, i);
        if (segment.kind == LIVE_RING && !is_open(tails, &segment)) {
            open_tail(tails, &segment);
        }
    }
}

void live_tails_read(struct live_tails * tails, const struct live_map * map) {
    find_rings(tails, map);
    for (size_t i = tails->n; i > 0; i--) {
        const struct opened_tail * at = &tails->all[i - 1];
        if (live_tail_read(at->tail, map, tails->receiver.sink, at->opened) == LIVE_TAIL_GONE) {
            close_tail(tails, i - 1);
        }
    }
}

uint64_t live_tails_overrun(const struct live_tails * tails) {
    uint64_t overrun = tails->overrun;
    for (size_t i = 0; i < tails->n; i++) {
        overrun += live_tail_overrun(tails->all[i].tail);
    }
    return overrun;
}
