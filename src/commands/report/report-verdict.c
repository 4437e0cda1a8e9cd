// Words the verdict of `report`: how even the use of experts is, and how much a token shares with the one before it.

#include "commands/report/report-verdict.h"

#include <math.h>

static char * too_few_text(const struct report_answer * report) {
    return report->tokens_wanted < 0 ? memory_text("record several times as many")
                                     : memory_text("record about %lld", (long long) report->tokens_wanted);
}

// "12% of all experts take half of the generation's activations, where 46% would if all were used alike"
static char * half_text(const struct report_answer * report) {
    static const char * const texts[REPORT_N_PHASES] = {
        "the activations", "the prompt's activations", "the generation's activations",
    };
    const struct report_coverage * coverage = &report->coverage[report->main_phase];
    const double                   slots    = (double) coverage->n_slots;
    return memory_text("%.0f%% of all experts take half of %s, where %.0f%% would if all were used alike",
                       100.0 * coverage->marks[0].share, texts[report->main_phase],
                       100.0 * coverage->uniform[0].mean / slots);
}

static char * evenness_text(const struct report_answer * report) {
    static const char * const beginnings[] = {
        [REPORT_EVEN_UNKNOWN] = "",
        [REPORT_EVEN_TOO_FEW] = "There are too few tokens to tell how evenly experts are used",
        [REPORT_EVEN_CHANCE]  = "Experts are used as evenly as chance would make it",
        [REPORT_EVEN_HARDLY]  = "Experts are used hardly less evenly than chance would make it",
        [REPORT_EVEN_ALIKE]   = "Experts are used almost alike",
        [REPORT_EVEN_SOME]    = "Some experts are used more than others",
        [REPORT_EVEN_FEW]     = "Few experts do most of the work",
    };
    char * half = half_text(report);
    char * text = memory_text("%s: ", beginnings[report->evenness]);
    if (report->evenness == REPORT_EVEN_TOO_FEW) {
        text = memory_append(text, memory_append(too_few_text(report), memory_text("; ")));
    }
    return memory_append(text, half);
}

static char * reuse_text(const struct report_answer * report) {
    const bool       generation = report->main_phase == COUNTED_GENERATION;
    const double     reuse      = generation ? report->reuse.generation        : report->reuse.prompt;
    const double     chance     = generation ? report->reuse.generation_chance : report->reuse.prompt_chance;
    const enum phase phase      = generation ? PHASE_GENERATION : PHASE_PROMPT;
    static const char * const texts[] = {
        [NEIGHBOURS_CHANCE] = " A token shares no more of its experts in a layer with the token before it than by "
                              "chance: %.0f%%, and any two tokens share %.0f%%.",
        [NEIGHBOURS_HARDLY] = " A token shares hardly more of its experts in a layer with the token before it than by "
                              "chance: %.0f%%, and any two tokens share %.0f%%.",
        [NEIGHBOURS_MORE]   = " A token shares %.0f%% of its experts in a layer with the token before it "
                              "(%.0f%% would be chance).",
    };
    if (isnan(reuse) || report->reuse_verdicts[phase] == NEIGHBOURS_FEW) {
        return memory_text("%s", "");
    }
    return memory_text(texts[report->reuse_verdicts[phase]], 100.0 * reuse, 100.0 * chance);
}

char * report_verdict(const struct report_answer * report) {
    if (!report->coverage[COUNTED_ALL].is_known) {
        return memory_text("%s", report->activations == 0 ? "Nothing was counted." :
                           "How even the routing of layers is cannot be told: "
                           "these statistics have no counts per layer.");
    }
    return memory_append(memory_append(evenness_text(report), memory_text(".")), reuse_text(report));
}
