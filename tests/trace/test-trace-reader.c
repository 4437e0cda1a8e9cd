// The reader of routing traces on the corpus of tests/fuzz, truncated and damaged everywhere, and on hand-made bytes.

#include "consume.h"

#include "base/crc32.h"
#include "trace/format/chunk-header.h"
#include "trace/format/encoding.h"
#include "trace/format/trace-bits.h"
#include "trace/format/trace-code.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

// The same numbers each time.
static uint64_t random_state;

static uint32_t any(uint32_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t) (random_state >> 33) % n;
}

//
// bits and floats
//

static unsigned naive_id(const uint8_t * data, uint64_t bit, int n_bits) {
    unsigned id = 0;
    for (int i = 0; i < n_bits; i++, bit++) {
        id |= (unsigned) (data[bit / 8] >> bit % 8 & 1) << i;
    }
    return id;
}

static void test_bits(void ** state) {
    (void) state;
    enum { N = 100 };
    uint16_t ids [N];
    uint16_t read[N];
    uint8_t  data[2 * N + 16];
    for (int n_bits = 0; n_bits <= 16; n_bits++) {
        for (uint64_t bit = 0; bit < 8; bit++) {
            const size_t n = any(N + 1);
            uint16_t largest = 0;
            for (size_t i = 0; i < n; i++) {
                ids[i]  = (uint16_t) any(1u << n_bits);
                largest = ids[i] > largest ? ids[i] : largest;
            }
            memset(data, 0, sizeof(data));
            data[0] = (uint8_t) ((1 << bit) - 1);
            trace_bits_pack(data, bit, n_bits, ids, n);
            assert_int_equal(data[0] & ((1 << bit) - 1), (1 << bit) - 1);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(naive_id(data, bit + i * (uint64_t) n_bits, n_bits), ids[i]);
            }
            assert_int_equal(trace_bits_unpack(data, bit, n_bits, read, n), largest);
            assert_memory_equal(read, ids, n * sizeof(ids[0]));
        }
    }
}

static void test_floats(void ** state) {
    (void) state;
    for (unsigned half = 0; half < 0x10000; half++) {
        const uint8_t bytes[]  = { (uint8_t) half, (uint8_t) (half >> 8) };
        const int     exponent = half >> 10 & 31;
        const int     fraction = half & 1023;
        const double  size     = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
        float         value;
        trace_bits_floats(bytes, &value, 1);
        assert_int_equal(signbit(value) != 0, half >> 15);
        if (exponent < 31) {
            assert_true((double) fabsf(value) == size);
        } else {
            assert_true(fraction == 0 ? isinf(value) : isnan(value));
        }
    }
}

//
// how ids are coded
//

static void code_layer(int32_t n_expert, size_t n, uint32_t skew) {
    struct trace_code_layer layer  = { 0 };
    uint64_t              * counts = calloc((size_t) n_expert, sizeof(counts[0]));
    uint16_t              * ids    = malloc((n + 1) * sizeof(ids[0]));
    uint16_t              * read   = malloc((n + 1) * sizeof(read[0]));
    uint8_t               * room   = malloc(TRACE_ENCODING_ROOM(n));
    for (size_t i = 0; i < n; i++) {
        ids[i] = (uint16_t) (any(skew) > 0 ? any((uint32_t) n_expert / 8 + 1) : any((uint32_t) n_expert));
        counts[ids[i]]++;
    }
    assert_true(trace_code_fit(&layer, counts, n_expert));

    struct trace_encoding encoding;
    trace_encoding_begin(&encoding, room, TRACE_ENCODING_ROOM(n), n);
    assert_true(trace_encoding_layer(&encoding, &layer, ids + n / 3, n - n / 3));
    assert_true(trace_encoding_layer(&encoding, &layer, ids, n / 3));
    trace_encoding_end(&encoding);

    const size_t            size     = (size_t) (room + TRACE_ENCODING_ROOM(n) - encoding.at);
    struct trace_decoding * decoding = malloc(sizeof(*decoding));
    trace_decoding_begin(decoding, encoding.at, size);
    trace_decoding_layer(decoding, &layer, read, n / 3);
    trace_decoding_layer(decoding, &layer, read + n / 3, n - n / 3);
    assert_true(trace_decoding_end(decoding));
    assert_memory_equal(read, ids, n * sizeof(ids[0]));

    for (size_t cut = 0; cut < size && cut < 40; cut++) { // it notices what is missing
        trace_decoding_begin(decoding, encoding.at, cut);
        trace_decoding_layer(decoding, &layer, read, n);
        assert_false(trace_decoding_end(decoding));
    }
    free(decoding);
    free(layer.experts);
    free(counts);
    free(ids);
    free(read);
    free(room);
}

