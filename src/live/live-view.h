// What a running tracer has counted, read from its memory: every ubatch as a whole, and the process does not wait.

#pragma once

#include "live/live-map.h"
#include "statistics/counters.h"
#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct live_view_model {
    uint32_t        number;
    char          * name;         // NULL: not known, like the next four
    char          * architecture;
    char          * file;
    char          * engine;
    char          * capture;
    int32_t         n_layer;      // 0: not known, like the next two
    int32_t         n_expert;
    int32_t         n_used;
    bool            phases_known;
    size_t          n_contexts;   // that are open
    struct counters counts;       // of all contexts, what is pending included
};

struct live_view {
    int64_t                  started; // microseconds since 1970
    int64_t                  pid;     // as the process sees it
    char                     name   [LIVE_NAME_SIZE];
    char                     program[LIVE_PROGRAM_SIZE];
    char                     tracer [LIVE_TRACER_SIZE];
    uint32_t                 switches; // LIVE_COUNTS and so on
    uint64_t                 n_hidden; // contexts that are counted and cannot be seen
    size_t                   n_models;
    struct live_view_model * models;   // by number, ascending
};

// False, and why, where the memory is damaged, or the counters changed all the time.
bool live_view_read(const struct live_map * map, struct live_view * view, struct error * error);
void live_view_free(struct live_view * view);

// Whether a layer below counts.table.n_layers was routed, and is no multi-token-prediction head's: those are behind the
// model's.
bool live_view_has_layer(const struct live_view_model * model, int32_t layer);
