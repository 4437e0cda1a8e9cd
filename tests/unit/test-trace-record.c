// Records of a routing trace, byte by byte. What is expected was written down by hand from docs/trace-format.md.

#include "unit.h"

#include "trace/format/encoding.h"
#include "trace/write/trace-record.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static struct trace_payload payload;
static uint8_t              bytes[1 << 16];

static int begin_payload(void ** state) {
    (void) state;
    trace_payload_begin(&payload, 1000);
    memset(bytes, 0xcc, sizeof(bytes));
    return 0;
}

static void assert_bytes(const uint8_t * end, const char * expected) {
    char    text[1024] = "";
    size_t  n = (size_t) (end - bytes);
    assert_true(n * 3 < sizeof(text));
    for (size_t i = 0; i < n; i++) {
        snprintf(text + i * 3, 4, "%02x ", bytes[i]);
    }
    text[n > 0 ? n * 3 - 1 : 0] = '\0';
    assert_string_equal(text, expected);
}

static const int32_t experts_0[] = { 0, 2, 2, 3, 1, 0 };
static const int32_t experts_1[] = { 1, 0, 3, 1, 2, 3 };
static const float   gates[]     = { 0.5f, 0.25f, 1.0f, -2.0f, 0.0f, 65504.0f };

static const struct routing_layer layers[] = {
    { .layer = 3, .n_expert = 4, .n_used = 2, .n_tokens = 2, .experts = experts_0, .gates = gates },
    { .layer = 4, .n_expert = 4, .n_used = 2, .n_tokens = 2, .experts = experts_1, .gates = gates },
};

static const struct expert_tracer_token tokens[] = {
    { .id = 5, .position = 0 }, { .id = 300, .position = 1, .output = true },
    { .id = -1, .position = 2, .output = true },
};

static struct routing_ubatch two_tokens(void) {
    return (struct routing_ubatch) {
        .time = 1000, .n_tokens = 2, .tokens = tokens, .rows_known = true, .n_layers = 2, .layers = layers,
    };
}

static const struct trace_recording plain = { .is_first = true };

static uint8_t * record_at(uint8_t * at, const struct routing_ubatch * ubatch,
                           const struct trace_recording * recording) {
    assert_true(trace_payload_has_room(&payload, trace_record_lives_max(ubatch)));
    uint8_t * end = trace_record_ubatch(&payload, at, ubatch, recording);
    assert_non_null(end);
    assert_true((size_t) (end - at) <= trace_record_size_max(ubatch, recording));
    return end;
}

static void a_ubatch(void ** state) {
    (void) state;
    const struct routing_ubatch ubatch = two_tokens();
    assert_bytes(record_at(bytes, &ubatch, &plain),
        "04 01 00 01 00 "                               // LIFE: context 0, sequence 0, life 0
        "0c 02 00 02 00 02 00 00 01 06 00 e8 71");      // UBATCH: two spans, the second goes on and has an output
}

static void what_may_be_there(void ** state) {
    (void) state;
    struct routing_ubatch ubatch = two_tokens();
    ubatch.time = 999;
    ubatch.fate = ROUTING_WARMUP;
    const struct trace_recording recording = { .context = 200, .table = 1, .is_mtp = true,
                                               .tokens = true, .weights = true };
    assert_bytes(record_at(bytes, &ubatch, &recording),
        "05 01 c8 01 01 00 "
        "1f 02 01 1d 01 02 00 00 01 06 00 "             // one microsecond before; warm-up, head, ids, weights; table 1
        "06 ad 02 "                                     // ids 5 and 300
        "e8 71 "
        "00 38 00 34 00 3c 00 c0 00 38 00 34 00 3c 00 c0");
}

static void what_is_not_known_is_left_out(void ** state) {
    (void) state;
    const struct trace_recording all = { .tokens = true, .weights = true };
    struct routing_layer half[2] = { layers[0], layers[1] };
    half[1].gates = NULL;
    const struct expert_tracer_token unknown[] = {
        { .id = -1, .sequence = -1, .position = -1 }, { .id = -1, .sequence = -1, .position = -1 },
    };
    struct routing_ubatch ubatch = two_tokens();
    ubatch.layers = half;
    ubatch.tokens = unknown;
    uint8_t * end = record_at(bytes, &ubatch, &all);
    assert_bytes(record_at(end, &ubatch, &all),
        "04 01 00 00 00 " "0a 02 00 00 00 01 08 00 00 e8 71 " "0a 02 00 00 00 01 08 00 00 e8 71");
}

