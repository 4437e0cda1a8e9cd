// The program's contexts: found by their keys, opened with the listeners, followed from batch to batch.
//
// A context is either seen (the program's calls to llama_decode pass us) or found behind a scheduler alone, when
// the program fetched llama_decode with dlsym. A context is used by one thread at a time, as llama.cpp demands.

#pragma once

#include "engine/context/context-state.h"

// Begins a call of llama_decode, llama_encode or llama_process. Returns NULL where nobody listens or memory ran out: it
// is not traced then, and has to be ended all the same.
struct context * context_decode_begin(const struct real * real, const struct llama_context * key,
                                      const struct batch * batch);
void             context_decode_end  (struct context * context, const struct batch * batch, int32_t status);

// What this thread decodes would be traced, but there was no memory for its context.
bool context_is_lacking(void);

// The context that has this key, or this memory. NULL: none.
struct context * context_of_key   (const void * key);
struct context * context_of_memory(const struct llama_memory_i * memory);

// The file that the context's model was loaded from, NULL: not known. `context` may be NULL: of one that is not seen.
const char * context_model_file(const struct context * context);

// The context whose batch this thread decodes, NULL: none that is seen.
struct context * context_current(void);

// A context that is not seen, recognised by one of its model's expert tensors.
struct context * context_new_unseen(const struct real * real, const void * sched, const void * model_key);

// Whether anybody wants to know what it routes now: in all of a batch, or in none.
bool context_is_wanted(const struct context * context);

// The first ubatch of the context is about to be computed, or a further one. `capture` names the way of reading.
// Returns whether anybody is interested.
bool context_open(struct context * context, const char * capture);

// A ubatch is computed: returns what becomes of its counts. The experts need not be known yet.
enum routing_fate context_ubatch_begin(struct context * context, const struct routing_layer * layers, int32_t n_layers,
                                       uint64_t n_tokens);

// Delivers a ubatch to the listeners.
void context_ubatch_deliver(struct context * context, const struct routing_ubatch * ubatch);

// The routing of a ubatch that was begun is not known, for this reason, a static string: delivers that.
void context_deliver_lost(struct context * context, enum routing_fate fate, uint64_t n_tokens, const char * why);

// The same of one that nobody has begun: delivers it to the listeners, or to those that come. `context` may be NULL:
// the next one that opens delivers it.
void context_lose_ubatch(struct context * context, uint64_t n_tokens, const char * why);

// Whether anybody wants to know the tokens of its ubatches.
bool context_wants_tokens(const struct context * context);

// What becomes of a layer's activations, as far as it is known.
enum routing_fate context_fate(const struct context * context, const struct routing_layer * layer);

// The routing of what the context evaluates from now on cannot be read, for this reason, a static string.
void context_stop(struct context * context, const char * why);

// Says goodbye to the listeners and forgets the context.
void context_close(struct context * context);

// The program called llama_set_warmup, or the engine opened a model's file.
void context_on_set_warmup (const struct real * real, const struct llama_context * key, bool warmup);
void context_on_file_opened(void);

// As capture_drop_all().
void context_drop_all(void);

// In the child of a fork: forgets everything without touching it.
void context_forget_all(void);
