// A tracer's models and their contexts: found or made, held while somebody works on them, copied into a snapshot.

#pragma once

#include "tracer/tracer-state.h"

// Frees a context that is in no list.
void tracer_context_free(struct tracer_context * context);

// With the tracer's mutex. The model of this key that is loaded. Returns NULL where memory runs out.
struct tracer_model * model_find_or_add(struct expert_tracer * tracer, const struct routing_model * about);

// Its writer has ended.
void retired_trace_free(struct retired_trace * retired);

// Frees a model that is in no list.
void model_free(struct tracer_model * model);

// Who walks the models, or works on one without being one of its contexts, holds it. With the tracer's mutex.
struct tracer_model * model_hold(struct tracer_model * model);

// What is left of a model that is gone, and of which everything is written, is given back by the last who holds it:
// programs load and free models as long as they run. The program's own tracer keeps the counts.
void model_let_go(struct tracer_model * model);

// The models one by one, each held until it is let go of. The second lets go of the model before.
struct tracer_model * model_first(struct expert_tracer * tracer);
struct tracer_model * model_next (struct tracer_model * model);

// The configuration of a model that has no open contexts may change at any time. Returns false where memory runs out.
bool model_config(struct tracer_model * model, struct config * config);

// With the tracer's mutex. Why there would have been more of the model, where that is known when the program or the
// tracer ends. NULL: nothing.
const char * model_stopped(const struct tracer_model * model, bool is_end);

// `is_end`: nothing more is counted. Returns NULL where memory runs out.
struct expert_tracer_snapshot * model_snapshot(struct tracer_model * model, bool is_end);

// Who counts does that first and looks for the mark then; who exports takes the mark first and reads what was counted
// then. Fences keep the order, so that nothing is left out. Contexts share the marks: mostly they are there already,
// and are not touched.
void model_note_news(struct tracer_model * model, bool to_print);
bool model_take_news(atomic_bool * mark);
