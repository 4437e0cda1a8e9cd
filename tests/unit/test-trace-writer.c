// The writer of routing traces: what is in the files, when the disk fails, and when somebody changes them.

#include "unit.h"

#include "folder.h"

#include "base/crc32.h"
#include "trace/format/trace-format.h"
#include "trace/write/trace-stream.h"
#include "trace/write/trace-writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

//
// the disk
//

enum disk { DISK_WORKS, DISK_BLOCKS, DISK_IS_SLOW, DISK_IS_FULL };

static atomic_int disk;
static atomic_int n_full; // how often it was

// The writer is compiled with this instead, and so is this file with <unistd.h>.
#undef pwrite
ssize_t pwrite(int fd, const void * data, size_t size, off_t offset);

// Of a disk that is full there is room for half.
ssize_t unit_pwrite(int fd, const void * data, size_t size, off_t offset) {
    static _Thread_local bool was_half;
    while (atomic_load(&disk) == DISK_BLOCKS) {
        usleep(1000);
    }
    if (atomic_load(&disk) == DISK_IS_SLOW) {
        usleep(2000);
    }
    if (atomic_load(&disk) == DISK_IS_FULL) {
        was_half = !was_half;
        if (was_half) {
            return pwrite(fd, data, size / 2, offset);
        }
        atomic_fetch_add(&n_full, 1);
        errno = ENOSPC;
        return -1;
    }
    return pwrite(fd, data, size, offset);
}

//
// what is said
//

static pthread_mutex_t said_mutex = PTHREAD_MUTEX_INITIALIZER;
static char            said[1 << 16];

static void hear(enum log_level level, const char * lines) {
    (void) level;
    pthread_mutex_lock(&said_mutex);
    strncat(said, lines, sizeof(said) - strlen(said) - 1);
    pthread_mutex_unlock(&said_mutex);
}

static int n_said(const char * what) {
    int n = 0;
    pthread_mutex_lock(&said_mutex);
    for (const char * at = said; (at = strstr(at, what)); at++) {
        n++;
    }
    pthread_mutex_unlock(&said_mutex);
    return n;
}

//
// what is evaluated
//

#define LAYERS   4
#define USED     8
#define EXPERTS  128
#define TOKENS   64
#define BUFFER   (64 << 10)

static const struct routing_model model = {
    .key = "a model", .name = "Test \"one\"", .architecture = "test", .engine = "none",
    .capture = "by hand", .file = "model.gguf", .n_layer = LAYERS, .n_expert = EXPERTS,
    .n_used = USED, .phases_known = true,
};

static int32_t experts[TOKENS * USED];

static void fill_experts(void) {
    for (int i = 0; i < TOKENS * USED; i++) {
        experts[i] = (i / USED * 5 + i % USED * 3) % EXPERTS;
    }
}

struct evaluated {
    struct expert_tracer_token tokens[TOKENS];
    struct routing_layer       layers[LAYERS];
    struct routing_ubatch      ubatch;
};

static struct routing_ubatch * evaluated(struct evaluated * of, uint64_t number, uint64_t batch, int32_t n_tokens) {
    for (int32_t i = 0; i < n_tokens; i++) {
        of->tokens[i] = (struct expert_tracer_token) { .id = i, .position = (int32_t) (number * TOKENS) + i };
    }
    for (int32_t i = 0; i < LAYERS; i++) {
        of->layers[i] = (struct routing_layer) {
            .layer = i, .n_expert = EXPERTS, .n_used = USED, .n_tokens = n_tokens, .experts = experts, .n_tensors = 1,
            .tensor_names = { "blk.0.ffn_gate_exps.weight" }, .expert_bytes = { 4096 },
        };
    }
    of->ubatch = (struct routing_ubatch) {
        .number = number, .batch = batch, .time = 1700000000000000 + (int64_t) number * 1000000,
        .n_tokens = (uint64_t) n_tokens, .tokens = of->tokens, .rows_known = true,
        .n_layers = LAYERS, .layers = of->layers,
    };
    return &of->ubatch;
}

static void evaluate(struct trace_stream * stream, uint64_t number, uint64_t batch, int32_t n_tokens) {
    struct evaluated of;
    trace_stream_ubatch(stream, evaluated(&of, number, batch, n_tokens), false);
}

static void evaluate_as(struct trace_stream * stream, uint64_t number, enum routing_fate fate) {
    struct evaluated        of;
    struct routing_ubatch * ubatch = evaluated(&of, number, number, 2);
    ubatch->fate = fate;
    trace_stream_ubatch(stream, ubatch, false);
}

static const struct trace_options plain = { .path = "run.moetrace", .buffer = BUFFER, .sample = 1 };

static struct trace_writer * start_run(const struct trace_options * options, const char * run) {
    struct trace_writer * writer = trace_writer_new(options, &model, run, hear, hear);
    assert_non_null(writer);
    return writer;
}

static struct trace_writer * start(const struct trace_options * options) {
    return start_run(options, "run-1");
}

static struct trace_stream * join(struct trace_writer * writer) {
    struct trace_stream * stream = trace_stream_new(writer);
    assert_non_null(stream);
    return stream;
}

static void finish(struct trace_writer * writer, struct trace_stream * stream) {
    trace_writer_end(writer, NULL);
    trace_stream_free(stream);
    trace_writer_free(writer);
}

//
// what is in a file
//

struct gap {
    uint64_t n_ubatches;
    uint64_t n_tokens;
};

struct content {
    int        n_chunks[8]; // by kind
    uint64_t   first;       // ubatch that is told of
    uint64_t   next;        // that would be told of
    uint64_t   n_ubatches;
    uint64_t   n_tokens;
    uint64_t   n_first;     // of their batches
    uint64_t   n_gaps;
    uint64_t   n_since_gap;
    struct gap gaps[TRACE_GAP_LOST + 1];
    uint64_t   n_cuts;
    uint64_t   n_lives;
    uint64_t   n_amendments;
    char       amendments[256]; // the first of them
    char       header[2048];
    char       end[512];
    uint64_t   size;
    uint64_t   rest;        // bytes behind the last whole chunk
};

static uint64_t get(const uint8_t * at, int n) {
    return n == 0 ? 0 : at[0] | get(at + 1, n - 1) << 8;
}

static uint64_t varint(const uint8_t ** at) {
    uint64_t value = 0;
    for (int shift = 0; ; shift += 7) {
        value |= (uint64_t) (**at & 127) << shift;
        if (*(*at)++ < 128) {
            return value;
        }
    }
}

