// Words the verdict of `predict`: which guess finds most, and whether that beats pinning the popular experts.

#include "commands/predict/predict-verdict.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static const char * const names[PREDICT_N_METHODS] = {
    [PREDICT_BY_LAYER]      = "what was learned from the layer before",
    [PREDICT_BY_TOKEN]      = "what was learned from the token before",
    [PREDICT_BY_REPEAT]     = "repeating the last token's experts",
    [PREDICT_BY_POPULARITY] = "pinning the popular experts",
};

static char * guesses_text(const struct predict_answer * answer, size_t i_budget) {
    const size_t n = answer->n_guesses[i_budget];
    if (n > 0) {
        return memory_text("%zu %s", n, n == 1 ? "guess" : "guesses");
    }
    return i_budget == 0 ? memory_text("as many guesses") : memory_text("%g times as many", recall_factors[i_budget]);
}

static const char * phase_text(const struct predict_answer * answer) {
    static const char * const phases[] = { "In prompts, ", "In generation, " };
    return answer->phases_known ? phases[answer->main_phase] : "";
}

// "In generation, …" or "…", which begins a sentence either way.
static char * beginning(const struct predict_answer * answer, char * text) {
    if (!answer->phases_known && text[0] >= 'a' && text[0] <= 'z') {
        text[0] = (char) (text[0] - 'a' + 'A');
    }
    return memory_append(memory_text("%s", phase_text(answer)), text);
}

static double percent_of(const struct predict_contest * contest, enum predict_method method) {
    return 100.0 * contest->methods[method].share;
}

//
// as many guesses as there are experts
//

static char * other_text(const struct predict_contest * contest, enum predict_method method) {
    const struct predict_contender * its   = &contest->methods[method];
    const enum predict_method        best  = contest->best;
    const bool                       beats = contest->methods[best].against_popular == PREDICT_MORE;
    const char                     * end   = its->against_popular == PREDICT_LESS ? ", less than the popular ones"
                                           : beats && its->against_best == PREDICT_SAME ? ", no difference worth having"
                                           : "";
    return memory_text("%s %.0f%%%s", names[method], percent_of(contest, method), end);
}

// "; pinning the popular experts 22%", and all others.
static char * others_text(const struct predict_contest * contest, enum predict_method first) {
    char * text = memory_text("%s", "");
    for (int i = 0; i < PREDICT_N_METHODS; i++) {
        if (i != (int) first && !isnan(contest->methods[i].share)) {
            text = memory_append(text, memory_text("; "));
            text = memory_append(text, other_text(contest, (enum predict_method) i));
        }
    }
    return text;
}

// "finds 38% (36 to 40%) of a token's experts in a layer with 6 guesses; …"
static char * finds_text(const struct predict_answer * answer, enum predict_method method, const char * verb) {
    const struct predict_contest * contest  = &answer->contests[0];
    const struct interval        * interval = &contest->methods[method].interval;
    char * guesses = guesses_text(answer, contest->i_budget);
    char * range   = isnan(interval->low) ? memory_text("%s", "")
                   : memory_text(" (%.0f to %.0f%%)", 100.0 * interval->low, 100.0 * interval->high);
    char * text    = memory_text("%s %.0f%%%s of a token's experts in a layer with %s", verb,
                                 percent_of(contest, method), range, guesses);
    free(guesses);
    free(range);
    return memory_append(text, others_text(contest, method));
}

static char * best_text(const struct predict_answer * answer) {
    const struct predict_contest * contest = &answer->contests[0];
    const enum predict_method      best    = contest->best;
    if (answer->more_tokens > 0) {
        char * text = memory_text("Too little was recorded to tell guesses apart: record about %" PRIu64 " %s more. ",
                                  answer->more_tokens, answer->phases_known && answer->main_phase == PHASE_GENERATION
                                  ? "generated tokens" : "tokens");
        char * seen = memory_text("%s ", names[best]);
        return memory_append(text, beginning(answer, memory_append(seen, finds_text(answer, best, "found"))));
    }
    if (contest->methods[best].against_popular != PREDICT_MORE) {
        char * text = memory_text("no guess is worth more than pinning the popular experts: that ");
        return beginning(answer, memory_append(text, finds_text(answer, PREDICT_BY_POPULARITY, "finds")));
    }
    char * text = memory_text("the best guess is %s: that ", names[best]);
    return beginning(answer, memory_append(text, finds_text(answer, best, "finds")));
}

//
// more guesses
//

static char * more_text(const struct predict_answer * answer) {
    const struct predict_contest * contest = &answer->contests[PREDICT_N_CONTESTS - 1];
    const double                   popular = percent_of(contest, PREDICT_BY_POPULARITY);
    const char                   * name    = names[contest->best];
    char * guesses = guesses_text(answer, contest->i_budget);
    char * text;
    if (contest->best == PREDICT_BY_POPULARITY) {
        text = memory_text(" With %s nothing finds more than the popular experts, %.0f%%.", guesses, popular);
    } else {
        text = memory_text(" With %s %s finds %.0f%%, the popular experts %.0f%%%s.", guesses, name,
                           percent_of(contest, contest->best), popular,
                           contest->methods[contest->best].against_popular == PREDICT_SAME
                           ? ": no difference worth having" : "");
    }
    free(guesses);
    return text;
}

char * predict_verdict(const struct predict_answer * answer) {
    if (!answer->is_judged) {
        return memory_text("Too little was recorded to judge guesses by: "
                           "what is learned on one half of it is judged on the other.");
    }
    return memory_append(memory_append(best_text(answer), memory_text(".")), more_text(answer));
}
