#include "commands/report/report.h"

#include "analysis/counts.h"
#include "tool/input/trace-input.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

//
// what is reported
//

static double share_or_nan(uint64_t part, uint64_t all) {
    return all == 0 ? (double) NAN : (double) part / (double) all;
}

static double chance_of(const struct counted_layer * layer, enum routing_part part) {
    const uint64_t * counts = layer->activations[part];
    return counts == NULL || layer->n_used < 0 ? (double) NAN : neighbours_chance(counts, layer->n_expert, (size_t) layer->n_used);
}

static struct report_reuse reuse_of(const struct counted_layer * layer) {
    return (struct report_reuse) {
        .prompt            = share_or_nan(layer->prompt.shared,     layer->prompt.experts),
        .generation        = share_or_nan(layer->generation.shared, layer->generation.experts),
        .prompt_chance     = layer->prompt.experts     == 0 ? (double) NAN : chance_of(layer, ROUTING_PROMPT),
        .generation_chance = layer->generation.experts == 0 ? (double) NAN : chance_of(layer, ROUTING_GENERATION),
    };
}

static struct report_layer look_at_layer(const struct counted_layer * layer) {
    const uint64_t * counts  = layer->activations[ROUTING_ALL];
    const size_t     hottest = evenness_hottest(counts, layer->n_expert);
    return (struct report_layer) {
        .entropy    = counts_entropy    (counts, layer->n_expert),
        .effective  = evenness_effective(counts, layer->n_expert),
        .hottest    = hottest,
        .share      = counts_share(counts[hottest], counts_sum(counts, layer->n_expert)),
        .never_used = counts_unused(counts, layer->n_expert),
        .reuse      = reuse_of(layer),
    };
}

// Of all layers: each layer's chance counts as often as its experts were compared.
static struct report_reuse reuse_of_all(const struct report * report) {
    uint64_t shared[2]  = { 0 };
    uint64_t experts[2] = { 0 };
    double   chance[2]  = { 0.0 };
    for (size_t i = 0; i < report->counts->n_layers; i++) {
        const struct counted_layer   * layer   = &report->counts->layers[i];
        const struct report_reuse    * reuse   = &report->layers[i].reuse;
        const struct neighbours_reuse  both[2] = { layer->prompt, layer->generation };
        for (int phase = 0; phase < 2; phase++) {
            shared [phase] += both[phase].shared;
            experts[phase] += both[phase].experts;
            if (both[phase].experts > 0) {
                chance[phase] += (phase == 0 ? reuse->prompt_chance : reuse->generation_chance) * (double) both[phase].experts;
            }
        }
    }
    return (struct report_reuse) {
        .prompt            = share_or_nan(shared[0], experts[0]),
        .generation        = share_or_nan(shared[1], experts[1]),
        .prompt_chance     = experts[0] == 0 ? (double) NAN : chance[0] / (double) experts[0],
        .generation_chance = experts[1] == 0 ? (double) NAN : chance[1] / (double) experts[1],
    };
}

static void collect_slots(struct report * report, enum routing_part part) {
    const struct routing_counts * counts = report->counts;
    size_t n = 0;
    for (size_t i = 0; i < counts->n_layers; i++) {
        if (counts->layers[i].activations[part] == NULL) {
            return;
        }
        n += counts->layers[i].n_expert;
    }
    uint64_t * all = memory_new(n, sizeof(*all));
    size_t     at  = 0;
    for (size_t i = 0; i < counts->n_layers; i++) {
        memcpy(all + at, counts->layers[i].activations[part], counts->layers[i].n_expert * sizeof(*all));
        at += counts->layers[i].n_expert;
    }
    report->is_known[part] = n > 0 && counts_sum(all, n) > 0;
    if (report->is_known[part] && !evenness_slots_of(&report->slots[part], all, n)) {
        error_say("out of memory");
        exit(STATUS_FAILED);
    }
    free(all);
}

