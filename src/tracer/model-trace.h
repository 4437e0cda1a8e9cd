// A model's routing trace, which its contexts share: begun with the first of them or by request, ended with the model
// or by request.

#pragma once

#include "tracer/tracer-state.h"

// Has the context's routing recorded in the model's trace, where there is or should be one, and in no other.
void model_trace_join(struct tracer_context * context);

// Counts the ubatch as one that is not in the trace that it should be in, until there is memory for that.
void model_trace_lack(struct tracer_context * context, const struct routing_ubatch * ubatch);

// The model is gone, or the program ends.
void model_trace_end(struct tracer_model * model);

// By request, with the tracer's mutex: contexts that follow an order record in this trace then, or in none any more.
// `fd`: a file that is written to, taken over; -1: `path` is claimed. Returns 0, or -errno; -EBUSY: there is one.
int  model_trace_order       (struct tracer_model * model, const struct trace_options * options, int fd);
void model_trace_order_to_end(struct tracer_model * model);

// Ends what no context records in any more. Held by the caller, without a lock.
void model_trace_end_retired(struct tracer_model * model);
