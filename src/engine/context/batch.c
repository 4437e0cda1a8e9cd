// Reads llama_batch, and keeps notes on each llama_batch_ext as the program fills it.

#include "engine/context/batch.h"

#include "engine/upstream/keyed-list.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct batch_notes {
    struct keyed         keyed;    // by struct llama_batch_ext *
    struct batch_token * tokens;   // [n_tokens]
    int32_t              n_tokens;
    int32_t              room;
    bool                 broken;   // something is missing
    bool                 lost;     // for lack of memory
};

static struct keyed_list               all_notes = KEYED_LIST_EMPTY;
static atomic_bool                     has_lost_notes; // there are batches of which none are taken, for lack of memory
static _Thread_local struct keyed_last last_notes;

//
// reading
//

int32_t batch_n_tokens(const struct batch * batch) {
    return batch->plain ? batch->plain->n_tokens : batch->notes ? batch->notes->n_tokens : 0;
}

static int32_t valid_sequence(int32_t sequence) {
    return sequence >= 0 && sequence < BATCH_SEQUENCES_MAX ? sequence : 0;
}

static struct batch_token plain_token(const struct llama_batch * batch, int32_t i) {
    const bool has_sequence = batch->seq_id && batch->seq_id[i] && !(batch->n_seq_id && batch->n_seq_id[i] < 1);
    return (struct batch_token) {
        .id       = batch->token ? batch->token[i] : -1,
        .sequence = has_sequence ? valid_sequence(batch->seq_id[i][0]) : 0,
        .position = batch->pos ? batch->pos[i] : -1,
        .asks     = batch->logits ? batch->logits[i] != 0 : i == batch->n_tokens - 1,
    };
}

struct batch_token batch_token(const struct batch * batch, int32_t i) {
    return batch->plain ? plain_token(batch->plain, i) : batch->notes->tokens[i];
}

int32_t batch_n_sequences(const struct batch * batch, int32_t i) {
    const bool has_more = batch->plain && batch->plain->seq_id && batch->plain->n_seq_id && batch->plain->seq_id[i];
    return has_more && batch->plain->n_seq_id[i] > 1 ? batch->plain->n_seq_id[i] : 1;
}

int32_t batch_sequence(const struct batch * batch, int32_t i, int32_t k) {
    return k == 0 ? batch_token(batch, i).sequence : valid_sequence(batch->plain->seq_id[i][k]);
}

bool batch_is_bare(const struct batch * batch) {
    if (batch->plain) {
        return batch->plain->pos == NULL && batch->plain->seq_id == NULL && batch->plain->logits == NULL;
    }
    return batch->notes != NULL; // positions are always set there
}

//
// taking notes
//

static struct batch_notes * notes_find(const struct llama_batch_ext * key) {
    return keyed_find(&all_notes, &last_notes, key);
}

const struct batch_notes * batch_find(const struct llama_batch_ext * key) {
    const struct batch_notes * notes = notes_find(key);
    return notes && !notes->broken ? notes : NULL;
}

bool batch_is_lost(const struct llama_batch_ext * key) {
    const struct batch_notes * notes = notes_find(key);
    return notes ? notes->lost : atomic_load_explicit(&has_lost_notes, memory_order_relaxed);
}

void batch_on_init(const struct llama_batch_ext * key) {
    struct batch_notes * notes = key ? calloc(1, sizeof(*notes)) : NULL;
    if (notes) {
        notes->keyed.key = key;
        keyed_add(&all_notes, &notes->keyed);
    } else if (key) {
        atomic_store(&has_lost_notes, true);
    }
}

void batch_on_free(const struct llama_batch_ext * key) {
    struct batch_notes * notes = notes_find(key);
    if (notes) {
        keyed_remove(&all_notes, &notes->keyed);
        free(notes->tokens);
        free(notes);
    }
}

// One that was made when nobody listened is known from now on.
void batch_on_clear(const struct llama_batch_ext * key) {
    struct batch_notes * notes = notes_find(key);
    if (notes == NULL) {
        batch_on_init(key);
    } else {
        notes->n_tokens = 0;
        notes->broken   = false;
        notes->lost     = false;
    }
}

void batch_on_add(const struct llama_batch_ext * key, int32_t index, int32_t sequence, int32_t id) {
    struct batch_notes * notes = notes_find(key);
    if (!notes || index != notes->n_tokens) { // refused, and 0.7.0 may keep an entry all the same
        if (notes) {
            notes->broken = true;
        }
        return;
    }
    if (notes->n_tokens == notes->room) {
        const int32_t        room  = notes->room * 2 + 64;
        struct batch_token * grown = realloc(notes->tokens, (size_t) room * sizeof(*grown));
        if (grown == NULL) {
            notes->broken = true;
            notes->lost   = true;
            return;
        }
        notes->tokens = grown;
        notes->room   = room;
    }
    notes->tokens[notes->n_tokens++] = (struct batch_token) { id, valid_sequence(sequence), -1, false };
}

void batch_on_set_output(const struct llama_batch_ext * key, int32_t index, bool asks) {
    struct batch_notes * notes = notes_find(key);
    if (notes && index >= 0 && index < notes->n_tokens) {
        notes->tokens[index].asks = asks;
    }
}

void batch_on_set_pos(const struct llama_batch_ext * key, int32_t index, int32_t position) {
    struct batch_notes * notes = notes_find(key);
    if (notes && index >= 0 && index < notes->n_tokens) {
        notes->tokens[index].position = position;
    }
}

void batch_drop_all(void) {
    while (all_notes.first) {
        batch_on_free(all_notes.first->key);
    }
}

void batch_forget_all(void) {
    keyed_forget_all(&all_notes);
}
