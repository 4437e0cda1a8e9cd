// What is read of ld.so.cache: made here, both formats, and damaged in every way that a few thousand tries find.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tool/launch/loader-cache.h"

static const char strings[] = "liba.so\0/lib/liba.so\0/lib/glibc-hwcaps/x86-64-v3/liba.so\0libb.so\0/lib/libb.so";

struct made {
    char   bytes[1024];
    size_t size;
};

static void add(struct made * made, const void * bytes, size_t size) {
    memcpy(made->bytes + made->size, bytes, size);
    made->size += size;
}

static void add_u32(struct made * made, uint32_t value) {
    add(made, &value, sizeof(value));
}

static void add_entry(struct made * made, uint32_t at, size_t name, size_t path) {
    const uint64_t hwcap = 0;
    add_u32(made, 0x303);
    add_u32(made, at + (uint32_t) name);
    add_u32(made, at + (uint32_t) path);
    add_u32(made, 0);
    add(made, &hwcap, sizeof(hwcap));
}

static struct made make(int with_old) {
    struct made made = { .size = 0 };
    if (with_old) {
        add(&made, "ld.so-1.7.0\0", 12);
        add_u32(&made, 1);
        add(&made, "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
        made.size = (made.size + 7) / 8 * 8;
    }
    const uint32_t at = 48 + 3 * 24;
    add(&made, "glibc-ld.so.cache1.1", 20);
    add_u32(&made, 3);
    add_u32(&made, sizeof(strings));
    for (int i = 0; i < 5; i++) {
        add_u32(&made, 0);
    }
    add_entry(&made, at, 0,  21); // liba.so of x86-64-v3
    add_entry(&made, at, 0,  8);  // liba.so
    add_entry(&made, at, 57, 65); // libb.so
    add(&made, strings, sizeof(strings));
    return made;
}

static struct loader_cache open_bytes(const char * bytes, size_t size) {
    struct loader_cache cache;
    char                path[] = "/tmp/test-loader-cache-XXXXXX";
    const int           fd     = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
    loader_cache_open(&cache, path);
    unlink(path);
    return cache;
}

static void test_entries(void ** state) {
    (void) state;
    for (int with_old = 0; with_old < 2; with_old++) {
        const struct made   made  = make(with_old);
        struct loader_cache cache = open_bytes(made.bytes, made.size);
        size_t              i     = 0;
        assert_string_equal(loader_cache_next(&cache, "liba.so", &i), "/lib/glibc-hwcaps/x86-64-v3/liba.so");
        assert_string_equal(loader_cache_next(&cache, "liba.so", &i), "/lib/liba.so");
        assert_null(loader_cache_next(&cache, "liba.so", &i));
        i = 0;
        assert_string_equal(loader_cache_next(&cache, "libb.so", &i), "/lib/libb.so");
        i = 0;
        assert_null(loader_cache_next(&cache, "libc.so", &i));
        loader_cache_close(&cache);
    }
}

static void test_none(void ** state) {
    (void) state;
    struct loader_cache cache;
    size_t              i = 0;
    loader_cache_open(&cache, "/no/such/cache");
    assert_null(loader_cache_next(&cache, "liba.so", &i));
    loader_cache_open(&cache, "/tmp");
    assert_null(loader_cache_next(&cache, "liba.so", &i));
}

static void test_damaged(void ** state) {
    (void) state;
    srand(1);
    for (int try = 0; try < 3000; try++) {
        struct made made = make(try % 2);
        for (int n = rand() % 6; n >= 0; n--) {
            made.bytes[(size_t) rand() % made.size] = (char) (rand() % 3 ? rand() : 0xff);
        }
        const size_t        size  = try % 3 ? made.size : (size_t) rand() % made.size;
        struct loader_cache cache = open_bytes(made.bytes, size);
        size_t              i     = 0;
        for (const char * path; (path = loader_cache_next(&cache, "liba.so", &i)) != NULL;) {
            assert_true(path >= cache.bytes && path + strlen(path) <= cache.bytes + cache.size);
        }
        loader_cache_close(&cache);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
