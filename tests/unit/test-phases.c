// Prompt, generation and warm-up, by hand-made batches. What real programs do is tested with real programs.

#include "unit.h"

#include "engine/context/context-calls.h"
#include "engine/context/context.h"
#include "engine/context/drafts.h"
#include "engine/upstream/host-log.h"

#include <string.h>

// An engine of which nothing but its names is there.

static const struct llama_context * const context_key = (const void *) "context";
static const struct llama_model   * const model_key   = (const void *) "model";

static const struct llama_model * get_model(const struct llama_context * ctx) { (void) ctx;   return model_key; }
static int32_t                    token_bos(const struct llama_model * model) { (void) model; return 1; }
static int32_t                    token_eos(const struct llama_model * model) { (void) model; return 2; }

static const struct real engine = { .llama_get_model = get_model, .llama_token_bos = token_bos,
                                    .llama_token_eos = token_eos };

void host_log(enum log_level level, const char * lines) {
    (void) level;
    (void) lines;
}

// What the listener was told.

static struct routing_decode decoded;
static int                   settled; // -1: was none, 0: it counted, 1: it was
static uint64_t              evaluated;
static struct routing_cut    cut_back; // its position is 0: none
static struct routing_rejection rejected[4];
static int                   n_rejected;
static bool                  has_stopped;
static bool                  lacks_memory; // the listener
static struct {
    uint64_t     n_ubatches;
    uint64_t     n_tokens;
    const char * why;
} lost;

static void * on_open(void * self, const struct routing_model * about, const void * key) {
    (void) about;
    (void) key;
    return lacks_memory ? ROUTING_NO_MEMORY : self;
}

static unsigned wants(void * self) { (void) self; return ROUTING_WANTS_ROUTING | ROUTING_WANTS_TOKENS; }

static void on_ubatch(void * self, const struct routing_ubatch * ubatch) {
    (void) self;
    evaluated += ubatch->n_tokens;
    if (ubatch->lost) {
        lost.n_ubatches += ubatch->n_lost;
        lost.n_tokens   += ubatch->n_tokens;
        lost.why         = ubatch->lost;
    }
    has_stopped = has_stopped || ubatch->stopped;
}

static void on_decode(void * self, const struct routing_decode * decode) { (void) self; decoded = *decode; }
static void on_settle(void * self, bool warmup)                          { (void) self; settled = warmup; }
static void on_close (void * self)                                       { (void) self; }
static void on_model (void * self, const void * key)                     { (void) self; (void) key; }

static void on_cut(void * self, const struct routing_cut * about) {
    (void) self;
    cut_back = *about;
}

static void on_reject(void * self, const struct routing_rejection * about) {
    (void) self;
    assert_true(n_rejected < 4);
    rejected[n_rejected++] = *about;
}

static const struct routing_sink listener = {
    .context_open  = on_open,
    .wants         = wants,
    .ubatch        = on_ubatch,
    .decode        = on_decode,
    .settle        = on_settle,
    .cut           = on_cut,
    .reject        = on_reject,
    .context_close = on_close,
    .model_close   = on_model,
};

static int slot;

static int begin(void ** state) {
    slot       = sinks_attach(&listener, state);
    settled    = -1;
    evaluated  = 0;
    n_rejected = 0;
    has_stopped = lacks_memory = false;
    memset(&lost, 0, sizeof(lost));
    cut_back   = (struct routing_cut) { 0 };
    return slot < 0;
}

static int end(void ** state) {
    (void) state;
    context_on_free(context_key);
    sinks_detach(slot);
    return 0;
}

struct token {
    int32_t id;
    int32_t sequence;
    int8_t  asks;
};

