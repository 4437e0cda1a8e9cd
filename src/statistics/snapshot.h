// A copy of one model's counts, and the two forms in which it is told.

#pragma once

#include "base/text.h"
#include "llama-expert-tracer.h"
#include "statistics/counters.h"

// What is known of the counts beside them. Static strings, NULL: there is no reason.
struct snapshot_state {
    bool         complete;    // see struct expert_tracer_snapshot
    const char * lost_reason;
    const char * stopped;
};

// Returns NULL where memory runs out.
struct expert_tracer_snapshot * snapshot_new(const struct routing_model * model, const struct counters * counts,
                                             const struct snapshot_state * state);

// The specification's lines; of each layer those of the `hottest` experts alone, hottest first, 0: all.
void snapshot_print(struct text * text, const struct expert_tracer_snapshot * snapshot, bool per_layer, size_t hottest);

// docs/statistics-format.md. `run` names the run of the program that this belongs to.
void snapshot_write_json(struct text * text, const struct expert_tracer_snapshot * snapshot, bool per_layer,
                         const char * run);
