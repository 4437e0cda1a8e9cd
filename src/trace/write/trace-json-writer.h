// What a routing trace says in JSON: docs/trace-format.md.

#pragma once

#include "base/text.h"
#include "routing/routing.h"
#include "trace/write/chunk-ring.h"

struct trace_about {
    const struct routing_model * model;
    const char                 * run;
    const char                 * trace;       // the same in all parts
    const char                 * capture;
    const char                 * fingerprint; // NULL: not known
    int64_t                      part;
    bool                         weights;
    bool                         tokens;
    uint64_t                     sample;
    uint64_t                     seed;        // 0: there is none, all is recorded
};

// How a trace, or a part of it, ends.
struct trace_closing {
    bool         is_last;           // there is no further part
    // why it ends before the program is done with the model, a static string; NULL: it does not
    const char * stopped;
    uint64_t     n_amendments_lost;
    uint64_t     waited_ms;         // for the disk
};

void trace_json_write_header(struct text * text, const struct trace_about * about);
void trace_json_write_layers(struct text * text, uint32_t table, const struct routing_ubatch * ubatch);
void trace_json_write_end   (struct text * text, const struct trace_counts * counts,
                             const struct trace_closing * ending);
