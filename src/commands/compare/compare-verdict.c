// Words the verdict of `compare`: whether two files differ more than each differs from itself, and what hot sets are
// worth.

#include "commands/compare/compare-verdict.h"

#include "base/clean.h"

#include <math.h>

#define HARDLY  1.5  // times as much as noise
#define NOTHING 1e-9 // bits

static char * difference_text(const struct compare_pair * pair, const char * a, const char * b) {
    const double divergence = pair->mean.divergence;
    if (isnan(divergence)) {
        return memory_text("%s and %s cannot be compared: nothing was counted in one of them.", a, b);
    }
    if (divergence < NOTHING) {
        return memory_text("%s and %s use the same experts equally often.", a, b);
    }
    if (isnan(pair->noise)) {
        return memory_text("%s and %s differ by %.3f bits (0: not at all, 1: no expert in common); "
                           "how much each differs from itself is not known.", a, b, divergence);
    }
    if (pair->noise < NOTHING) {
        return memory_text("%s and %s differ by %.3f bits (0: not at all, 1: no expert in common), "
                           "and the halves of each not at all.", a, b, divergence);
    }
    if (pair->times <= 1.0) {
        return memory_text("%s and %s differ no more than the halves of one of them do: "
                           "by %.3f bits, the halves by %.3f.", a, b, divergence, pair->noise);
    }
    return memory_text("%s and %s differ %s%.1f times as much as the halves of one of them do: "
                       "by %.3f bits, the halves by %.3f.", a, b, pair->times < HARDLY ? "hardly more, " : "",
                       pair->times, divergence, pair->noise);
}

static char * hot_text(const struct compare_hot * hot) {
    if (isnan(hot->a_on_b) || isnan(hot->b_on_b)) {
        return memory_text("%s", "");
    }
    return memory_text(" The hottest %.0f%% of the experts of the first take %.0f%% of the second's activations; "
                       "its own hottest take %.0f%%.", 100.0 * hot->share, 100.0 * hot->a_on_b, 100.0 * hot->b_on_b);
}

char * compare_verdict(const struct compare_answer * comparison) {
    char * text = memory_text("%s", "");
    for (size_t i = 0; i < comparison->n_pairs; i++) {
        const struct compare_pair * pair = &comparison->pairs[i];
        const char                * a    = routing_counts_name(comparison->files[pair->a]);
        const char                * b    = routing_counts_name(comparison->files[pair->b]);
        text = memory_append(text, memory_text("%s", i == 0 ? "" : " "));
        text = memory_append(text, memory_append(difference_text(pair, a, b), hot_text(&pair->hot[1])));
    }
    return clean_in_place(text);
}
