// Which token of a batch each row of a ubatch is, by hand-made batches and inputs.

#include "unit.h"

#include "engine/context/split.h"

#include <string.h>

#define N_MAX 16

static struct batch_token tokens[N_MAX];
static int32_t            n_tokens;
static struct split       split;
static int32_t            n_ubatch;

// Stands in for src/engine/context/batch.c.
int32_t            batch_n_tokens(const struct batch * batch)            { (void) batch; return n_tokens; }
struct batch_token batch_token   (const struct batch * batch, int32_t i) { (void) batch; return tokens[i]; }

static const struct batch no_batch = { 0 };

static void begin_batch(int32_t n, const struct batch_token * from) {
    memcpy(tokens, from, (size_t) n * sizeof(*tokens));
    n_tokens = n;
    assert_true(split_begin(&split, &no_batch, n_ubatch));
}

static int end(void ** state) {
    (void) state;
    split_free(&split);
    n_ubatch = 0;
    return 0;
}

static int32_t ids      [N_MAX];
static int32_t positions[N_MAX];
static int32_t others   [N_MAX]; // of a third input, or a second one: unlike both

// Sets the inputs of a ubatch that has these tokens of the batch.
static void set_inputs(int32_t n, const int32_t * rows) {
    for (int32_t i = 0; i < n; i++) {
        ids      [i] = tokens[rows[i]].id;
        positions[i] = tokens[rows[i]].position;
        others   [i] = 1000 + i;
    }
}

static bool finds_by(const struct split_inputs * inputs, int32_t n, const int32_t * rows) {
    return split_next(&split, &no_batch, n, inputs) && memcmp(split.rows, rows, (size_t) n * sizeof(*rows)) == 0;
}

// By inputs without names.
static bool finds(int32_t n, const int32_t * rows) {
    const struct split_inputs inputs = { { others, ids, positions }, 3, -1, -1, true };
    set_inputs(n, rows);
    return finds_by(&inputs, n, rows);
}

// Likewise, of a graph that has no positions.
static bool finds_by_ids(int32_t n, const int32_t * rows) {
    const struct split_inputs inputs = { { ids, others }, 2, -1, -1, true };
    set_inputs(n, rows);
    return finds_by(&inputs, n, rows);
}

static void a_batch_in_its_order(void ** state) {
    (void) state;
    begin_batch(5, (struct batch_token[]) { { 7, 0, 0, 0 }, { 8, 0, 1, 0 }, { 7, 1, 0, 0 },
                                            { 8, 0, 2, 0 }, { 9, 1, 1, 1 } });
    assert_true(finds(3, (int32_t[]) { 0, 1, 2 }));
    assert_true(finds(2, (int32_t[]) { 3, 4 }));
}

static void one_sequence_behind_the_other(void ** state) {
    (void) state;
    begin_batch(6, (struct batch_token[]) {
        { 7, 0, 0, 0 }, { 7, 1, 0, 0 }, { 8, 0, 1, 0 }, { 8, 1, 1, 0 }, { 9, 0, 2, 0 }, { 9, 1, 2, 0 },
    });
    assert_true(finds(4, (int32_t[]) { 0, 2, 1, 3 })); // ids and positions of both are the same
    assert_true(finds(2, (int32_t[]) { 4, 5 }));
}

static void the_longer_sequence_comes_again(void ** state) {
    (void) state;
    begin_batch(5, (struct batch_token[]) { { 7, 0, 0, 0 }, { 8, 0, 1, 0 }, { 9, 0, 2, 0 },
                                            { 7, 1, 0, 0 }, { 8, 1, 1, 0 } });
    assert_true(finds(4, (int32_t[]) { 0, 1, 3, 4 }));
    assert_true(finds(1, (int32_t[]) { 2 }));
}

// Both ways agree with the inputs, but in its order the batch would not have been cut here.
static void only_sequences_whose_numbers_follow_each_other(void ** state) {
    (void) state;
    n_ubatch = 512;
    begin_batch(6, (struct batch_token[]) {
        { 7, 0, 0, 0 }, { 8, 0, 1, 0 }, { 7, 3, 0, 0 }, { 8, 3, 1, 0 }, { 7, 1, 0, 0 }, { 8, 1, 1, 0 },
    });
    assert_true(finds(4, (int32_t[]) { 0, 1, 4, 5 }));
    assert_true(finds(2, (int32_t[]) { 2, 3 }));
}

