// The tracer as a whole, by routing events made by hand: what it prints and writes of models and contexts.

#include "unit.h"

#include "tracer/announce.h"
#include "tracer/listener.h"
#include "tracer/tracer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char * long_lines; // that are expected to be said, instead of collected; NULL: none
static char         said[16384];

static void listen(enum log_level level, const char * lines) {
    (void) level;
    if (long_lines) {
        const size_t length = strlen(lines);
        assert_true(length > 0 && lines[length - 1] == '\n');
        assert_int_equal(strncmp(long_lines, lines, length), 0);
        long_lines += length;
        return;
    }
    strncat(said, lines, sizeof(said) - strlen(said) - 1);
}

static const struct tracer_setup setup = { listen, listen, "test-run", false, NULL };
static const struct tracer_setup own   = { listen, listen, "test-run", true, NULL };

static const struct routing_model model = {
    .key = "a model", .name = "Test", .architecture = "test", .engine = "none", .capture = "by hand",
    .n_layer = 2, .n_expert = 4, .n_used = 2, .phases_known = true,
};

static const int32_t experts[] = { 0, 2, 2, 3 };

static const struct routing_layer layers[] = {
    { .layer = 0, .n_expert = 4, .n_used = 2, .n_tokens = 2, .experts = experts, .n_tensors = 2,
      .tensor_names = { "blk.0.ffn_down_exps.weight", "blk.0.ffn_gate_up_exps.weight" } },
    { .layer = 1, .n_expert = 4, .n_used = 2, .n_tokens = 1, .experts = experts },
};

static const struct routing_layer mtp_layer = { .layer = 2, .n_expert = 4, .n_used = 2,
                                                .n_tokens = 2, .experts = experts };

static struct expert_tracer * start(bool stats, bool names, bool per_layer) {
    struct config config = { .stats = stats, .names = names, .per_layer = per_layer };
    said[0]    = '\0';
    long_lines = NULL;
    return tracer_new(&config, &setup);
}

static void decode(void * context, enum routing_fate fate, const struct routing_layer * evaluated, int32_t n_layers) {
    const struct routing_ubatch ubatch = { fate, 2, n_layers, evaluated, .layers_told = true };
    const struct routing_decode done   = { .fate = fate, .n_prompt = 1, .n_generation = 1 };
    tracer_sink.ubatch(context, &ubatch);
    tracer_sink.decode(context, &done);
}

static struct expert_tracer_snapshot * take(struct expert_tracer * tracer) {
    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(tracer, 0);
    assert_non_null(snapshot);
    return snapshot;
}

static void counts_and_prints(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, false, true);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    assert_string_equal(said, "[EXPERT-TRACE] Statistics enabled\n[EXPERT-TRACE] Routing is read by: by hand\n");
    decode(context, ROUTING_COUNT, layers, 2);
    said[0] = '\0';
    tracer_sink.context_close(context);
    assert_string_equal(said,
        "\n=== Expert Usage Statistics ===\n"
        "Total tokens: 2\n"
        "Total expert activations: 6\n\n"
        "  Expert   0:        2 activations (33.33%)\n"
        "  Expert   1:        0 activations (0.00%)\n"
        "  Expert   2:        3 activations (50.00%)\n"
        "  Expert   3:        1 activations (16.67%)\n"
        "\nPer-layer breakdown:\n"
        "  Layer 0:\n"
        "    Expert   0:        1\n"
        "    Expert   1:        0\n"
        "    Expert   2:        2\n"
        "    Expert   3:        1\n"
        "  Layer 1:\n"
        "    Expert   0:        1\n"
        "    Expert   1:        0\n"
        "    Expert   2:        1\n"
        "    Expert   3:        0\n");
    tracer_free(tracer);
}

