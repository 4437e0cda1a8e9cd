// From where it landed, the routing of a ubatch is brought to the host: read asynchronously behind the graph, one
// transfer a device, and told to the listeners when the program has synchronised with the devices anyway.

#pragma once

#include "engine/capture/graph-taps.h"
#include "engine/capture/tokens.h"
#include "engine/context/context.h"

#include <stdatomic.h>

#define FLIGHTS_MAX 4

extern const char flights_name[]; // what this way is called

// A ubatch whose routing is on its way.
struct flight {
    struct tap_plan   * plan;
    struct context    * context;
    enum routing_fate   fate;
    uint64_t            n_tokens;
    struct ubatch_tokens tokens;
    void              * buffer;               // pinned, NULL: `memory` is the C library's
    char              * memory;
    size_t              size;                 // of the memory
    size_t              at    [BACKENDS_MAX]; // where in it a strip's part begins
    void              * events[BACKENDS_MAX]; // NULL: none so far, or the device has none
    bool                is_marked;            // every device that takes part has its event recorded
};

struct flights {
    struct flight ring[FLIGHTS_MAX];
    int           first;
    int           n;
    int           n_max;    // chosen by what they take
    int32_t     * compact;  // [n_compact] rows without what lies between them
    size_t        n_compact;
};

// How many ubatches may be on their way: what they and the strips take, each as large as the largest batch makes it, is
// a hundredth of the compute buffers at most, or little. Bytes.
int flights_number(size_t room, size_t compute);

// A further graph is going to be computed while another ubatch's routing may be on its way.
void flights_mark(struct flights * flights, const struct graph_taps * taps);

// The graph of the taps is being computed. Takes what is known of its tokens, and gives memory for others instead.
// Returns false where the routing of an earlier one, or of this one, is not as it should be.
bool flights_add(struct flights * flights, struct graph_taps * taps, struct context * context,
                 struct ubatch_tokens * tokens);

extern atomic_int flights_in_the_air; // ubatches, of all of the process's flights

static inline bool flights_any(void) {
    return atomic_load_explicit(&flights_in_the_air, memory_order_relaxed) > 0;
}

// In the child of a fork: nothing is.
void flights_forget_all(void);

// The devices are idle: tells all that was on its way. Returns false where something of it is not as it should be.
bool flights_land(struct flights * flights, struct graph_taps * taps);

// Waits for the devices first.
bool flights_await(struct flights * flights, struct graph_taps * taps);

// Gives up what is on its way. Returns how many ubatches that were.
int flights_drop(struct flights * flights);

void flights_free(struct flights * flights, const struct graph_taps * taps); // with nothing on its way
