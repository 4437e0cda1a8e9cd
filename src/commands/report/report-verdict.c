// Words the verdict of `report`: how even the use of experts is, and how much a token shares with the one before it.

#include "commands/report/report-verdict.h"

#include <math.h>

static const char * how_even(double half_in) {
    return half_in >= 0.4 ? "Experts are used almost alike"
         : half_in >= 0.2 ? "Some experts are used more than others" : "Few experts do most of the work";
}

static char * reuse_text(const struct report_answer * report) {
    const bool   generation = report->main_phase == COUNTED_GENERATION;
    const double reuse      = generation ? report->reuse.generation        : report->reuse.prompt;
    const double chance     = generation ? report->reuse.generation_chance : report->reuse.prompt_chance;
    if (isnan(reuse)) {
        return memory_text(".");
    }
    return memory_text("; a token shares %.0f%% of its experts in a layer with the token before it "
                       "(%.0f%% would be chance).", 100.0 * reuse, 100.0 * chance);
}

char * report_verdict(const struct report_answer * report) {
    static const char * const texts[REPORT_N_PHASES] = {
        "the activations", "the prompt's activations", "the generation's activations",
    };
    if (!report->coverage[COUNTED_ALL].is_known) {
        return memory_text("%s", report->activations == 0 ? "Nothing was counted." :
                           "How even the routing of layers is cannot be told: "
                           "these statistics have no counts per layer.");
    }
    const double half = report->coverage[report->main_phase].marks[0].share; // of the slots, that take half
    char       * text = memory_text("%s: %.0f%% of them take half of %s", how_even(half), 100.0 * half,
                                    texts[report->main_phase]);
    return memory_append(text, reuse_text(report));
}