// Where a file has the rest.
static void prints_the_hottest_of_each_layer(void ** state) {
    (void) state;
    for (int with_file = 0; with_file < 2; with_file++) {
        char                   path[] = "/tmp/unit-tracer-XXXXXX";
        const int              fd     = mkstemp(path);
        struct config          config = { .stats = true, .per_layer = true, .hottest = 2,
                                          .output = with_file ? strdup(path) : NULL };
        struct expert_tracer * tracer = tracer_new(&config, &setup);
        void                 * context = tracer_sink.context_open(tracer, &model, "a context");
        assert_true(fd >= 0);
        said[0] = '\0';
        decode(context, ROUTING_COUNT, layers, 2);
        tracer_sink.context_close(context);
        assert_non_null(strstr(said, "  Expert   1:        0 activations (0.00%)\n")); // the sum has all
        assert_int_equal(with_file, strstr(said,
            "  Layer 0:\n"
            "    Expert   2:        2\n"
            "    Expert   0:        1\n"
            "    and 2 more, 1 activations\n"
            "  Layer 1:\n"
            "    Expert   0:        1\n"
            "    Expert   2:        1\n"
            "    and 2 more, 0 activations\n") != NULL);
        tracer_free(tracer);
        close(fd);
        unlink(path);
    }
}

static void contexts_of_a_model_are_summed_and_printed_with_the_last(void ** state) {
    (void) state;
    struct expert_tracer * tracer = start(true, false, false);
    void * one   = tracer_sink.context_open(tracer, &model, "one");
    void * other = tracer_sink.context_open(tracer, &model, "other");
    decode(one,   ROUTING_COUNT, layers, 2);
    decode(other, ROUTING_COUNT, layers, 2);
    tracer_sink.context_close(one);
    assert_null(strstr(said, "==="));
    tracer_sink.context_close(other);
    assert_non_null(strstr(said, "Total tokens: 4\n"));
    tracer_free(tracer);
}

static void a_model_that_is_loaded_again_is_another(void ** state) {
    (void) state;
    struct config          config = { .stats = true };
    struct expert_tracer * tracer = tracer_new(&config, &own);
    said[0] = '\0';
    for (int i = 0; i < 2; i++) {
        void * context = tracer_sink.context_open(tracer, &model, "a context");
        decode(context, ROUTING_COUNT, layers, 2);
        tracer_sink.context_close(context);
        tracer_sink.model_close(tracer, model.key);
    }
    assert_null(strstr(said, "Total tokens: 4\n"));
    struct expert_tracer_snapshot * second = expert_tracer_snapshot_take(tracer, 1);
    assert_int_equal(second->total_tokens, 2);
    assert_true(second->complete);
    expert_tracer_snapshot_free(second);
    assert_null(expert_tracer_snapshot_take(tracer, 2));
    tracer_free(tracer);
}

static void warmup_is_apart(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, true, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_WARMUP,  layers, 2);
    decode(context, ROUTING_PENDING, layers, 2);
    tracer_sink.settle(context, true);
    assert_null(strstr(said, "Layer 0, Expert"));

    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_int_equal(snapshot->warmup_tokens, 4);
    assert_int_equal(snapshot->total_tokens, 0);
    assert_int_equal(snapshot->total_activations, 0);
    expert_tracer_snapshot_free(snapshot);
    tracer_sink.context_close(context);
    assert_non_null(strstr(said, "nothing but 4 tokens of warm-up"));
    tracer_free(tracer);
}

static void what_was_no_warmup_after_all_counts(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, true, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_PENDING, layers, 2);
    assert_null(strstr(said, "Layer 0, Expert"));
    tracer_sink.settle(context, false);
    assert_non_null(strstr(said, "Layer 0, Expert 2: blk.0.ffn_down_exps.2.weight"));

    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_int_equal(snapshot->total_tokens, 2);
    assert_int_equal(snapshot->prompt_tokens, 1);
    assert_int_equal(snapshot->total_activations, 6);
    expert_tracer_snapshot_free(snapshot);
    tracer_free(tracer);
}

