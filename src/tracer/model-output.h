// A model's statistics file: claimed at its first batch, replaced now and then, and written once more at the end.

#pragma once

#include "tracer/tracer-state.h"

enum model_output_occasion { MODEL_OUTPUT_FIRST, MODEL_OUTPUT_AGAIN, MODEL_OUTPUT_LAST };

// Writes the statistics, and finds a place for them first where that was not done or not possible before. `say` reports
// what became of them.
void model_output_write(struct tracer_model * model, enum model_output_occasion occasion, log_fn say);

// A model that is gone, and whose statistics are written, needs its output no more. Held by the caller.
void model_output_finish(struct tracer_model * model);
