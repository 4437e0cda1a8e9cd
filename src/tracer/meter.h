// The counters of one context: the thread that evaluates advances them, and does not wait for those who read.

#pragma once

#include "statistics/counters.h"

struct meter;

// With room for a model's layers and experts; 0: not known, it is made when they are seen.
// Returns NULL where memory runs out.
struct meter * meter_new (int32_t n_layers, int32_t n_expert);
void           meter_free(struct meter * meter);

// By the thread that evaluates. What is pending is counted too, until it is settled. Of a ubatch for which there is no
// room nothing is counted but that it was lost: false is returned then.
bool meter_ubatch(struct meter * meter, const struct routing_ubatch * ubatch, bool is_mtp);
void meter_decode(struct meter * meter, const struct routing_decode * decode, bool is_mtp);
void meter_settle(struct meter * meter, bool warmup);

// By any thread. Adds what was counted, every ubatch as a whole. Returns false where memory runs out: nothing was
// added then.
bool meter_read(struct meter * meter, struct counters * sum);

// By any thread: what was counted before is no more.
void meter_reset(struct meter * meter);
