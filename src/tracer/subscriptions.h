// The program's functions that are called for each layer's routing (expert_tracer_subscribe).

#pragma once

#include "tracer/tracer-state.h"

// Calls all of them, if there are any.
void subscriptions_deliver(const struct tracer_context * context, const struct routing_layer * layer,
                           const struct routing_ubatch * ubatch);
