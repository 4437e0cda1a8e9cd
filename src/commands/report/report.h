// What `report` knows of a FILE, from which it is told.

#pragma once

#include "analysis/evenness.h"
#include "answers/cache-answer.h"
#include "answers/routing-counts.h"
#include "tool/terminal.h"

#include <jansson.h>

#define REPORT_N_PHASES 3 // ROUTING_ALL, ROUTING_PROMPT, ROUTING_GENERATION

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
    size_t              hottest;
    double              share;       // that the hottest has
    size_t              never_used;
    struct report_reuse reuse;
};

struct report {
    struct routing_counts * counts;
    struct report_layer   * layers;
    bool                    is_known[REPORT_N_PHASES];
    struct evenness_slots   slots   [REPORT_N_PHASES]; // of all layers, where it is known
    struct report_reuse     reuse;                     // of all layers
    uint64_t                activations;
    struct cache_answer   * cache;                     // NULL: not known
    struct error            cache_error;               // why, where it is a trace
    char                  * verdict;
};

// Returns NULL where it cannot be read.
struct report * report_new (const char * path, const struct trace_filter * filter, bool per_layer, struct error * error);
void            report_free(struct report * report);

void     report_print(const struct report * report, const struct terminal * terminal, bool per_layer);
json_t * report_json (const struct report * report); // a new reference

// Slots that take this share of the activations, as a share of all.
double report_slots_share(const struct report * report, enum routing_part part, double share);

// The phase that the sentence is on: generation where there is any.
enum routing_part report_main_phase(const struct report * report);
