// Who keeps which memory for how long, and how much of it there can be. The engine here is a fake: it has two kinds of
// devices, one of which has a second device.

#include "engine/capture/device-memory.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NEAR, FAR, FARTHER, N_DEVICES };

// A scheduler is a list of its devices; a backend, its device and the device's type are the same here.
struct fake_sched {
    int    n_backends;
    void * backends[20];
};

static char          devices[N_DEVICES];
static char          kinds[2];
static atomic_int    n_buffers;
static atomic_size_t n_bytes;
static bool          has_memory;
static size_t        held_back; // bytes of what is asked for

static int    n_backends (void * sched)        { return ((struct fake_sched *) sched)->n_backends; }
static void * backend_at (void * sched, int i) { return ((struct fake_sched *) sched)->backends[i]; }
static void * device_of  (void * backend)      { return backend; }
static void * registry_of(void * device)       { return &kinds[device == &devices[NEAR] ? 0 : 1]; }
static size_t buffer_size(void * buffer)       { return *(size_t *) buffer; }

static void * buffer_new(void * type, size_t size) {
    (void) type;
    size_t * buffer = has_memory ? malloc(sizeof(*buffer)) : NULL;
    if (buffer) {
        *buffer = size - held_back;
        atomic_fetch_add(&n_buffers, 1);
        atomic_fetch_add(&n_bytes, size);
    }
    return buffer;
}

static void buffer_free(void * buffer) {
    atomic_fetch_sub(&n_buffers, 1);
    atomic_fetch_sub(&n_bytes, *(size_t *) buffer);
    free(buffer);
}

static struct real real;

static struct fake_sched sched_on(int device) {
    return (struct fake_sched) { 1, { &devices[device] } };
}

static void * take(int device, size_t size) {
    return device_memory_take(&real, &devices[device], &devices[device], size);
}

static int begin(void ** state) {
    *state = NULL;
    real = (struct real) {
        .ggml_backend_sched_get_n_backends = n_backends,
        .ggml_backend_sched_get_backend    = backend_at,
        .ggml_backend_get_device           = device_of,
        .ggml_backend_dev_backend_reg      = registry_of,
        .ggml_backend_buft_alloc_buffer    = buffer_new,
        .ggml_backend_buffer_get_size      = buffer_size,
        .ggml_backend_buffer_free          = buffer_free,
    };
    has_memory = true;
    held_back  = 0;
    return n_buffers == 0 ? 0 : -1;
}

static void sizes_are_few(void ** state) {
    (void) state;
    size_t last = 0;
    int    n    = 0;
    for (size_t size = 1; size < (size_t) 1 << 30; size += 1 + size / 1000) {
        const size_t rounded = device_memory_round(size);
        assert_true(rounded >= size && rounded >= last);
        assert_true(rounded <= 4096 || rounded - size <= size / 4);
        assert_true(rounded % 1024 == 0);
        assert_int_equal(device_memory_round(rounded), rounded);
        n   += rounded != last;
        last = rounded;
    }
    assert_true(n <= 4 * 18 + 1); // from 4 KiB to 1 GiB
    assert_true(device_memory_round(SIZE_MAX / 2) >= SIZE_MAX / 2);
}

static void is_kept_while_another_scheduler_lives(void ** state) {
    (void) state;
    struct fake_sched scheds[] = { sched_on(FAR), sched_on(FAR) };
    device_memory_on_sched_new(&real, &scheds[0]);
    device_memory_on_sched_new(&real, &scheds[1]);
    void * a = take(FAR, 10000);
    void * b = take(FAR, 10000);
    assert_ptr_not_equal(a, b);
    device_memory_give_back(a);
    device_memory_on_sched_free(&scheds[0]);
    assert_int_equal(n_buffers, 2);
    assert_ptr_equal(take(FAR, 9000), a); // the next one's
    device_memory_give_back(a);
    device_memory_give_back(b);
    device_memory_give_back(NULL);
    assert_int_equal(n_buffers, 2);
    device_memory_on_sched_free(&scheds[1]);
    assert_int_equal(n_buffers, 0);
}

static void the_smallest_is_taken_that_is_large_enough(void ** state) {
    (void) state;
    struct fake_sched sched = sched_on(FAR);
    device_memory_on_sched_new(&real, &sched);
    void * large  = take(FAR, 1000000);
    void * small  = take(FAR, 1000);
    void * middle = take(FAR, 50000);
    device_memory_give_back(large);
    device_memory_give_back(small);
    device_memory_give_back(middle);
    assert_ptr_equal(take(FAR, 20000), middle);
    assert_ptr_equal(take(FAR, 20000), large);
    void * other = take(FARTHER, 1000); // small is of another device
    assert_ptr_not_equal(other, small);
    device_memory_give_back(middle);
    device_memory_give_back(large);
    device_memory_give_back(other);
    device_memory_on_sched_free(&sched);
    assert_int_equal(n_buffers, 0);
}

