// Tells prompt from generation by what the program's batches ask for, sequence by sequence.

#include "engine/context/phases.h"

#include "engine/upstream/arrival.h"

// A sequence that may have been there before us begins with this token.
static bool begins(const struct context * context, const struct batch_token * token) {
    const struct real * real = context->real;
    if (token->position >= 0 || real->llama_get_memory == NULL || real->llama_memory_seq_pos_max == NULL) {
        return token->position == 0;
    }
    struct llama_memory_i * memory = real->llama_get_memory(context->keyed.key);
    return memory && real->llama_memory_seq_pos_max(memory, token->sequence) < 0;
}

// What was there before us may have asked for logits then, or may ask for the first time.
static bool is_undecided(const struct sequence * sequence) {
    return !sequence->is_known && !sequence->has_asked && !sequence->asks_not_for_all;
}

void phases_begin(struct context * context, const struct batch * batch) {
    const int32_t n = batch_n_tokens(batch);

    context->n_prompt     = 0;
    context->n_generation = 0;
    context->is_undecided = n == 0 && arrived_late(); // it was filled before us
    context->phases_lost  = n == 0 && !context->is_undecided;
    for (int32_t i = 0; i < n; i++) {
        const struct batch_token token    = batch_token(batch, i);
        struct sequence        * sequence = sequences_at(&context->sequences, token.sequence);
        if (sequence == NULL) {
            context->n_prompt    = (uint64_t) n;
            context->phases_lost = true;
            return;
        }
        sequence->asks_not_for_all = false;
        sequence->is_known         = sequence->is_known || begins(context, &token);
    }
    for (int32_t i = 0; i < n; i++) {
        const struct batch_token token = batch_token(batch, i);
        if (!token.asks) {
            sequences_known(&context->sequences, token.sequence)->asks_not_for_all = true;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        struct sequence * sequence = sequences_known(&context->sequences, batch_token(batch, i).sequence);
        context->is_undecided = context->is_undecided || is_undecided(sequence);
        sequence->generates   = sequence->has_asked && !sequence->asks_not_for_all && !context->is_embedding;
        if (sequence->generates) {
            context->n_generation++;
        } else {
            context->n_prompt++;
        }
    }
}

// A token of several sequences is a token of each of them.
static void remember_who_asked(struct context * context, const struct batch * batch) {
    const int32_t n = batch_n_tokens(batch);
    for (int32_t i = 0; i < n; i++) {
        const struct batch_token token = batch_token(batch, i);
        const int32_t            n_of  = token.asks ? batch_n_sequences(batch, i) : 0;
        for (int32_t k = 0; k < n_of; k++) {
            struct sequence * sequence = sequences_at(&context->sequences, batch_sequence(batch, i, k));
            if (sequence) {
                sequence->has_asked = true;
            } else {
                context->phases_lost = true;
            }
        }
    }
}

struct routing_decode phases_end(struct context * context, const struct batch * batch, int32_t status) {
    if (status == 0 && context->fate != ROUTING_WARMUP) {
        remember_who_asked(context, batch);
    }
    if (context->is_undecided) {
        return (struct routing_decode) { .fate = context->fate };
    }
    struct routing_decode decode = { context->fate, context->phases_lost, context->n_prompt, context->n_generation, 0 };
    const uint64_t n_tokens = context->n_prompt + context->n_generation;
    if (n_tokens == 0) {
        decode.n_prompt = context->n_evaluated; // nothing is known of the batch
    } else if (status == 0) {
        decode.n_correction = (int64_t) n_tokens - (int64_t) context->n_evaluated;
    } else if (n_tokens > context->n_evaluated) {
        // stopped half-way: prompts are what is long enough for that
        decode.n_generation = 0;
        decode.n_prompt     = context->n_evaluated;
    }
    return decode;
}
