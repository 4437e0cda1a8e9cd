// The ring in which chunks wait for the disk: none is lost, and none is written over.

#include "unit.h"

#include "trace/write/chunk-ring.h"

#include <stdlib.h>
#include <string.h>

#define SIZE 4096

static struct chunk_ring buffer;

static int begin(void ** state) {
    (void) state;
    return chunk_ring_init(&buffer, SIZE) ? 0 : -1;
}

static int end(void ** state) {
    (void) state;
    chunk_ring_free(&buffer);
    return 0;
}

static void grow(uint8_t byte, size_t n) {
    assert_true(chunk_ring_has_room(&buffer, n));
    memset(chunk_ring_at(&buffer), byte, n);
    chunk_ring_grow(&buffer, chunk_ring_at(&buffer) + n);
}

static bool add(uint8_t byte, size_t n) {
    if (chunk_ring_open(&buffer, TRACE_CHUNK_DATA, n) == NULL) {
        return false;
    }
    grow(byte, n);
    chunk_ring_seal(&buffer);
    return true;
}

static void assert_oldest(uint8_t byte, size_t n) {
    const struct ring_chunk * chunk = chunk_ring_oldest(&buffer);
    assert_non_null(chunk);
    assert_int_equal(chunk->size, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(chunk->bytes[TRACE_HEADER_SIZE + i], byte);
    }
}

static void chunks_come_out_as_they_went_in(void ** state) {
    (void) state;
    assert_null(chunk_ring_oldest(&buffer));
    assert_true(add(1, 100) && add(2, 201));
    chunk_ring_open(&buffer, TRACE_CHUNK_AMENDMENTS, 10);
    grow(3, 4);
    grow(3, 6);
    assert_oldest(1, 100);
    chunk_ring_take_out(&buffer);
    assert_oldest(2, 201);
    chunk_ring_take_out(&buffer);
    assert_null(chunk_ring_oldest(&buffer)); // it is open
    chunk_ring_seal(&buffer);
    assert_oldest(3, 10);
    assert_int_equal(chunk_ring_oldest(&buffer)->kind, TRACE_CHUNK_AMENDMENTS);
    chunk_ring_take_out(&buffer);
    assert_null(chunk_ring_oldest(&buffer));
}

static void the_largest_chunk_fills_it(void ** state) {
    (void) state;
    assert_true(add(1, 1));
    assert_false(add(2, chunk_ring_largest(&buffer)));
    chunk_ring_take_out(&buffer);
    assert_false(add(2, chunk_ring_largest(&buffer) + 1));
    assert_true(add(2, chunk_ring_largest(&buffer)));
    assert_false(add(3, 0));
    assert_oldest(2, chunk_ring_largest(&buffer));
}

static void an_open_chunk_has_room_up_to_the_oldest(void ** state) {
    (void) state;
    assert_true(add(1, 1500) && add(2, 1500));
    chunk_ring_take_out(&buffer);
    chunk_ring_open(&buffer, TRACE_CHUNK_DATA, 1400); // before the oldest
    assert_true(chunk_ring_has_room(&buffer, 1400));
    assert_false(chunk_ring_has_room(&buffer, 1501));
    grow(3, 1400);
    assert_oldest(2, 1500);
}

// Chunks of all sizes, as many as there is room for, against a list of them.
static void nothing_is_written_over(void ** state) {
    (void) state;
    struct { uint8_t byte; size_t n; } expected[64];
    size_t first = 0;
    size_t last  = 0;
    srand(1);
    for (int i = 0; i < 20000; i++) {
        const uint8_t byte = (uint8_t) i;
        const size_t  n    = 1 + (size_t) rand() % (rand() % 8 == 0 ? 3000 : 300);
        if (last - first < 64 && rand() % 3 > 0 && add(byte, n)) {
            expected[last % 64].byte = byte;
            expected[last++ % 64].n  = n;
        } else if (first < last) {
            assert_oldest(expected[first % 64].byte, expected[first % 64].n);
            first++;
            chunk_ring_take_out(&buffer);
        }
    }
    assert_true(first > 1000);
}

static void memory_that_is_not_there(void ** state) {
    (void) state;
    struct chunk_ring small;
    assert_true(chunk_ring_init(&small, 16));
    assert_int_equal(chunk_ring_largest(&small), 0);
    assert_null(chunk_ring_open(&small, TRACE_CHUNK_DATA, 0));
    chunk_ring_free(&small);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(chunks_come_out_as_they_went_in),
        TEST(the_largest_chunk_fills_it),
        TEST(an_open_chunk_has_room_up_to_the_oldest),
        TEST(nothing_is_written_over),
        TEST(memory_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
