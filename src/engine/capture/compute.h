// Computing graphs, the last of what capture.h follows.

#pragma once

#include "engine/upstream/call.h"

struct tap;

// A call of ggml_backend_sched_graph_compute_async: pass it on, and return what it returned. Without a tap the graph is
// lost where `why` is not NULL.
struct call_result compute_tapped  (struct tap * tap, const struct call * call);
struct call_result compute_untapped(const struct call * call, const char * why);