static void read_data(struct content * content, const uint8_t * at, const uint8_t * end, uint64_t n_ubatches) {
    uint64_t recorded = 0;
    while (at < end) {
        const uint64_t  size = varint(&at);
        const uint8_t * body = at + 1;
        assert_true(size > 0 && size <= (uint64_t) (end - at));
        switch (*at) {
            case TRACE_RECORD_LIFE:   content->n_lives++; break;
            case TRACE_RECORD_CUT:    content->n_cuts++;  break;
            case TRACE_RECORD_UBATCH:
                varint(&body);
                content->n_first += (*body & TRACE_UBATCH_FIRST) != 0;
                content->n_since_gap++;
                content->next++;
                recorded++;
                break;
            case TRACE_RECORD_GAP: {
                const uint64_t n        = varint(&body);
                const uint64_t n_tokens = varint(&body);
                assert_in_range(*body, 1, TRACE_GAP_LOST);
                content->gaps[*body].n_ubatches += n;
                content->gaps[*body].n_tokens   += n_tokens;
                content->next += n;
                content->n_since_gap = 0;
                content->n_gaps++;
                break;
            }
            default: fail();
        }
        at += size;
    }
    assert_int_equal(recorded, n_ubatches);
}

static void read_amendments(struct content * content, const uint8_t * at, const uint8_t * end) {
    while (at < end) {
        char            text[64];
        const uint64_t  size = varint(&at);
        const uint8_t * body = at + 1;
        const uint64_t  one  = varint(&body);
        const uint64_t  two  = varint(&body);
        if (*at == TRACE_AMENDMENT_WARMUP) {
            snprintf(text, sizeof(text), "warmup %d+%d;", (int) one, (int) two);
        } else {
            snprintf(text, sizeof(text), "rejected %d: %d+%d;", (int) one, (int) two, (int) varint(&body));
        }
        strncat(content->amendments, text, sizeof(content->amendments) - strlen(content->amendments) - 1);
        content->n_amendments++;
        at += size;
    }
}

static void read_chunk(struct content * content, const uint8_t * chunk, const uint8_t * payload, size_t size, int n) {
    const int      kind  = chunk[TRACE_AT_KIND];
    const uint64_t first = get(chunk + TRACE_AT_FIRST, 8);
    assert_in_range(kind, 1, 5);
    assert_int_equal(get(chunk + TRACE_AT_VERSION, 2), 1);
    assert_int_equal(get(chunk + TRACE_AT_NUMBER, 4), n);
    assert_int_equal(get(chunk + TRACE_AT_CRC_PAYLOAD, 4), trace_crc32(payload, size));
    assert_int_equal(content->n_chunks[TRACE_CHUNK_END], 0);
    assert_int_equal(kind == TRACE_CHUNK_HEADER, n == 0);
    content->n_chunks[kind]++;
    if (kind == TRACE_CHUNK_DATA) {
        const uint64_t n_ubatches = get(chunk + TRACE_AT_N_UBATCHES, 4);
        assert_int_equal(content->n_chunks[TRACE_CHUNK_LAYERS] > 0 || n_ubatches == 0, true);
        content->first = content->n_chunks[kind] == 1 ? first : content->first;
        content->next  = content->n_chunks[kind] == 1 ? first : content->next;
        assert_int_equal(first, content->next);
        content->n_ubatches += n_ubatches;
        content->n_tokens   += get(chunk + TRACE_AT_N_TOKENS, 4);
        read_data(content, payload, payload + size, n_ubatches);
    } else if (kind == TRACE_CHUNK_AMENDMENTS) {
        read_amendments(content, payload, payload + size);
    } else if (kind == TRACE_CHUNK_HEADER) {
        snprintf(content->header, sizeof(content->header), "%.*s", (int) size, (const char *) payload);
    } else if (kind == TRACE_CHUNK_END) {
        snprintf(content->end, sizeof(content->end), "%.*s", (int) size, (const char *) payload);
    }
}

static bool exists(const char * path) {
    return access(path, F_OK) == 0;
}

// The writer's own thread makes the file.
static void wait_for_file(const char * path) {
    for (int i = 0; i < 30000 && !exists(path); i++) {
        usleep(1000);
    }
}

static struct content content_of(const char * path) {
    struct content content = { 0 };
    struct stat    about;
    wait_for_file(path);
    const int      fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &about), 0);
    content.size = (uint64_t) about.st_size;
    uint8_t * data = malloc(content.size + 1);
    assert_int_equal(read(fd, data, content.size), about.st_size);
    close(fd);
    uint64_t at = 0;
    for (int n = 0; at + TRACE_HEADER_SIZE <= content.size; n++) {
        const uint64_t size = get(data + at + TRACE_AT_SIZE, 4);
        assert_memory_equal(data + at, TRACE_MAGIC, TRACE_MAGIC_SIZE);
        assert_int_equal(get(data + at + TRACE_AT_CRC_HEADER, 4), trace_crc32(data + at, TRACE_AT_CRC_HEADER));
        if (size > content.size - at - TRACE_HEADER_SIZE) {
            break;
        }
        read_chunk(&content, data + at, data + at + TRACE_HEADER_SIZE, size, n);
        at += TRACE_HEADER_SIZE + size;
    }
    content.rest = content.size - at;
    free(data);
    return content;
}

static void assert_end(const struct content * content, bool complete, bool last_part) {
    char expected[256];
    snprintf(expected, sizeof(expected), "{\"complete\": %s, \"last_part\": %s, ", complete ? "true" : "false",
        last_part ? "true" : "false");
    assert_int_equal(strncmp(content->end, expected, strlen(expected)), 0);
}

// What the end says of a trace of one file.
static void assert_sums(const struct content * content) {
    char expected[256];
    snprintf(expected, sizeof(expected),
        "\"ubatches\": %d, \"tokens\": %d, \"dropped_ubatches\": %d, \"dropped_tokens\": %d, "
        "\"left_out_ubatches\": %d, \"left_out_tokens\": %d, ", (int) content->n_ubatches, (int) content->n_tokens,
        (int) (content->gaps[1].n_ubatches + content->gaps[3].n_ubatches + content->gaps[4].n_ubatches),
        (int) (content->gaps[1].n_tokens + content->gaps[3].n_tokens + content->gaps[4].n_tokens),
        (int) content->gaps[2].n_ubatches, (int) content->gaps[2].n_tokens);
    assert_non_null(strstr(content->end, expected));
}

