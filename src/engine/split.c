#include "split.h"

#include <stdlib.h>
#include <string.h>

bool split_begin(struct split * split, const struct batch * batch, int32_t n_ubatch) {
    const size_t n = (size_t) batch_n_tokens(batch);
    split->n_tokens = 0;
    split->n_left   = 0;
    split->n_ubatch = n_ubatch;
    if (n > split->room) {
        const enum split_way way = split->way;
        split_free(split);
        split->way      = way;
        split->n_ubatch = n_ubatch;
        split->used      = malloc(n * sizeof(*split->used));
        split->rows      = malloc(n * sizeof(*split->rows));
        split->sequences = malloc(n * sizeof(*split->sequences));
        if (!split->used || !split->rows || !split->sequences) {
            split_free(split);
            return false;
        }
        split->room = n;
    }
    if (n > 0) {
        memset(split->used, 0, n * sizeof(*split->used));
    }
    split->n_tokens = (int32_t) n;
    split->n_left   = (int32_t) n;
    return true;
}

void split_free(struct split * split) {
    free(split->used);
    free(split->rows);
    free(split->sequences);
    *split = (struct split) { 0 };
}

//
// whether the inputs agree
//

typedef int32_t (*property_fn)(const struct batch_token * token);

static int32_t id_of      (const struct batch_token * token) { return token->id; }
static int32_t position_of(const struct batch_token * token) { return token->position; }

// Whether one of the inputs is this property of the rows. What the program did not tell agrees with everything.
static bool agrees(const struct split * split, const struct batch * batch, int32_t n_rows, const struct split_input * inputs, int n_inputs,
                   property_fn property) {
    for (int i = 0; i < n_inputs; i++) {
        int32_t row = 0;
        for (; row < n_rows; row++) {
            const struct batch_token token = batch_token(batch, split->rows[row]);
            const int32_t            value = property(&token);
            if (value < 0) {
                return true;
            }
            if (value != inputs[i].values[row]) {
                break;
            }
        }
        if (row == n_rows) {
            return true;
        }
    }
    return false;
}

static bool is_right(const struct split * split, const struct batch * batch, int32_t n_rows, const struct split_input * inputs, int n_inputs) {
    return agrees(split, batch, n_rows, inputs, n_inputs, id_of) && agrees(split, batch, n_rows, inputs, n_inputs, position_of);
}

//
// the ways of cutting
//

// The batch's next tokens, as many as there can be. Returns false where it is another number.
static bool cut_in_order(struct split * split, int32_t n_rows) {
    const int32_t most = split->n_left < split->n_ubatch ? split->n_left : split->n_ubatch;
    int32_t       row  = 0;
    if (split->n_ubatch > 0 && n_rows != most) {
        return false;
    }
    for (int32_t i = 0; i < split->n_tokens && row < n_rows; i++) {
        if (!split->used[i]) {
            split->rows[row++] = i;
        }
    }
    return row == n_rows;
}

static bool takes_part(const struct split * split, int32_t n_sequences, int32_t sequence) {
    for (int32_t i = 0; i < n_sequences; i++) {
        if (split->sequences[i] == sequence) {
            return true;
        }
    }
    return false;
}

// The sequences whose tokens are left, in the order of their first ones. A memory that keeps sequences apart takes only those whose
// numbers follow each other. Returns their number.
static int32_t choose_sequences(struct split * split, const struct batch * batch, bool only_successors) {
    int32_t n = 0;
    for (int32_t i = 0; i < split->n_tokens; i++) {
        const int32_t sequence = split->used[i] ? -1 : batch_token(batch, i).sequence;
        const bool    follows  = n == 0 || !only_successors || sequence == split->sequences[n - 1] + 1;
        if (sequence >= 0 && follows && !takes_part(split, n, sequence)) {
            split->sequences[n++] = sequence;
        }
    }
    return n;
}

// As many tokens of each of the first n sequences. Returns false where one has less.
static bool cut_equally(struct split * split, const struct batch * batch, int32_t n_rows, int32_t n_sequences) {
    int32_t row = 0;
    for (int32_t s = 0; s < n_sequences; s++) {
        const int32_t end = row + n_rows / n_sequences;
        for (int32_t i = 0; i < split->n_tokens && row < end; i++) {
            if (!split->used[i] && batch_token(batch, i).sequence == split->sequences[s]) {
                split->rows[row++] = i;
            }
        }
        if (row < end) {
            return false;
        }
    }
    return true;
}

static bool find_rows(struct split * split, enum split_way way, const struct batch * batch, int32_t n_rows, const struct split_input * inputs,
                      int n_inputs) {
    if (way == SPLIT_IN_ORDER) {
        return cut_in_order(split, n_rows) && is_right(split, batch, n_rows, inputs, n_inputs);
    }
    for (int only_successors = 1; only_successors >= 0; only_successors--) {
        for (int32_t n = choose_sequences(split, batch, only_successors); n > 0; n--) {
            if (n_rows % n == 0 && cut_equally(split, batch, n_rows, n) && is_right(split, batch, n_rows, inputs, n_inputs)) {
                return true;
            }
        }
    }
    return false;
}

bool split_next(struct split * split, const struct batch * batch, int32_t n_rows, const struct split_input * inputs, int n_inputs) {
    if (n_rows < 1 || n_rows > split->n_left) {
        return false;
    }
    const enum split_way other = (split->way + 1) % N_SPLIT_WAYS;
    if (!find_rows(split, split->way, batch, n_rows, inputs, n_inputs)) {
        if (!find_rows(split, other, batch, n_rows, inputs, n_inputs)) {
            return false;
        }
        split->way = other;
    }
    for (int32_t row = 0; row < n_rows; row++) {
        split->used[split->rows[row]] = true;
    }
    split->n_left -= n_rows;
    return true;
}
