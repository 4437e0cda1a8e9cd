// Keeps the state of a context's sequences, by their numbers.

#include "engine/context/sequences.h"

#include <stdlib.h>

#define GROWTH 256 // sequences for which room is made at once

struct sequence * sequences_known(const struct sequences * sequences, int32_t sequence) {
    return sequence >= 0 && (size_t) sequence < sequences->n ? &sequences->at[sequence] : NULL;
}

bool sequences_init(struct sequences * sequences, bool are_old) {
    *sequences = (struct sequences) { .are_old = are_old };
    return sequences_at(sequences, 0) != NULL;
}

struct sequence * sequences_at(struct sequences * sequences, int32_t sequence) {
    if ((size_t) sequence >= sequences->n) {
        const size_t      n     = (size_t) sequence + GROWTH;
        struct sequence * grown = realloc(sequences->at, n * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        for (size_t i = sequences->n; i < n; i++) {
            grown[i] = (struct sequence) { .is_known = !sequences->are_old };
        }
        sequences->at = grown;
        sequences->n  = n;
    }
    return &sequences->at[sequence];
}

static void begin_anew(struct sequence * sequence) {
    sequence->has_asked = false;
    sequence->life     += sequence->next > 0;
    sequence->next      = 0;
    sequence->is_known  = true;
}

void sequences_clear(struct sequences * sequences, int32_t sequence) {
    for (size_t i = 0; i < sequences->n; i++) {
        if (sequence < 0 || (size_t) sequence == i) {
            begin_anew(&sequences->at[i]);
        }
    }
}

void sequences_clear_others(struct sequences * sequences, int32_t sequence) {
    for (size_t i = 0; i < sequences->n; i++) {
        if (sequence < 0 || (size_t) sequence != i) {
            begin_anew(&sequences->at[i]);
        }
    }
}

// Logits that were asked for are those of the end: what is copied without it has none.
void sequences_copy(struct sequences * sequences, int32_t from, int32_t to, int32_t end) {
    const struct sequence * known = sequences_known(sequences, from);
    if (known == NULL || from == to || to < 0) {
        return;
    }
    const struct sequence source = *known; // it may move
    const bool            whole  = end < 0 || (source.next > 0 && end >= source.next);
    struct sequence     * copy   = sequences_at(sequences, to);
    if (copy) {
        copy->has_asked = whole && source.has_asked;
        copy->is_known  = !whole || source.is_known;
        copy->next      = whole ? source.next : end;
    }
}

void sequences_free(struct sequences * sequences) {
    free(sequences->at);
    *sequences = (struct sequences) { 0 };
}