//
// tests
//

static int begin(void ** state) {
    atomic_store(&disk, DISK_WORKS);
    atomic_store(&n_full, 0);
    said[0] = '\0';
    fill_experts();
    return enter_folder(state);
}

static void the_checksum(void ** state) {
    (void) state;
    assert_int_equal(trace_crc32("123456789", 9), 0xcbf43926);
    assert_int_equal(trace_crc32("", 0), 0);
    assert_int_equal(trace_crc32("The quick brown fox jumps over the lazy dog", 43), 0x414fa339);
}

static void a_trace_is_written(void ** state) {
    (void) state;
    FILE * file = fopen("model.gguf", "w");
    fputs("foobar", file);
    fclose(file);
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    assert_false(exists("run.moetrace"));
    evaluate(stream, 0, 0, 3);
    wait_for_file("run.moetrace");
    evaluate(stream, 1, 1, 1);
    finish(writer, stream);

    struct stat about;
    assert_int_equal(stat("run.moetrace", &about), 0);
    assert_int_equal(about.st_mode & 07777, 0600);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 2);
    assert_int_equal(content.n_tokens, 4);
    assert_int_equal(content.n_lives, 1);
    assert_int_equal(content.n_chunks[TRACE_CHUNK_LAYERS], 1);
    assert_int_equal(content.n_chunks[TRACE_CHUNK_DATA], 1);
    assert_int_equal(content.rest, 0);
    assert_end(&content, true, true);
    assert_sums(&content);
    assert_non_null(strstr(content.header, "{\"format\": \"llama-expert-tracer-routing\", \"version\": 1, "));
    assert_non_null(strstr(content.header, "\"run\": \"run-1\""));
    assert_non_null(strstr(content.header, "\"capture\": \"by hand\", \"model\": {\"name\": \"Test \\\"one\\\"\", "));
    assert_non_null(strstr(content.header,
        "\"fingerprint\": \"6-85944171f73967e8\"}, \"n_layer\": 4, \"phases_known\": true, "
        "\"weights\": false, \"tokens\": false, \"sample\": 1}"));
    assert_int_equal(n_said("Routing trace: "), 1);
    assert_int_equal(n_said("run.moetrace, 4 tokens, "), 1);
    assert_int_equal(n_said("\n"), 1);
}

static void without_a_ubatch_there_is_no_file(void ** state) {
    (void) state;
    struct trace_writer    * writer = start(&plain);
    struct trace_stream    * stream = join(writer);
    const struct routing_cut cut    = { .sequence = 0, .position = 3 };
    struct evaluated         of;
    evaluated(&of, 0, 0, 2)->n_layers = 0; // of a dense model
    trace_stream_ubatch(stream, &of.ubatch, false);
    trace_stream_cut(stream, &cut);
    trace_stream_settle(stream, true);
    finish(writer, stream);
    assert_false(exists("run.moetrace"));
    assert_int_equal(n_said("\n"), 0);
    trace_stream_free(NULL);
    trace_writer_free(NULL);
}

static void what_comes_after_the_end_is_ignored(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    evaluate(stream, 0, 0, 3);
    trace_writer_end(writer, NULL);
    evaluate(stream, 1, 1, 1);
    finish(writer, stream);
    assert_int_equal(content_of("run.moetrace").n_ubatches, 1);
    assert_int_equal(n_said("Routing trace: "), 1);
}

static void some_batches_are_left_out(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.sample = 3;
    options.seed   = 12;
    struct trace_writer * writer = start(&options);
    struct trace_stream * stream = join(writer);
    for (uint64_t i = 0; i < 20; i++) { // two ubatches in each of ten batches
        evaluate(stream, i, i / 2, 5);
    }
    evaluate(stream, 20, 10, 4);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 6); // 1, 3, 6, and 11 does not come
    assert_int_equal(content.n_first, 3);
    assert_int_equal(content.gaps[TRACE_GAP_SAMPLING].n_ubatches, 15);
    assert_int_equal(content.gaps[TRACE_GAP_SAMPLING].n_tokens, 14 * 5 + 4);
    assert_int_equal(content.n_gaps, 4);
    assert_int_equal(content.next, 21);
    assert_sums(&content);
    assert_non_null(strstr(content.header, "\"sample\": 3, \"seed\": 12}"));
}

static void no_batch_is_taken(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.sample = 1000;
    options.seed   = 12;
    struct trace_writer * writer = start(&options);
    struct trace_stream * stream = join(writer);
    evaluate(stream, 0, 0, 5);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace"); // there is a trace, which says so
    assert_int_equal(content.n_ubatches, 0);
    assert_int_equal(content.gaps[TRACE_GAP_SAMPLING].n_ubatches, 1);
    assert_end(&content, true, true);
}

static void a_seed_of_its_own(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.sample = 2;
    struct trace_writer * writer = start(&options);
    struct trace_stream * stream = join(writer);
    evaluate(stream, 0, 0, 1);
    evaluate(stream, 1, 1, 1);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 1);
    assert_non_null(strstr(content.header, "\"sample\": 2, \"seed\": "));
}

static void a_table_for_each_set_of_layers(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    struct evaluated      of;
    for (uint64_t i = 0; i < 6; i++) {
        evaluated(&of, i, i, 2);
        of.layers[1].n_expert -= i % 2 == 1;
        of.layers[0].n_tensors = 0; // names are no reason
        trace_stream_ubatch(stream, &of.ubatch, false);
    }
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_chunks[TRACE_CHUNK_LAYERS], 2);
    assert_int_equal(content.n_chunks[TRACE_CHUNK_DATA], 2);
    assert_int_equal(content.n_ubatches, 6);
}

static void a_chunk_is_on_the_disk_after_a_second(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    evaluate_as(stream, 0, ROUTING_PENDING);
    while (content_of("run.moetrace").n_ubatches == 0) {
        usleep(10000);
    }
    trace_stream_settle(stream, true); // an amendment by itself
    while (content_of("run.moetrace").amendments[0] == '\0') {
        usleep(10000);
    }
    evaluate(stream, 1, 1, 1);
    while (content_of("run.moetrace").n_ubatches == 1) {
        usleep(10000);
    }
    finish(writer, stream);
    assert_string_equal(content_of("run.moetrace").amendments, "warmup 0+1;");
}

