// Which batches are recorded where a trace is sampled: of each N that follow each other in a context one, at random.
//
// What a program evaluates may be regular (a prompt after every three steps of generation), and every N-th batch
// always the same kind. The choice follows from the seed in the trace's header alone (docs/trace-format.md).

#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TRACE_SEED_MAX (UINT64_C(1) << 53) // what every reader of JSON keeps

// Returns whether a context's batch, both counted from 0, is the one of its N. `n`: 1 or more.
bool trace_sampling_takes(uint64_t seed, uint64_t n, uint32_t context, uint64_t batch);

// Returns a seed that no other trace has, most likely: from 1 on, short enough to be typed.
uint64_t trace_sampling_new_seed(void);
