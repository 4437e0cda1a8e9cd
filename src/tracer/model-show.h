// What a tracer's live memory says of a model beside its counters.

#pragma once

#include "tracer/tracer-state.h"

// With the tracer's mutex. Where there is no room for it, it is not shown.
void model_show(struct tracer_model * model);
void model_hide(struct tracer_model * model);

// With the tracer's mutex: how its routing is read has changed, perhaps.
void model_show_again(struct tracer_model * model);