static void devices_of_one_registry_are_kept_together(void ** state) {
    (void) state;
    struct fake_sched near = sched_on(NEAR), far = sched_on(FAR), farther = sched_on(FARTHER);
    device_memory_on_sched_new(&real, &near);
    device_memory_on_sched_new(&real, &far);
    device_memory_on_sched_new(&real, &farther);
    device_memory_give_back(take(FAR, 1));
    device_memory_on_sched_free(&far);
    assert_int_equal(n_buffers, 1);
    device_memory_on_sched_free(&farther);
    assert_int_equal(n_buffers, 0); // the other kind of device has nothing to do with it

    device_memory_give_back(device_memory_take(&real, &devices[FAR], NULL, 1)); // on whatever device
    device_memory_on_sched_free(&near);
    assert_int_equal(n_buffers, 0);
}

static void what_is_not_known_may_be_any_device(void ** state) {
    (void) state;
    struct fake_sched near = sched_on(NEAR), far = sched_on(FAR), many = { .n_backends = 20 };
    for (int i = 0; i < 20; i++) {
        many.backends[i] = &devices[NEAR];
    }
    device_memory_on_sched_new(&real, &far);
    device_memory_on_sched_new(&real, &many);
    device_memory_give_back(take(FAR, 1));
    device_memory_on_sched_free(&far);
    assert_int_equal(n_buffers, 1);
    device_memory_on_sched_free(&many);
    assert_int_equal(n_buffers, 0);

    real.ggml_backend_sched_get_n_backends = NULL; // an old release
    device_memory_on_sched_new(&real, &near);
    device_memory_on_sched_new(&real, &far);
    device_memory_give_back(take(FAR, 1));
    device_memory_on_sched_free(&far);
    assert_int_equal(n_buffers, 1);
    device_memory_on_sched_free(&near);
    device_memory_on_sched_free(&near); // never heard of
    assert_int_equal(n_buffers, 0);
}

static void there_may_be_no_memory(void ** state) {
    (void) state;
    struct fake_sched sched = sched_on(FAR);
    device_memory_on_sched_new(&real, &sched);
    has_memory = false;
    assert_null(take(FAR, 1));
    has_memory = true;
    held_back  = 1;
    assert_null(take(FAR, 4096)); // less than was asked for, and not to be freed now
    assert_int_equal(n_buffers, 1);
    device_memory_on_sched_free(&sched);
    assert_int_equal(n_buffers, 0);
    n_bytes = 0;
}

// Beside a context that stays, others come and go for ever: each a little larger than any before, or of random size.
static void is_bounded(void ** state) {
    (void) state;
    struct fake_sched stays = sched_on(FAR), comes = sched_on(FAR);
    device_memory_on_sched_new(&real, &stays);
    uint32_t random  = 1;
    size_t   largest = 0;
    for (size_t i = 0; i < 2000; i++) {
        random = random * 1664525 + 1013904223;
        const size_t size = i < 1000 ? 1000 * (i + 1) : random % 1000000;
        largest = size > largest ? size : largest;
        device_memory_on_sched_new(&real, &comes);
        void * buffer = take(FAR, size);
        assert_non_null(buffer);
        device_memory_give_back(buffer);
        device_memory_on_sched_free(&comes);
        assert_true(n_bytes <= 7 * device_memory_round(largest));
    }
    assert_true(n_buffers <= 4 * 8 + 1);
    device_memory_on_sched_free(&stays);
    assert_int_equal(n_buffers, 0);
    assert_int_equal(n_bytes, 0);
}

static void * come_and_go(void * argument) {
    (void) argument;
    struct fake_sched sched = sched_on(FAR);
    for (size_t i = 0; i < 2000; i++) {
        device_memory_on_sched_new(&real, &sched);
        void * a = take(FAR, 100 * i + 1);
        void * b = take(FAR, 5000);
        if (a == b || buffer_size(a) < 100 * i + 1 || buffer_size(b) < 5000) {
            return "the same, or too small";
        }
        device_memory_give_back(a);
        device_memory_give_back(b);
        device_memory_on_sched_free(&sched);
    }
    return NULL;
}

static void threads_share_it(void ** state) {
    (void) state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        void * wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(n_buffers, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sizes_are_few,                              begin),
        cmocka_unit_test_setup(is_kept_while_another_scheduler_lives,      begin),
        cmocka_unit_test_setup(the_smallest_is_taken_that_is_large_enough, begin),
        cmocka_unit_test_setup(devices_of_one_registry_are_kept_together,  begin),
        cmocka_unit_test_setup(what_is_not_known_may_be_any_device,        begin),
        cmocka_unit_test_setup(there_may_be_no_memory,                     begin),
        cmocka_unit_test_setup(is_bounded,                                 begin),
        cmocka_unit_test_setup(threads_share_it,                           begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
