// The counters of one context: the thread that evaluates advances them, and does not wait for those who read. What
// others see of them in the tracer's live memory is where they are counted.

#pragma once

#include "live/live-memory.h"
#include "statistics/counters.h"

struct meter;

// Whose counters they are, and where they are shown. Zeroed: on the heap, and nobody's.
struct meter_place {
    struct live_memory * live;    // NULL: nobody sees them
    enum live_kind       kind;
    uint32_t             model;
    uint32_t             context;
    bool                 is_off;  // nothing is counted until that is ordered
    bool                 in_batch; // it is made while a batch is evaluated
};

// Called by the thread that evaluates, where an order says that something else is to be done otherwise: before anything
// of the ubatch that the order holds from is counted.
typedef void (* meter_order_fn)(void * self);

// With room for a model's layers and experts; 0: not known, it is made when they are seen.
// Returns NULL where memory runs out.
struct meter * meter_new (int32_t n_layers, int32_t n_expert, const struct meter_place * place);
void           meter_free(struct meter * meter); // NULL is ignored

void meter_on_order(struct meter * meter, meter_order_fn fn, void * self);

// By the thread that evaluates: a batch begins, and ends without anything counted. Those between which decodes come
// alone, as of contexts whose calls are not seen, need neither.
void meter_begin(struct meter * meter);
void meter_skip (struct meter * meter);

// By the thread that evaluates. What is pending is counted too, until it is settled. `goes_on`: a decode follows. Of a
// ubatch for which there is no room nothing is counted but that it was lost: false is returned then.
bool meter_ubatch(struct meter * meter, const struct routing_ubatch * ubatch, bool is_mtp, bool goes_on);
void meter_decode(struct meter * meter, const struct routing_decode * decode, bool is_mtp);
void meter_settle(struct meter * meter, bool warmup);

// By any thread. Adds what was counted, every ubatch as a whole. Returns false where memory runs out: nothing was
// added then.
bool meter_read(struct meter * meter, struct counters * sum);

// Adds what a context's meter has counted to `closed`, which nothing else counts in, and shows that as one change: from
// now on `meter` is not shown. Returns false where memory runs out: nothing was changed then.
bool meter_close_into(struct meter * meter, struct meter * closed);

// By any thread, but not by two: what was counted before is no more.
void meter_reset(struct meter * meter);

// Likewise. `order`: LIVE_ORDER_…; it holds from a batch's first ubatch on, LIVE_ORDER_CONFIG from a batch on that had
// not begun: what is wanted of a batch's tokens is known when it begins.
void meter_order(struct meter * meter, uint32_t order);

// Whether the last order is followed, or nothing is being evaluated: then *ubatch is the first one that it holds for.
bool meter_holds(struct meter * meter, uint64_t * ubatch);

// Whether a batch is being evaluated.
bool meter_is_in_batch(const struct meter * meter);