double report_slots_share(const struct report * report, enum routing_part part, double share) {
    return (double) evenness_coverage(&report->slots[part], share) / (double) report->slots[part].n;
}

enum routing_part report_main_phase(const struct report * report) {
    return report->is_known[ROUTING_GENERATION] ? ROUTING_GENERATION : report->is_known[ROUTING_PROMPT] ? ROUTING_PROMPT : ROUTING_ALL;
}

//
// the sentence
//

static const char * how_even(double half_in) {
    return half_in >= 0.4 ? "Experts are used almost alike"
         : half_in >= 0.2 ? "Some experts are used more than others" : "Few experts do most of the work";
}

static char * reuse_text(const struct report * report) {
    const bool   generation = report_main_phase(report) == ROUTING_GENERATION;
    const double reuse      = generation ? report->reuse.generation        : report->reuse.prompt;
    const double chance     = generation ? report->reuse.generation_chance : report->reuse.prompt_chance;
    if (isnan(reuse)) {
        return memory_text(".");
    }
    return memory_text("; a token shares %.0f%% of its experts in a layer with the token before it (%.0f%% would be chance).",
                       100.0 * reuse, 100.0 * chance);
}

static char * verdict_of(const struct report * report) {
    static const char * const texts[] = { "the activations", "the prompt's activations", "the generation's activations" };
    if (!report->is_known[ROUTING_ALL]) {
        return memory_text("%s", report->activations == 0 ? "Nothing was counted." : "How even the routing of layers is cannot be told: "
                                 "these statistics have no counts per layer.");
    }
    const enum routing_part part = report_main_phase(report);
    const double            half = report_slots_share(report, part, 0.5);
    char * text = memory_text("%s: %.0f%% of them take half of %s", how_even(half), 100.0 * half, texts[part]);
    return memory_append(text, reuse_text(report));
}

//
// the whole
//

static void answer_cache(struct report * report, const struct trace_filter * filter, bool per_layer) {
    struct cache_questions questions = cache_questions_default(filter);
    uint64_t               lost      = 0;
    questions.per_layer = per_layer;
    report->cache = cache_answer_new(report->counts->trace, &questions, &report->counts->extent, &lost, &report->cache_error);
}

static uint64_t activations_of(const struct routing_counts * counts) {
    uint64_t sum = counts->n_layers == 0 && counts->statistics != NULL ? counts->statistics->model.total_activations : 0;
    for (size_t i = 0; i < counts->n_layers; i++) {
        sum += counts_sum(counts->layers[i].activations[ROUTING_ALL], counts->layers[i].n_expert);
    }
    return sum;
}

struct report * report_new(const char * path, const struct trace_filter * filter, bool per_layer, struct error * error) {
    struct routing_counts * counts = routing_counts_load(path, filter, false, error);
    if (counts == NULL) {
        return NULL;
    }
    struct report * report = memory_new(1, sizeof(*report));
    report->counts      = counts;
    report->activations = activations_of(counts);
    report->layers      = memory_new(counts->n_layers, sizeof(*report->layers));
    for (size_t i = 0; i < counts->n_layers; i++) {
        report->layers[i] = look_at_layer(&counts->layers[i]);
    }
    for (int part = ROUTING_ALL; part <= ROUTING_GENERATION; part++) {
        collect_slots(report, (enum routing_part) part);
    }
    report->reuse   = reuse_of_all(report);
    report->verdict = verdict_of(report);
    if (counts->trace != NULL && report->activations > 0) {
        answer_cache(report, filter, per_layer);
    }
    if (counts->trace != NULL && trace_input_changed(counts->trace, error)) {
        report_free(report);
        return NULL;
    }
    return report;
}

void report_free(struct report * report) {
    for (int part = ROUTING_ALL; part <= ROUTING_GENERATION; part++) {
        evenness_slots_free(&report->slots[part]);
    }
    cache_answer_free(report->cache);
    routing_counts_free(report->counts);
    free(report->layers);
    free(report->verdict);
    free(report);
}