static void what_becomes_known_later(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    struct trace_stream * other  = join(writer);
    evaluate_as(stream, 0, ROUTING_PENDING);
    evaluate_as(stream, 1, ROUTING_PENDING);
    evaluate_as(other,  0, ROUTING_PENDING);
    evaluate_as(stream, 2, ROUTING_PENDING);
    trace_stream_settle(stream, true);
    trace_stream_settle(other, false);
    trace_stream_settle(other, true); // nothing is pending any more
    const struct routing_rejection draft   = { .ubatch = 2, .first = 1, .n = 1 };
    const struct routing_rejection unknown = { .ubatch = 7, .first = 0, .n = 1 };
    const struct routing_cut       cut     = { .sequence = 0, .position = 1 };
    trace_stream_reject(stream, &draft);
    trace_stream_reject(other, &draft);
    trace_stream_reject(stream, &unknown);
    trace_stream_cut(stream, &cut);
    evaluate_as(stream, 1026, ROUTING_COUNT); // takes the place of number 2
    trace_stream_reject(stream, &draft);
    finish(writer, stream);
    trace_stream_free(other);
    const struct content content = content_of("run.moetrace");
    assert_string_equal(content.amendments, "warmup 0+2;warmup 3+1;rejected 3: 1+1;");
    assert_int_equal(content.n_cuts, 1);
    assert_int_equal(content.n_lives, 2);
}

static void many_amendments_find_room(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.wait = true;
    struct trace_writer          * writer = start(&options);
    struct trace_stream          * stream = join(writer);
    const struct routing_rejection draft  = { .ubatch = 0, .first = 0, .n = 1 };
    evaluate(stream, 0, 0, 1);
    atomic_store(&disk, DISK_IS_SLOW);
    for (int i = 0; i < 40000; i++) {
        trace_stream_reject(stream, &draft);
    }
    finish(writer, stream);
    assert_int_equal(content_of("run.moetrace").n_amendments, 40000);
    assert_int_equal(n_said("not recorded"), 0);
}

// Evaluates a batch of more than there is room for. Returns its ubatches.
static uint64_t evaluate_too_much(struct trace_stream * stream, uint64_t number) {
    const uint64_t n = 2 * BUFFER / (LAYERS * USED * TOKENS * 7 / 8);
    for (uint64_t i = 0; i < n; i++) {
        evaluate(stream, number + i, number, TOKENS);
    }
    return n;
}

static void a_disk_that_cannot_keep_up(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    evaluate(stream, 0, 0, TOKENS);
    atomic_store(&disk, DISK_BLOCKS);
    const uint64_t n = evaluate_too_much(stream, 1);
    evaluate(stream, n + 1, 2, TOKENS); // does not wait again: nothing was brought to the disk since
    const struct routing_rejection dropped = { .ubatch = n + 1, .first = 0, .n = 1 };
    trace_stream_reject(stream, &dropped);
    atomic_store(&disk, DISK_WORKS);
    while (content_of("run.moetrace").n_ubatches < 20) {
        usleep(1000);
    }
    evaluate(stream, n + 2, 2, TOKENS); // of a batch that is dropped
    evaluate(stream, n + 3, 3, TOKENS);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches + content.gaps[TRACE_GAP_SLOW_DISK].n_ubatches, n + 4);
    assert_int_equal(content.n_since_gap, 1);
    assert_int_equal(content.gaps[TRACE_GAP_SLOW_DISK].n_tokens, content.gaps[TRACE_GAP_SLOW_DISK].n_ubatches * TOKENS);
    assert_true(content.n_ubatches > 10 && content.gaps[TRACE_GAP_SLOW_DISK].n_ubatches > 10);
    assert_int_equal(content.n_gaps, 1);
    assert_string_equal(content.amendments, "");
    assert_end(&content, false, true);
    assert_sums(&content);
    assert_int_equal(n_said("were dropped because the disk could not keep up: LLAMA_EXPERT_TRACE_ON_FULL=wait"), 1);
}

static void a_stuck_disk_is_waited_for_once(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    evaluate(stream, 0, 0, TOKENS);
    atomic_store(&disk, DISK_BLOCKS);
    const uint64_t n = evaluate_too_much(stream, 1);
    for (uint64_t i = 0; i < 1000; i++) {
        evaluate(stream, n + 1 + i, 2 + i, TOKENS); // would be five seconds
    }
    atomic_store(&disk, DISK_WORKS);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    const char         * waited  = strstr(content.end, "\"waited_ms\": ");
    assert_non_null(waited);
    assert_in_range(atoi(waited + strlen("\"waited_ms\": ")), 5, 2500);
}

static void the_program_waits_where_it_is_asked_to(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.wait = true;
    struct trace_writer * writer = start(&options);
    struct trace_stream * stream = join(writer);
    atomic_store(&disk, DISK_IS_SLOW);
    for (uint64_t i = 0; i < 300; i++) {
        evaluate(stream, i, 0, TOKENS);
    }
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 300);
    assert_int_equal(content.n_gaps, 0);
    assert_sums(&content);
    assert_null(strstr(content.end, "\"waited_ms\": 0}"));
}

static void a_disk_that_is_full_for_a_while(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.wait = true; // not for a disk that is full
    struct trace_writer * writer = start(&options);
    struct trace_stream * stream = join(writer);
    evaluate(stream, 0, 0, TOKENS);
    atomic_store(&disk, DISK_IS_FULL);
    const uint64_t n = evaluate_too_much(stream, 1);
    while (atomic_load(&n_full) < 2) {
        usleep(1000);
    }
    const struct content meanwhile = content_of("run.moetrace");
    assert_int_equal(meanwhile.n_chunks[TRACE_CHUNK_HEADER], 1);
    atomic_store(&disk, DISK_WORKS);
    while (n_said("can be written to now") == 0) {
        usleep(1000);
    }
    evaluate(stream, n + 1, n + 1, TOKENS);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches + content.gaps[TRACE_GAP_SLOW_DISK].n_ubatches, n + 2);
    assert_true(content.gaps[TRACE_GAP_SLOW_DISK].n_ubatches > 10);
    assert_int_equal(content.rest, 0);
    assert_end(&content, false, true);
    assert_sums(&content);
    assert_int_equal(n_said("cannot write to "), 1);
    assert_int_equal(n_said("No space left on device"), 1);
    assert_int_equal(n_said("were dropped because the disk could not be written to"), 1);
}

