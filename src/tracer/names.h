// The lines of LLAMA_EXPERT_TRACE_NAMES.

#pragma once

#include "base/text.h"
#include "routing/routing.h"

// Adds one line for every expert tensor that an activation uses. The experts of a layer are slices of one tensor;
// the number before the last part of the name is the slice.
void names_add(struct text * text, const struct routing_layer * layer);
