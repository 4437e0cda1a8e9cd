// Whether a batch is a warm-up: announced by the program (llama_set_warmup), or of the tokens that programs warm up
// with and followed by what they do then. Its routing is pending until that is settled.

#pragma once

#include "engine/context/context-state.h"

// A batch is going to be evaluated. Returns what becomes of its counts.
enum routing_fate warmup_begin(struct context * context, const struct batch * batch);

// The program removed positions of a sequence, cleared the memory, or reset its timings.
void warmup_on_remove    (struct context * context, int32_t sequence, int32_t p0, int32_t p1);
void warmup_on_clear     (struct context * context);
void warmup_on_perf_reset(struct context * context);

// Delivers what became of a batch that may be a warm-up, where there is one.
void warmup_settle(struct context * context, bool warmup);