static void names_are_the_specifications(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(false, true, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_COUNT, layers, 1);
    tracer_sink.context_close(context);
    assert_string_equal(said,
        "[EXPERT-TRACE] Tensor name logging enabled\n"
        "[EXPERT-TRACE] Routing is read by: by hand\n"
        "[EXPERT-TRACE] Layer 0, Expert 0: blk.0.ffn_down_exps.0.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 0: blk.0.ffn_gate_up_exps.0.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 2: blk.0.ffn_down_exps.2.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 2: blk.0.ffn_gate_up_exps.2.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 2: blk.0.ffn_down_exps.2.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 2: blk.0.ffn_gate_up_exps.2.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 3: blk.0.ffn_down_exps.3.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 3: blk.0.ffn_gate_up_exps.3.weight\n");
    tracer_free(tracer);
}

// More of them than are kept, and than is said at once.
static void all_names_of_a_long_prompt_are_said(void ** state) {
    (void) state;
    enum { N_TOKENS = 1000, N_USED = 8, N_LAYERS = 5 };
    static int32_t long_experts[N_TOKENS * N_USED];
    for (size_t i = 0; i < N_TOKENS * N_USED; i++) {
        long_experts[i] = (int32_t) (i * 37 % 128);
    }
    struct routing_layer long_layers[N_LAYERS];
    for (int32_t i = 0; i < N_LAYERS; i++) {
        long_layers[i] = (struct routing_layer) { .layer = i, .n_expert = 128, .n_used = N_USED, .n_tokens = N_TOKENS,
                                                  .experts = long_experts,
            .n_tensors = 2, .tensor_names = { "blk.x.ffn_down_exps.weight", "blk.x.ffn_up_exps.weight" } };
    }
    struct expert_tracer * tracer  = start(false, true, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    for (int round = 0; round < 2; round++) {
        char * lines;
        size_t length;
        FILE * expected = open_memstream(&lines, &length);
        for (int32_t i = 0; i < N_LAYERS; i++) {
            for (size_t k = 0; k < N_TOKENS * N_USED; k++) {
                const int32_t expert = long_experts[k];
                fprintf(expected, "[EXPERT-TRACE] Layer %d, Expert %d: blk.x.ffn_down_exps.%d.weight\n",
                        i, expert, expert);
                fprintf(expected, "[EXPERT-TRACE] Layer %d, Expert %d: blk.x.ffn_up_exps.%d.weight\n",
                        i, expert, expert);
            }
        }
        fclose(expected);
        long_lines = lines;
        decode(context, ROUTING_COUNT, long_layers, N_LAYERS);
        assert_string_equal(long_lines, ""); // all of it was said
        long_lines = NULL;
        free(lines);
    }
    tracer_sink.context_close(context);
    tracer_free(tracer);
}

static void a_prediction_head_has_a_section_of_its_own(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, false, true);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_COUNT, layers, 2);
    decode(context, ROUTING_COUNT, &mtp_layer, 1);

    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_int_equal(snapshot->total_tokens, 2);
    assert_int_equal(snapshot->prompt_tokens + snapshot->generation_tokens, 2);
    assert_int_equal(snapshot->mtp_tokens, 2);
    assert_int_equal(snapshot->total_activations, 6);
    assert_int_equal(snapshot->n_layers, 3);
    assert_true(snapshot->layers[2].mtp);
    expert_tracer_snapshot_free(snapshot);
    tracer_sink.context_close(context);
    assert_non_null(strstr(said, "\nMulti-token-prediction head, 2 tokens:\n  Layer 2:\n    Expert   0:        1\n"));
    tracer_free(tracer);
}

struct told {
    int32_t layers[8];
    bool    warmup[8];
    int32_t n_rows;
    int     n;
};

static void note_event(const struct expert_tracer_event * event, void * user_data) {
    struct told * told = user_data;
    assert_true(told->n < 8);
    assert_memory_equal(event->experts, experts, (size_t) (event->n_tokens * event->n_used) * sizeof(experts[0]));
    assert_string_equal(event->context, "a context");
    told->layers[told->n] = event->layer;
    told->warmup[told->n] = event->warmup;
    told->n_rows         += event->n_tokens;
    told->n++;
}

