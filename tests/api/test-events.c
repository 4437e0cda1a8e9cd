// Subscriptions: what a program is told while llama.cpp evaluates.

#include "oracle.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EVENTS_MAX 256
#define ROWS_MAX   8

struct heard {
    struct expert_tracer_event events [EVENTS_MAX];
    int32_t                    experts[EVENTS_MAX][ROWS_MAX * ORACLE_N_EXPERT];
    int                        n;
};

static void listen(const struct expert_tracer_event * event, void * user_data) {
    struct heard * heard = user_data;
    assert_in_range(heard->n, 0, EVENTS_MAX - 1);
    assert_in_range(event->n_tokens * event->n_used, 1, ROWS_MAX * ORACLE_N_EXPERT);
    heard->events[heard->n] = *event;
    memcpy(heard->experts[heard->n], event->experts, (size_t) (event->n_tokens * event->n_used) * sizeof(int32_t));
    heard->n++;
}

struct fixture {
    struct llama_model   * model;
    struct expert_tracer * tracer;
    struct llama_context * ctx;
    struct heard           heard;
};

static struct fixture fixture;

static int setup(void ** state) {
    struct expert_tracer_config config = EXPERT_TRACER_CONFIG_INIT;
    config.stats = false;
    memset(&fixture, 0, sizeof(fixture));
    fixture.model  = *state;
    fixture.tracer = expert_tracer_new(&config);
    assert_non_null(fixture.tracer);
    fixture.ctx = oracle_context(fixture.model, 4);
    return 0;
}

static int teardown(void ** state) {
    (void) state;
    llama_free(fixture.ctx);
    expert_tracer_free(fixture.tracer);
    return 0;
}

// Fails unless the next events from `*at` on are one ubatch's; `asks`: its last token, and no other, asks for logits.
static void assert_ubatch(const struct heard * heard, int * at, const char * tokens, bool asks) {
    const int32_t n = (int32_t) strlen(tokens);
    for (int32_t layer = 0; layer < ORACLE_N_LAYER; layer++) {
        const bool    is_last = layer == ORACLE_N_LAYER - 1;
        const int32_t first   = is_last ? n - 1 : 0;
        if (is_last && !asks) {
            break;
        }
        assert_in_range(*at, 0, heard->n - 1);
        const struct expert_tracer_event * event   = &heard->events [*at];
        const int32_t                    * experts =  heard->experts[*at];
        assert_int_equal(event->size, sizeof(*event));
        assert_ptr_equal(event->model,   fixture.model);
        assert_ptr_equal(event->context, fixture.ctx);
        assert_int_equal(event->layer,    layer);
        assert_int_equal(event->n_expert, ORACLE_N_EXPERT);
        assert_int_equal(event->n_used,   ORACLE_N_USED);
        assert_int_equal(event->n_tokens, n - first);
        assert_false    (event->warmup);
        for (int32_t i = first; i < n; i++) {
            for (int32_t rank = 0; rank < ORACLE_N_USED; rank++) {
                assert_int_equal(*experts++, oracle_expert(layer, tokens[i], rank));
            }
        }
        (*at)++;
    }
}

static void test_every_layer_in_order(void ** state) {
    (void) state;
    int at = 0;
    assert_true(expert_tracer_subscribe(fixture.tracer, listen, &fixture.heard) > 0);
    oracle_evaluate(fixture.ctx, "abc");
    assert_ubatch(&fixture.heard, &at, "abc", true);
    assert_int_equal(fixture.heard.n, at);

    oracle_evaluate(fixture.ctx, "d"); // and once more: the graph of the next one is reused
    oracle_evaluate(fixture.ctx, "e");
    assert_ubatch(&fixture.heard, &at, "d", true);
    assert_ubatch(&fixture.heard, &at, "e", true);
    assert_int_equal(fixture.heard.n, at);
}

