// What a context of a running tracer routed last, read from its ring (docs/live-format.md) while somebody watches.

#pragma once

#include "live/live-map.h"
#include "routing/routing.h"
#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Receives records in their order. Pointers are valid during the call. NULL: such records are not received.
struct live_tail_sink {
    void (* ubatch)(void * self, const struct routing_ubatch * ubatch, bool is_mtp);
    void (* settle)(void * self, bool warmup);
    void (* cut)   (void * self, const struct routing_cut * cut);
    void (* reject)(void * self, const struct routing_rejection * rejection);
    void (* gap)   (void * self, uint64_t ubatch, uint64_t n_tokens); // a ubatch that the ring had no room for
};

struct live_tail;

// Of one context, by its numbers. `all`: with what is in the ring already, otherwise from now on.
struct live_tail * live_tail_new (uint32_t model, uint32_t context, bool all);
void               live_tail_free(struct live_tail * tail); // NULL is ignored

enum live_tail_state {
    LIVE_TAIL_READ,    // up to its end
    LIVE_TAIL_GONE,    // the context has no ring, or none any more
    LIVE_TAIL_LATE,    // it changed all the time: again later
    LIVE_TAIL_DAMAGED, // what is there is no record
};

// Delivers what was routed since the last call.
enum live_tail_state live_tail_read(struct live_tail * tail, const struct live_map * map,
                                    const struct live_tail_sink * sink, void * self);

// Bytes of records that were overwritten before they could be read.
uint64_t live_tail_overrun(const struct live_tail * tail);
