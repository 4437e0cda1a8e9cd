// Recognises warm-ups by their batches and by what programs do behind them.

#include "engine/context/warmup.h"

#include "engine/context/context-events.h"

static bool is_special_token(const struct context * context, int32_t token) {
    const struct real        * real  = context->real;
    const struct llama_model * model = real->llama_get_model(context->keyed.key);
    if (real->llama_model_get_vocab && real->llama_vocab_bos && real->llama_vocab_eos) {
        const struct llama_vocab * vocab = real->llama_model_get_vocab(model);
        return token == real->llama_vocab_bos(vocab) || token == real->llama_vocab_eos(vocab);
    }
    return real->llama_token_bos && real->llama_token_eos &&
           (token == real->llama_token_bos(model) || token == real->llama_token_eos(model));
}

// Programs warm up with {BOS, EOS}, or {0} where a model has neither, and servers probe the memory with {0, 0}.
static bool looks_like_warmup(const struct context * context, const struct batch * batch) {
    const int32_t n = batch_n_tokens(batch);
    if (n < 1 || n > 2 || !batch_is_bare(batch)) {
        return false;
    }
    for (int32_t i = 0; i < n; i++) {
        const struct batch_token token = batch_token(batch, i);
        if (token.sequence != 0 || (token.id != 0 && !is_special_token(context, token.id))) {
            return false;
        }
    }
    return true;
}

void warmup_settle(struct context * context, bool warmup) {
    if (context->suspicion != CONTEXT_UNSUSPECTED) {
        context->suspicion = CONTEXT_UNSUSPECTED;
        context_events_add(context, (struct context_event) { .kind = CONTEXT_SETTLED, .warmup = warmup });
    }
}

enum routing_fate warmup_begin(struct context * context, const struct batch * batch) {
    if (context->warmup) {
        return ROUTING_WARMUP;
    }
    if (!looks_like_warmup(context, batch)) {
        warmup_settle(context, false);
        return ROUTING_COUNT;
    }
    if (context->suspicion > CONTEXT_EVALUATED) {
        warmup_settle(context, false);
    }
    context->suspicion = CONTEXT_EVALUATED;
    return ROUTING_PENDING;
}

void warmup_on_remove(struct context * context, int32_t sequence, int32_t p0, int32_t p1) {
    if (context->suspicion == CONTEXT_EVALUATED && sequence == 0 && p0 == 1 && p1 == -1) {
        context->suspicion = CONTEXT_PROBED;
    }
}

void warmup_on_clear(struct context * context) {
    if (context->suspicion == CONTEXT_PROBED) {
        warmup_settle(context, true);
    } else if (context->suspicion == CONTEXT_EVALUATED) {
        context->suspicion = CONTEXT_CLEARED;
    }
}

void warmup_on_perf_reset(struct context * context) {
    if (context->suspicion == CONTEXT_CLEARED) {
        warmup_settle(context, true);
    }
}
