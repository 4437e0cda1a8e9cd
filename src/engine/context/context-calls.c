// Brings what the program does to a context's sequences to those who follow them: lives, drafts and warm-ups.

#include "engine/context/context-calls.h"

#include "engine/context/context.h"
#include "engine/context/drafts.h"
#include "engine/context/warmup.h"

void context_on_free(const struct llama_context * key) {
    struct context * context = context_of_key(key);
    if (context) {
        context_close(context);
    }
}

atomic_bool context_embeddings_read;

static void note_read(const struct llama_context * key, bool embeddings) {
    struct context * context = context_of_key(key);
    if (context) {
        context->is_embedding = embeddings;
    }
}

void context_on_logits_read(const struct llama_context * key) {
    note_read(key, false);
}

void context_on_embeddings_read(const struct llama_context * key) {
    atomic_store_explicit(&context_embeddings_read, true, memory_order_relaxed);
    note_read(key, true);
}

static void cleared(struct context * context) {
    warmup_on_clear(context);
    sequences_clear(&context->sequences, -1);
}

// `done`: the memory could do it. It always can remove a whole sequence.
static void sequence_removed(struct context * context, int32_t sequence, int32_t p0, int32_t p1, bool done) {
    warmup_on_remove(context, sequence, p0, p1);
    if (p1 >= 0 || !done) {
        return;
    }
    if (p0 <= 0) {
        sequences_clear(&context->sequences, sequence);
    } else if (sequence < 0) {
        drafts_cut_all(context, p0);
    } else {
        drafts_cut(context, sequence, p0);
    }
}

void context_on_perf_reset(const struct llama_context * key) {
    struct context * context = context_of_key(key);
    if (context) {
        warmup_on_perf_reset(context);
    }
}

void context_on_clear(const struct llama_context * key) {
    struct context * context = context_of_key(key);
    if (context) {
        cleared(context);
    }
}

void context_on_seq_rm(const struct llama_context * key, int32_t sequence, int32_t p0, int32_t p1, bool done) {
    struct context * context = context_of_key(key);
    if (context) {
        sequence_removed(context, sequence, p0, p1, done);
    }
}

// What begins behind the first position is no sequence that could be followed.
static void sequence_copied(struct context * context, int32_t from, int32_t to, int32_t p0, int32_t p1) {
    if (p0 <= 0) {
        sequences_copy(&context->sequences, from, to, p1);
    }
}

void context_on_seq_cp(const struct llama_context * key, int32_t from, int32_t to, int32_t p0, int32_t p1) {
    struct context * context = context_of_key(key);
    if (context) {
        sequence_copied(context, from, to, p0, p1);
    }
}

void context_on_seq_keep(const struct llama_context * key, int32_t sequence) {
    struct context * context = context_of_key(key);
    if (context) {
        sequences_clear_others(&context->sequences, sequence);
    }
}

void context_on_state_set(const struct llama_context * key, int32_t sequence) {
    struct context * context = context_of_key(key);
    if (context) {
        sequences_clear(&context->sequences, sequence);
    }
}

void context_on_memory_clear(const struct llama_memory_i * memory) {
    struct context * context = context_of_memory(memory);
    if (context) {
        cleared(context);
    }
}

void context_on_memory_seq_rm(const struct llama_memory_i * memory, int32_t sequence, int32_t p0, int32_t p1,
                              bool done) {
    struct context * context = context_of_memory(memory);
    if (context) {
        sequence_removed(context, sequence, p0, p1, done);
    }
}

void context_on_memory_seq_cp(const struct llama_memory_i * memory, int32_t from, int32_t to, int32_t p0, int32_t p1) {
    struct context * context = context_of_memory(memory);
    if (context) {
        sequence_copied(context, from, to, p0, p1);
    }
}

void context_on_memory_seq_keep(const struct llama_memory_i * memory, int32_t sequence) {
    struct context * context = context_of_memory(memory);
    if (context) {
        sequences_clear_others(&context->sequences, sequence);
    }
}