static void layers_that_were_not_told_are_told_with_their_ubatch(void ** state) {
    (void) state;
    struct told                 told    = { 0 };
    struct expert_tracer      * tracer  = start(false, false, false);
    struct routing_ubatch       ubatch  = { ROUTING_COUNT, 2, 2, layers, .layers_told = false };
    const struct routing_decode done    = { .fate = ROUTING_COUNT, .n_prompt = 1, .n_generation = 1 };
    struct config               config  = { .stats = true };
    tracer_configure(tracer, &config);
    void * context = tracer_sink.context_open(tracer, &model, "a context");
    assert_true(expert_tracer_subscribe(tracer, note_event, &told) > 0);

    tracer_sink.ubatch(context, &ubatch);
    tracer_sink.decode(context, &done);
    assert_int_equal(told.n, 2);
    assert_int_equal(told.layers[0], 0);
    assert_int_equal(told.layers[1], 1);
    assert_int_equal(told.n_rows, 3);
    assert_false(told.warmup[0]);

    ubatch.fate = ROUTING_WARMUP;
    tracer_sink.ubatch(context, &ubatch);
    assert_int_equal(told.n, 4);
    assert_true(told.warmup[3]);

    ubatch.layers_told = true;
    ubatch.fate        = ROUTING_COUNT;
    tracer_sink.ubatch(context, &ubatch);
    assert_int_equal(told.n, 4);
    tracer_sink.layer(context, &layers[1], &ubatch);
    assert_int_equal(told.n, 5);

    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_int_equal(snapshot->total_tokens, 4);
    assert_int_equal(snapshot->total_activations, 12);
    expert_tracer_snapshot_free(snapshot);
    tracer_free(tracer);
}

static void what_is_missing_is_told(void ** state) {
    (void) state;
    struct expert_tracer      * tracer  = start(true, false, false);
    void                      * context = tracer_sink.context_open(tracer, &model, "a context");
    const struct routing_ubatch lost    = { .n_tokens = 5, .n_lost = 2, .lost = ROUTING_LACKS_MEMORY };
    const struct routing_ubatch stopped = { .lost = "it looks wrong", .stopped = true };
    const struct routing_decode unknown = { .phases_lost = true, .n_prompt = 5 };
    decode(context, ROUTING_COUNT, layers, 2);
    tracer_sink.ubatch(context, &lost);
    tracer_sink.decode(context, &unknown);
    tracer_sink.ubatch(context, &stopped);
    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_int_equal(snapshot->total_tokens, 7);
    assert_int_equal(snapshot->total_activations, 6);
    assert_int_equal(snapshot->lost_ubatches, 2);
    assert_int_equal(snapshot->lost_tokens, 5);
    assert_string_equal(snapshot->lost_reason, ROUTING_LACKS_MEMORY);
    assert_string_equal(snapshot->stopped, "it looks wrong");
    assert_false(snapshot->complete);
    assert_false(snapshot->phases_known);
    expert_tracer_snapshot_free(snapshot);
    tracer_sink.context_close(context);
    assert_non_null(strstr(said, "not counted: the routing of 5 tokens in 2 ubatches, of 7 tokens (out of memory)\n"));
    assert_non_null(strstr(said, "counting stopped early: it looks wrong\n"));
    tracer_free(tracer);
}

static void an_end_amid_a_batch_is_told(void ** state) {
    (void) state;
    for (int amid = 0; amid < 2; amid++) {
        struct expert_tracer      * tracer  = start(true, false, false);
        void                      * context = tracer_sink.context_open(tracer, &model, "a context");
        const struct routing_ubatch ubatch  = { .n_tokens = 2, .n_layers = 2, .layers = layers, .layers_told = true };
        decode(context, ROUTING_COUNT, layers, 2);
        if (amid) {
            tracer_sink.ubatch(context, &ubatch);
        }
        tracer_finish(tracer);
        assert_int_equal(strstr(said, "counting stopped early: the program ended while it evaluated") != NULL, amid);
        tracer_free(tracer);
    }
}

