// Tracers that others than the environment and the program's own calls ask for.

#pragma once

#include "base/text.h"
#include "llama-expert-tracer.h"
#include "tracer/config.h"

// Takes the configuration over. `leave`: what a request to go away calls. Returns NULL where memory or room is used up.
// The environment is not read any more.
struct expert_tracer * library_attach(struct config * config, void (*leave)(void));

// Ends it: what it has is written. Returns when nobody calls it any more.
void library_detach(struct expert_tracer * tracer);
