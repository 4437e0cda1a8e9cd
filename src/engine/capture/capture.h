// Reads the routing of the graphs that are computed, in one of two ways.
//
// Graphs are built before anything is computed: what build_moe_ffn() selects is a tensor, named ffn_moe_topk-<layer>
// in every architecture and release. Mostly it lands in memory of ours and is brought to the host when the program
// waits for the device anyway (graph-taps.h, flights.h). Where that cannot be, it is read through the scheduler's eval
// callback (eval-reading.h): in front of a program's own one, which gets the nodes that it asks for and no others, and
// for a graph from which something has to be learned first.

#pragma once

#include "engine/upstream/call.h"
#include "engine/upstream/real.h"

// Chooses how the routing of schedulers to come is read: "auto" (or NULL), "graph" or "eval-callback". Returns false
// where there is no such way; then it is as before.
bool capture_set_way(const char * way);

// The program created or freed a scheduler. Those are tapped that are created while somebody listens.
void capture_on_sched_new (const struct real * real, void * sched);
void capture_on_sched_free(void * sched);

// The program is going to free a backend or a context: what is on its way from there lands before.
void capture_on_backend_free(const void * backend);
void capture_on_context_free(const struct llama_context * key);

// The scheduler is reset: this thread goes on to build a graph for it, or one is built already.
// One that was there before the library came (arrival.h) is known from then on.
void capture_on_sched_reset(const struct real * real, void * sched);

// The program is going to set its eval callback, or none.
void capture_on_set_eval_callback(void * sched, ggml_eval_fn fn, void * user_data);

// This thread made a graph, and added a node that uses stacked expert weights.
void capture_on_new_graph (struct ggml_context * ctx, struct ggml_cgraph * graph);
void capture_on_mul_mat_id(const struct real * real, struct ggml_context * ctx, const struct ggml_tensor * weights,
                           struct ggml_tensor * ids, const struct ggml_tensor * product);

// This thread named a tensor of a layer, and made one an input of its graph.
void capture_on_named    (struct ggml_tensor * tensor, const char * name);
void capture_on_set_input(const struct ggml_tensor * tensor);

// The scheduler has chosen a backend for every node of the graph.
void capture_on_split(void * sched);

// The call of the ggml_backend_sched_… function of this name: passes it on, and returns what it returned. Sizes include
// what the tracer takes.
struct call_result capture_reserve     (const struct call * call);
struct call_result capture_reserve_size(const struct call * call);
struct call_result capture_buffer_size (const struct call * call);
struct call_result capture_alloc_graph (const struct call * call);
struct call_result capture_compute     (const struct call * call);

// The devices of the scheduler are idle.
void capture_on_synchronize(void * sched);

// Whether graphs that were built last have anything of ours.
bool capture_is_in_graphs(void);

// Forgets everything. Nobody is in one of these functions, or will be before the engine is met anew.
void capture_drop_all(void);

// In the child of a fork: forgets everything without touching it.
void capture_forget_all(void);
