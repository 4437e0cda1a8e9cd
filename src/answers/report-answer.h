// What `report` answers of a FILE: plain values, filled once, which text, JSON and page only read.

#pragma once

#include "analysis/evenness.h"
#include "analysis/uniform.h"
#include "answers/cache-answer.h"
#include "answers/routing-counts.h"

#define REPORT_N_PHASES 3   // COUNTED_ALL, COUNTED_PROMPT, COUNTED_GENERATION
#define REPORT_N_MARKS  4   // 50, 80, 90 and 99 % of the activations
#define REPORT_N_CURVE  101 // 0, 1 … 100 % of the slots

// NAN where it is not known.
struct report_reuse {
    double prompt;
    double generation;
    double prompt_chance;     // what independent draws would have
    double generation_chance;
};

struct report_layer {
    double              entropy;     // normalised, NAN: nothing was counted
    double              effective;   // likewise
    double              uniform;     // what `effective` would be by uniform routing of as many tokens
    size_t              hottest;
    double              share;       // that the hottest has
    size_t              never_used;
    struct report_reuse reuse;
};

// The fewest slots, a slot being one expert of one layer, that take so much of the activations.
struct report_mark {
    int    percent;
    size_t slots;
    double share; // of all slots
};

struct report_coverage {
    bool                 is_known;
    size_t               n_slots;
    struct report_mark   marks[REPORT_N_MARKS];
    double               curve[REPORT_N_CURVE];   // share of the activations that the hottest slots take
    struct uniform_range uniform[REPORT_N_MARKS]; // slots that take as much by uniform routing of as many tokens
    double               uniform_curve[REPORT_N_CURVE];
};

// How even the use of experts is, beside uniform routing of as many tokens.
enum report_evenness {
    REPORT_EVEN_UNKNOWN,
    REPORT_EVEN_TOO_FEW, // tokens to tell
    REPORT_EVEN_CHANCE,  // within what chance would have
    REPORT_EVEN_HARDLY,  // outside of that, and not clearly
    REPORT_EVEN_ALIKE,   // clearly less even, and not by much
    REPORT_EVEN_SOME,    // experts are used more than others
    REPORT_EVEN_FEW,     // experts do most of the work
};

// All layers of statistics added up.
struct report_sum {
    bool             is_known;
    bool             has_layers; // the statistics tell layers apart
    size_t           n_expert;
    const uint64_t * activations;       // [n_expert]
    uint64_t         total_activations;
    double           entropy;
    double           effective;
    size_t           never_used;
};

// Over the layers; -1: of some of them it is not known.
struct report_range {
    int64_t least;
    int64_t most;
};

struct report_answer {
    struct routing_counts * counts;
    struct report_layer   * layers;       // [counts->n_layers]
    struct report_layer     mean;         // of those of which something was counted
    size_t                * by_evenness;  // [counts->n_layers] indices of layers, the most even first
    struct report_range     n_expert;
    struct report_range     n_used;
    struct report_range     expert_bytes;
    struct report_sum       sum;
    struct report_coverage  coverage[REPORT_N_PHASES];
    enum counted_part       main_phase;   // generation where there is any
    enum report_evenness    evenness;     // in that phase
    int64_t                 tokens_wanted; // of that phase, to tell; -1: how many there are is not known
    struct report_reuse     reuse;        // of all layers
    enum neighbours_verdict reuse_verdicts[N_TOKEN_PHASES];
    uint64_t                activations;
    struct cache_answer   * cache;        // NULL: not known
    struct error            cache_error;  // why, where it is a trace
};

// Reads a trace twice at most. NULL where it cannot be read.
struct report_answer * report_answer_new (const char * path, const struct trace_filter * filter, struct error * error);
// The same of a trace that is open, and stays so as long as the answer. `name`: to be told to people.
struct report_answer * report_answer_of  (const char * name, const struct trace * trace,
                                          const struct trace_filter * filter, struct error * error);
void                   report_answer_free(struct report_answer * report);
