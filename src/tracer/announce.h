// The lines that a tracer prints: at a program's first batch, of a model that ends, and where memory runs out.

#pragma once

#include "tracer/tracer-state.h"

// The first batch of a context comes: prints what is enabled, once, and the remarks that waited for it.
void announce_beginning(struct expert_tracer * tracer, bool stats, bool names, bool routing, const char * capture);

// Prints a model's statistics, or why there are none, where something was counted since that was done before.
void announce_statistics(struct tracer_model * model, log_fn say);

// Reports, once, that memory ran out: there may be no end of it.
void announce_no_memory  (struct expert_tracer * tracer, log_fn say, const char * consequence);
void announce_not_counted(struct expert_tracer * tracer);

// Lines to be logged when the next context evaluates its first batch, NULL: none. They are copied.
void announce_later(struct expert_tracer * tracer, const char * remarks);