static void decode_batch(const struct llama_batch * plain, int32_t status, uint64_t n_evaluated) {
    const struct batch batch   = { .plain = plain };
    struct context   * context = context_decode_begin(&engine, context_key, &batch);
    assert_non_null(context);
    assert_ptr_equal(context_current(), context);
    if (n_evaluated > 0) {
        assert_true(context_open(context, "by hand"));
        const enum routing_fate     fate   = context_ubatch_begin(context, NULL, 0, n_evaluated);
        const struct routing_ubatch ubatch = { .fate = fate, .n_tokens = n_evaluated };
        context_ubatch_deliver(context, &ubatch);
    }
    context_decode_end(context, &batch, status);
    assert_null(context_current());
}

static void decode(const struct token * tokens, int32_t n) {
    int32_t   ids[16];
    int32_t   positions[16] = { 0 };
    int32_t   n_seq[16];
    int32_t   sequences[16];
    int32_t * sequence_lists[16];
    int8_t    logits[16];
    for (int32_t i = 0; i < n; i++) {
        ids[i]            = tokens[i].id;
        n_seq[i]          = 1;
        sequences[i]      = tokens[i].sequence;
        sequence_lists[i] = &sequences[i];
        logits[i]         = tokens[i].asks;
    }
    const struct llama_batch batch = { n, ids, NULL, positions, n_seq, sequence_lists, logits };
    decode_batch(&batch, 0, (uint64_t) n);
}

static void decode_bare(int32_t first, int32_t second) {
    int32_t                  ids[] = { first, second };
    const struct llama_batch batch = { 2, ids, NULL, NULL, NULL, NULL, NULL };
    decode_batch(&batch, 0, 2);
}

static void assert_phases(uint64_t prompt, uint64_t generation) {
    assert_int_equal(decoded.n_prompt, prompt);
    assert_int_equal(decoded.n_generation, generation);
}

static void a_prompt_and_what_follows(void ** state) {
    (void) state;
    decode((struct token[]) { { 5, 0, 0 }, { 6, 0, 0 }, { 7, 0, 1 } }, 3);
    assert_phases(3, 0);
    decode((struct token[]) { { 8, 0, 1 } }, 1);
    assert_phases(0, 1);
    decode((struct token[]) { { 8, 0, 1 }, { 9, 0, 1 }, { 9, 0, 1 } }, 3); // drafted tokens
    assert_phases(0, 3);
    decode((struct token[]) { { 8, 0, 0 }, { 9, 0, 1 } }, 2); // the next turn of a chat
    assert_phases(2, 0);
}

static void sequences_in_one_batch_are_told_apart(void ** state) {
    (void) state;
    decode((struct token[]) { { 5, 0, 1 } }, 1);
    decode((struct token[]) { { 6, 0, 1 }, { 5, 3, 0 }, { 6, 3, 1 } }, 3);
    assert_phases(2, 1);
    decode((struct token[]) { { 6, 3, 1 }, { 7, 0, 1 } }, 2);
    assert_phases(0, 2);
}

static void a_cleared_sequence_begins_anew(void ** state) {
    (void) state;
    decode((struct token[]) { { 5, 0, 1 }, { 5, 1, 1 } }, 2);
    context_on_seq_rm(context_key, 1, 0, -1, true);
    decode((struct token[]) { { 6, 0, 1 }, { 6, 1, 1 } }, 2);
    assert_phases(1, 1);
    context_on_clear(context_key);
    decode((struct token[]) { { 6, 0, 1 }, { 6, 1, 1 } }, 2);
    assert_phases(2, 0);
}

// What servers do for several answers to one prompt.
static void a_copied_sequence_goes_on_where_the_first_one_was(void ** state) {
    (void) state;
    decode((struct token[]) { { 5, 0, 0 }, { 6, 0, 1 } }, 2);
    context_on_seq_cp(context_key, 0, 1, -1, -1);
    context_on_seq_cp(context_key, 0, 2, 0, 1); // but for its end
    decode((struct token[]) { { 7, 0, 1 }, { 7, 1, 1 }, { 7, 2, 1 } }, 3);
    assert_phases(1, 2);
}

