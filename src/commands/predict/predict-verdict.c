// Words the verdict of `predict`: what guessing finds, and whether that beats pinning the popular experts.

#include "commands/predict/predict-verdict.h"

#include <stdlib.h>

#define LAST (RECALL_N_BUDGETS - 1)

static char * guesses_text(const struct predict_answer * answer, size_t i_budget) {
    const size_t n = answer->n_guesses[i_budget];
    if (n > 0) {
        return memory_text("%zu %s", n, n == 1 ? "guess" : "guesses");
    }
    return i_budget == 0 ? memory_text("as many guesses") : memory_text("%g times as many", recall_factors[i_budget]);
}

static char * gain_text(const struct predict_answer * answer) {
    const double gain = answer->gains[0];
    const double more = answer->gains[LAST];
    if (!answer->is_gain) {
        return memory_text("a prefetcher would gain next to nothing over pinning the popular ones");
    }
    if (gain < 0 && more < 0) {
        return memory_text("pinning the popular ones is better than such a prefetcher");
    }
    return memory_text("a prefetcher would gain %.0f and %.0f points over pinning the popular ones",
                       100.0 * gain, 100.0 * more);
}

char * predict_verdict(const struct predict_answer * answer) {
    static const char * const steps [] = { "the next layer from this one", "the next token's experts from this one's" };
    static const char * const phases[] = { "In prompts, guessing", "In generation, guessing", "Guessing" };
    if (!answer->is_judged) {
        return memory_text("Too little was recorded to judge guesses by: "
                           "what is learned on one half of it is judged on the other.");
    }
    const struct predict_shares * shares  = &answer->targets[answer->main_step].phases[answer->main_phase];
    const double                * learned = shares->shares[PREDICT_LEARNED];
    const double                * popular = shares->shares[PREDICT_POPULAR];
    char * few     = guesses_text(answer, 0);
    char * many    = guesses_text(answer, LAST);
    char * gain    = gain_text(answer);
    char * verdict = memory_text("%s %s finds %.0f %% of %s with %s, %.0f %% with %s; "
                                 "popularity alone %.0f %% and %.0f %%: %s.",
                                 phases[answer->phases_known ? (int) answer->main_phase : N_TOKEN_PHASES],
                                 steps[answer->main_step], 100.0 * learned[0],
                                 answer->main_step == PREDICT_NEXT_LAYER ? "its experts" : "them", few,
                                 100.0 * learned[LAST], many, 100.0 * popular[0], 100.0 * popular[LAST], gain);
    free(few);
    free(many);
    free(gain);
    return verdict;
}
