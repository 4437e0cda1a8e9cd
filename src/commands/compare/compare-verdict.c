// Words the verdict of `compare`: whether one hot list may serve both of two files, and whether they diverge more than
// each does from itself.

#include "commands/compare/compare-verdict.h"

#include "base/clean.h"

#include <math.h>

#define HARDLY  1.5  // times as much as noise
#define NOTHING 1e-9 // bits

//
// hot lists
//

// "English's hot quarter serves 27% of German, German's own 62%"
static char * served_text(const char * learned, const char * judged, double by_other, double by_own) {
    return memory_text("%s's hot quarter serves %.0f%% of %s, %s's own %.0f%%", learned, 100.0 * by_other, judged,
                       judged, 100.0 * by_own);
}

static char * both_served_text(const struct compare_pair * pair, const char * a, const char * b) {
    const struct compare_hot * hot  = &pair->hot[COMPARE_QUARTER];
    char                     * text = served_text(a, b, hot->a_on_b, hot->b_on_b);
    text = memory_append(text, memory_text("; "));
    text = memory_append(text, served_text(b, a, hot->b_on_a, hot->a_on_a));
    return memory_append(text, memory_text("%s", pair->has_halves ? "." : " (of what it was learned from)."));
}

static char * sharing_text(const struct compare_pair * pair, const char * a, const char * b) {
    switch (pair->sharing) {
        case COMPARE_SHARE:     return memory_text("One hot list serves both %s and %s: ", a, b);
        case COMPARE_A_FOR_B:   return memory_text("Only %s's hot list serves both, and not %s's: ", a, b);
        case COMPARE_B_FOR_A:   return memory_text("Only %s's hot list serves both, and not %s's: ", b, a);
        case COMPARE_NOT:       return memory_text("Do not share a hot list between %s and %s: ", a, b);
        case COMPARE_TOO_CLOSE: return memory_text("Whether %s and %s may share a hot list cannot be told, "
                                                   "record more: ", a, b);
        case COMPARE_UNKNOWN:   break;
    }
    return NULL;
}

static char * hot_text(const struct compare_pair * pair, const char * a, const char * b) {
    char * text = sharing_text(pair, a, b);
    return text == NULL ? memory_text("%s", "")
                        : memory_append(memory_append(text, both_served_text(pair, a, b)), memory_text(" "));
}

//
// divergence
//

// Behind what it says of hot lists, where that is known.
static char * difference_text(const struct compare_pair * pair, const char * a, const char * b) {
    const double divergence = pair->mean.divergence;
    if (isnan(divergence)) {
        return memory_text("%s and %s cannot be compared: nothing was counted in one of them.", a, b);
    }
    if (divergence < NOTHING) {
        return memory_text("They use the same experts equally often.");
    }
    if (isnan(pair->noise)) {
        return memory_text("They diverge by %.3f bits (0: not at all, 1: no expert in common); "
                           "how much each diverges from itself is not known.", divergence);
    }
    if (pair->noise < NOTHING) {
        return memory_text("They diverge by %.3f bits (0: not at all, 1: no expert in common), "
                           "and the halves of each not at all.", divergence);
    }
    if (pair->times <= 1.0) {
        return memory_text("They diverge no more than the halves of one of them do: by %.3f bits, the halves by %.3f.",
                           divergence, pair->noise);
    }
    return memory_text("They diverge %s%.1f times as much as the halves of one of them do: "
                       "by %.3f bits, the halves by %.3f.", pair->times < HARDLY ? "hardly more, " : "",
                       pair->times, divergence, pair->noise);
}

char * compare_pair_verdict(const struct compare_answer * comparison, size_t i_pair) {
    const struct compare_pair * pair = &comparison->pairs[i_pair];
    const char                * a    = comparison->names[pair->a];
    const char                * b    = comparison->names[pair->b];
    return clean_in_place(memory_append(hot_text(pair, a, b), difference_text(pair, a, b)));
}

char * compare_verdict(const struct compare_answer * comparison) {
    char * text = memory_text("%s", "");
    for (size_t i = 0; i < comparison->n_pairs; i++) {
        text = memory_append(text, memory_text("%s", i == 0 ? "" : " "));
        text = memory_append(text, compare_pair_verdict(comparison, i));
    }
    return text;
}