static void test_code(void ** state) {
    (void) state;
    const int32_t n_experts[] = { 1, 2, 8, 60, 128, 512, 4096, 16384 };
    for (size_t i = 0; i < sizeof(n_experts) / sizeof(n_experts[0]); i++) {
        code_layer(n_experts[i],     0, 2);
        code_layer(n_experts[i],     1, 2);
        code_layer(n_experts[i],     7, 4);
        code_layer(n_experts[i],  5000, 1 + any(100));
        code_layer(n_experts[i], 60000, 1000);
    }
}

static void test_code_of_too_many(void ** state) {
    (void) state;
    enum { N = 16385 };
    struct trace_code_layer layer  = { 0 };
    uint64_t              * counts = malloc(N * sizeof(counts[0]));
    for (size_t i = 0; i < N; i++) {
        counts[i] = 1;
    }
    assert_false(trace_code_fit(&layer, counts, N));
    free(layer.experts);
    counts[3] = 0;
    assert_true(trace_code_fit(&layer, counts, N));

    const uint16_t        never = 3;
    uint8_t               room[TRACE_ENCODING_ROOM(1)];
    struct trace_encoding encoding;
    trace_encoding_begin(&encoding, room, sizeof(room), 1);
    assert_false(trace_encoding_layer(&encoding, &layer, &never, 1));
    free(layer.experts);
    free(counts);
}

//
// whole files, and what is left of them
//

struct bytes {
    char      name[256];
    uint8_t * data;
    size_t    size;
};

static struct bytes   corpus[64];
static size_t         n_corpus;

static int by_name(const void * left, const void * right) {
    return strcmp(((const struct bytes *) left)->name, ((const struct bytes *) right)->name);
}

static struct bytes read_file(const char * path) {
    struct bytes bytes = { .data = malloc(1 << 20) };
    FILE       * in    = fopen(path, "rb");
    assert_non_null(in);
    bytes.size = fread(bytes.data, 1, 1 << 20, in);
    snprintf(bytes.name, sizeof(bytes.name), "%s", strrchr(path, '/') + 1);
    fclose(in);
    return bytes;
}

static int read_corpus(void ** state) {
    (void) state;
    DIR * folder = opendir(CORPUS);
    assert_non_null(folder);
    for (struct dirent * entry; (entry = readdir(folder)) != NULL;) {
        char path[1024];
        snprintf(path, sizeof(path), "%s/%s", CORPUS, entry->d_name);
        if (strstr(entry->d_name, ".moetrace")) {
            corpus[n_corpus++] = read_file(path);
        }
    }
    closedir(folder);
    qsort(corpus, n_corpus, sizeof(corpus[0]), by_name);
    return n_corpus > 10 ? 0 : -1;
}

static int free_corpus(void ** state) {
    (void) state;
    for (size_t i = 0; i < n_corpus; i++) {
        free(corpus[i].data);
    }
    return 0;
}

static const struct bytes * corpus_file(const char * name) {
    for (size_t i = 0; i < n_corpus; i++) {
        if (strcmp(corpus[i].name, name) == 0) {
            return &corpus[i];
        }
    }
    fail_msg("no %s", name);
    return NULL;
}

static struct trace * open_bytes(const void * data, size_t size) {
    char           error[TRACE_ERROR_MAX];
    struct trace * trace = trace_open_memory(data, size, error);
    if (trace == NULL) {
        fail_msg("%s", error);
    }
    return trace;
}

#define UBATCHES_MAX 1024

// The ubatches of a file by their number: a hash of experts and time.
struct ubatches {
    uint64_t n;
    uint64_t lost;               // as it is told
    uint64_t hash[UBATCHES_MAX]; // 0: there is none
};