static void layers_with_fewer_rows(void ** state) {
    (void) state;
    const int32_t rows[] = { 1, 2 };
    const struct routing_layer reduced[] = {
        { .layer = 0, .n_expert = 4, .n_used = 2, .n_tokens = 3, .experts = experts_0 },
        { .layer = 1, .n_expert = 4, .n_used = 2, .n_tokens = 0 },
        { .layer = 2, .n_expert = 4, .n_used = 2, .n_tokens = 2, .experts = experts_1, .rows = rows },
    };
    const struct routing_ubatch ubatch = { .time = 1000, .n_tokens = 3, .tokens = tokens, .rows_known = true,
                                           .n_layers = 3, .layers = reduced };
    const struct trace_recording recording = { .tokens = true };
    assert_bytes(record_at(bytes, &ubatch, &recording),
        "04 01 00 01 00 "
        "14 02 00 28 00 02 00 00 01 0e 00 "             // 28: ids, and reduced layers
        "02 02 05 "                                     // layer 1 has no rows, layer 2 has those of the outputs
        "06 ad 02 00 "                                  // 5, 300, and an embedding
        "e8 11 07");                                    // 0 2 2 3 | 1 0, 1 0 | 3 1 and zeros
}

static void spans_end_where_something_changes(void ** state) {
    (void) state;
    const struct expert_tracer_token many[] = {
        { .sequence = 0, .position = 10 }, { .sequence = 0, .position = 11 }, { .sequence = 0, .position = 12 },
        { .sequence = 0, .position = 14 },                                     // a position is missing
        { .sequence = 0, .position = 15, .generation = true },
        { .sequence = 0, .position = 16, .generation = true, .output = true },
        { .sequence = 1, .position = 0 },
        { .sequence = 0, .position = 17, .life = 1 },
        { .sequence = 0, .position = 17 },
    };
    const int32_t              nothing[9] = { 0 };
    const struct routing_layer layer  = { .layer = 0, .n_expert = 1, .n_used = 1, .n_tokens = 9, .experts = nothing };
    const struct routing_ubatch ubatch = { .time = 1000, .n_tokens = 9, .tokens = many, .rows_known = true,
                                           .n_layers = 1, .layers = &layer };
    assert_bytes(record_at(bytes, &ubatch, &plain),
        "04 01 00 01 00 " "04 01 00 02 00 " "04 01 00 01 01 "
        "17 02 00 02 00 07 "
        "10 00 0b " "00 00 0f " "05 00 " "07 00 " "00 01 01 " "00 02 12 " "04 00");
}

static void a_payload_remembers_lives_and_positions(void ** state) {
    (void) state;
    struct expert_tracer_token next[] = { { .sequence = 0, .position = 2 }, { .sequence = 0, .position = 3 } };
    struct routing_ubatch      ubatch = two_tokens();
    record_at(bytes, &ubatch, &plain);
    ubatch.tokens = next;
    ubatch.time   = 1300;
    assert_bytes(record_at(bytes, &ubatch, &plain), "0a 02 d8 04 02 00 01 0c 00 e8 71");

    const struct routing_cut cut = { .sequence = 0, .life = 0, .position = 3 };
    assert_bytes(trace_record_cut(&payload, bytes, 0, &cut), "03 04 00 03");
    next[0].position = 3;
    next[1].position = 4;
    assert_bytes(record_at(bytes, &ubatch, &plain), "0a 02 00 02 00 01 08 00 04 e8 71");

    const struct routing_cut of_another = { .sequence = 7, .life = 2, .position = 300 };
    assert_bytes(trace_record_cut(&payload, bytes, 1, &of_another), "04 01 01 08 02 04 04 01 ac 02");

    trace_payload_begin(&payload, 1300);
    assert_bytes(record_at(bytes, &ubatch, &plain), "04 01 00 01 00 0a 02 00 02 00 01 08 00 04 e8 71");
}

static void a_position_that_is_not_known_goes_on_from_nothing(void ** state) {
    (void) state;
    struct expert_tracer_token next[] = { { .position = -1 }, { .position = 0 } };
    struct routing_ubatch      ubatch = two_tokens();
    ubatch.tokens = next;
    assert_bytes(record_at(bytes, &ubatch, &plain), "04 01 00 01 00 0d 02 00 02 00 02 00 00 00 00 00 01 e8 71");
}

