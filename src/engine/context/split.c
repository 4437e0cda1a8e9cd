// Cuts a batch into ubatches in each of llama.cpp's ways, until one agrees with what the graph's inputs hold.

#include "engine/context/split.h"

#include <stdlib.h>
#include <string.h>

// What was learned of earlier batches stays.
static void forget_batch(struct split * split) {
    const struct split before = *split;
    split_free(split);
    split->n_ubatch        = before.n_ubatch;
    split->way             = before.way;
    split->lacks_positions = before.lacks_positions;
}

bool split_begin(struct split * split, const struct batch * batch, int32_t n_ubatch) {
    const size_t n = (size_t) batch_n_tokens(batch);
    split->n_tokens = 0;
    split->n_left   = 0;
    split->n_ubatch = n_ubatch;
    if (n > split->room) {
        forget_batch(split);
        split->used      = malloc(n * sizeof(*split->used));
        split->rows      = malloc(n * sizeof(*split->rows));
        split->others    = malloc(n * sizeof(*split->others));
        split->sequences = malloc(n * sizeof(*split->sequences));
        if (split->used == NULL || split->rows == NULL || split->others == NULL || split->sequences == NULL) {
            forget_batch(split);
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
    free(split->others);
    free(split->sequences);
    *split = (struct split) { 0 };
}

// The ubatch whose rows are looked for.
struct sought {
    const struct batch        * batch;
    const struct split_inputs * inputs;
    int32_t                     n_rows;
    bool                        exactly; // cut as since June 2025: there were no graphs without positions before
    const int32_t             * but;     // other rows than these, NULL: any
};

//
// whether the inputs agree
//

typedef int32_t (*property_fn)(const struct batch_token * token);

static int32_t id_of      (const struct batch_token * token) { return token->id; }
static int32_t position_of(const struct batch_token * token) { return token->position; }

// Whether the program told this of each row.
static bool is_told(const struct split * split, const struct sought * sought, property_fn property) {
    for (int32_t row = 0; row < sought->n_rows; row++) {
        const struct batch_token token = batch_token(sought->batch, split->rows[row]);
        if (property(&token) < 0) {
            return false;
        }
    }
    return true;
}

static bool is_input(const struct split * split, const struct sought * sought, const int32_t * values,
                     property_fn property) {
    for (int32_t row = 0; row < sought->n_rows; row++) {
        const struct batch_token token = batch_token(sought->batch, split->rows[row]);
        if (property(&token) != values[row]) {
            return false;
        }
    }
    return true;
}

// Whether an input may be the one that has a name where others have it.
static bool may_be(int input, int named) {
    return named < 0 || input == named;
}

// Whether an input but `ids` is the positions of the rows.
static bool has_positions(const struct split * split, const struct sought * sought, int ids) {
    const struct split_inputs * inputs = sought->inputs;
    for (int i = 0; i < inputs->n; i++) {
        if (i != ids && may_be(i, inputs->positions) && is_input(split, sought, inputs->at[i], position_of)) {
            return true;
        }
    }
    return false;
}

// What the program did not tell agrees with everything, and so do positions where the graph has none.
static bool is_right(const struct split * split, const struct sought * sought) {
    const struct split_inputs * inputs        = sought->inputs;
    const bool                  any_positions = split->lacks_positions || !is_told(split, sought, position_of);
    if (!is_told(split, sought, id_of)) {
        return any_positions || has_positions(split, sought, -1);
    }
    for (int i = 0; i < inputs->n; i++) {
        if (may_be(i, inputs->ids) && is_input(split, sought, inputs->at[i], id_of) &&
            (any_positions || has_positions(split, sought, i))) {
            return true;
        }
    }
    return false;
}

//
// whether there are positions at all
//

// A token that no ubatch had yet, and no earlier row. Returns false where none is left.
static bool claim(struct split * split, const struct sought * sought, const int32_t * id, int32_t position) {
    for (int32_t i = 0; i < split->n_tokens; i++) {
        const struct batch_token token = batch_token(sought->batch, i);
        if (!split->used[i] && !split->others[i] && token.position == position && (id == NULL || token.id == *id)) {
            split->others[i] = true;
            return true;
        }
    }
    return false;
}

// Whether the rows may be tokens of the batch that have these ids at these positions, in whatever order.
static bool may_be_cut(struct split * split, const struct sought * sought, const int32_t * ids,
                       const int32_t * positions) {
    memset(split->others, 0, (size_t) split->n_tokens * sizeof(*split->others));
    for (int32_t row = 0; row < sought->n_rows; row++) {
        if (!claim(split, sought, ids ? &ids[row] : NULL, positions[row])) {
            return false;
        }
    }
    return true;
}

static bool may_be_positions(struct split * split, const struct sought * sought, int input) {
    const struct split_inputs * inputs = sought->inputs;
    if (batch_token(sought->batch, 0).id < 0) {
        return may_be_cut(split, sought, NULL, inputs->at[input]);
    }
    for (int i = 0; i < inputs->n; i++) {
        if (i != input && may_be(i, inputs->ids) && may_be_cut(split, sought, inputs->at[i], inputs->at[input])) {
            return true;
        }
    }
    return false;
}

// If one of the inputs were the positions, then each row would have the id and the position of a token of its own that
// is left of the batch, whatever way it was cut. Where that holds for none of them, the graph has no positions.
static bool lacks_positions(struct split * split, const struct sought * sought) {
    if (!sought->inputs->is_all || sought->inputs->positions >= 0) {
        return false;
    }
    for (int32_t i = 0; i < split->n_tokens; i++) {
        if (batch_token(sought->batch, i).position < 0) {
            return false;
        }
    }
    for (int i = 0; i < sought->inputs->n; i++) {
        if (may_be_positions(split, sought, i)) {
            return false;
        }
    }
    return true;
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

// The sequences whose tokens are left, in the order of their first ones. A memory that keeps sequences apart takes only
// those whose numbers follow each other. Returns their number.
static int32_t choose_sequences(struct split * split, const struct sought * sought, bool only_successors) {
    int32_t n = 0;
    for (int32_t i = 0; i < split->n_tokens; i++) {
        const int32_t sequence = split->used[i] ? -1 : batch_token(sought->batch, i).sequence;
        const bool    follows  = n == 0 || !only_successors || sequence == split->sequences[n - 1] + 1;
        if (sequence >= 0 && follows && !takes_part(split, n, sequence)) {
            split->sequences[n++] = sequence;
        }
    }
    return n;
}

// As many tokens of each of the first n sequences. Returns false where one has less.
static bool cut_equally(struct split * split, const struct sought * sought, int32_t n_sequences) {
    int32_t row = 0;
    for (int32_t s = 0; s < n_sequences; s++) {
        const int32_t end = row + sought->n_rows / n_sequences;
        for (int32_t i = 0; i < split->n_tokens && row < end; i++) {
            if (!split->used[i] && batch_token(sought->batch, i).sequence == split->sequences[s]) {
                split->rows[row++] = i;
            }
        }
        if (row < end) {
            return false;
        }
    }
    return true;
}

static int32_t count_left(const struct split * split, const struct sought * sought, int32_t sequence) {
    int32_t n = 0;
    for (int32_t i = 0; i < split->n_tokens; i++) {
        n += !split->used[i] && batch_token(sought->batch, i).sequence == sequence;
    }
    return n;
}

// Whether there could not be one more token of each of the first n sequences.
static bool is_largest(const struct split * split, const struct sought * sought, int32_t n_sequences) {
    const int32_t n_each = sought->n_rows / n_sequences;
    bool          ends   = split->n_ubatch <= 0 || (n_each + 1) * n_sequences > split->n_ubatch;
    for (int32_t s = 0; s < n_sequences && !ends; s++) {
        ends = count_left(split, sought, split->sequences[s]) == n_each;
    }
    return ends;
}

// Whether this cut is right, and another than that which is not sought.
static bool is_wanted(const struct split * split, const struct sought * sought) {
    const size_t size = (size_t) sought->n_rows * sizeof(*split->rows);
    return !(sought->but && memcmp(split->rows, sought->but, size) == 0) && is_right(split, sought);
}

// Releases before June 2025 left sequences out by rules of their own. Since then all take part, or the first one alone.
static bool find_equal(struct split * split, const struct sought * sought, bool only_successors) {
    const int32_t n_all = choose_sequences(split, sought, only_successors);
    for (int32_t n = n_all; n > 0; n--) {
        if (sought->n_rows % n != 0 || (sought->exactly && n != n_all && n != 1)) {
            continue;
        }
        if (cut_equally(split, sought, n) && (!sought->exactly || is_largest(split, sought, n)) &&
            is_wanted(split, sought)) {
            return true;
        }
    }
    return false;
}

static bool find_in_way(struct split * split, enum split_way way, const struct sought * sought) {
    if (way == SPLIT_IN_ORDER) {
        return cut_in_order(split, sought->n_rows) && is_wanted(split, sought);
    }
    return find_equal(split, sought, true) || find_equal(split, sought, false);
}

// The way that was right before comes first.
static bool find_rows(struct split * split, const struct sought * sought) {
    const enum split_way other = (split->way + 1) % N_SPLIT_WAYS;
    if (find_in_way(split, split->way, sought)) {
        return true;
    }
    if (find_in_way(split, other, sought)) {
        split->way = other;
        return true;
    }
    return false;
}

// Where nothing but the ids was compared, there must be no other rows that have them.
static bool find_only_rows(struct split * split, struct sought sought) {
    sought.exactly = true;
    if (!find_rows(split, &sought)) {
        sought.exactly = false;
        find_rows(split, &sought); // again
    }
    const size_t         size = (size_t) sought.n_rows * sizeof(*split->rows);
    const enum split_way way  = split->way;
    memcpy(split->others, split->rows, size);
    sought.but = split->others;
    split->is_ambiguous = find_rows(split, &sought);
    memcpy(split->rows, split->others, size);
    split->way = way;
    return !split->is_ambiguous;
}

// Learns that the graph has no positions, where that explains why no way agrees.
static bool find_without_positions(struct split * split, const struct sought * sought) {
    if (split->lacks_positions || !lacks_positions(split, sought)) {
        return false;
    }
    split->lacks_positions = true;
    return find_rows(split, sought);
}

bool split_next(struct split * split, const struct batch * batch, int32_t n_rows, const struct split_inputs * inputs) {
    const struct sought sought = { .batch = batch, .inputs = inputs, .n_rows = n_rows };
    split->is_ambiguous = false;
    if (n_rows < 1 || n_rows > split->n_left) {
        return false;
    }
    split->lacks_positions = split->lacks_positions && inputs->positions < 0;
    if (!find_rows(split, &sought) && !find_without_positions(split, &sought)) {
        return false;
    }
    const bool has_compared_positions = !split->lacks_positions && is_told(split, &sought, position_of);
    if (!has_compared_positions && !find_only_rows(split, sought)) {
        return false;
    }
    for (int32_t row = 0; row < n_rows; row++) {
        split->used[split->rows[row]] = true;
    }
    split->n_left -= n_rows;
    return true;
}
