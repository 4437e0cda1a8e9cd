// Writes a routing trace and reads it back in one program: the two know each other by the format alone, and what both
// define has two names. What is read is what the events said, number by number.

#include "unit.h"

#include "folder.h"
#include "trace/format/chunk-header.h"
#include "trace/read/trace-reader.h"
#include "trace/rewrite/trace-packer.h"
#include "trace/rewrite/trace-unpacker.h"
#include "trace/write/trace-stream.h"
#include "trace/write/trace-writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    .key = "a model", .name = "A model", .architecture = "test", .file = "a model", .engine = "none",
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

// `descriptor` NULL: the path is claimed.
static int write_trace(const int * descriptor) {
    const struct trace_options options = {
        .path = "run.moetrace", .buffer = 1 << 20, .sample = 1, .weights = true, .tokens = true, .wait = true,
        .descriptor = descriptor,
        .is_foreign = descriptor != NULL,
    };
    struct trace_writer      * writer   = trace_writer_new(&options, &model, "run-1", ignore, ignore);
    struct trace_stream      * stream   = trace_stream_new(writer);
    int32_t                    position = 0;
    for (uint64_t i = 0; i < N; position += n_tokens_of(i++)) {
        record(stream, i, position);
    }
    const int error = trace_writer_end(writer, NULL);
    trace_stream_free(stream);
    trace_writer_free(writer);
    return error;
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

static void assert_trace(struct trace * trace) {
    struct trace_ubatch   ubatch;
    struct trace_cursor * cursor = trace_cursor_new(trace);
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
    assert_null(trace_about(trace)->fingerprint);
    trace_cursor_free(cursor);
}

static struct trace * open_trace(const char * path) {
    char           error[TRACE_ERROR_MAX];
    struct trace * trace = trace_open(path, error);
    assert_non_null(trace);
    return trace;
}

static struct trace * open_written(void) {
    assert_int_equal(write_trace(NULL), 0);
    return open_trace("run.moetrace");
}

static void what_was_written_is_read(void ** state) {
    (void) state;
    struct trace * trace = open_written();
    assert_trace(trace);
    trace_close(trace);
}

// Its name is left alone, and so is whatever has the name of the model's file.
static void a_file_that_is_open(void ** state) {
    (void) state;
    char      byte;
    const int other = open("run.moetrace", O_RDWR | O_CREAT | O_EXCL, 0600);
    const int file  = open("open.moetrace", O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_int_equal(symlink("open.moetrace", "a model"), 0);
    assert_int_equal(write_trace(&file), 0);
    struct trace * trace = open_trace("open.moetrace");
    assert_trace(trace);
    trace_close(trace);
    assert_int_equal(read(other, &byte, 1), 0);
    assert_int_equal(close(file), 0);
    assert_int_equal(close(other), 0);
}

static void a_file_that_cannot_be_written(void ** state) {
    (void) state;
    const int file = open("open.moetrace", O_RDONLY | O_CREAT | O_EXCL, 0600);
    assert_int_equal(write_trace(&file), -EBADF);
    assert_int_equal(close(file), 0);
}

//
// what rewrites a trace
//

struct bytes {
    char * data;
    size_t size;
};

static struct bytes read_whole(FILE * file) {
    struct bytes bytes;
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    bytes.size = (size_t) ftell(file);
    bytes.data = malloc(bytes.size + 1);
    assert_non_null(bytes.data);
    rewind(file);
    assert_int_equal(fread(bytes.data, 1, bytes.size, file), bytes.size);
    fclose(file);
    return bytes;
}

typedef const char * rewrite_fn(const struct trace * trace, FILE * out, rewriting_progress_fn progress, void * self,
                                struct trace_pack_report * report);

static struct bytes rewrite(const struct trace * trace, rewrite_fn * fn) {
    struct trace_pack_report report;
    FILE                   * out = tmpfile();
    assert_non_null(out);
    assert_null(fn(trace, out, NULL, NULL, &report));
    assert_false(report.copied);
    return read_whole(out);
}

static void what_was_written_is_packed_and_unpacked(void ** state) {
    (void) state;
    char                error[TRACE_ERROR_MAX];
    struct trace      * trace  = open_written();
    const struct bytes  packed = rewrite(trace, trace_pack);
    struct trace      * again  = trace_open_memory(packed.data, packed.size, error);
    assert_non_null(again);
    assert_true(trace_about(again)->is_packed);
    assert_trace(again);
    const struct bytes plain = rewrite(again, trace_unpack);
    const struct bytes file  = read_whole(fopen("run.moetrace", "rb"));
    assert_int_equal(plain.size, file.size);
    assert_memory_equal(plain.data, file.data, file.size);
    trace_close(again);
    trace_close(trace);
    free(packed.data);
    free(plain.data);
    free(file.data);
}

// What the writer has put before each chunk is what it says in both directions.
static void headers_are_encoded_as_they_are_decoded(void ** state) {
    (void) state;
    trace_close(open_written());
    const struct bytes file = read_whole(fopen("run.moetrace", "rb"));
    uint32_t           n    = 0;
    for (size_t at = 0; at < file.size; n++) {
        const uint8_t     * chunk = (const uint8_t *) file.data + at;
        struct chunk_header header;
        uint8_t             encoded[TRACE_HEADER_SIZE];
        assert_int_equal(chunk_header_decode(&header, chunk, file.size - at), CHUNK_HEADER_GOOD);
        assert_int_equal(header.number, n);
        assert_true(chunk_header_has_payload(&header, chunk + TRACE_HEADER_SIZE));
        chunk_header_encode(encoded, &header, chunk + TRACE_HEADER_SIZE);
        assert_memory_equal(encoded, chunk, sizeof(encoded));
        assert_int_equal(chunk_header_decode(&header, chunk, TRACE_HEADER_SIZE - 1), CHUNK_HEADER_CUT_OFF);
        encoded[TRACE_AT_FIRST] ^= 1;
        assert_int_equal(chunk_header_decode(&header, encoded, sizeof(encoded)), CHUNK_HEADER_DAMAGED);
        encoded[0] ^= 1;
        assert_int_equal(chunk_header_decode(&header, encoded, sizeof(encoded)), CHUNK_HEADER_FOREIGN);
        at += TRACE_HEADER_SIZE + header.size;
    }
    assert_true(n >= 4); // header, layers, data, end
    free(file.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_written_is_read, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(a_file_that_is_open, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(a_file_that_cannot_be_written, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(what_was_written_is_packed_and_unpacked, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(headers_are_encoded_as_they_are_decoded, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
