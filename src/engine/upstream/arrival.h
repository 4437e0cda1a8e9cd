// How the library came into the process: with it, or later, when contexts, models and schedulers were there already.

#pragma once

#include <stdatomic.h>
#include <stdbool.h>

extern atomic_bool arrival_is_late; // from then on, whether or not it is attached at the moment

// Calls of llama_decode and its like are seen, as the program's objects have slots for them.
extern atomic_bool arrival_sees_calls;

static inline bool arrived_late(void) {
    return atomic_load_explicit(&arrival_is_late, memory_order_relaxed);
}