static void test_several_ubatches(void ** state) {
    (void) state;
    int at = 0;
    assert_true(expert_tracer_subscribe(fixture.tracer, listen, &fixture.heard) > 0);
    oracle_evaluate(fixture.ctx, "abcdef");
    assert_ubatch(&fixture.heard, &at, "abcd", false);
    assert_ubatch(&fixture.heard, &at, "ef",   true);
    assert_int_equal(fixture.heard.n, at);
}

// What a listener makes of rows and tokens: a line for each row of a layer,
// "batch.ubatch id@sequence.life:position" and phase.
struct told {
    int32_t layer;
    char    lines[1024];
};

static void tell_rows(const struct expert_tracer_event * event, void * user_data) {
    struct told * told = user_data;
    if (event->layer != told->layer) {
        return;
    }
    assert_non_null(event->tokens);
    for (int32_t i = 0; i < event->n_tokens; i++) {
        const struct expert_tracer_token * token = &event->tokens[event->rows ? event->rows[i] : i];
        const size_t length = strlen(told->lines);
        snprintf(told->lines + length, sizeof(told->lines) - length, "%d.%d %c@%d.%d:%d %s%s\n",
                 (int) event->batch, (int) event->ubatch,
                 (char) token->id, token->sequence, token->life, token->position,
                 token->generation ? "generation" : "prompt", token->output ? " output" : "");
    }
}

static void test_which_token_each_row_is(void ** state) {
    (void) state;
    struct told first = { .layer = 0 };
    struct told last  = { .layer = ORACLE_N_LAYER - 1 };
    assert_true(expert_tracer_subscribe(fixture.tracer, tell_rows, &first) > 0);
    assert_true(expert_tracer_subscribe(fixture.tracer, tell_rows, &last)  > 0);
    oracle_evaluate(fixture.ctx, "abcde");
    oracle_evaluate(fixture.ctx, "f");
    llama_memory_clear(llama_get_memory(fixture.ctx), false);
    oracle_evaluate(fixture.ctx, "g");
    assert_string_equal(first.lines,
        "0.0 a@0.0:0 prompt\n"
        "0.0 b@0.0:1 prompt\n"
        "0.0 c@0.0:2 prompt\n"
        "0.0 d@0.0:3 prompt\n"
        "0.1 e@0.0:4 prompt output\n"
        "1.2 f@0.0:5 generation output\n"
        "2.3 g@0.1:0 prompt output\n");
    assert_string_equal(last.lines,
        "0.1 e@0.0:4 prompt output\n"
        "1.2 f@0.0:5 generation output\n"
        "2.3 g@0.1:0 prompt output\n");
}

struct moments {
    int n_events;
    int at_end_of_layer_0; // events heard when it was computed
    int at_logits;
};

static void count_event(const struct expert_tracer_event * event, void * user_data) {
    (void) event;
    ((struct moments *) user_data)->n_events++;
}

static bool watch(struct ggml_tensor * node, bool ask, void * user_data) {
    struct moments * moments = user_data;
    const bool is_layer_0 = strcmp(ggml_get_name(node), "l_out-0")       == 0;
    const bool is_logits  = strcmp(ggml_get_name(node), "result_output") == 0;
    if (!ask && is_layer_0) {
        moments->at_end_of_layer_0 = moments->n_events;
    }
    if (!ask && is_logits) {
        moments->at_logits = moments->n_events;
    }
    return !ask || is_layer_0 || is_logits;
}

static void test_called_while_the_rest_is_still_to_be_computed(void ** state) {
    (void) state;
    struct moments moments = { 0, -1, -1 };
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx             = 64;
    params.n_threads         = 1;
    params.n_threads_batch   = 1;
    params.cb_eval           = watch;
    params.cb_eval_user_data = &moments;
    struct llama_context * ctx = llama_init_from_model(fixture.model, params);
    assert_non_null(ctx);
    assert_true(expert_tracer_subscribe(fixture.tracer, count_event, &moments) > 0);
    oracle_evaluate(ctx, "abc");
    assert_int_equal(moments.at_end_of_layer_0, 1);
    assert_int_equal(moments.at_logits, ORACLE_N_LAYER);
    llama_free(ctx);
}

