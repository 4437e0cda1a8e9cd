// What a program asks llama.cpp to evaluate, in either of the forms that there are: llama_batch, whose members can
// be read, and (from 0.7.0) llama_batch_ext, which is opaque: what is added to one is noted as it is added.

#pragma once

#include "engine/upstream/real.h"

#define BATCH_SEQUENCES_MAX 65536

struct batch_token {
    int32_t id;       // -1: an embedding
    int32_t sequence; // the first one, where the token belongs to several
    int32_t position; // -1: left to llama.cpp
    bool    asks;     // for logits
};

// Notes on one llama_batch_ext.
struct batch_notes;

// One of the two, or neither: nothing is known then.
struct batch {
    const struct llama_batch * plain;
    const struct batch_notes * notes;
    bool                       is_lost; // for lack of memory
};

int32_t            batch_n_tokens(const struct batch * batch); // 0 where nothing is known
struct batch_token batch_token   (const struct batch * batch, int32_t i);

// The sequences that a token belongs to: the first of them is the token's `sequence`.
int32_t batch_n_sequences(const struct batch * batch, int32_t i);
int32_t batch_sequence   (const struct batch * batch, int32_t i, int32_t k);

// Whether the program left positions, sequences and logits to llama.cpp.
bool batch_is_bare(const struct batch * batch);

// The program called the llama_batch_ext_… function of this name. `index` is what adding returned, negative where it
// was refused; setting an output or a position succeeded.
void batch_on_init      (const struct llama_batch_ext * key);
void batch_on_free      (const struct llama_batch_ext * key);
void batch_on_clear     (const struct llama_batch_ext * key);
void batch_on_add       (const struct llama_batch_ext * key, int32_t index, int32_t sequence, int32_t id);
void batch_on_set_output(const struct llama_batch_ext * key, int32_t index, bool asks);
void batch_on_set_pos   (const struct llama_batch_ext * key, int32_t index, int32_t position);

// Returns NULL where nothing is known of it, or not everything.
const struct batch_notes * batch_find(const struct llama_batch_ext * key);

// Whether something is not known of it for lack of memory.
bool batch_is_lost(const struct llama_batch_ext * key);

// In the child of a fork: forgets everything without touching it.
void batch_forget_all(void);

// As capture_drop_all().
void batch_drop_all(void);
