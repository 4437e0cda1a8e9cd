// Reads the routing while a graph is computed.
//
// Graphs are built before anything is computed: what build_moe_ffn() selects is a tensor, named
// ffn_moe_topk-<layer> in every architecture and release. It is read through the scheduler's eval callback, in
// front of the program's own one, which gets the nodes that it asks for and no others.

#ifndef ENGINE_CAPTURE_H
#define ENGINE_CAPTURE_H

#include "log.h"
#include "real.h"

// The program created or freed a scheduler. Only schedulers that were created here are tapped.
void capture_on_sched_new (const struct real * real, void * sched);
void capture_on_sched_free(void * sched);

// The program sets its eval callback, or none. Returns true where it was taken care of.
bool capture_on_set_eval_callback(const struct real * real, void * sched, ggml_eval_fn fn, void * user_data);

// A node that uses stacked expert weights was added to the graph that this thread builds.
void capture_on_mul_mat_id(const struct real * real, const struct ggml_tensor * weights);

// Computes the graph in the engine's stead. Returns what the engine returned.
int  capture_compute(const struct real * real, void * sched, struct ggml_cgraph * graph);

// In the child of a fork: forgets everything without touching it.
void capture_forget_all(void);

#endif // ENGINE_CAPTURE_H