static void list_ubatches(struct ubatches * list, const struct trace * trace) {
    struct trace_cursor * cursor = trace_cursor_new(trace);
    struct trace_ubatch   ubatch;
    memset(list, 0, sizeof(*list));
    while (trace_next(cursor, &ubatch)) {
        struct digest digest = { 1, 0, 0 };
        digest_number(&digest, (uint64_t) ubatch.time);
        for (size_t i = 0; i < ubatch.n_layers; i++) {
            consume_layer(&digest, &ubatch, &ubatch.layers[i]);
        }
        assert_true(ubatch.number < UBATCHES_MAX);
        list->hash[ubatch.number] = digest.hash;
        list->n++;
    }
    list->lost = trace_about(trace)->lost_ubatches + trace_cursor_lost(cursor);
    trace_cursor_free(cursor);
}

static void expect_some_of(const struct ubatches * some, const struct ubatches * all) {
    for (size_t i = 0; i < UBATCHES_MAX; i++) {
        assert_true(some->hash[i] == 0 || some->hash[i] == all->hash[i]);
    }
}

// Of a file that ends anywhere there are the ubatches up to there, whole chunks of them.
static void test_every_truncation(void ** state) {
    (void) state;
    static struct ubatches all;
    static struct ubatches some;
    for (size_t i = 0; i < n_corpus; i++) {
        struct trace * trace = open_bytes(corpus[i].data, corpus[i].size);
        list_ubatches(&all, trace);
        trace_close(trace);
        uint64_t n_before = 0;
        for (size_t size = 0; size < corpus[i].size; size++) {
            char      error[TRACE_ERROR_MAX];
            uint8_t * data = malloc(size + 1);
            memcpy(data, corpus[i].data, size);
            trace = trace_open_memory(data, size, error);
            if (trace) {
                list_ubatches(&some, trace);
                expect_some_of(&some, &all);
                assert_true(some.n >= n_before && some.n <= all.n);
                assert_int_equal(trace_about(trace)->ending, TRACE_INTERRUPTED);
                n_before = some.n;
                trace_close(trace);
            } else {
                assert_int_equal(n_before, 0);
                assert_non_null(strstr(error, "memory: "));
            }
            free(data);
        }
    }
}

// Of a file with any byte damaged all that is told is right, and all that is missing is told.
static void test_every_damaged_byte(void ** state) {
    (void) state;
    static struct ubatches all;
    static struct ubatches some;
    for (size_t i = 0; i < n_corpus; i++) {
        const bool     is_whole = strcmp(corpus[i].name, "killed.moetrace") != 0
                                  && strcmp(corpus[i].name, "rotated.moetrace") != 0;
        struct trace * trace    = open_bytes(corpus[i].data, corpus[i].size);
        list_ubatches(&all, trace);
        trace_close(trace);
        for (size_t at = 0; at < corpus[i].size; at++) {
            char          error[TRACE_ERROR_MAX];
            const uint8_t before = corpus[i].data[at];
            corpus[i].data[at] ^= (uint8_t) (1u << any(8));
            trace = trace_open_memory(corpus[i].data, corpus[i].size, error);
            if (trace) {
                list_ubatches(&some, trace);
                expect_some_of(&some, &all);
                if (is_whole && trace_about(trace)->ending == TRACE_COMPLETE) {
                    assert_int_equal(some.n + some.lost, all.n + all.lost);
                }
                trace_close(trace);
            } else {
                assert_true(at < 700); // the header
            }
            corpus[i].data[at] = before;
        }
    }
}

//
// cursors
//

static void test_seek(void ** state) {
    (void) state;
    for (size_t i = 0; i < n_corpus; i++) {
        static struct ubatches all;
        struct trace        * trace  = open_bytes(corpus[i].data, corpus[i].size);
        struct trace_cursor * cursor = trace_cursor_new(trace);
        struct trace_ubatch   ubatch;
        list_ubatches(&all, trace);
        for (int tries = 0; tries < 300; tries++) {
            uint64_t number = any(UBATCHES_MAX) % 140;
            trace_cursor_seek(cursor, number);
            for (int steps = 0; steps < 3; steps++, number++) {
                while (number < UBATCHES_MAX && all.hash[number] == 0) {
                    number++;
                }
                assert_int_equal(trace_next(cursor, &ubatch), number < UBATCHES_MAX);
                assert_true(number == UBATCHES_MAX || ubatch.number == number);
                if (number == UBATCHES_MAX) {
                    break;
                }
            }
        }
        trace_cursor_free(cursor);
        trace_close(trace);
    }
}

