// What `compare` knows of its FILEs, from which it is told.

#pragma once

#include "answers/routing-counts.h"
#include "tool/error.h"
#include "tool/terminal.h"

#include <jansson.h>

#define COMPARE_N_HOT     3  // hot sets: 10, 25 and 50 % of the experts
#define COMPARE_N_EXPERTS 20 // that differ most

// NAN where it is not known.
struct compare_layer {
    double divergence; // in bits
    double overlap;
    double noise_a;    // divergence of the halves of a
    double noise_b;
};

// What a hot set learned on one file takes of another's activations: of its second half where there are halves, and a file's own hot
// set is learned on its first half.
struct compare_hot {
    double share; // of the experts of each layer
    double a_on_b;
    double b_on_b;
    double b_on_a;
    double a_on_a;
};

struct compare_expert {
    int32_t layer;
    size_t  expert;
    double  a; // share of the layer's activations
    double  b;
};

struct compare_pair {
    size_t                 a; // files
    size_t                 b;
    struct compare_layer * layers;
    struct compare_layer   mean;
    struct compare_hot     hot[COMPARE_N_HOT];
    size_t                 n_experts;
    struct compare_expert  experts[COMPARE_N_EXPERTS]; // the one that differs most first
};

struct comparison {
    size_t                   n_files;
    struct routing_counts ** files;
    size_t                   n_pairs;
    struct compare_pair    * pairs;  // the first file with each of the others
    double                 * matrix; // [n_files][n_files] mean divergence
    char                   * verdict;
};

// Returns NULL where a file cannot be read, or is not of the first one's shape.
struct comparison * comparison_new (char ** paths, size_t n_paths, const struct trace_filter * filter, struct error * error);
void                comparison_free(struct comparison * comparison);

void     comparison_print(const struct comparison * comparison, const struct terminal * terminal, bool per_layer);
json_t * comparison_json (const struct comparison * comparison); // a new reference