static void a_disk_that_stays_full(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    evaluate(stream, 0, 0, TOKENS);
    while (content_of("run.moetrace").n_ubatches == 0) {
        usleep(1000);
    }
    atomic_store(&disk, DISK_IS_FULL);
    evaluate(stream, 1, 1, TOKENS);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 1);
    assert_int_equal(content.rest, 0); // half a chunk is taken back
    assert_int_equal(content.n_chunks[TRACE_CHUNK_END], 0);
    assert_int_equal(n_said("; 1 ubatches (64 tokens) were dropped because the disk could not be written to; "
                            "its end is missing: No space left on device"), 1);
}

static void what_could_not_be_written_at_the_end_is_told(void ** state) {
    (void) state;
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    const struct rlimit limit = { 4096, before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    for (uint64_t i = 0; i < 4; i++) {
        evaluate(stream, i, i, TOKENS);
    }
    finish(writer, stream);
    setrlimit(RLIMIT_FSIZE, &before);
    const struct content content = content_of("run.moetrace"); // and the program goes on
    assert_int_equal(content.n_ubatches, 0);
    assert_int_equal(content.gaps[TRACE_GAP_SLOW_DISK].n_ubatches, 4);
    assert_int_equal(content.rest, 0);
    assert_end(&content, false, true);
    assert_sums(&content);
    assert_int_equal(n_said("File too large"), 1);
}

static void a_ubatch_that_is_too_large(void ** state) {
    (void) state;
    static int32_t many[8192 * USED];
    static struct expert_tracer_token tokens[8192];
    for (int i = 0; i < 8192 * USED; i++) {
        many[i] = i % USED;
    }
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    struct evaluated      of;
    evaluate(stream, 0, 0, 1);
    for (uint64_t i = 1; i < 3; i++) {
        evaluated(&of, i, 1, 1);
        of.ubatch.n_tokens = 8192;
        of.ubatch.tokens   = tokens;
        for (int layer = 0; layer < LAYERS; layer++) {
            of.layers[layer].n_tokens = 8192;
            of.layers[layer].experts  = many;
        }
        trace_stream_ubatch(stream, &of.ubatch, false);
    }
    evaluate(stream, 3, 1, 1); // the rest of its batch is recorded
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 2);
    assert_int_equal(content.gaps[TRACE_GAP_TOO_LARGE].n_ubatches, 2);
    assert_int_equal(content.gaps[TRACE_GAP_TOO_LARGE].n_tokens, 2 * 8192);
    assert_sums(&content);
    assert_int_equal(n_said("8192 tokens in one ubatch do not fit into LLAMA_EXPERT_TRACE_BUFFER (65536 bytes)"), 1);
}

static void a_routing_that_is_not_trusted(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    experts[3] = experts[2];
    evaluate(stream, 0, 0, TOKENS);
    fill_experts();
    evaluate(stream, 1, 1, TOKENS);
    finish(writer, stream);
    assert_false(exists("run.moetrace"));
    assert_int_equal(n_said("the routing cannot be trusted (layer 0, token 0: expert 6 twice): "
                            "no routing trace is written"), 1);
    assert_int_equal(n_said("\n"), 1);
}

static void a_routing_that_is_not_trusted_any_more(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    for (uint64_t i = 0; i < 20; i++) {
        evaluate(stream, i, i, 2);
    }
    experts[9] = EXPERTS; // each ubatch is looked at for that
    evaluate(stream, 20, 20, 2);
    fill_experts();
    evaluate(stream, 21, 21, 2);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 20);
    assert_end(&content, false, true);
    assert_sums(&content);
    assert_int_equal(n_said("the routing cannot be trusted (layer 0, token 1: expert 128 of 128): "
                            "the routing trace ends before it"), 1);
}

static void one_ubatch_in_64_is_looked_at(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    for (uint64_t i = 0; i < 10; i++) {
        evaluate(stream, i, i, 2);
    }
    experts[3] = experts[2];
    for (uint64_t i = 10; i < 100; i++) {
        evaluate(stream, i, i, 2);
    }
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 64);
    assert_int_equal(content.gaps[TRACE_GAP_LOST].n_ubatches, 36);
    assert_int_equal(content.gaps[TRACE_GAP_LOST].n_tokens, 72);
    assert_int_equal(n_said("expert 6 twice"), 1);
}

static void a_model_that_routes_in_its_last_layer_alone(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    struct evaluated      of;
    evaluated(&of, 0, 0, 3)->n_layers = 0; // of a prompt, without an output
    of.ubatch.is_moe = true;
    trace_stream_ubatch(stream, &of.ubatch, false);
    evaluate(stream, 1, 1, 2);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 2);
    assert_int_equal(content.n_tokens, 5);
    assert_int_equal(content.n_gaps, 0);
    assert_end(&content, true, true);
    assert_sums(&content);
}

static void routing_that_is_not_known(void ** state) {
    (void) state;
    struct trace_writer      * writer = start(&plain);
    struct trace_stream      * stream = join(writer);
    const struct routing_ubatch lost  = { .n_tokens = 7, .n_lost = 3, .lost = ROUTING_LACKS_MEMORY };
    struct evaluated           of;
    trace_stream_ubatch(stream, &lost, false);
    evaluate(stream, 1, 1, 2);
    evaluated(&of, 2, 2, 4)->tokens_lost = true;
    trace_stream_ubatch(stream, &of.ubatch, false);
    trace_writer_lose(writer, 2, 5);
    evaluate(stream, 3, 3, 2);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 2);
    assert_int_equal(content.gaps[TRACE_GAP_LOST].n_ubatches, 6);
    assert_int_equal(content.gaps[TRACE_GAP_LOST].n_tokens, 16);
    assert_end(&content, false, true);
    assert_null(strstr(content.end, "stopped"));
    assert_sums(&content);
    assert_int_equal(n_said("it is not known which tokens they have"), 1);
    assert_int_equal(n_said("of 6 ubatches (16 tokens) the routing is not known"), 1);
}

