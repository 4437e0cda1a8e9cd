// The counts of one file in memory, whichever format they came from.

#pragma once

#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATISTICS_UNKNOWN      (-1) // a number that the file does not tell, or tells as null
#define STATISTICS_DIFFERS      (-2) // a number that was not the same in what was added up; "" for a text
#define STATISTICS_MAX_EXPERTS  65536
#define STATISTICS_MAX_LAYERS   1024

// One number for each of some layers, in ascending order of the layer.
struct statistics_values {
    bool       known;
    size_t     n;
    uint32_t * layers;
    int64_t  * values;
};

// How often each expert of each of some layers was used, in ascending order of the layer.
struct statistics_layers {
    bool        known;
    size_t      n;
    uint32_t  * layers;
    uint64_t ** activations; // [n][n_expert of the section]
};

// The layers of the model, or those of its multi-token-prediction head.
struct statistics_section {
    int64_t                  total_tokens;
    uint64_t                 total_activations;
    size_t                   n_expert; // elements of activations: as many as stated, or up to the highest id
    uint64_t               * activations;
    struct statistics_values layer_tokens;
    struct statistics_layers per_layer;
};

struct statistics {
    char * path;         // as the user gave it
    int    complete;     // 1, 0 or STATISTICS_UNKNOWN
    char * stopped;      // why there would have been more, NULL: not told
    char * lost_reason;  // why the routing of some is not known, likewise
    int64_t lost_ubatches; // whose routing is not known
    int64_t lost_tokens;   // in them

    size_t  n_runs;
    char ** runs;        // "run/pid" of each process that is counted here

    char * engine;       // NULL, this and the following: not known, "": differs
    char * capture;
    char * name;
    char * architecture;
    char * file;

    int64_t n_layer;
    int64_t n_expert;
    int64_t n_expert_used;
    int64_t prompt_tokens;
    int64_t generation_tokens;
    int64_t warmup_tokens;

    struct statistics_values n_expert_per_layer;
    struct statistics_values n_expert_used_per_layer;

    struct statistics_section model;
    bool                      has_mtp;
    struct statistics_section mtp;
};

// With nothing known and nothing counted.
struct statistics * statistics_new (const char * path);
void                statistics_free(struct statistics * statistics); // NULL is fine

// The counts of `from` come on top of those of `to`. False, and `to` is of no use any more, where they do not fit.
bool statistics_add(struct statistics * to, const struct statistics * from, struct error * error);

// What keeps two from being of one model, a line for each difference into `error`. What one of them does not know is
// no difference. `shapes_only` looks past names: what remains cannot be added at all.
bool statistics_same_model(const struct statistics * a, const struct statistics * b, bool shapes_only,
                           struct error * error);

// The first run that both of them have counted, NULL: none.
const char * statistics_common_run(const struct statistics * a, const struct statistics * b);

// STATISTICS_UNKNOWN: none
int64_t           statistics_value (const struct statistics_values * values, uint32_t layer);
const uint64_t  * statistics_layer (const struct statistics_layers * layers, uint32_t layer); // NULL: none
// Experts of a layer: its own number where layers differ, the model's otherwise, at most those of the section.
size_t            statistics_n_expert(const struct statistics * statistics, const struct statistics_section * section,
                                      uint32_t layer);

// The number's or the counts' place, made where it is not there yet.
int64_t  * statistics_values_at(struct statistics_values * values, uint32_t layer);
uint64_t * statistics_layers_at(struct statistics_layers * layers, uint32_t layer, size_t n_expert);
