// What `compare` answers of its FILEs: plain values, filled once, which text, JSON and page only read.

#pragma once

#include "answers/routing-counts.h"
#include "tool/error.h"

#define COMPARE_N_HOT     3  // hot sets: 10, 25 and 50 % of the experts
#define COMPARE_N_EXPERTS 20 // that differ most

// NAN where it is not known.
struct compare_layer {
    double divergence; // in bits
    double overlap;
    double noise_a;    // divergence of the halves of a
    double noise_b;
};

// What a hot set learned on one file takes of another's activations: learned on the first half, and judged on the
// second, where there are halves. A file's own hot set is learned in the same way.
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

// Whether one hot list may serve both, by the hot quarter.
enum compare_sharing {
    COMPARE_UNKNOWN,   // nothing was counted in one of them
    COMPARE_SHARE,     // either loses less than 3 % of what its own list takes
    COMPARE_A_FOR_B,   // b does not lose by a's list, a does by b's
    COMPARE_B_FOR_A,
    COMPARE_NOT,       // either loses
    COMPARE_TOO_CLOSE, // one loses, but no more than so few tokens do by chance
};

#define COMPARE_QUARTER 1 // index of the hot quarter

struct compare_pair {
    size_t                 a; // files
    size_t                 b;
    struct compare_layer * layers;
    size_t               * by_divergence; // indices of layers, the one that differs most first
    struct compare_layer   mean;
    double                 noise;         // of the two files, whichever differs more from itself; NAN: not known
    double                 times;         // as far from each other as `noise`
    struct compare_hot     hot[COMPARE_N_HOT];
    enum compare_sharing   sharing;
    bool                   has_halves;    // both; otherwise an own list is judged on what it was learned from
    size_t                 n_experts;
    struct compare_expert  experts[COMPARE_N_EXPERTS]; // the one that differs most first
};

struct compare_answer {
    size_t                   n_files;
    struct routing_counts ** files;
    char                  ** names;  // of the files, for sentences: without folder and ending, and distinct
    size_t                   n_pairs;
    struct compare_pair    * pairs;  // the first file with each of the others
    double                 * matrix; // [n_files][n_files] mean divergence
};

// Reads each file twice at most. NULL where one cannot be read, or is not of the first one's shape.
struct compare_answer * compare_answer_new (char ** paths, size_t n_paths, const struct trace_filter * filter,
                                            struct error * error);
void                    compare_answer_free(struct compare_answer * comparison);