static void a_capture_that_stops(void ** state) {
    (void) state;
    struct trace_writer       * writer  = start(&plain);
    struct trace_stream       * stream  = join(writer);
    const struct routing_ubatch stopped = { .lost = "it looks wrong", .stopped = true };
    const struct routing_ubatch lost    = { .n_tokens = 2, .n_lost = 1, .lost = "it looks wrong", .stopped = true };
    evaluate(stream, 0, 0, 2);
    trace_stream_ubatch(stream, &stopped, false);
    trace_stream_ubatch(stream, &lost, false);
    finish(writer, stream);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 1);
    assert_int_equal(content.gaps[TRACE_GAP_LOST].n_tokens, 2);
    assert_end(&content, false, true);
    assert_non_null(strstr(content.end, "\"stopped\": \"it looks wrong\""));
}

static void a_limited_size(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.rotate_size = 50000;
    options.wait        = true;
    struct trace_writer * writer = start(&options);
    struct trace_stream * stream = join(writer);
    for (uint64_t i = 0; i < 80; i++) {
        evaluate(stream, i, i, TOKENS);
    }
    finish(writer, stream);
    uint64_t n     = 0;
    char     trace[64] = "";
    for (int part = 0; n < 80; part++) {
        char path[64];
        char expected[32];
        snprintf(path, sizeof(path), "run-%06d.moetrace", part);
        snprintf(expected, sizeof(expected), "\"part\": %d,", part);
        const struct content content = content_of(path);
        const char         * id      = strstr(content.header, "\"trace\": ");
        assert_true(content.size <= 50000);
        assert_non_null(strstr(content.header, expected));
        assert_true(part == 0 || strncmp(trace, id, strcspn(trace, ",")) == 0);
        snprintf(trace, sizeof(trace), "%s", id);
        assert_int_equal(content.n_chunks[TRACE_CHUNK_LAYERS], 1);
        assert_int_equal(content.first, n);
        n += content.n_ubatches;
        assert_end(&content, n == 80, n == 80);
    }
    assert_int_equal(n, 80);
    assert_true(exists("run-000002.moetrace"));
    assert_false(exists("run.moetrace"));
    assert_int_equal(n_said("run-000000.moetrace to "), 1);
}

static void the_end_of_a_part_fits_into_its_size(void ** state) {
    (void) state;
    for (uint64_t size = 34000; size < 52000; size += 200) { // a chunk takes some 18000
        struct trace_options options = plain;
        char                 run[32];
        options.rotate_size = size;
        options.wait        = true;
        snprintf(run, sizeof(run), "run-%d", (int) size);
        struct trace_writer * writer = start_run(&options, run);
        struct trace_stream * stream = join(writer);
        for (uint64_t i = 0; i < 32; i++) {
            evaluate(stream, i, i, TOKENS);
        }
        finish(writer, stream);
        const struct content content = content_of("run-000000.moetrace");
        assert_end(&content, false, false);
        assert_true(content.size <= size);
    }
}

static void a_limited_time(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.rotate_time = 15; // a ubatch a second, some nine in a chunk
    struct trace_writer * writer = start(&options);
    struct trace_stream * stream = join(writer);
    for (uint64_t i = 0; i < 27; i++) {
        evaluate(stream, i, i, TOKENS);
    }
    finish(writer, stream);
    assert_true(exists("run-000000.moetrace") && exists("run-000001.moetrace"));
    assert_false(exists("run-000002.moetrace"));
    assert_int_equal(content_of("run-000000.moetrace").n_ubatches + content_of("run-000001.moetrace").n_ubatches, 27);
}

static void a_part_of_another_is_not_taken(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.rotate_size = 50000;
    options.wait        = true;
    struct trace_writer * writer = start(&options);
    struct trace_stream * stream = join(writer);
    evaluate(stream, 0, 0, TOKENS);
    wait_for_file("run-000000.moetrace");
    const int fd = open("run-000001.moetrace", O_RDWR | O_CREAT, 0600);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    for (uint64_t i = 1; i < 80; i++) {
        evaluate(stream, i, i, TOKENS);
    }
    finish(writer, stream);
    assert_int_equal(lseek(fd, 0, SEEK_END), 0);
    close(fd);
    assert_true(exists("run-000002.moetrace") && exists("run-000003.moetrace"));
    assert_int_equal(content_of("run-000002.moetrace").first, content_of("run-000000.moetrace").next);
}