static void gaps_and_amendments(void ** state) {
    (void) state;
    assert_bytes(trace_record_gap(bytes, 1, 512, TRACE_GAP_SAMPLING), "05 03 01 80 04 02");
    assert_bytes(trace_record_warmup(bytes, 130, 2), "04 01 82 01 02");
    assert_bytes(trace_record_rejected(bytes, 1, 2, 3), "04 02 01 02 03");
    assert_true(trace_record_gap(bytes, UINT64_MAX, UINT64_MAX, TRACE_GAP_TOO_LARGE) - bytes <= TRACE_RECORD_MAX);
    const struct routing_cut last = { .sequence = INT32_MAX, .life = -1, .position = INT32_MAX };
    assert_true(trace_record_cut(&payload, bytes, UINT32_MAX, &last) - bytes <= TRACE_RECORD_MAX);
}

// One bit after the other.
static void assert_packed(const uint8_t * at, const int32_t * ids, size_t n, int width) {
    for (size_t bit = 0; bit < n * (size_t) width; bit++) {
        assert_int_equal(at[bit / 8] >> bit % 8 & 1, ids[bit / (size_t) width] >> bit % (size_t) width & 1);
    }
    for (size_t bit = n * (size_t) width; bit % 8 != 0; bit++) {
        assert_int_equal(at[bit / 8] >> bit % 8 & 1, 0);
    }
}

static void experts_of_any_width(void ** state) {
    (void) state;
    enum { N = 53 };
    const struct expert_tracer_token token = { .position = -1 };
    for (int width = 0; width <= 31; width++) {
        int32_t       ids[N];
        const int32_t n_expert = width == 31 ? INT32_MAX : 1 << width;
        for (int i = 0; i < N; i++) {
            ids[i] = (int32_t) (((uint32_t) i * 2654435761u) % (uint32_t) n_expert);
        }
        const struct routing_layer  layer  = { .layer = 0, .n_expert = n_expert, .n_used = N,
                                               .n_tokens = 1, .experts = ids };
        const struct routing_ubatch ubatch = { .time = 1000, .n_tokens = 1, .tokens = &token, .rows_known = true,
                                               .n_layers = 1, .layers = &layer };
        const uint8_t * end  = record_at(bytes, &ubatch, &plain);
        const size_t    size = (N * (size_t) width + 7) / 8;
        assert_packed(end - size, ids, N, width);
    }
}

static void an_expert_that_is_none_is_not_recorded(void ** state) {
    (void) state;
    const int32_t wrong[] = { 0, 4, -1 };
    struct routing_layer  layer  = { .layer = 0, .n_expert = 3, .n_used = 1, .n_tokens = 2, .experts = wrong };
    struct routing_ubatch ubatch = two_tokens();
    ubatch.n_layers = 1;
    ubatch.layers   = &layer;
    assert_null(trace_record_ubatch(&payload, bytes, &ubatch, &plain));
    layer.experts = wrong + 1;
    assert_null(trace_record_ubatch(&payload, bytes, &ubatch, &plain));
    const int32_t largest[] = { 3, 0 }; // fits into two bits, and is none
    layer.experts = largest;
    assert_null(trace_record_ubatch(&payload, bytes, &ubatch, &plain));
}

static void no_token_takes_more_than_was_reserved(void ** state) {
    (void) state;
    enum { N = 500 };
    static struct expert_tracer_token many[N];
    static int32_t                    ids[N];
    for (int i = 0; i < N; i++) {
        many[i] = (struct expert_tracer_token) { INT32_MAX, INT32_MAX - 1 - i, -1, INT32_MAX - i, false, i % 2 == 0 };
    }
    const struct routing_layer   layer  = { .layer = 0, .n_expert = INT32_MAX, .n_used = 1,
                                            .n_tokens = N, .experts = ids };
    const struct routing_ubatch  ubatch = {
        .time = INT64_MIN, .n_tokens = N, .tokens = many, .rows_known = true, .n_layers = 1, .layers = &layer,
    };
    const struct trace_recording largest = { .context = UINT32_MAX, .table = UINT32_MAX, .tokens = true };
    assert_int_equal(trace_record_lives_max(&ubatch), N);
    record_at(bytes, &ubatch, &largest);
    assert_true(trace_payload_has_room(&payload, TRACE_LIVES_MAX - N));
    assert_false(trace_payload_has_room(&payload, TRACE_LIVES_MAX - N + 1));
}

static void as_many_lives_as_there_is_room_for(void ** state) {
    (void) state;
    for (int round = 0; round < 2; round++) { // the second time all of them are known
        for (int32_t i = 0; i < TRACE_LIVES_MAX; i++) {
            const struct routing_cut cut = { .sequence = i % 64, .life = i / 64, .position = 0 };
            trace_record_cut(&payload, bytes, 0, &cut);
            assert_int_equal(payload.n_lives, round == 0 ? i + 1 : TRACE_LIVES_MAX);
        }
    }
}

