// What a context routed last, in a segment of the live memory: written by the thread that evaluates, as long as
// somebody watches. The oldest is overwritten; nobody is waited for.

#pragma once

#include "live/live-memory.h"
#include "routing/routing.h"

struct live_ring_writer;

// Returns NULL where there is no room that others see.
struct live_ring_writer * live_ring_new (struct live_memory * memory, uint32_t model, uint32_t context);
void                      live_ring_free(struct live_ring_writer * ring); // NULL is ignored

void live_ring_ubatch(struct live_ring_writer * ring, const struct routing_ubatch * ubatch, bool is_mtp);
void live_ring_settle(struct live_ring_writer * ring, bool warmup);
void live_ring_cut   (struct live_ring_writer * ring, const struct routing_cut * cut);
void live_ring_reject(struct live_ring_writer * ring, const struct routing_rejection * rejection);