static void the_way_that_was_right_before(void ** state) {
    (void) state;
    n_ubatch = 4;
    begin_batch(4, (struct batch_token[]) { { 7, 0, 0, 0 }, { 9, 1, 0, 0 }, { 8, 0, 1, 0 }, { 6, 1, 1, 0 } });
    assert_true(finds(4, (int32_t[]) { 0, 2, 1, 3 })); // one behind the other
    const struct batch_token same[] = { { 7, 0, 0, 0 }, { 8, 0, 1, 0 }, { 7, 3, 0, 0 }, { 8, 3, 1, 0 },
                                        { 7, 1, 0, 0 }, { 8, 1, 1, 0 } };
    begin_batch(6, same);
    assert_true(finds(4, (int32_t[]) { 0, 1, 4, 5 }));
}

static void inputs_that_agree_with_no_way(void ** state) {
    (void) state;
    begin_batch(3, (struct batch_token[]) { { 7, 0, 0, 0 }, { 8, 0, 1, 0 }, { 9, 0, 2, 0 } });
    assert_false(finds(2, (int32_t[]) { 1, 0 }));
    assert_false(finds(4, (int32_t[]) { 0, 1, 2, 2 }));
}

static void positions_that_were_not_told(void ** state) {
    (void) state;
    begin_batch(2, (struct batch_token[]) { { 7, 0, -1, 0 }, { 8, 0, -1, 1 } });
    const struct split_inputs inputs = { { (int32_t[]) { 7, 8 } }, 1, -1, -1, true };
    assert_true(split_next(&split, &no_batch, 2, &inputs));
    assert_false(split.lacks_positions); // that is not known
}

static void embeddings_have_positions_alone(void ** state) {
    (void) state;
    begin_batch(2, (struct batch_token[]) { { -1, 0, 5, 0 }, { -1, 0, 6, 1 } });
    assert_true(finds(2, (int32_t[]) { 0, 1 }));
    begin_batch(2, (struct batch_token[]) { { -1, 0, 5, 0 }, { -1, 0, 6, 1 } });
    const struct split_inputs inputs = { { (int32_t[]) { 6, 5 } }, 1, -1, -1, true };
    assert_false(split_next(&split, &no_batch, 2, &inputs));
}

//
// graphs without positions
//

static const struct batch_token two_texts[] = {
    { 7, 0, 0, 0 }, { 8, 0, 1, 0 }, { 9, 0, 2, 1 }, { 5, 1, 0, 0 }, { 6, 1, 1, 0 }, { 4, 1, 2, 1 },
};

static const struct batch_token two_of_a_text[] = {
    { 7, 0, 0, 0 }, { 7, 0, 1, 0 }, { 7, 0, 2, 1 }, { 7, 1, 0, 0 }, { 7, 1, 1, 0 }, { 7, 1, 2, 1 },
};

static void ids_alone_where_there_are_no_positions(void ** state) {
    (void) state;
    n_ubatch = 4;
    begin_batch(6, two_texts);
    assert_true(finds_by_ids(4, (int32_t[]) { 0, 1, 3, 4 }));
    assert_true(split.lacks_positions);
    assert_true(finds_by_ids(2, (int32_t[]) { 2, 5 }));
    begin_batch(1, (struct batch_token[]) { { 3, 0, 3, 1 } });
    assert_true(finds_by_ids(1, (int32_t[]) { 0 }));
}

static void ids_that_are_of_no_way_without_positions(void ** state) {
    (void) state;
    begin_batch(6, two_texts);
    assert_false(finds_by_ids(4, (int32_t[]) { 0, 1, 4, 3 }));
    assert_false(split.is_ambiguous);
}