static void little_is_written_besides_the_experts(void ** state) {
    (void) state;
    enum { N = 512 };
    static struct expert_tracer_token many[N];
    static int32_t                    ids[N * 2];
    const struct routing_layer   layer  = { .layer = 0, .n_expert = 4, .n_used = 2, .n_tokens = N, .experts = ids };
    const struct routing_ubatch  ubatch = { .time = 1000, .n_tokens = N, .tokens = many, .rows_known = true,
                                            .n_layers = 1, .layers = &layer };
    for (int i = 0; i < N; i++) { // a server's: each of another sequence, far into it
        many[i] = (struct expert_tracer_token) { .sequence = i % 256, .position = 100000 + i / 256,
                                                 .generation = true, .output = true };
    }
    record_at(bytes, &ubatch, &plain);
    for (int i = 0; i < N; i++) {
        many[i].position += 2;
    }
    assert_true(record_at(bytes, &ubatch, &plain) - bytes - N * 2 * 2 / 8 <= 32 + 4 * N);
    trace_payload_begin(&payload, 1000);
    for (int i = 0; i < N; i++) { // a prompt
        many[i] = (struct expert_tracer_token) { .position = 100000 + i, .output = i == N - 1 };
    }
    assert_true(record_at(bytes, &ubatch, &plain) - bytes - N * 2 * 2 / 8 <= 32);
}

static void half_precision(void ** state) {
    (void) state;
    static const struct { float value; uint16_t expected; } cases[] = {
        { 0.0f, 0x0000 }, { -0.0f, 0x8000 }, { 1.0f, 0x3c00 }, { -1.5f, 0xbe00 }, { 65504.0f, 0x7bff },
        { 65519.0f, 0x7bff }, { 65520.0f, 0x7c00 }, { 1e9f, 0x7c00 }, { -INFINITY, 0xfc00 },
        { 0x1p-14f, 0x0400 }, { 0x1.ff8p-15f, 0x03ff }, { 0x1.ffcp-15f, 0x0400 }, { 0x1p-24f, 0x0001 },
        { 0x1p-25f, 0x0000 }, { 0x1.000002p-25f, 0x0001 }, { 0x1.8p-24f, 0x0002 },
        { 0x1.4p-23f, 0x0002 }, { 1e-30f, 0x0000 }, { 0x1.002p0f, 0x3c00 }, { 0x1.006p0f, 0x3c02 },
        { 0x1.002002p0f, 0x3c01 }, { 0x1.ffep0f, 0x4000 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(trace_f16(cases[i].value), cases[i].expected);
    }
    assert_int_equal(trace_f16(NAN) & 0x7c00, 0x7c00);
    assert_int_not_equal(trace_f16(NAN) & 0x03ff, 0);
}

static void numbers(void ** state) {
    (void) state;
    assert_bytes(trace_put_varint(bytes, 0), "00");
    assert_bytes(trace_put_varint(bytes, 127), "7f");
    assert_bytes(trace_put_varint(bytes, 128), "80 01");
    assert_bytes(trace_put_varint(bytes, UINT64_MAX), "ff ff ff ff ff ff ff ff ff 01");
    assert_bytes(trace_put_zigzag(bytes, -1), "01");
    assert_bytes(trace_put_zigzag(bytes, 64), "80 01");
    assert_bytes(trace_put_zigzag(bytes, INT64_MIN), "ff ff ff ff ff ff ff ff ff 01");
    assert_bytes(trace_put_u64(bytes, 0x0102030405060708), "08 07 06 05 04 03 02 01");
}

#define TEST(function) cmocka_unit_test_setup(function, begin_payload)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_ubatch),
        TEST(what_may_be_there),
        TEST(what_is_not_known_is_left_out),
        TEST(layers_with_fewer_rows),
        TEST(spans_end_where_something_changes),
        TEST(a_payload_remembers_lives_and_positions),
        TEST(a_position_that_is_not_known_goes_on_from_nothing),
        TEST(gaps_and_amendments),
        TEST(experts_of_any_width),
        TEST(an_expert_that_is_none_is_not_recorded),
        TEST(no_token_takes_more_than_was_reserved),
        TEST(as_many_lives_as_there_is_room_for),
        TEST(little_is_written_besides_the_experts),
        TEST(half_precision),
        TEST(numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
