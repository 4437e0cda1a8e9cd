// The routing trace that `import` makes: rows of a format, ubatch by ubatch, become events for the trace's writer,
// which looks at them as it looks at an engine's.

#pragma once

#include "routing/routing.h"
#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// What is to be known before the first ubatch ends. Nothing is by default; strings are the caller's until then.
struct import_about {
    const char * model;
    const char * architecture;
    const char * file;
    const char * capture;      // how the routing was read
    int32_t      n_layer;
    int32_t      n_expert;     // of a layer
    int32_t      n_used;       // top-k, 0: as each layer has it
    bool         phases_known;
    bool         tokens;       // token ids
    bool         weights;      // gate weights
    uint64_t     expert_bytes; // of a layer that import_trace_bytes() was not called for, 0: not known
};

// One token in one layer.
struct import_row {
    int32_t         layer;
    int32_t         token;   // its index in the ubatch
    int32_t         n_used;
    const int32_t * experts;
    const float   * gates;   // NULL: not known
};

struct import_trace;

// `out`: a regular file, empty, which stays open; `name` is its name for people.
struct import_trace * import_trace_new  (FILE * out, const char * name);
struct import_about * import_trace_about(struct import_trace * trace);
void                  import_trace_free (struct import_trace * trace);

// What one expert of a layer takes, and whether that was told.
void import_trace_bytes    (struct import_trace * trace, int32_t layer, uint64_t expert_bytes);
bool import_trace_has_bytes(const struct import_trace * trace, int32_t layer);

// The index of the token in this ubatch that was given this key before, or else of a new one, which `token` is then.
int32_t import_trace_token (struct import_trace * trace, int64_t key, const struct expert_tracer_token * token);
int32_t import_trace_tokens(const struct import_trace * trace); // how many there are in this ubatch
void    import_trace_reject(struct import_trace * trace, int32_t token);

// False, and what is wrong in `error`: *expert is the place, from 0, of the id that is not right, or n_used.
bool import_trace_row(struct import_trace * trace, const struct import_row * row, int32_t * expert,
                      struct error * error);

// The same without taking it: its token does not matter.
bool import_trace_check(struct import_trace * trace, const struct import_row * row, int32_t * expert,
                        struct error * error);

// Ends the ubatch; nothing happens where it has no token. False, and what is wrong.
bool import_trace_ubatch(struct import_trace * trace, int32_t context, bool warmup, struct error * error);

// Whether that, or import_trace_end(), failed because the file cannot be written: the error names it then.
bool import_trace_is_lost(const struct import_trace * trace);

// A sequence lost its positions from one on.
void import_trace_cut(struct import_trace * trace, const struct routing_cut * cut);

// Ends the trace. False, and what is wrong: the file is of no use then.
bool import_trace_end(struct import_trace * trace, struct error * error);