static void the_same_ids_without_positions_are_unknown(void ** state) {
    (void) state;
    n_ubatch = 4;
    begin_batch(6, two_of_a_text);
    assert_false(finds_by_ids(4, (int32_t[]) { 0, 1, 3, 4 }));
    assert_true(split.is_ambiguous);
    begin_batch(6, two_of_a_text);
    assert_false(finds_by_ids(4, (int32_t[]) { 0, 1, 2, 3 }));
    assert_true(split.is_ambiguous);
    begin_batch(6, two_texts); // the next batch is another matter
    assert_true(finds_by_ids(4, (int32_t[]) { 0, 1, 3, 4 }));
    assert_false(split.is_ambiguous);
}

static void the_same_ids_in_the_same_rows(void ** state) {
    (void) state;
    begin_batch(6, two_of_a_text); // all at once: both ways are the batch's order
    assert_true(finds_by_ids(6, (int32_t[]) { 0, 1, 2, 3, 4, 5 }));
    begin_batch(2, (struct batch_token[]) { { 7, 0, 3, 1 }, { 7, 1, 3, 1 } });
    assert_true(finds_by_ids(2, (int32_t[]) { 0, 1 }));
}

// Two requests with the same beginning, while a third one generates: only one way takes all the sequences that it can.
static void texts_that_begin_alike(void ** state) {
    (void) state;
    n_ubatch = 16;
    static const struct batch_token batch[] = {
        { 5, 1, 25, 1 }, { 6, 2, 34, 1 }, { 7, 0, 0, 0 }, { 8, 0, 1, 0 },
        { 9, 0, 2,  1 }, { 7, 3, 0,  0 }, { 8, 3, 1, 0 }, { 9, 3, 2, 1 },
    };
    begin_batch(8, batch);
    assert_true(finds_by_ids(3, (int32_t[]) { 0, 1, 5 })); // those whose numbers follow each other, and not 1, 2 and 0
    begin_batch(8, batch);
    assert_true(finds_by_ids(4, (int32_t[]) { 0, 1, 2, 5 }));
    assert_true(finds_by_ids(4, (int32_t[]) { 3, 4, 6, 7 }));
}

static void the_same_ids_of_sequences_whose_positions_are_not_told(void ** state) {
    (void) state;
    struct batch_token untold[6];
    memcpy(untold, two_of_a_text, sizeof(untold));
    for (int i = 0; i < 6; i++) {
        untold[i].position = -1;
    }
    n_ubatch = 4;
    begin_batch(6, untold);
    assert_false(finds_by_ids(4, (int32_t[]) { 0, 1, 3, 4 }));
    assert_true(split.is_ambiguous);
    begin_batch(6, untold);
    assert_false(finds_by_ids(4, (int32_t[]) { 0, 1, 2, 3 }));
    assert_true(split.is_ambiguous);
}

static void embeddings_of_several_sequences_without_positions(void ** state) {
    (void) state;
    const struct split_inputs nothing = { { NULL }, 0, -1, -1, true };
    n_ubatch = 2;
    begin_batch(4, (struct batch_token[]) { { -1, 0, 0, 0 }, { -1, 0, 1, 0 }, { -1, 1, 0, 0 }, { -1, 1, 1, 0 } });
    assert_false(split_next(&split, &no_batch, 2, &nothing));
    assert_true(split.is_ambiguous);
    begin_batch(2, (struct batch_token[]) { { -1, 0, 0, 0 }, { -1, 0, 1, 0 } });
    assert_true(split_next(&split, &no_batch, 2, &nothing));
}

// Kimi-Linear in its first step: the copies of its states (one sequence, state 0) look like the position.
static void what_looks_like_positions_by_chance(void ** state) {
    (void) state;
    const struct split_inputs inputs = { { ids, (int32_t[]) { 0 } }, 2, -1, -1, true };
    for (int32_t position = 0; position < 3; position++) {
        begin_batch(1, &(struct batch_token) { 7 + position, 0, position, 1 });
        set_inputs(1, (int32_t[]) { 0 });
        assert_true(finds_by(&inputs, 1, (int32_t[]) { 0 }));
        assert_int_equal(split.lacks_positions, position > 0);
    }
}

static void an_id_is_not_taken_for_the_position(void ** state) {
    (void) state;
    begin_batch(1, &(struct batch_token) { 3, 0, 3, 1 });
    assert_true(finds_by_ids(1, (int32_t[]) { 0 }));
    assert_true(split.lacks_positions);
}

