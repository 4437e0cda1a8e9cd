// What a running tracer answers of itself: plain values of `status` (docs/live-format.md), whatever it left out.

#pragma once

#include "live/live-client.h"
#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Strings are NULL where they are not known.
struct live_status_model {
    uint64_t number;
    char   * name;
    char   * architecture;
    char   * file;
    char   * engine;
    char   * capture;
    char   * recording; // the trace's path or name, NULL: nothing is recorded
    uint64_t contexts;  // that are open
    uint64_t tokens;
    uint64_t prompt_tokens;
    uint64_t generation_tokens;
    uint64_t lost_tokens;
};

struct live_status {
    char                     * program;
    char                     * tracer;   // its version
    char                     * output;   // the statistics file's pattern, NULL: none
    int64_t                    started;  // microseconds since 1970
    bool                       counting;
    bool                       names;
    bool                       watched;
    double                     interval; // seconds, 0: only at the end
    size_t                     n_models;
    struct live_status_model * models;
};

// NULL, and why, where there is no answer.
struct live_status * live_status_ask (const struct live_client * client, struct error * error);
void                 live_status_free(struct live_status * status); // NULL is ignored

// Whether a routing trace is being recorded.
bool live_status_is_recording(const struct live_status * status);
