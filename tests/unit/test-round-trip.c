// Writes a routing trace and reads it back in one program: the two know each other by the format alone, and what both
// define has two names. What is read is what the events said, number by number.

#include "unit.h"

#include "folder.h"
#include "trace/read/trace-reader.h"
#include "trace/write/trace-stream.h"
#include "trace/write/trace-writer.h"

#include <stdlib.h>
#include <string.h>

#define LAYERS  3
#define EXPERTS 60
#define USED    4
#define TOKENS  7
#define N       50

static void ignore(enum log_level level, const char * lines) {
    (void) level;
    (void) lines;
}

static const struct routing_model model = {
    .key = "a model", .name = "A model", .architecture = "test", .engine = "none",
    .capture = "by hand", .n_layer = LAYERS, .n_expert = EXPERTS, .n_used = USED, .phases_known = true,
};

static int32_t expert(uint64_t ubatch, int32_t layer, int32_t token, int32_t rank) {
    return (int32_t) ((ubatch * 7 + (uint64_t) layer * 11 + (uint64_t) token * 5 + (uint64_t) rank * 13) % EXPERTS);
}

static float gate(uint64_t ubatch, int32_t rank) {
    return (float) (1 + (ubatch + (uint64_t) rank) % 8) / 16; // a half float is exact
}

static int32_t n_tokens_of(uint64_t ubatch) {
    return (int32_t) (1 + ubatch % TOKENS);
}

// The last layer of an odd ubatch has a row for its last token alone.
static int32_t first_row(uint64_t ubatch, int32_t layer) {
    return layer == LAYERS - 1 && ubatch % 2 == 1 ? n_tokens_of(ubatch) - 1 : 0;
}

static void record(struct trace_stream * stream, uint64_t number, int32_t position) {
    static int32_t             experts[LAYERS][TOKENS * USED];
    static float               gates  [LAYERS][TOKENS * USED];
    const int32_t              n       = n_tokens_of(number);
    int32_t                    last[1] = { n - 1 };
    struct expert_tracer_token tokens[TOKENS];
    struct routing_layer       layers[LAYERS];
    for (int32_t i = 0; i < n; i++) {
        tokens[i] = (struct expert_tracer_token) {
            .id = 1000 + i, .position = position + i, .generation = number % 3 == 0,
            .output = number % 2 == 0 || i == n - 1,
        };
    }
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        const int32_t first  = first_row(number, layer);
        const int32_t n_rows = n - first;
        for (int32_t i = 0; i < n_rows * USED; i++) {
            experts[layer][i] = expert(number, layer, first + i / USED, i % USED);
            gates  [layer][i] = gate(number, i % USED);
        }
        layers[layer] = (struct routing_layer) {
            .layer = layer, .n_expert = EXPERTS, .n_used = USED, .n_tokens = n_rows,
            .experts = experts[layer], .gates = gates[layer],
            .rows = first > 0 ? last : NULL, .n_tensors = 1, .tensor_names = { "blk.0.ffn_up_exps.weight" },
            .expert_bytes = { 4096 },
        };
    }
    const struct routing_ubatch ubatch = {
        .number = number, .batch = number, .time = 1700000000000000 + (int64_t) number * 1000,
        .n_tokens = (uint64_t) n, .tokens = tokens, .rows_known = true, .n_layers = LAYERS,
        .layers = layers, .is_moe = true,
    };
    trace_stream_ubatch(stream, &ubatch, false);
}

static void write_trace(void) {
    const struct trace_options options = { .path = "run.moetrace", .buffer = 1 << 20, .sample = 1,
                                           .weights = true, .tokens = true };
    struct trace_writer      * writer  = trace_writer_new(&options, &model, "run-1", ignore, ignore);
    struct trace_stream      * stream  = trace_stream_new(writer);
    int32_t                    position = 0;
    for (uint64_t i = 0; i < N; position += n_tokens_of(i++)) {
        record(stream, i, position);
    }
    trace_writer_end(writer, NULL);
    trace_stream_free(stream);
    trace_writer_free(writer);
}

static void assert_ubatch(const struct trace_ubatch * ubatch, uint64_t number, int32_t position) {
    assert_int_equal(ubatch->n_tokens, n_tokens_of(number));
    assert_int_equal(ubatch->n_layers, LAYERS);
    assert_int_equal(ubatch->time, 1700000000000000 + (int64_t) number * 1000);
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        assert_int_equal(ubatch->tokens[i].id, 1000 + i);
        assert_int_equal(ubatch->tokens[i].position, position + i);
        assert_int_equal(ubatch->tokens[i].generation, number % 3 == 0);
        assert_int_equal(ubatch->tokens[i].output, number % 2 == 0 || i == ubatch->n_tokens - 1);
    }
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        const struct trace_routing * routed = &ubatch->layers[layer];
        const int32_t                first  = first_row(number, layer);
        assert_int_equal(routed->n_rows, ubatch->n_tokens - first);
        for (int32_t i = 0; i < routed->n_rows * USED; i++) {
            assert_int_equal(routed->experts[i], expert(number, layer, first + i / USED, i % USED));
            assert_true(routed->weights[i] == gate(number, i % USED));
        }
    }
}

static void what_was_written_is_read(void ** state) {
    (void) state;
    char                error[TRACE_ERROR_MAX];
    struct trace_ubatch ubatch;
    write_trace();
    struct trace        * trace  = trace_open("run.moetrace", error);
    struct trace_cursor * cursor = trace ? trace_cursor_new(trace) : NULL;
    assert_non_null(cursor);
    assert_string_equal(trace_about(trace)->model_name, "A model");
    assert_int_equal(trace_about(trace)->ending, TRACE_COMPLETE);
    assert_int_equal(trace_about(trace)->n_ubatches, N);
    int32_t position = 0;
    for (uint64_t i = 0; i < N; position += n_tokens_of(i++)) {
        assert_true(trace_next(cursor, &ubatch));
        assert_ubatch(&ubatch, i, position);
    }
    assert_false(trace_next(cursor, &ubatch));
    trace_cursor_free(cursor);
    trace_close(trace);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_written_is_read, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
