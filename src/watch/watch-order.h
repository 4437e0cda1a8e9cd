// What depends on the order in which a model's tokens are routed: sequences, what a token shares with the one before
// it, and caches.

#pragma once

#include "live/live-view.h"
#include "routing/routing.h"
#include "watch/watch-caches.h"
#include "watch/watch-frame.h"

struct watch_order;

struct watch_order * watch_order_new (const struct watch_caches_options * options);
void                 watch_order_free(struct watch_order * order); // NULL is ignored

// Whether the ubatch has a layer that no other one had: it may be of a model of which more is known by now.
bool watch_order_is_new(const struct watch_order * order, const struct routing_ubatch * ubatch);

// A ubatch of one of the model's contexts; `model` is what is known of it by now. What is perhaps a warm-up changes the
// caches, and is not counted.
void watch_order_ubatch(struct watch_order * order, const struct live_view_model * model, uint32_t context,
                        const struct routing_ubatch * ubatch);

void watch_order_second(struct watch_order * order); // a second has passed

// As watch_counts_fill().
void watch_order_fill(const struct watch_order * order, int window, int64_t time, struct watch_frame * frame);