static void test_cursors_are_independent(void ** state) {
    (void) state;
    const struct bytes  * file  = corpus_file("everything.packed.moetrace");
    struct trace        * trace = open_bytes(file->data, file->size);
    struct trace_cursor * one   = trace_cursor_new(trace);
    struct trace_cursor * other = trace_cursor_new(trace);
    struct trace_ubatch   a;
    struct trace_ubatch   b;
    assert_true(trace_next(one, &a));
    while (trace_next(one, &a)) {
        assert_true(trace_next(other, &b));
        assert_int_equal(a.number, b.number + 1);
    }
    trace_cursor_free(one);
    trace_cursor_free(other);
    trace_close(trace);
}

//
// where it comes from
//

static void write_file(const char * path, const void * data, size_t size) {
    FILE * out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, size, out), size);
    fclose(out);
}

static struct trace * open_path(const char * path) {
    char           error[TRACE_ERROR_MAX];
    struct trace * trace = trace_open(path, error);
    if (trace == NULL) {
        fail_msg("%s", error);
    }
    return trace;
}

static void test_pipe(void ** state) {
    (void) state;
    const struct bytes * file = corpus_file("generation.moetrace");
    int  ends[2];
    char path[64];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], file->data, file->size), file->size);
    close(ends[1]);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", ends[0]);
    struct trace * trace = open_path(path);
    assert_int_equal(consume(trace, 0).n_ubatches, 31);
    trace_close(trace);
    close(ends[0]);
}

// A program still writes to it: what was there when it was opened is read, and what came since is not.
static void test_growing_file(void ** state) {
    (void) state;
    const struct bytes * file   = corpus_file("generation.moetrace");
    char                 path[] = "/tmp/test-trace-XXXXXX";
    close(mkstemp(path));
    write_file(path, file->data, file->size * 3 / 4);
    struct trace * trace  = open_path(path);
    const uint64_t before = trace_about(trace)->n_ubatches;
    assert_true(before > 0 && before < 31);
    assert_int_equal(trace_about(trace)->lost_chunks, 0);
    write_file(path, file->data, file->size);
    assert_int_equal(consume(trace, 0).n_ubatches, before);
    trace_close(trace);
    unlink(path);
}

static uint64_t drain(struct trace_cursor * cursor, uint64_t * next) {
    struct trace_ubatch ubatch;
    uint64_t            n = 0;
    for (; trace_next(cursor, &ubatch); n++) {
        assert_true(ubatch.number >= *next);
        *next = ubatch.number + 1;
    }
    return n;
}

// Opens a file as soon as it begins as a trace, and reads what comes as it comes, byte by byte at the worst. Returns
// how many ubatches there were.
static uint64_t grow_to(const struct bytes * file, const char * path, struct trace ** trace, uint64_t * lost) {
    struct trace_cursor * cursor = NULL;
    uint64_t              n      = 0;
    uint64_t              next   = 0;
    char                  error[TRACE_ERROR_MAX];
    *trace = NULL;
    for (size_t size = 0; size < file->size;) {
        size += 1 + any(size < 900 ? 90 : 9);
        size  = size > file->size ? file->size : size;
        write_file(path, file->data, size);
        if (*trace == NULL) {
            *trace = trace_open_growing(path, error);
            cursor = *trace == NULL ? NULL : trace_cursor_new(*trace);
        } else {
            assert_int_equal(trace_grow(*trace), TRACE_GREW);
            assert_int_equal(trace_grow(*trace), TRACE_AS_BEFORE);
        }
        n += cursor == NULL ? 0 : drain(cursor, &next);
    }
    *lost = trace_about(*trace)->lost_ubatches + trace_cursor_lost(cursor);
    trace_cursor_free(cursor);
    return n;
}