static void assert_capture(struct expert_tracer * tracer, const char * capture) {
    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_string_equal(snapshot->capture, capture);
    expert_tracer_snapshot_free(snapshot);
}

static void the_way_of_reading_may_change(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, false, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    struct routing_ubatch  ubatch  = { ROUTING_COUNT, 2, 2, layers, .layers_told = true };
    tracer_sink.ubatch(context, &ubatch);
    assert_capture(tracer, "by hand");
    ubatch.capture = "by machine";
    tracer_sink.ubatch(context, &ubatch);
    assert_capture(tracer, "by machine");
    ubatch.capture = NULL;
    tracer_sink.ubatch(context, &ubatch);
    assert_capture(tracer, "by machine");
    tracer_free(tracer);
}

static void layers_and_experts_that_the_model_did_not_tell_are_counted(void ** state) {
    (void) state;
    struct routing_model unknown = { .key = "unknown", .capture = "by hand" };
    struct routing_layer wide    = layers[0];
    struct expert_tracer * tracer  = start(true, false, false);
    void                 * context = tracer_sink.context_open(tracer, &unknown, "a context");
    decode(context, ROUTING_COUNT, layers, 2);
    wide.layer    = 60;
    wide.n_expert = 300;
    wide.experts  = (int32_t[]) { 299, 0, 1, 299 };
    decode(context, ROUTING_COUNT, &wide, 1);
    decode(context, ROUTING_COUNT, layers, 2);

    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_int_equal(snapshot->n_layers, 3);
    assert_int_equal(snapshot->n_layer, 61);
    assert_int_equal(snapshot->n_expert, 300);
    assert_int_equal(snapshot->layers[0].n_expert, 4);
    assert_int_equal(snapshot->layers[0].activations[2], 4);
    assert_int_equal(snapshot->layers[2].activations[299], 2);
    assert_int_equal(snapshot->activations[299], 2);
    assert_int_equal(snapshot->total_activations, 16);
    expert_tracer_snapshot_free(snapshot);
    tracer_free(tracer);
}

static void a_dense_model_is_told(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, false, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_COUNT, NULL, 0);
    tracer_sink.context_close(context);
    assert_non_null(strstr(said, "evaluated 2 tokens and no MoE layer was seen"));
    assert_null(strstr(said, "==="));
    tracer_free(tracer);
}

static void a_reset_leaves_nothing_to_tell(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, false, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_COUNT, layers, 2);
    expert_tracer_reset(tracer);
    tracer_sink.context_close(context);
    assert_non_null(strstr(said, "nothing was counted of Test\n"));
    tracer_free(tracer);
}

static void a_reset_inside_a_batch_does_not_wrap(void ** state) {
    (void) state;
    const struct routing_ubatch ubatch = { ROUTING_COUNT, 2, 2, layers, .layers_told = true };
    const struct routing_decode done   = { .fate = ROUTING_COUNT, .n_prompt = 1,
                                           .n_generation = 0, .n_correction = -1 };
    struct expert_tracer      * tracer  = start(true, false, false);
    void                      * context = tracer_sink.context_open(tracer, &model, "a context");
    tracer_sink.ubatch(context, &ubatch);
    expert_tracer_reset(tracer);
    tracer_sink.decode(context, &done);

    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_int_equal(snapshot->total_tokens, 0);
    expert_tracer_snapshot_free(snapshot);
    tracer_free(tracer);
}

// In an empty folder.
static int enter_folder(void ** state) {
    char folder[] = "/tmp/expert-tracer-unit-XXXXXX";
    *state = mkdtemp(folder) && chdir(folder) == 0 ? strdup(folder) : NULL;
    return *state ? 0 : -1;
}