// And what llama-batched does: a prompt of all of them, without a copy.
static void a_token_of_several_sequences_is_one_of_each(void ** state) {
    (void) state;
    int32_t                  ids[]      = { 5 };
    int32_t                  position[] = { 0 };
    int32_t                  n_seq[]    = { 3 };
    int32_t                  of[]       = { 0, 1, 2 };
    int32_t                * lists[]    = { of };
    int8_t                   logits[]   = { 1 };
    const struct llama_batch batch      = { 1, ids, NULL, position, n_seq, lists, logits };
    decode_batch(&batch, 0, 1);
    assert_phases(1, 0);
    decode((struct token[]) { { 7, 0, 1 }, { 7, 1, 1 }, { 7, 2, 1 }, { 7, 3, 1 } }, 4);
    assert_phases(1, 3);
}

static void embeddings_are_no_generation(void ** state) {
    (void) state;
    decode((struct token[]) { { 5, 0, 1 }, { 6, 0, 1 } }, 2);
    context_on_embeddings_read(context_key);
    decode((struct token[]) { { 7, 0, 1 }, { 8, 0, 1 } }, 2);
    assert_phases(2, 0);
    context_on_logits_read(context_key);
    decode((struct token[]) { { 7, 0, 1 } }, 1);
    assert_phases(0, 1);
}

static void a_batch_that_failed_evaluated_nothing(void ** state) {
    (void) state;
    int32_t                  ids[] = { 7, 8, 9 };
    const struct llama_batch batch = { 3, ids, NULL, NULL, NULL, NULL, NULL };
    decoded = (struct routing_decode) { 0 };
    decode_batch(&batch, 1, 0);
    assert_phases(0, 0);
    decode_batch(&batch, 2, 2); // aborted after an ubatch of two
    assert_phases(2, 0);
    assert_int_equal(decoded.n_correction, 0);
}

static void the_batch_is_believed_more_than_the_graph(void ** state) {
    (void) state;
    int32_t                  ids[] = { 7, 8, 9 };
    const struct llama_batch batch = { 3, ids, NULL, NULL, NULL, NULL, NULL };
    decode_batch(&batch, 0, 1); // a graph of one layer has only the rows that ask
    assert_phases(3, 0);
    assert_int_equal(decoded.n_correction, 2);
}

// What tokens_read() notes of a generated token.
static void note_generated(int32_t sequence, int32_t position, uint64_t ubatch, int32_t token) {
    struct context * context = context_of_key(context_key);
    sequences_at(&context->sequences, sequence)->next = position + 1;
    drafts_note(context, (struct drafted) { sequence, position, ubatch, token });
}

static int32_t life_of(int32_t sequence) {
    return sequences_known(&context_of_key(context_key)->sequences, sequence)->life;
}

static void drafted_tokens_that_are_removed_are_rejected(void ** state) {
    (void) state;
    decode((struct token[]) { { 5, 0, 1 } }, 1);
    decode((struct token[]) { { 6, 0, 1 }, { 7, 0, 1 }, { 8, 0, 1 }, { 9, 0, 1 } }, 4);
    note_generated(0, 10, 1, 0);
    note_generated(0, 11, 1, 1);
    note_generated(0, 12, 2, 0);
    note_generated(0, 13, 2, 1);
    context_on_seq_rm(context_key, 0, 11, -1, true);
    assert_int_equal(n_rejected, 2);
    assert_int_equal(rejected[0].ubatch, 1);
    assert_int_equal(rejected[0].first,  1);
    assert_int_equal(rejected[0].n,      1);
    assert_int_equal(rejected[1].ubatch, 2);
    assert_int_equal(rejected[1].first,  0);
    assert_int_equal(rejected[1].n,      2);
    assert_int_equal(cut_back.position,  11);
    context_on_seq_rm(context_key, 0, 11, -1, true); // they are gone already
    assert_int_equal(n_rejected, 2);
}

