// Works out how evenly experts are used from the counts of a trace or statistics, and adds what caches would hit.

#include "answers/report-answer.h"

#include "analysis/counts.h"
#include "answers/cache-fill.h"
#include "tool/input/trace-input.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

//
// each layer
//

static double share_or_nan(uint64_t part, uint64_t all) {
    return all == 0 ? (double) NAN : (double) part / (double) all;
}

static double chance_of(const struct counted_layer * layer, enum counted_part part) {
    const uint64_t * counts = layer->activations[part];
    return counts == NULL || layer->n_used < 0 ? (double) NAN
                                               : neighbours_chance(counts, layer->n_expert, (size_t) layer->n_used);
}

static struct report_reuse reuse_of(const struct counted_layer * layer) {
    return (struct report_reuse) {
        .prompt            = share_or_nan(layer->prompt.shared,     layer->prompt.experts),
        .generation        = share_or_nan(layer->generation.shared, layer->generation.experts),
        .prompt_chance     = layer->prompt.experts     == 0 ? (double) NAN : chance_of(layer, COUNTED_PROMPT),
        .generation_chance = layer->generation.experts == 0 ? (double) NAN : chance_of(layer, COUNTED_GENERATION),
    };
}

static struct report_layer look_at_layer(const struct counted_layer * layer) {
    const uint64_t * counts  = layer->activations[COUNTED_ALL];
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
static struct report_reuse reuse_of_all(const struct report_answer * report) {
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
                const double of_layer = phase == 0 ? reuse->prompt_chance : reuse->generation_chance;
                chance[phase] += of_layer * (double) both[phase].experts;
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

// Layers of which nothing was counted are in no mean.
static struct report_layer mean_of(const struct report_answer * report) {
    struct report_layer mean       = { .reuse = report->reuse };
    double              n          = 0.0;
    double              never_used = 0.0;
    for (size_t i = 0; i < report->counts->n_layers; i++) {
        const struct report_layer * layer = &report->layers[i];
        if (layer->share > 0.0) {
            n              += 1.0;
            mean.entropy   += layer->entropy;
            mean.effective += layer->effective;
            mean.uniform   += layer->uniform;
            mean.share     += layer->share;
            never_used     += (double) layer->never_used;
        }
    }
    mean.entropy   /= n;
    mean.effective /= n;
    mean.uniform   /= n;
    mean.share     /= n;
    mean.never_used = n > 0.0 ? (size_t) lround(never_used / n) : 0;
    return mean;
}

// What was not counted comes last.
static size_t * by_evenness(const struct report_answer * report) {
    const size_t n     = report->counts->n_layers;
    size_t     * order = memory_new(n, sizeof(*order));
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && !(report->layers[i].entropy <= report->layers[order[at - 1]].entropy); at--) {
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    return order;
}

static void widen(struct report_range * range, int64_t value) {
    range->least = value < range->least ? value : range->least;
    range->most  = value > range->most  ? value : range->most;
}

static void fill_ranges(struct report_answer * report) {
    const struct report_range empty = { INT64_MAX, -1 };
    report->n_expert     = empty;
    report->n_used       = empty;
    report->expert_bytes = empty;
    for (size_t i = 0; i < report->counts->n_layers; i++) {
        const struct counted_layer * layer = &report->counts->layers[i];
        widen(&report->n_expert,     (int64_t) layer->n_expert);
        widen(&report->n_used,       layer->n_used);
        widen(&report->expert_bytes, layer->expert_bytes);
    }
}

static void fill_layers(struct report_answer * report) {
    const struct routing_counts * counts = report->counts;
    report->layers = memory_new(counts->n_layers, sizeof(*report->layers));
    for (size_t i = 0; i < counts->n_layers; i++) {
        report->layers[i] = look_at_layer(&counts->layers[i]);
    }
    report->reuse       = reuse_of_all(report);
    report->by_evenness = by_evenness(report);
    fill_ranges(report);
}

//
// all layers together
//

static void fill_sum(struct report_answer * report) {
    const struct statistics * statistics = report->counts->statistics;
    if (statistics == NULL || statistics->model.n_expert == 0) {
        return;
    }
    const struct statistics_section * all = &statistics->model;
    report->sum = (struct report_sum) {
        .is_known          = true,
        .has_layers        = all->per_layer.known,
        .n_expert          = all->n_expert,
        .activations       = all->activations,
        .total_activations = all->total_activations,
        .entropy           = counts_entropy    (all->activations, all->n_expert),
        .effective         = evenness_effective(all->activations, all->n_expert),
        .never_used        = counts_unused     (all->activations, all->n_expert),
    };
}

static size_t n_slots_of(const struct routing_counts * counts, enum counted_part part) {
    size_t n = 0;
    for (size_t i = 0; i < counts->n_layers; i++) {
        if (counts->layers[i].activations[part] == NULL) {
            return 0;
        }
        n += counts->layers[i].n_expert;
    }
    return n;
}

static const double mark_shares[REPORT_N_MARKS] = { 0.5, 0.8, 0.9, 0.99 };

static void fill_marks(struct report_coverage * coverage, const struct evenness_slots * slots) {
    for (size_t i = 0; i < REPORT_N_MARKS; i++) {
        const size_t n       = evenness_coverage(slots, mark_shares[i]);
        const int    percent = (int) lround(100.0 * mark_shares[i]);
        coverage->marks[i] = (struct report_mark) { percent, n, (double) n / (double) slots->n };
    }
    for (int i = 0; i < REPORT_N_CURVE; i++) {
        coverage->curve[i] = evenness_covered(slots, i / 100.0);
    }
}

// What uniform routing of as many tokens would come to, of layers too.
static bool fill_uniform(struct report_answer * report, enum counted_part part) {
    const struct routing_counts * counts    = report->counts;
    struct report_coverage      * coverage  = &report->coverage[part];
    struct uniform_layer        * layers    = memory_new(counts->n_layers, sizeof(*layers));
    struct uniform_range        * effective = memory_new(counts->n_layers, sizeof(*effective));
    for (size_t i = 0; i < counts->n_layers; i++) {
        const struct counted_layer * layer = &counts->layers[i];
        const uint64_t               all   = counts_sum(layer->activations[part], layer->n_expert);
        layers[i] = (struct uniform_layer) { all, layer->n_expert, layer->n_used < 1 ? 1 : (size_t) layer->n_used };
    }
    const struct uniform_study study = {
        .n_shares  = REPORT_N_MARKS,
        .shares    = mark_shares,
        .coverage  = coverage->uniform,
        .n_curve   = REPORT_N_CURVE,
        .curve     = coverage->uniform_curve,
        .effective = part == COUNTED_ALL ? effective : NULL,
    };
    const bool ok = uniform_study(layers, counts->n_layers, &study);
    for (size_t i = 0; part == COUNTED_ALL && i < counts->n_layers; i++) {
        report->layers[i].uniform = effective[i].mean;
    }
    free(layers);
    free(effective);
    return ok;
}

static bool fill_coverage(struct report_answer * report, enum counted_part part) {
    const struct routing_counts * counts   = report->counts;
    struct report_coverage      * coverage = &report->coverage[part];
    const size_t                  n        = n_slots_of(counts, part);
    uint64_t                    * all      = memory_new(n, sizeof(*all));
    size_t                        at       = 0;
    struct evenness_slots         slots    = { 0 };
    for (size_t i = 0; n > 0 && i < counts->n_layers; i++) {
        memcpy(all + at, counts->layers[i].activations[part], counts->layers[i].n_expert * sizeof(*all));
        at += counts->layers[i].n_expert;
    }
    coverage->is_known = n > 0 && counts_sum(all, n) > 0;
    coverage->n_slots  = n;
    bool ok = !coverage->is_known || evenness_slots_of(&slots, all, n);
    if (ok && coverage->is_known) {
        fill_marks(coverage, &slots);
        ok = fill_uniform(report, part);
    }
    evenness_slots_free(&slots);
    free(all);
    return ok;
}

static bool fill_phases(struct report_answer * report, struct error * error) {
    for (int part = COUNTED_ALL; part < REPORT_N_PHASES; part++) {
        if (!fill_coverage(report, (enum counted_part) part)) {
            return error_set(error, "out of memory");
        }
    }
    report->main_phase = report->coverage[COUNTED_GENERATION].is_known ? COUNTED_GENERATION
                       : report->coverage[COUNTED_PROMPT].is_known     ? COUNTED_PROMPT : COUNTED_ALL;
    return true;
}

//
// what it means
//

#define ENOUGH_OF_EACH 10.0 // activations of an expert: uniform routing uses all of them about alike then
#define ALIKE          0.8  // of the experts that take half of the work by uniform routing
#define FEW            0.4

static enum report_evenness evenness_of(const struct report_coverage * coverage, double of_each) {
    const struct uniform_range * uniform = &coverage->uniform[0];
    const double                 slots   = (double) coverage->marks[0].slots;
    const enum uniform_place     place   = uniform_place(uniform, slots, 1.0);
    if (place == UNIFORM_BELOW) {
        return slots < FEW   * uniform->mean ? REPORT_EVEN_FEW
             : slots < ALIKE * uniform->mean ? REPORT_EVEN_SOME : REPORT_EVEN_ALIKE;
    }
    return of_each < ENOUGH_OF_EACH ? REPORT_EVEN_TOO_FEW
         : place == UNIFORM_HARDLY  ? REPORT_EVEN_HARDLY : REPORT_EVEN_CHANCE;
}

// Upwards, to two digits.
static int64_t rounded(double value) {
    const double unit = value < 100.0 ? 1.0 : pow(10.0, floor(log10(value)) - 1.0);
    return (int64_t) (ceil(value / unit) * unit);
}

static void judge_evenness(struct report_answer * report) {
    const struct routing_counts  * counts   = report->counts;
    const struct report_coverage * coverage = &report->coverage[report->main_phase];
    const int64_t tokens[REPORT_N_PHASES] = { counts->tokens.all, counts->tokens.prompt, counts->tokens.generation };
    uint64_t      all = 0;
    for (size_t i = 0; coverage->is_known && i < counts->n_layers; i++) {
        all += counts_sum(counts->layers[i].activations[report->main_phase], counts->layers[i].n_expert);
    }
    const double of_each = (double) all / (double) coverage->n_slots;
    report->tokens_wanted = -1;
    if (coverage->is_known) {
        report->evenness = evenness_of(coverage, of_each);
    }
    if (coverage->is_known && tokens[report->main_phase] > 0) {
        report->tokens_wanted = rounded((double) tokens[report->main_phase] * ENOUGH_OF_EACH / of_each);
    }
}

static void judge_reuse(struct report_answer * report) {
    const struct neighbours_spread * spreads = report->counts->spreads;
    const double chances[N_TOKEN_PHASES] = { report->reuse.prompt_chance, report->reuse.generation_chance };
    for (int phase = 0; phase < N_TOKEN_PHASES; phase++) {
        report->reuse_verdicts[phase] = neighbours_judge(&spreads[phase], chances[phase]);
    }
}

//
// the whole
//

static uint64_t activations_of(const struct routing_counts * counts) {
    const bool has_sum = counts->n_layers == 0 && counts->statistics != NULL;
    uint64_t   sum     = has_sum ? counts->statistics->model.total_activations : 0;
    for (size_t i = 0; i < counts->n_layers; i++) {
        sum += counts_sum(counts->layers[i].activations[COUNTED_ALL], counts->layers[i].n_expert);
    }
    return sum;
}

static void answer_cache(struct report_answer * report, const struct trace_filter * filter) {
    const struct routing_counts * counts    = report->counts;
    const struct cache_questions  questions = cache_questions_default(filter);
    uint64_t                      lost      = 0;
    report->cache = cache_fill(counts->trace, &questions, &counts->extent, &lost, &report->cache_error);
}

static bool fill(struct report_answer * report, const struct trace_filter * filter, struct error * error) {
    const struct routing_counts * counts = report->counts;
    report->activations = activations_of(counts);
    fill_layers(report);
    fill_sum   (report);
    if (!fill_phases(report, error)) {
        return false;
    }
    report->mean = mean_of(report);
    judge_evenness(report);
    judge_reuse   (report);
    if (counts->trace != NULL && report->activations > 0) {
        answer_cache(report, filter);
    }
    return counts->trace == NULL || !trace_input_changed(counts->trace, error);
}

// Takes the counts over, NULL: there are none.
static struct report_answer * answer_of(struct routing_counts * counts, const struct trace_filter * filter,
                                        struct error * error) {
    if (counts == NULL) {
        return NULL;
    }
    struct report_answer * report = memory_new(1, sizeof(*report));
    report->counts = counts;
    if (!fill(report, filter, error)) {
        report_answer_free(report);
        return NULL;
    }
    return report;
}

struct report_answer * report_answer_new(const char * path, const struct trace_filter * filter, struct error * error) {
    return answer_of(routing_counts_load(path, filter, false, error), filter, error);
}

struct report_answer * report_answer_of(const char * name, const struct trace * trace,
                                        const struct trace_filter * filter, struct error * error) {
    return answer_of(routing_counts_of(name, trace, filter, false, error), filter, error);
}

void report_answer_free(struct report_answer * report) {
    cache_answer_free(report->cache);
    routing_counts_free(report->counts);
    free(report->layers);
    free(report->by_evenness);
    free(report);
}