static int leave_folder(void ** state) {
    static const char * const files[] = { "one.json", "two.json", "one-2.json" };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        unlink(files[i]);
    }
    const int failed = chdir("/") || rmdir(*state);
    free(*state);
    return failed;
}

static void configure(struct expert_tracer * tracer, const char * output, double interval) {
    struct config config = { .stats = true, .output = output ? strdup(output) : NULL, .interval = interval };
    tracer_configure(tracer, &config);
}

static void evaluate_in_a_context(struct expert_tracer * tracer) {
    void * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_COUNT, layers, 2);
    tracer_sink.context_close(context);
}

static bool file_says(const char * path, const char * what) {
    char   text[4096] = "";
    FILE * file       = fopen(path, "r");
    if (file) {
        text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
        fclose(file);
    }
    return strstr(text, what) != NULL;
}

static bool is_locked(const char * path) {
    const int  fd     = open(path, O_RDONLY | O_CLOEXEC);
    const bool locked = flock(fd, LOCK_EX | LOCK_NB) != 0;
    assert_true(fd >= 0);
    close(fd);
    return locked;
}

static void another_output_is_taken_up_by_the_next_context(void ** state) {
    (void) state;
    struct expert_tracer * tracer = start(true, false, false);
    configure(tracer, "one.json", 0);
    evaluate_in_a_context(tracer);
    assert_true(is_locked("one.json"));

    configure(tracer, "two.json", 0);
    evaluate_in_a_context(tracer);
    assert_true(file_says("one.json", "\"total_tokens\": 2,"));
    assert_true(file_says("two.json", "\"total_tokens\": 4,"));
    assert_false(is_locked("one.json"));
    assert_true (is_locked("two.json"));

    configure(tracer, NULL, 0);
    evaluate_in_a_context(tracer);
    assert_true(file_says("two.json", "\"total_tokens\": 4,"));
    assert_false(is_locked("two.json"));
    tracer_free(tracer);
}

static void an_unloaded_models_output_is_given_up(void ** state) {
    (void) state;
    struct expert_tracer * tracer = start(true, false, false);
    configure(tracer, "one.json", 0);
    evaluate_in_a_context(tracer);
    assert_true(is_locked("one.json"));
    tracer_sink.model_close(tracer, model.key);
    assert_false(is_locked("one.json"));

    expert_tracer_reset(tracer);
    tracer_free(tracer);
    assert_true(file_says("one.json", "\"total_tokens\": 2,")); // for good
    assert_int_not_equal(access("one-2.json", F_OK), 0);
}

// The tracer's thread may hold it for a moment.
static void wait_until_forgotten(struct expert_tracer * tracer) {
    struct expert_tracer_snapshot * snapshot;
    for (int i = 0; (snapshot = expert_tracer_snapshot_take(tracer, 0)) && i < 30000; i++) {
        expert_tracer_snapshot_free(snapshot);
        usleep(1000);
    }
    assert_null(snapshot);
}

// In the order in which programs mostly free them, and in the other one.
static void a_model_that_is_gone_is_forgotten(void ** state) {
    (void) state;
    for (int with_output = 0; with_output < 2; with_output++) {
        struct expert_tracer * tracer = start(true, false, false);
        configure(tracer, with_output ? "one.json" : NULL, 0);
        evaluate_in_a_context(tracer);
        expert_tracer_snapshot_free(take(tracer));
        tracer_sink.model_close(tracer, model.key);
        wait_until_forgotten(tracer);

        configure(tracer, NULL, 0);
        void * context = tracer_sink.context_open(tracer, &model, "a context");
        decode(context, ROUTING_COUNT, layers, 2);
        tracer_sink.model_close(tracer, model.key);
        expert_tracer_snapshot_free(take(tracer));
        tracer_sink.context_close(context);
        wait_until_forgotten(tracer);
        tracer_free(tracer);
    }
    assert_true(file_says("one.json", "\"complete\": true,"));
}