static void what_a_new_request_does_not_share_is_cut_and_not_rejected(void ** state) {
    (void) state;
    decode((struct token[]) { { 5, 0, 1 } }, 1);
    decode((struct token[]) { { 6, 0, 1 } }, 1);
    note_generated(0, 10, 1, 0);
    context_on_seq_rm(context_key, 0, 10, -1, true);
    assert_int_equal(n_rejected, 0);
    assert_int_equal(cut_back.position, 10);
    assert_int_equal(life_of(0), 0);
}

static void what_could_not_be_removed_is_not_cut(void ** state) {
    (void) state;
    decode((struct token[]) { { 5, 0, 1 } }, 1);
    note_generated(0, 10, 0, 0);
    context_on_seq_rm(context_key, 0, 5, -1, false);
    assert_int_equal(cut_back.position, 0);
}

static void a_life_ends_where_a_sequence_is_cleared(void ** state) {
    (void) state;
    decode((struct token[]) { { 5, 0, 1 }, { 5, 1, 1 }, { 5, 2, 1 } }, 3);
    note_generated(0, 0, 0, 0);
    note_generated(1, 0, 0, 1);
    note_generated(2, 0, 0, 2);
    context_on_seq_rm(context_key, 1, -1, -1, true);
    context_on_seq_rm(context_key, 1, -1, -1, true); // it has not lived since
    assert_int_equal(life_of(1), 1);
    context_on_seq_keep(context_key, 0);
    assert_int_equal(life_of(0), 0);
    assert_int_equal(life_of(1), 1);
    assert_int_equal(life_of(2), 1);
    context_on_state_set(context_key, 0);
    assert_int_equal(life_of(0), 1);
    context_on_seq_rm(context_key, -1, 0, -1, true);
    assert_int_equal(life_of(0), 1);
}

static void bos_and_eos_before_a_reset_are_a_warmup(void ** state) {
    (void) state;
    decode_bare(1, 2);
    assert_int_equal(decoded.fate, ROUTING_PENDING);
    context_on_clear(context_key);
    assert_int_equal(settled, -1);
    context_on_perf_reset(context_key);
    assert_int_equal(settled, 1);
}

static void bos_and_eos_before_anything_else_are_not(void ** state) {
    (void) state;
    decode_bare(1, 2);
    context_on_clear(context_key);
    decode((struct token[]) { { 5, 0, 1 } }, 1);
    assert_int_equal(settled, 0);
    assert_int_equal(decoded.fate, ROUTING_COUNT);
}

static void two_zeros_of_which_one_is_removed_are_a_probe(void ** state) {
    (void) state;
    decode_bare(0, 0);
    assert_int_equal(decoded.fate, ROUTING_PENDING);
    context_on_seq_rm(context_key, 0, 1, -1, true);
    context_on_clear(context_key);
    assert_int_equal(settled, 1);
}

static void other_tokens_are_no_warmup(void ** state) {
    (void) state;
    decode_bare(1, 5);
    assert_int_equal(decoded.fate, ROUTING_COUNT);
}

static void a_warmup_that_is_announced(void ** state) {
    (void) state;
    decode((struct token[]) { { 5, 0, 1 } }, 1);
    context_on_set_warmup(&engine, context_key, true);
    decode((struct token[]) { { 5, 0, 1 } }, 1);
    assert_int_equal(decoded.fate, ROUTING_WARMUP);
    context_on_set_warmup(&engine, context_key, false);
    decode((struct token[]) { { 5, 0, 1 } }, 1);
    assert_int_equal(decoded.fate, ROUTING_COUNT);
}

static void a_warmup_announced_before_the_first_batch(void ** state) {
    (void) state;
    context_on_set_warmup(&engine, context_key, true);
    decode((struct token[]) { { 5, 0, 1 } }, 1);
    assert_int_equal(decoded.fate, ROUTING_WARMUP);
}

