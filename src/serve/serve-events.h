// Routing events that are kept for a while, the oldest forgotten first, and a routing trace made of them.

#pragma once

#include "live/live-tail.h"
#include "live/live-view.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct serve_events;

// Keeps about `room` bytes.
struct serve_events * serve_events_new (size_t room);
void                  serve_events_free(struct serve_events * events);

// Where events of a context come from. What live_tail_read() calls with `self` being one of these.
struct serve_source {
    struct serve_events * events;
    uint32_t              model;
    uint32_t              context;
};
extern const struct live_tail_sink serve_events_sink;

// The events of now. They do not change any more, and are freed like others.
struct serve_events * serve_events_copy(struct serve_events * events);

uint64_t serve_events_tokens  (const struct serve_events * events, uint32_t model);
uint64_t serve_events_ubatches(const struct serve_events * events, uint32_t model);

// What an expert of each layer takes in memory, by layer, 0: not known.
struct serve_bytes {
    size_t     n;
    uint64_t * layers;
};

// Into an empty file that is open. False, and why.
bool serve_events_write(const struct serve_events * events, const struct live_view_model * model,
                        const struct serve_bytes * bytes, int fd, struct error * error);