// What could not be written is there until it is.
static void a_model_that_is_gone_waits_for_its_output(void ** state) {
    (void) state;
    struct expert_tracer * tracer = start(true, false, false);
    assert_int_equal(mkdir("folder", 0700), 0);
    assert_int_equal(symlink("folder/missing/one.json", "one.json"), 0);
    configure(tracer, "one.json", 0.1);
    evaluate_in_a_context(tracer);
    tracer_sink.model_close(tracer, model.key);
    expert_tracer_snapshot_free(take(tracer));

    assert_int_equal(unlink("one.json"), 0);
    assert_int_equal(rmdir("folder"), 0);
    for (struct expert_tracer_snapshot * snapshot; (snapshot = expert_tracer_snapshot_take(tracer, 0)); ) {
        expert_tracer_snapshot_free(snapshot);
        usleep(1000);
    }
    assert_true(file_says("one.json", "\"complete\": true,"));
    assert_true(file_says("one.json", "\"total_tokens\": 2,"));
    assert_false(is_locked("one.json"));
    tracer_free(tracer);
}

static double processor_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static void the_thread_follows_the_interval(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, false, false);
    configure(tracer, "one.json", 3600);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    while (access("one.json", F_OK) != 0) {
        usleep(1000); // the thread makes it
    }
    decode(context, ROUTING_COUNT, layers, 2);

    configure(tracer, "one.json", 0); // rests
    const double before = processor_seconds();
    usleep(300000);
    assert_true(processor_seconds() - before < 0.1);
    assert_true(file_says("one.json", "\"total_tokens\": 0,"));

    configure(tracer, "one.json", 0.1); // and is awake again
    for (int i = 0; i < 100 && !file_says("one.json", "\"total_tokens\": 2,"); i++) {
        usleep(100000);
    }
    assert_true(file_says("one.json", "\"total_tokens\": 2,"));
    tracer_sink.context_close(context);
    tracer_free(tracer);
}

static void remarks_wait_for_the_first_batch(void ** state) {
    (void) state;
    struct expert_tracer * tracer = start(false, false, false);
    announce_later(tracer, "a remark\n");
    announce_later(tracer, "another\n");
    assert_string_equal(said, "");
    assert_null(tracer_sink.context_open(tracer, &model, "a context"));
    assert_string_equal(said, "a remark\nanother\n");
    assert_null(tracer_sink.context_open(tracer, &model, "another context"));
    assert_string_equal(said, "a remark\nanother\n");
    tracer_free(tracer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_and_prints),
        cmocka_unit_test(prints_the_hottest_of_each_layer),
        cmocka_unit_test(contexts_of_a_model_are_summed_and_printed_with_the_last),
        cmocka_unit_test(a_model_that_is_loaded_again_is_another),
        cmocka_unit_test(warmup_is_apart),
        cmocka_unit_test(what_was_no_warmup_after_all_counts),
        cmocka_unit_test(names_are_the_specifications),
        cmocka_unit_test(all_names_of_a_long_prompt_are_said),
        cmocka_unit_test(a_prediction_head_has_a_section_of_its_own),
        cmocka_unit_test(layers_that_were_not_told_are_told_with_their_ubatch),
        cmocka_unit_test(what_is_missing_is_told),
        cmocka_unit_test(an_end_amid_a_batch_is_told),
        cmocka_unit_test(the_way_of_reading_may_change),
        cmocka_unit_test(layers_and_experts_that_the_model_did_not_tell_are_counted),
        cmocka_unit_test(a_dense_model_is_told),
        cmocka_unit_test(remarks_wait_for_the_first_batch),
        cmocka_unit_test(a_reset_leaves_nothing_to_tell),
        cmocka_unit_test(a_reset_inside_a_batch_does_not_wrap),
        cmocka_unit_test_setup_teardown(another_output_is_taken_up_by_the_next_context, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(an_unloaded_models_output_is_given_up,          enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(a_model_that_is_gone_is_forgotten,              enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(a_model_that_is_gone_waits_for_its_output,      enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(the_thread_follows_the_interval,                enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