// What is read bit by bit is what is read at once.
static void test_read_as_it_grows(void ** state) {
    (void) state;
    char path[] = "/tmp/test-trace-XXXXXX";
    close(mkstemp(path));
    for (size_t i = 0; i < n_corpus; i++) {
        static struct ubatches all;
        struct trace         * whole = open_bytes(corpus[i].data, corpus[i].size);
        struct trace         * trace;
        uint64_t               lost;
        write_file(path, "", 0);
        list_ubatches(&all, whole);
        assert_int_equal(grow_to(&corpus[i], path, &trace, &lost), all.n);
        assert_int_equal(lost, all.lost);
        assert_int_equal(consume(trace, 0).hash, consume(whole, 0).hash);
        assert_false(trace_changed(trace));
        assert_int_equal(trace_about(trace)->ending, trace_about(whole)->ending);
        if (all.lost == 0) {
            assert_int_equal(consume_info(trace).hash, consume_info(whole).hash);
        }
        write_file(path, corpus[i].data, corpus[i].size - 1);
        assert_int_equal(trace_grow(trace), TRACE_SHRANK);
        trace_close(trace);
        trace_close(whole);
    }
    unlink(path);
}

static void test_file_that_shrinks(void ** state) {
    (void) state;
    const struct bytes * file   = corpus_file("generation.moetrace");
    char                 path[] = "/tmp/test-trace-XXXXXX";
    close(mkstemp(path));
    for (size_t size = 0; size < file->size; size += 7) {
        write_file(path, file->data, file->size);
        struct trace * trace = open_path(path);
        assert_int_equal(truncate(path, (off_t) size), 0);
        const struct digest digest = consume(trace, 0);
        assert_int_equal(digest.n_ubatches + digest.lost, 31);
        trace_close(trace);
    }
    unlink(path);
}

//
// what is no trace
//

static void expect_refused(const void * data, size_t size, const char * because) {
    char           error[TRACE_ERROR_MAX];
    char           path[] = "/tmp/test-trace-XXXXXX";
    close(mkstemp(path));
    write_file(path, data, size);
    struct trace * trace = trace_open(path, error);
    unlink(path);
    assert_null(trace);
    if (strncmp(error, path, strlen(path)) != 0 || strstr(error, because) == NULL) {
        fail_msg("\"%s\" does not name the file and \"%s\"", error, because);
    }
}

static void add_chunk(struct trace_buffer * file, struct chunk_header header, const void * payload, size_t size) {
    uint8_t encoded[TRACE_HEADER_SIZE];
    header.size = (uint32_t) size;
    chunk_header_encode(encoded, &header, payload);
    trace_buffer_add(file, encoded, sizeof(encoded));
    trace_buffer_add(file, payload, size);
}

static struct trace_buffer header_file(const char * json, uint8_t kind) {
    struct trace_buffer file = { 0 };
    add_chunk(&file, (struct chunk_header) { .kind = kind }, json, strlen(json));
    return file;
}

static void expect_header_refused(const char * json, uint8_t kind, const char * because) {
    struct trace_buffer file = header_file(json, kind);
    expect_refused(file.data, file.size, because);
    trace_buffer_free(&file);
}

static void test_refused(void ** state) {
    (void) state;
    char error[TRACE_ERROR_MAX];
    assert_null(trace_open("/nowhere/at/all", error));
    assert_non_null(strstr(error, "/nowhere/at/all: No such file"));
    assert_null(trace_open("/tmp", error));
    assert_non_null(strstr(error, "/tmp: a directory"));
    expect_refused("",                          0,  "is empty");
    expect_refused("{\"total_tokens\": 3}",   19, "not a routing trace");
    expect_refused("\x89MOE",                   4, "ends where it begins");
    expect_header_refused("{",                   TRACE_CHUNK_HEADER, "its header is none");
    expect_header_refused("[1]",                 TRACE_CHUNK_HEADER, "its header is none");
    expect_header_refused("{\"format\": \"x\"}", TRACE_CHUNK_HEADER, "its header is none");
    expect_header_refused("{\"format\": \"" TRACE_FORMAT_NAME "\", \"version\": 2}", TRACE_CHUNK_HEADER, "update");
    expect_header_refused("{\"format\": \"" TRACE_FORMAT_NAME "\"}", TRACE_CHUNK_DATA, "is missing");

    struct trace_buffer file = header_file("{\"format\": \"" TRACE_FORMAT_NAME "\"}", TRACE_CHUNK_HEADER);
    trace_close(open_bytes(file.data, file.size));
    expect_refused(file.data, 60, "ends where it begins");
    file.data[60] ^= 1;
    expect_refused(file.data, file.size, "damaged");
    file.data[TRACE_AT_VERSION] = 2;
    expect_refused(file.data, file.size, "damaged");
    trace_put_u32(file.data + TRACE_AT_CRC_HEADER, trace_crc32(file.data, TRACE_AT_CRC_HEADER));
    expect_refused(file.data, file.size, "update");
    trace_buffer_free(&file);
}

