// Finds which drafted tokens are rejected by what the program removes of its sequences.

#include "engine/context/drafts.h"

#include "engine/context/context-events.h"

#include <stdlib.h>

void drafts_note(struct context * context, struct drafted drafted) {
    if (context->n_drafted == context->n_drafted_max) {
        const size_t     n     = 2 * context->n_drafted_max + 64;
        struct drafted * grown = realloc(context->drafted, n * sizeof(*grown));
        if (grown == NULL) {
            context->tokens_lost = true; // what is not noted cannot be rejected
            return;
        }
        context->drafted       = grown;
        context->n_drafted_max = n;
    }
    context->drafted[context->n_drafted++] = drafted;
}

// Whether a token of the sequence that was evaluated in the last batch stays.
static bool something_stays(const struct context * context, int32_t sequence, int32_t position) {
    for (size_t i = 0; i < context->n_drafted; i++) {
        if (context->drafted[i].sequence == sequence && context->drafted[i].position < position) {
            return true;
        }
    }
    return false;
}

// Of several tokens that were evaluated together, those from this position on are removed.
static void reject(struct context * context, int32_t sequence, int32_t position) {
    struct routing_rejection run = { 0 };
    if (!something_stays(context, sequence, position)) {
        return;
    }
    for (size_t i = 0; i < context->n_drafted; i++) {
        struct drafted * drafted = &context->drafted[i];
        if (drafted->sequence != sequence || drafted->position < position) {
            continue;
        }
        if (run.n > 0 && (drafted->ubatch != run.ubatch || drafted->token != run.first + run.n)) {
            context_events_add(context, (struct context_event) { .kind = CONTEXT_REJECTED, .rejection = run });
            run.n = 0;
        }
        if (run.n == 0) {
            run = (struct routing_rejection) { drafted->ubatch, drafted->token, 0 };
        }
        run.n++;
        drafted->sequence = -1;
    }
    if (run.n > 0) {
        context_events_add(context, (struct context_event) { .kind = CONTEXT_REJECTED, .rejection = run });
    }
}

void drafts_cut(struct context * context, int32_t number, int32_t position) {
    struct sequence * sequence = sequences_known(&context->sequences, number);
    if (sequence && sequence->next > position) {
        sequence->next = position;
        reject(context, number, position);
        const struct routing_cut cut = { number, sequence->life, position };
        context_events_add(context, (struct context_event) { .kind = CONTEXT_CUT, .cut = cut });
    }
}

void drafts_cut_all(struct context * context, int32_t position) {
    for (size_t i = 0; i < context->sequences.n; i++) {
        drafts_cut(context, (int32_t) i, position);
    }
}