static void a_part_that_cannot_be_made(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.rotate_size = 50000;
    options.wait        = true;
    struct trace_writer * writer = start(&options);
    struct trace_stream * stream = join(writer);
    evaluate(stream, 0, 0, TOKENS);
    wait_for_file("run-000000.moetrace");
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const struct rlimit none = { 3, limit.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (uint64_t i = 1; i < 80; i++) {
        evaluate(stream, i, i, TOKENS);
    }
    finish(writer, stream);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    const struct content content = content_of("run-000000.moetrace");
    assert_int_equal(content.n_ubatches, 80);
    assert_end(&content, true, true);
    assert_int_equal(n_said("cannot begin the next file of the routing trace: Too many open files"), 1);
}

static void others_files_stay(void ** state) {
    (void) state;
    struct trace_writer * writers[2];
    struct trace_stream * streams[2];
    for (int i = 0; i < 2; i++) {
        writers[i] = start(&plain);
        streams[i] = join(writers[i]);
        evaluate(streams[i], 0, 0, i + 1);
        wait_for_file(i == 0 ? "run.moetrace" : "run-2.moetrace");
    }
    for (int i = 0; i < 2; i++) {
        trace_writer_end(writers[i], NULL);
    }
    assert_int_equal(n_said("run.moetrace belongs to another model or process; this routing trace goes to "), 1);
    for (int i = 0; i < 2; i++) {
        finish(writers[i], streams[i]);
    }
    struct trace_writer * third = start(&plain); // of the same run
    streams[0] = join(third);
    evaluate(streams[0], 0, 0, 3);
    finish(third, streams[0]);
    assert_int_equal(content_of("run.moetrace").n_tokens, 1);
    assert_int_equal(content_of("run-2.moetrace").n_tokens, 2);
    assert_int_equal(content_of("run-3.moetrace").n_tokens, 3);

    struct trace_writer * later = start_run(&plain, "run-2");
    streams[0] = join(later);
    evaluate(streams[0], 0, 0, 4);
    finish(later, streams[0]);
    assert_int_equal(n_said("run.moetrace has an earlier run, which stays; this routing trace goes to "), 1);
    assert_int_equal(content_of("run.moetrace").n_tokens, 1);
    assert_int_equal(content_of("run-4.moetrace").n_tokens, 4);
}

static void parts_of_an_earlier_run_stay(void ** state) {
    (void) state;
    struct trace_options options = plain;
    options.rotate_size = 50000;
    options.wait        = true;
    for (int i = 0; i < 2; i++) {
        struct trace_writer * writer = start_run(&options, i == 0 ? "run-1" : "run-2");
        struct trace_stream * stream = join(writer);
        for (uint64_t k = 0; k < 30; k++) { // two parts
            evaluate(stream, k, k, TOKENS);
        }
        finish(writer, stream);
    }
    for (int part = 0; part < 4; part++) {
        char path[64];
        char expected[64];
        snprintf(path, sizeof(path), "run-%06d.moetrace", part);
        snprintf(expected, sizeof(expected), "\"part\": %d,", part % 2);
        const struct content content = content_of(path);
        assert_non_null(strstr(content.header, expected));
        assert_non_null(strstr(content.header, part < 2 ? "\"run\": \"run-1\"" : "\"run\": \"run-2\""));
    }
    assert_false(exists("run-000004.moetrace"));
    assert_int_equal(n_said("run.moetrace has an earlier run, which stays; this routing trace goes to "), 1);
}

//
// a file that somebody changes while it is written
//

static uint64_t n_on_disk(const char * path) {
    static uint8_t data[1 << 20];
    uint64_t       n_ubatches = 0;
    const int      fd   = open(path, O_RDONLY);
    const ssize_t  size = read(fd, data, sizeof(data));
    close(fd);
    uint64_t       at   = 0;
    while (size > 0 && at + TRACE_HEADER_SIZE <= (uint64_t) size) {
        n_ubatches += get(data + at + TRACE_AT_N_UBATCHES, 4);
        at         += TRACE_HEADER_SIZE + get(data + at + TRACE_AT_SIZE, 4);
    }
    return n_ubatches;
}

// Of twenty ubatches of 3 tokens, ten are on the disk when `change` happens to the file.
static void changed_on_the_way(void (*change)(void)) {
    struct trace_options options = plain;
    options.wait = true;
    struct trace_writer * writer = start(&options);
    struct trace_stream * stream = join(writer);
    for (uint64_t i = 0; i < 10; i++) {
        evaluate(stream, i, i, 3);
    }
    for (int tries = 0; tries < 30000 && n_on_disk("run.moetrace") < 10; tries++) {
        usleep(1000);
    }
    assert_int_equal(n_on_disk("run.moetrace"), 10);
    change();
    for (uint64_t i = 10; i < 20; i++) {
        evaluate(stream, i, i, 3);
    }
    finish(writer, stream);
}

static void assert_rest(const char * path) {
    const struct content rest = content_of(path);
    assert_non_null(strstr(rest.header, "\"part\": 1,"));
    assert_int_equal(rest.n_chunks[TRACE_CHUNK_LAYERS], 1);
    assert_int_equal(rest.first, 10);
    assert_int_equal(rest.n_ubatches, 10);
    assert_end(&rest, true, true);
}

static void delete_it(void) {
    assert_int_equal(unlink("run.moetrace"), 0);
}

static void a_file_that_is_deleted(void ** state) {
    (void) state;
    changed_on_the_way(delete_it);
    assert_rest("run.moetrace");
    assert_int_equal(n_said("run.moetrace was deleted or replaced: what was recorded until now is gone. "
                            "The routing trace goes on in "), 1);
}

static void truncate_it(void) {
    assert_int_equal(truncate("run.moetrace", 10), 0);
}

static void a_file_that_is_truncated(void ** state) {
    (void) state;
    changed_on_the_way(truncate_it);
    assert_rest("run-2.moetrace");
    assert_int_equal(n_said("run.moetrace was truncated: what was recorded until now is incomplete. "
                            "The routing trace goes on in "), 1);
}

static void move_it(void) {
    assert_int_equal(rename("run.moetrace", "kept"), 0);
}

static void a_file_that_is_moved(void ** state) {
    (void) state;
    changed_on_the_way(move_it);
    assert_rest("run.moetrace");
    const struct content before = content_of("kept");
    assert_int_equal(before.n_ubatches, 10);
    assert_end(&before, false, false);
    assert_int_equal(n_said("run.moetrace was moved or replaced. The routing trace goes on in "), 1);
}

static void replace_it(void) {
    FILE * file = fopen("other", "w");
    fputs("precious", file);
    fclose(file);
    assert_int_equal(rename("other", "run.moetrace"), 0);
}

static void a_file_that_is_replaced(void ** state) {
    (void) state;
    changed_on_the_way(replace_it);
    assert_rest("run-2.moetrace");
    struct stat about;
    assert_int_equal(stat("run.moetrace", &about), 0);
    assert_int_equal(about.st_size, strlen("precious"));
    assert_int_equal(n_said("run.moetrace was deleted or replaced: what was recorded until now is gone. "
                            "The routing trace goes on in "), 1);
}

static void move_its_folder(void) {
    assert_int_equal(rename(folder, "/tmp/expert-tracer-unit-moved"), 0);
}

static void a_folder_that_is_moved(void ** state) {
    (void) state;
    changed_on_the_way(move_its_folder);
    assert_int_equal(rename("/tmp/expert-tracer-unit-moved", folder), 0);
    const struct content all = content_of("run.moetrace");
    assert_int_equal(all.n_ubatches, 20);
    assert_end(&all, true, true);
    assert_int_equal(n_said("The routing trace goes on in the file that had this name, as a new one cannot be made: "
                            "No such file"), 1);
}

static void delete_its_folder(void) {
    assert_int_equal(rename("run.moetrace", "../gone-with-its-folder"), 0);
    assert_int_equal(unlink("../gone-with-its-folder"), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void a_folder_that_is_deleted(void ** state) {
    (void) state;
    changed_on_the_way(delete_its_folder);
    assert_int_equal(n_said("cannot write to "), 1);
    assert_int_equal(n_said("No such file or directory"), 1);
    assert_int_equal(mkdir(folder, 0700), 0);
}

static void what_is_no_trace_stays(void ** state) {
    (void) state;
    static const char * const paths[] = { "notes.txt", "pipe", "missing/run.moetrace" };
    FILE * file = fopen("notes.txt", "w");
    fputs("dear diary", file);
    fclose(file);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct trace_options options = plain;
        options.path = paths[i];
        struct trace_writer * writer = start(&options);
        struct trace_stream * stream = join(writer);
        evaluate(stream, 0, 0, 1);
        evaluate(stream, 1, 1, 1);
        finish(writer, stream);
    }
    char content[32] = "";
    file = fopen("notes.txt", "r");
    assert_non_null(fgets(content, sizeof(content), file));
    fclose(file);
    assert_string_equal(content, "dear diary");
    assert_int_equal(n_said("cannot write the routing trace notes.txt: there is a file of that name that is no routing "
                            "trace, and stays. "), 1);
    assert_int_equal(n_said("cannot write the routing trace pipe: not a regular file. "), 1);
    assert_int_equal(n_said("cannot write the routing trace missing/run.moetrace: No such file or directory. "), 1);
    assert_int_equal(n_said("\n"), 3);

    assert_int_equal(close(creat("run.moetrace", 0644)), 0); // an empty one is taken
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    evaluate(stream, 0, 0, 1);
    finish(writer, stream);
    assert_int_equal(content_of("run.moetrace").n_ubatches, 1);
}

static void a_child_leaves_it_to_its_parent(void ** state) {
    (void) state;
    struct trace_writer * writer = start(&plain);
    struct trace_stream * stream = join(writer);
    int  to_child[2];
    int  to_parent[2];
    char byte = 0;
    evaluate(stream, 0, 0, 1);
    while (content_of("run.moetrace").n_ubatches == 0) {
        usleep(1000); // the thread sleeps then
    }
    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(to_parent), 0);
    const pid_t child = fork();
    if (child == 0) {
        trace_writer_abandon(writer);
        close(to_child[1]);
        const bool told = write(to_parent[1], &byte, 1) == 1;
        _exit(told && read(to_child[0], &byte, 1) == 0 ? 0 : 1); // lives until its parent closes the pipe
    }
    assert_int_equal(read(to_parent[0], &byte, 1), 1);
    evaluate(stream, 1, 1, 1);
    finish(writer, stream);
    const int fd = open("run.moetrace", O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0); // the child does not hold it
    close(fd);
    for (int i = 0; i < 2; i++) {
        close(to_child[i]);
        close(to_parent[i]);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    const struct content content = content_of("run.moetrace");
    assert_int_equal(content.n_ubatches, 2);
    assert_end(&content, true, true);
}

#define THREADS 4

static void * evaluate_many(void * data) {
    struct trace_stream * stream = trace_stream_new(data);
    for (uint64_t i = 0; i < 200; i++) {
        const struct routing_cut       cut      = { .sequence = 0, .position = (int32_t) i };
        const struct routing_rejection rejected = { .ubatch = i, .first = 0, .n = 1 };
        evaluate(stream, i, i, 1 + (int32_t) i % TOKENS);
        trace_stream_cut(stream, &cut);
        trace_stream_reject(stream, &rejected);
    }
    trace_stream_free(stream);
    return NULL;
}

static struct content evaluate_in_threads(bool wait) {
    struct trace_options options = plain;
    pthread_t            threads[THREADS];
    options.wait = wait;
    struct trace_writer * writer = start(&options);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, evaluate_many, writer), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    finish(writer, NULL);
    return content_of("run.moetrace");
}

static void contexts_in_threads(void ** state) {
    (void) state;
    const struct content content = evaluate_in_threads(true);
    assert_int_equal(content.n_ubatches, THREADS * 200);
    assert_int_equal(content.n_gaps, 0);
    assert_sums(&content);
}

static void contexts_in_threads_and_a_slow_disk(void ** state) {
    (void) state;
    atomic_store(&disk, DISK_IS_SLOW);
    const struct content content = evaluate_in_threads(false);
    assert_int_equal(content.n_ubatches + content.gaps[TRACE_GAP_SLOW_DISK].n_ubatches, THREADS * 200);
    assert_sums(&content);
}

static void an_end_while_contexts_evaluate(void ** state) {
    (void) state;
    struct trace_options options = plain;
    pthread_t            thread;
    options.wait = true; // nothing is dropped, however busy the disk is
    struct trace_writer * writer = start(&options);
    assert_int_equal(pthread_create(&thread, NULL, evaluate_many, writer), 0);
    while (!exists("run.moetrace")) {
        usleep(100);
    }
    trace_writer_end(writer, NULL);
    pthread_join(thread, NULL);
    trace_writer_free(writer);
    const struct content content = content_of("run.moetrace");
    assert_end(&content, true, true);
    assert_sums(&content);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_checksum),
        TEST(a_trace_is_written),
        TEST(without_a_ubatch_there_is_no_file),
        TEST(what_comes_after_the_end_is_ignored),
        TEST(some_batches_are_left_out),
        TEST(no_batch_is_taken),
        TEST(a_seed_of_its_own),
        TEST(a_table_for_each_set_of_layers),
        TEST(a_chunk_is_on_the_disk_after_a_second),
        TEST(what_becomes_known_later),
        TEST(many_amendments_find_room),
        TEST(a_disk_that_cannot_keep_up),
        TEST(a_stuck_disk_is_waited_for_once),
        TEST(the_program_waits_where_it_is_asked_to),
        TEST(a_disk_that_is_full_for_a_while),
        TEST(a_disk_that_stays_full),
        TEST(what_could_not_be_written_at_the_end_is_told),
        TEST(a_ubatch_that_is_too_large),
        TEST(a_routing_that_is_not_trusted),
        TEST(a_routing_that_is_not_trusted_any_more),
        TEST(one_ubatch_in_64_is_looked_at),
        TEST(a_model_that_routes_in_its_last_layer_alone),
        TEST(routing_that_is_not_known),
        TEST(a_capture_that_stops),
        TEST(a_limited_size),
        TEST(the_end_of_a_part_fits_into_its_size),
        TEST(a_limited_time),
        TEST(a_part_of_another_is_not_taken),
        TEST(a_part_that_cannot_be_made),
        TEST(others_files_stay),
        TEST(parts_of_an_earlier_run_stay),
        TEST(a_file_that_is_deleted),
        TEST(a_file_that_is_truncated),
        TEST(a_file_that_is_moved),
        TEST(a_file_that_is_replaced),
        TEST(a_folder_that_is_moved),
        TEST(a_folder_that_is_deleted),
        TEST(what_is_no_trace_stays),
        TEST(a_child_leaves_it_to_its_parent),
        TEST(contexts_in_threads),
        TEST(contexts_in_threads_and_a_slow_disk),
        TEST(an_end_while_contexts_evaluate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
