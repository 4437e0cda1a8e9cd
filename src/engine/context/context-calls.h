// The program's calls that change what is known of a context, but for those that evaluate: each is named as the
// function of llama.cpp that was called.

#pragma once

#include "engine/context/context-state.h"

#include <stdatomic.h>

void context_on_free           (const struct llama_context * key);
void context_on_perf_reset     (const struct llama_context * key);
void context_on_clear          (const struct llama_context * key);
void context_on_seq_rm         (const struct llama_context * key, int32_t seq, int32_t p0, int32_t p1, bool done);
void context_on_seq_cp         (const struct llama_context * key, int32_t from, int32_t to, int32_t p0, int32_t p1);
void context_on_seq_keep       (const struct llama_context * key, int32_t seq);
void context_on_state_set      (const struct llama_context * key, int32_t seq); // replaces all, where it is negative
extern atomic_bool context_embeddings_read; // of any context, ever

// Whether it matters that logits are read: by a context of which embeddings were read before.
static inline bool context_reads_embeddings(void) {
    return atomic_load_explicit(&context_embeddings_read, memory_order_relaxed);
}

void context_on_logits_read    (const struct llama_context * key); // or what was sampled from them
void context_on_embeddings_read(const struct llama_context * key);

// The same for functions that get the context's memory instead.
void context_on_memory_clear   (const struct llama_memory_i * memory);
void context_on_memory_seq_rm  (const struct llama_memory_i * memory, int32_t seq, int32_t p0, int32_t p1, bool done);
void context_on_memory_seq_cp  (const struct llama_memory_i * memory, int32_t from, int32_t to, int32_t p0, int32_t p1);
void context_on_memory_seq_keep(const struct llama_memory_i * memory, int32_t seq);