//
// what nobody writes
//

static void add_json(struct trace_buffer * file, uint8_t kind, uint32_t number, const char * json) {
    add_chunk(file, (struct chunk_header) { .kind = kind, .number = number }, json, strlen(json));
}

// One ubatch of as many tokens as are said, of two layers with one expert each, and no bits at all.
static struct trace_buffer ubatch_file(uint64_t n_tokens) {
    struct trace_buffer file    = { 0 };
    struct trace_buffer body    = { 0 };
    struct trace_buffer payload = { 0 };
    add_json(&file, TRACE_CHUNK_HEADER, 0, "{\"format\": \"" TRACE_FORMAT_NAME "\"}");
    add_json(&file, TRACE_CHUNK_LAYERS, 1,
             "{\"table\": 0, \"layers\": [{\"layer\": 0, \"n_expert\": 1, \"n_expert_used\": 1, \"tensors\": []},"
             " {\"layer\": 1, \"n_expert\": 1, \"n_expert_used\": 1, \"tensors\": []}]}");
    const uint8_t life[]  = { 4, TRACE_RECORD_LIFE, 0, 0, 0 };
    const uint8_t begin[] = { TRACE_RECORD_UBATCH, 0, 0, 0, 1 };
    trace_buffer_add   (&body, begin, sizeof(begin));
    trace_buffer_varint(&body, (n_tokens - 1) << TRACE_SPAN_BITS);
    trace_buffer_varint(&body, 0);
    trace_buffer_varint(&body, 0);
    trace_buffer_add   (&payload, life, sizeof(life));
    trace_buffer_varint(&payload, body.size);
    trace_buffer_add   (&payload, body.data, body.size);
    const struct chunk_header header = {
        .kind = TRACE_CHUNK_DATA, .number = 2, .n_ubatches = 1, .n_tokens = (uint32_t) n_tokens,
    };
    add_chunk(&file, header, payload.data, payload.size);
    trace_buffer_free(&body);
    trace_buffer_free(&payload);
    return file;
}

static void test_limits(void ** state) {
    (void) state;
    const struct {
        uint64_t n_tokens;
        bool     told;
    } cases[] = {
        { 1,                    true  },
        { TRACE_TOKENS_MAX,     true  },
        { TRACE_TOKENS_MAX + 1, false },
        { (uint64_t) 1 << 40,   false },
        { UINT64_MAX >> 4,      false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct trace_buffer file   = ubatch_file(cases[i].n_tokens);
        struct trace      * trace  = open_bytes(file.data, file.size);
        const struct digest digest = consume(trace, 0);
        assert_int_equal(digest.n_ubatches, cases[i].told);
        assert_int_equal(digest.lost, !cases[i].told);
        trace_close(trace);
        trace_buffer_free(&file);
    }
}

static void expect_varint(const char * bytes, size_t size, bool is_one, uint64_t value) {
    struct trace_bytes read = trace_bytes_of(bytes, size);
    assert_true(trace_bytes_varint(&read) == (is_one ? value : 0));
    assert_int_equal(read.failed, !is_one);
    assert_true(!is_one || read.at == size);
}

static void test_varints(void ** state) {
    (void) state;
    expect_varint("\x00",                                     1,  true,  0);
    expect_varint("\x7f",                                     1,  true,  127);
    expect_varint("\x80\x01",                                2,  true,  128);
    expect_varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, true,  UINT64_MAX);
    expect_varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, false, 0);
    expect_varint("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11, false, 0);
    expect_varint("\x80\x00",                                2,  false, 0);
    expect_varint("\x80",                                     1,  false, 0);
    expect_varint("",                                          0,  false, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_code),
        cmocka_unit_test(test_code_of_too_many),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_damaged_byte),
        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_cursors_are_independent),
        cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_growing_file),
        cmocka_unit_test(test_read_as_it_grows),
        cmocka_unit_test(test_file_that_shrinks),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_varints),
    };
    return cmocka_run_group_tests(tests, read_corpus, free_corpus);
}
