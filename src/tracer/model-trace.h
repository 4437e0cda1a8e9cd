// A model's routing trace, which its contexts share: begun with the first of them, ended with the model.

#pragma once

#include "tracer/tracer-state.h"

// Has the context's routing recorded where that is asked for.
void model_trace_join(struct tracer_context * context);

// Counts the ubatch as one that is not in the trace that it should be in, until there is memory for that.
void model_trace_lack(struct tracer_context * context, const struct routing_ubatch * ubatch);

// The model is gone, or the program ends.
void model_trace_end(struct tracer_model * model);
