// What `export` writes: docs/export-formats.md.

#pragma once

#include "base/file-kind.h"
#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "tool/input/trace-lives.h"
#include "trace/read/trace-reader.h"

#include <stdio.h>

// A ubatch as the filter leaves it. It has at least one token.
struct export_ubatch {
    const struct trace_ubatch   * all;
    size_t                        n_tokens;
    const int32_t               * tokens;    // [n_tokens] indexes of those that are chosen
    const bool                  * is_chosen; // by index
    size_t                        n_layers;
    const struct trace_routing ** layers;
};

// What all chosen ubatches come to.
struct export_survey {
    uint64_t             n_tokens;
    uint64_t             n_prompt;
    struct trace_lives * lives;
    int32_t            * layers;   // [n_layers] ascending
    size_t               n_layers;
    int32_t              n_used;   // the most of any layer
    int32_t              n_expert; // likewise
};

struct trace_export {
    const struct trace_info    * info;
    const char                 * input;   // its name
    const char                 * output;  // NULL: the standard output
    bool                         force;   // whatever is there is replaced
    bool                         split;   // a file for each life of a sequence
    const struct export_survey * survey;  // NULL unless the format needs it
    FILE                       * out;     // NULL where the format has files of its own
    void                       * data;    // the format's
};

// Functions that can fail explain it in `error`. After a failure nothing but `end` is called, with `ok` false, which
// frees all.
struct export_format {
    const char   * name;
    enum file_kind kind;
    bool           needs_survey;
    bool           own_files;
    bool        (* begin) (struct trace_export * export, struct error * error);
    bool        (* ubatch)(struct trace_export * export, const struct export_ubatch * ubatch, struct error * error);
    bool        (* end)   (struct trace_export * export, bool ok, struct error * error);
};

extern const struct export_format export_npy;
extern const struct export_format export_csv;
extern const struct export_format export_jsonl;
extern const struct export_format export_moe_trace;
extern const struct export_format export_moe_cache_profile;
extern const struct export_format export_libcachesim;
extern const struct export_format export_sglang;
extern const struct export_format export_sglang_json;
extern const struct export_format export_hot_csv;
extern const struct export_format export_hot_json;
extern const struct export_format export_importance;

// The most experts that any layer of the tables uses for a token.
int32_t export_n_used(const struct trace_info * info);

// The place of a layer in the survey's list, which has it.
size_t export_layer_index(const struct export_survey * survey, int32_t layer);

// The index of the token that a row routes.
static inline int32_t export_token_of(const struct trace_routing * routing, int32_t row) {
    return routing->tokens == NULL ? row : routing->tokens[row];
}

static inline const uint16_t * export_experts_of(const struct trace_routing * routing, int32_t row) {
    return routing->experts + (size_t) row * (size_t) routing->n_used;
}

static inline const float * export_weights_of(const struct trace_routing * routing, int32_t row) {
    return routing->weights == NULL ? NULL : routing->weights + (size_t) row * (size_t) routing->n_used;
}

// Always false: the trace is not what the survey found.
bool export_changed(const struct trace_export * export, struct error * error);

void export_number(FILE * out, int64_t number);
