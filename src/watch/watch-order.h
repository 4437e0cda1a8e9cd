// What depends on the order in which a model's tokens are routed: sequences, what a token shares with the one before
// it, and caches.

#pragma once

#include "live/live-view.h"
#include "routing/routing.h"
#include "watch/watch-frame.h"

struct watch_order;

// What bytes of caches are asked for, and whether the model's file may be read.
struct watch_order_options {
    bool             reads_file;
    const uint64_t * asked;
    size_t           n_asked;
};

struct watch_order * watch_order_new (const struct watch_order_options * options);
void                 watch_order_free(struct watch_order * order); // NULL is ignored

// A ubatch of one of the model's contexts; `model` is what is known of it by now. What is perhaps a warm-up changes the
// caches, and is not counted.
void watch_order_ubatch(struct watch_order * order, const struct live_view_model * model, uint32_t context,
                        const struct routing_ubatch * ubatch);

void watch_order_second(struct watch_order * order); // a second has passed

// As watch_counts_fill().
void watch_order_fill(const struct watch_order * order, int window, int64_t time, struct watch_frame * frame);
