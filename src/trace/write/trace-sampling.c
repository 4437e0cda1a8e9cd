// Derives from a seed which batches are recorded.

#include "trace/write/trace-sampling.h"

#include <sys/random.h>
#include <time.h>
#include <unistd.h>

// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), as Sebastiano Vigna put it
// into the public domain: https://prng.di.unimi.it/splitmix64.c. Its i-th number, from 0.
static uint64_t splitmix64(uint64_t seed, uint64_t i) {
    uint64_t z = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

bool trace_sampling_takes(uint64_t seed, uint64_t n, uint32_t context, uint64_t batch) {
    return batch % n == splitmix64(splitmix64(seed, context), batch / n) % n;
}

uint64_t trace_sampling_new_seed(void) {
    uint64_t        random;
    struct timespec now;
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t) sizeof(random)) {
        clock_gettime(CLOCK_REALTIME, &now); // early in the life of a machine
        random = splitmix64((uint64_t) now.tv_sec * UINT64_C(1000000000) + (uint64_t) now.tv_nsec,
            (uint64_t) getpid());
    }
    return 1 + random % UINT32_MAX;
}
