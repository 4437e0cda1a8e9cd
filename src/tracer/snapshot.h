// A copy of one model's counts, and the two forms in which it is told.

#ifndef TRACER_SNAPSHOT_H
#define TRACER_SNAPSHOT_H

#include "counts.h"
#include "llama-expert-tracer.h"
#include "text.h"

// Returns NULL where memory runs out.
struct expert_tracer_snapshot * snapshot_new(const struct routing_model * model, const struct counts * counts, bool complete);

// The specification's lines.
void snapshot_print(struct text * text, const struct expert_tracer_snapshot * snapshot, bool per_layer);

// docs/statistics-format.md. `run` names the run of the program that this belongs to.
void snapshot_write_json(struct text * text, const struct expert_tracer_snapshot * snapshot, bool per_layer, const char * run);

#endif // TRACER_SNAPSHOT_H
