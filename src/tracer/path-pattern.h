// Paths of output files as the user gives them, with what differs from process to process and from model to model.

#pragma once

#include "base/text.h"
#include "routing/routing.h"

// Adds the path with %p (the process), %m (the model) and %% filled in.
void path_pattern_add(struct text * text, const char * pattern, const struct routing_model * model);
