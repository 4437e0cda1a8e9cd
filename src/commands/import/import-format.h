// What `import` reads: docs/export-formats.md. A format finds its rows in an input, and puts them into a trace or,
// where it has sums alone, into statistics.

#pragma once

#include "commands/import/import-input.h"
#include "commands/import/import-trace.h"
#include "statistics/statistics.h"
#include "tool/error.h"
#include "tool/input/gguf-model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What the caller says of a model, where a format does not: 0 or NULL where nothing was said.
struct import_hints {
    const char                * model;        // its name
    const struct gguf_model   * file;         // of it
    int32_t                     n_expert;
    int32_t                     n_used;       // top-k
    uint64_t                    expert_bytes;
};

struct import {
    const struct import_hints * hints;
    struct import_input       * input;
    struct import_trace       * trace;      // NULL: the format has statistics
    struct statistics         * statistics; // NULL: the format has a trace
};

// Functions that can fail explain it in `error`, with the name of the input.
struct import_format {
    const char * name;
    bool         has_statistics;
    bool      (* recognises)(const char * head, size_t size); // by the first bytes
    bool      (* read)      (struct import * import, struct error * error);
};

// Whether these bytes, the first of a file, begin so.
bool import_begins_as(const char * head, size_t size, const char * beginning);

// Fills in what the format does not tell: once, when all that it does tell is in the trace's import_about. False where
// the two differ, or something is still not known.
bool import_take_hints(struct import * import, struct error * error);

// See import_trace_ubatch(). `what` is line or token, and `first` where the ubatch begins.
bool import_end_ubatch(struct import * import, const char * what, uint64_t first, int32_t context, bool warmup,
                       struct error * error);

// Of formats whose rows name their ubatch.
struct import_ubatch {
    int64_t  number;
    int32_t  context;
    bool     warmup;
    uint64_t first_line; // 0: there is none yet
};

// Ends the current ubatch where the next row is of another one, which is current then.
bool import_enter_ubatch(struct import * import, struct import_ubatch * current, const struct import_ubatch * next,
                         struct error * error);
bool import_leave_ubatch(struct import * import, const struct import_ubatch * current, struct error * error);

// See import_trace_end().
bool import_end_trace(struct import * import, struct error * error);

extern const struct import_format import_route_trace;
extern const struct import_format import_npy;
extern const struct import_format import_moe_trace;
extern const struct import_format import_moe_cache_profile;
extern const struct import_format import_csv;
extern const struct import_format import_jsonl;
extern const struct import_format import_sglang;
