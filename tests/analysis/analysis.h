// Random traces, the same ones in each run.

#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STEP_MAX 40

static inline uint32_t random_below(uint64_t * state, uint32_t n) {
    *state = *state * 6364136223846793005 + 1442695040888963407;
    return (uint32_t) ((*state >> 33) * n >> 31);
}

// Different keys, the low ones more often; at most n_keys of them.
static inline size_t random_step(uint64_t * state, uint32_t n_keys, size_t n_most, uint32_t * keys) {
    size_t n = 1 + random_below(state, (uint32_t) (n_most < n_keys ? n_most : n_keys));
    for (size_t i = 0; i < n; i++) {
        bool known = true;
        while (known) {
            const uint32_t below = 1 + random_below(state, n_keys);
            keys[i] = random_below(state, below);
            known   = false;
            for (size_t j = 0; j < i; j++) {
                known = known || keys[j] == keys[i];
            }
        }
    }
    return n;
}

static inline size_t index_of(const uint32_t * keys, size_t n, uint32_t key) {
    size_t i = 0;
    while (i < n && keys[i] != key) {
        i++;
    }
    return i;
}
