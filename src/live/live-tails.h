// What all contexts of a running tracer routed last: the tails of all of its rings, found as they come and go.

#pragma once

#include "live/live-tail.h"

struct live_tails;

// Who receives records: `sink` with what open() returns for their context, until close() of that.
struct live_tails_receiver {
    const struct live_tail_sink * sink;
    void * (* open) (void * self, uint32_t model, uint32_t context);
    void   (* close)(void * self, void * opened);
    void  * self;
};

// `receiver` is copied. live_tails_free() closes what is open.
struct live_tails * live_tails_new (const struct live_tails_receiver * receiver);
void                live_tails_free(struct live_tails * tails); // NULL is ignored

// Delivers what was routed since the last call, to begin with what is in the rings already.
void live_tails_read(struct live_tails * tails, const struct live_map * map);

// Bytes of records that were overwritten before they could be read.
uint64_t live_tails_overrun(const struct live_tails * tails);
