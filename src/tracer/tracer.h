// The tracer: counts the routing that the engine delivers, model by model, and prints, exports and records it as
// configured.

#pragma once

#include "llama-expert-tracer.h"
#include "tracer/config.h"
#include "tracer/tracer-setup.h"

// Takes the configuration over. Returns NULL where memory runs out: it is freed then.
struct expert_tracer * tracer_new (struct config * config, const struct tracer_setup * setup);
void                   tracer_free(struct expert_tracer * tracer);

// What new models' counts are printed and exported to from now on. Takes the configuration over.
void tracer_configure(struct expert_tracer * tracer, struct config * config);

// It is told what is routed from now on: others may see it, where its configuration says so.
void tracer_show(struct expert_tracer * tracer);

// Whether it can be watched and steered.
bool tracer_is_shown(const struct expert_tracer * tracer);

// The program ends: prints, exports and records what was not yet.
void tracer_finish(struct expert_tracer * tracer);

// In the child of a fork: gives up what belongs to the parent. Nothing else may be called afterwards.
void tracer_abandon(struct expert_tracer * tracer);
