// Which token of a batch each row of a ubatch is, by hand-made batches and inputs.

#include "unit.h"

#include "engine/split.h"

#include <string.h>

#define N_MAX 16

static struct batch_token tokens[N_MAX];
static int32_t            n_tokens;
static struct split       split;
static int32_t            n_ubatch;

// Stands in for src/engine/batch.c.
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

// The inputs of a ubatch that has these tokens of the batch.
static bool finds(int32_t n, const int32_t * rows) {
    int32_t ids[N_MAX];
    int32_t positions[N_MAX];
    int32_t others[N_MAX] = { 0 };
    for (int32_t i = 0; i < n; i++) {
        ids      [i] = tokens[rows[i]].id;
        positions[i] = tokens[rows[i]].position;
        others   [i] = 1000 + i;
    }
    const struct split_input inputs[] = { { others }, { ids }, { positions } };
    return split_next(&split, &no_batch, n, inputs, 3) && memcmp(split.rows, rows, (size_t) n * sizeof(*rows)) == 0;
}

static void a_batch_in_its_order(void ** state) {
    (void) state;
    begin_batch(5, (struct batch_token[]) { { 7, 0, 0, 0 }, { 8, 0, 1, 0 }, { 7, 1, 0, 0 }, { 8, 0, 2, 0 }, { 9, 1, 1, 1 } });
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
    begin_batch(5, (struct batch_token[]) { { 7, 0, 0, 0 }, { 8, 0, 1, 0 }, { 9, 0, 2, 0 }, { 7, 1, 0, 0 }, { 8, 1, 1, 0 } });
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
    const struct batch_token same[] = { { 7, 0, 0, 0 }, { 8, 0, 1, 0 }, { 7, 3, 0, 0 }, { 8, 3, 1, 0 }, { 7, 1, 0, 0 }, { 8, 1, 1, 0 } };
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
    const struct split_input ids = { (int32_t[]) { 7, 8 } };
    assert_true(split_next(&split, &no_batch, 2, &ids, 1));
}

static void embeddings_have_positions_alone(void ** state) {
    (void) state;
    begin_batch(2, (struct batch_token[]) { { -1, 0, 5, 0 }, { -1, 0, 6, 1 } });
    assert_true(finds(2, (int32_t[]) { 0, 1 }));
    begin_batch(2, (struct batch_token[]) { { -1, 0, 5, 0 }, { -1, 0, 6, 1 } });
    const struct split_input others = { (int32_t[]) { 6, 5 } };
    assert_false(split_next(&split, &no_batch, 2, &others, 1));
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