// Where there are positions, ids that agree are not enough: these rows are of no way and must not pass for one's.
static void wrong_rows_where_there_are_positions(void ** state) {
    (void) state;
    static const int32_t wrong[][4] = { { 3, 4, 0, 1 }, { 0, 4, 3, 1 }, { 3, 1, 0, 4 }, { 1, 0, 4, 3 } };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        for (int order = 0; order < 2; order++) {
            n_ubatch = 4;
            begin_batch(6, two_of_a_text);
            set_inputs(4, wrong[i]);
            for (int row = 0; row < 4; row++) {
                positions[row] += 10 * (wrong[i][row] >= 3); // tell the sequences apart
                tokens[wrong[i][row]].position = positions[row];
            }
            const struct split_inputs inputs = {
                { order ? ids : positions, order ? positions : ids, others }, 3, -1, -1, true,
            };
            assert_false(split_next(&split, &no_batch, 4, &inputs));
            assert_false(split.lacks_positions);
        }
    }
}

static void an_earlier_ubatch_that_was_not_found(void ** state) {
    (void) state;
    begin_batch(4, (struct batch_token[]) { { 7, 0, 0, 0 }, { 7, 0, 1, 0 }, { 7, 1, 10, 0 }, { 7, 1, 11, 0 } });
    assert_false(finds(2, (int32_t[]) { 3, 2 }));
    assert_false(split.lacks_positions);
    assert_false(finds(2, (int32_t[]) { 1, 0 })); // nothing is taken for used
    assert_false(split.lacks_positions);
}

// An input of that name are the positions, whatever they are, and no other input is.
static void positions_by_their_name(void ** state) {
    (void) state;
    begin_batch(2, (struct batch_token[]) { { 7, 0, 3, 0 }, { 8, 0, 4, 0 } });
    set_inputs(2, (int32_t[]) { 0, 1 });
    const struct split_inputs named = { { positions, ids, others }, 3, 1, 2, true };
    assert_false(split_next(&split, &no_batch, 2, &named));
    assert_false(split.lacks_positions);
    const struct split_inputs right = { { others, ids, positions }, 3, 1, 2, true };
    assert_true(split_next(&split, &no_batch, 2, &right));
}

static void inputs_that_were_left_out_may_be_positions(void ** state) {
    (void) state;
    begin_batch(2, (struct batch_token[]) { { 7, 0, 3, 0 }, { 8, 0, 4, 0 } });
    set_inputs(2, (int32_t[]) { 0, 1 });
    const struct split_inputs some = { { ids, others }, 2, -1, -1, false };
    assert_false(split_next(&split, &no_batch, 2, &some));
    assert_false(split.lacks_positions);
}

static void a_longer_batch_knows_what_was_learned(void ** state) {
    (void) state;
    begin_batch(1, (struct batch_token[]) { { 7, 0, 3, 1 } });
    assert_true(finds_by_ids(1, (int32_t[]) { 0 }));
    begin_batch(6, two_texts);
    assert_true(split.lacks_positions);
}

#define TEST(function) cmocka_unit_test_teardown(function, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_batch_in_its_order),
        TEST(one_sequence_behind_the_other),
        TEST(the_longer_sequence_comes_again),
        TEST(only_sequences_whose_numbers_follow_each_other),
        TEST(the_way_that_was_right_before),
        TEST(inputs_that_agree_with_no_way),
        TEST(positions_that_were_not_told),
        TEST(embeddings_have_positions_alone),
        TEST(ids_alone_where_there_are_no_positions),
        TEST(ids_that_are_of_no_way_without_positions),
        TEST(the_same_ids_without_positions_are_unknown),
        TEST(the_same_ids_in_the_same_rows),
        TEST(texts_that_begin_alike),
        TEST(the_same_ids_of_sequences_whose_positions_are_not_told),
        TEST(embeddings_of_several_sequences_without_positions),
        TEST(what_looks_like_positions_by_chance),
        TEST(an_id_is_not_taken_for_the_position),
        TEST(wrong_rows_where_there_are_positions),
        TEST(an_earlier_ubatch_that_was_not_found),
        TEST(positions_by_their_name),
        TEST(inputs_that_were_left_out_may_be_positions),
        TEST(a_longer_batch_knows_what_was_learned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
