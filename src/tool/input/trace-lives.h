// The lives of sequences that a trace tells of, and what a command notes down of each.

#pragma once

#include <stddef.h>
#include <stdint.h>

struct noted_life {
    int32_t  context;
    int32_t  sequence; // -1: not known
    int32_t  life;
    uint64_t n_tokens; // for the command to count
    void   * data;     // the command's
};

struct trace_lives;

struct trace_lives * trace_lives_new (void);
void                 trace_lives_free(struct trace_lives * lives); // not what `data` points to

// The life, which is new where it was not asked for before.
struct noted_life * trace_lives_at(struct trace_lives * lives, int32_t context, int32_t sequence, int32_t life);

size_t              trace_lives_n          (const struct trace_lives * lives);
size_t              trace_lives_n_sequences(const struct trace_lives * lives); // of each context
size_t              trace_lives_n_contexts (const struct trace_lives * lives);
struct noted_life * trace_lives_get        (const struct trace_lives * lives, size_t i); // in the order of appearance