static void a_batch_that_cannot_be_read_is_lost(void ** state) {
    (void) state;
    static const char why[] = "it cannot be read";
    decode((struct token[]) { { 5, 0, 1 } }, 1);
    const struct llama_batch batch   = { 1, (int32_t[]) { 7 }, NULL, NULL, NULL, NULL, NULL };
    const struct batch       wrapped = { .plain = &batch };
    struct context         * context = context_decode_begin(&engine, context_key, &wrapped);
    context_stop(context, why);
    assert_true(has_stopped);
    assert_ptr_equal(lost.why, why);
    assert_int_equal(lost.n_ubatches, 0);
    context_lose_ubatch(context, 1, why);
    assert_int_equal(lost.n_ubatches, 1);
    assert_int_equal(lost.n_tokens, 1);
    decoded = (struct routing_decode) { 0 };
    context_decode_end(context, &wrapped, 0);
    assert_phases(0, 1); // it was evaluated all the same
    assert_int_equal(decoded.n_correction, 0);
}

// One that no listener had memory for.
static void what_was_lost_before_is_told_when_there_is_memory(void ** state) {
    (void) state;
    const struct llama_batch batch   = { 1, (int32_t[]) { 7 }, NULL, NULL, NULL, NULL, NULL };
    const struct batch       wrapped = { .plain = &batch };
    struct context         * context = context_decode_begin(&engine, context_key, &wrapped);
    lacks_memory = true;
    assert_false(context_open(context, NULL));
    assert_true(context->sinks.lacks_memory);
    context_lose_ubatch(context, 1, ROUTING_LACKS_MEMORY);
    assert_int_equal(lost.n_ubatches, 0);
    context_decode_end(context, &wrapped, 0);

    lacks_memory = false;
    context_lose_ubatch(NULL, 3, ROUTING_LACKS_MEMORY); // and one that had no context
    context = context_decode_begin(&engine, context_key, &wrapped);
    assert_true(context_open(context, NULL));
    assert_int_equal(lost.n_ubatches, 2);
    assert_int_equal(lost.n_tokens, 4);
    assert_true(decoded.phases_lost);
    context_decode_end(context, &wrapped, 0);
}

static void a_batch_within_a_batch(void ** state) {
    (void) state;
    const struct llama_context * const other = (const void *) "another context";
    const struct llama_batch batch   = { 1, (int32_t[]) { 7 }, NULL, NULL, NULL, NULL, NULL };
    const struct batch       wrapped = { .plain = &batch };
    struct context         * outer   = context_decode_begin(&engine, context_key, &wrapped);
    struct context         * inner   = context_decode_begin(&engine, other, &wrapped);
    assert_ptr_equal(context_current(), inner);
    context_decode_end(inner, &wrapped, 0);
    assert_ptr_equal(context_current(), outer);
    context_decode_end(outer, &wrapped, 0);
    assert_null(context_current());
    context_on_free(other);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_prompt_and_what_follows),
        TEST(sequences_in_one_batch_are_told_apart),
        TEST(a_cleared_sequence_begins_anew),
        TEST(a_copied_sequence_goes_on_where_the_first_one_was),
        TEST(a_token_of_several_sequences_is_one_of_each),
        TEST(embeddings_are_no_generation),
        TEST(a_batch_that_failed_evaluated_nothing),
        TEST(the_batch_is_believed_more_than_the_graph),
        TEST(drafted_tokens_that_are_removed_are_rejected),
        TEST(what_a_new_request_does_not_share_is_cut_and_not_rejected),
        TEST(what_could_not_be_removed_is_not_cut),
        TEST(a_life_ends_where_a_sequence_is_cleared),
        TEST(bos_and_eos_before_a_reset_are_a_warmup),
        TEST(bos_and_eos_before_anything_else_are_not),
        TEST(two_zeros_of_which_one_is_removed_are_a_probe),
        TEST(other_tokens_are_no_warmup),
        TEST(a_warmup_that_is_announced),
        TEST(a_warmup_announced_before_the_first_batch),
        TEST(a_batch_that_cannot_be_read_is_lost),
        TEST(what_was_lost_before_is_told_when_there_is_memory),
        TEST(a_batch_within_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