static void test_two_subscribers(void ** state) {
    (void) state;
    static struct heard other;
    int at    = 0;
    int again = 0;
    memset(&other, 0, sizeof(other));
    const int first  = expert_tracer_subscribe(fixture.tracer, listen, &fixture.heard);
    const int second = expert_tracer_subscribe(fixture.tracer, listen, &other);
    assert_true(first > 0 && second > 0 && first != second);

    oracle_evaluate(fixture.ctx, "xy");
    assert_ubatch(&fixture.heard, &at, "xy", true);
    assert_ubatch(&other,      &again, "xy", true);

    expert_tracer_unsubscribe(fixture.tracer, first);
    oracle_evaluate(fixture.ctx, "z");
    assert_int_equal(fixture.heard.n, at);
    assert_ubatch(&other, &again, "z", true);

    expert_tracer_unsubscribe(fixture.tracer, second);
    expert_tracer_unsubscribe(fixture.tracer, second); // once more: nothing
    oracle_evaluate(fixture.ctx, "z");
    assert_int_equal(other.n, again);
}

static void test_warmup_is_marked(void ** state) {
    (void) state;
    assert_true(expert_tracer_subscribe(fixture.tracer, listen, &fixture.heard) > 0);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    llama_set_warmup(fixture.ctx, true);
    oracle_evaluate(fixture.ctx, "ab"); // not one token: 0.5.0 would reuse the graph, with every expert, for the next
    llama_set_warmup(fixture.ctx, false);
#pragma GCC diagnostic pop
    oracle_evaluate(fixture.ctx, "c");
    assert_int_equal(fixture.heard.n, 2 * ORACLE_N_LAYER);
    for (int i = 0; i < ORACLE_N_LAYER; i++) {
        assert_true     (fixture.heard.events[i].warmup);
        assert_int_equal(fixture.heard.events[i].n_used, ORACLE_N_EXPERT); // that is how llama.cpp warms up
    }
    int at = ORACLE_N_LAYER;
    assert_ubatch(&fixture.heard, &at, "c", true);
}

static void test_room_for_eight(void ** state) {
    (void) state;
    int subscriptions[8];
    for (int i = 0; i < 8; i++) {
        subscriptions[i] = expert_tracer_subscribe(fixture.tracer, listen, &fixture.heard);
        assert_true(subscriptions[i] > 0);
    }
    assert_int_equal(expert_tracer_subscribe(fixture.tracer, listen, &fixture.heard), -ENOMEM);
    expert_tracer_unsubscribe(fixture.tracer, subscriptions[3]);
    assert_true(expert_tracer_subscribe(fixture.tracer, listen, &fixture.heard) > 0);
}

static void test_nonsense_is_refused(void ** state) {
    (void) state;
    assert_int_equal(expert_tracer_subscribe(NULL, listen, NULL), -EINVAL);
    assert_int_equal(expert_tracer_subscribe(fixture.tracer, NULL, NULL), -EINVAL);
    expert_tracer_unsubscribe(NULL, 1);
    expert_tracer_unsubscribe(fixture.tracer, 0);
    expert_tracer_unsubscribe(fixture.tracer, -ENOMEM);
    expert_tracer_unsubscribe(fixture.tracer, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_layer_in_order,                          setup, teardown),
        cmocka_unit_test_setup_teardown(test_several_ubatches,                              setup, teardown),
        cmocka_unit_test_setup_teardown(test_which_token_each_row_is,                       setup, teardown),
        cmocka_unit_test_setup_teardown(test_called_while_the_rest_is_still_to_be_computed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_subscribers,                               setup, teardown),
        cmocka_unit_test_setup_teardown(test_warmup_is_marked,                              setup, teardown),
        cmocka_unit_test_setup_teardown(test_room_for_eight,                                setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonsense_is_refused,                           setup, teardown),
    };
    return cmocka_run_group_tests(tests, oracle_group_setup, oracle_group_teardown);
}
