// Writes the values of a report as JSON.

#include "commands/report/report-json.h"

#include "commands/cache/cache-json.h"
#include "commands/cache/cache-verdict.h"
#include "commands/report/report-verdict.h"
#include "commands/routing-json.h"
#include "tool/json-values.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// `chance` is the generation's, a prompt's where nothing was generated.
static json_t * json_reuse(const struct report_reuse * reuse) {
    if (isnan(reuse->generation) && isnan(reuse->prompt)) {
        return json_null();
    }
    const double chance = isnan(reuse->generation) ? reuse->prompt_chance : reuse->generation_chance;
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "generation",    json_value_real(reuse->generation),
                     "prompt",        json_value_real(reuse->prompt),
                     "chance",        json_value_real(chance),
                     "chance_prompt", json_value_real(reuse->prompt_chance));
}

static json_t * json_activations(const struct counted_layer * layer) {
    return json_pack("{s:o, s:o, s:o}",
                     "all",        json_value_counts(layer->activations[COUNTED_ALL],        layer->n_expert),
                     "prompt",     json_value_counts(layer->activations[COUNTED_PROMPT],     layer->n_expert),
                     "generation", json_value_counts(layer->activations[COUNTED_GENERATION], layer->n_expert));
}

static json_t * json_hottest(const struct report_layer * layer) {
    if (layer->share == 0.0) {
        return json_null();
    }
    return json_pack("{s:o, s:f}", "expert", json_value_count(layer->hottest), "share", layer->share);
}

static json_t * json_layer(const struct counted_layer * counts, const struct report_layer * layer) {
    json_t * json = json_object();
    json_object_set_new(json, "layer",             json_integer(counts->layer));
    json_object_set_new(json, "n_expert",          json_value_count(counts->n_expert));
    json_object_set_new(json, "n_expert_used",     json_value_number(counts->n_used));
    json_object_set_new(json, "expert_bytes",      json_value_number(counts->expert_bytes));
    json_object_set_new(json, "activations",       json_activations(counts));
    json_object_set_new(json, "entropy",           json_value_real(layer->entropy));
    json_object_set_new(json, "effective_experts", json_value_real(layer->effective));
    json_object_set_new(json, "uniform_effective", json_value_real(layer->uniform));
    json_object_set_new(json, "hottest",           json_hottest(layer));
    json_object_set_new(json, "never_used",        json_value_count(layer->never_used));
    json_object_set_new(json, "neighbours",        json_reuse(&layer->reuse));
    return json;
}

static json_t * json_layers(const struct report_answer * report) {
    json_t * array = json_array();
    for (size_t i = 0; i < report->counts->n_layers; i++) {
        json_array_append_new(array, json_layer(&report->counts->layers[i], &report->layers[i]));
    }
    return array;
}

// null where layers tell more.
static json_t * json_sum(const struct report_sum * sum) {
    if (!sum->is_known || sum->has_layers) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "activations",       json_value_counts(sum->activations, sum->n_expert),
                     "entropy",           json_value_real(sum->entropy),
                     "effective_experts", json_value_real(sum->effective),
                     "never_used",        json_value_count(sum->never_used));
}

static void set_mark(json_t * json, int percent, json_t * value) {
    char key[16];
    snprintf(key, sizeof(key), "%d", percent);
    json_object_set_new(json, key, value);
}

static json_t * json_uniform(const struct report_coverage * coverage) {
    json_t * json = json_object();
    for (size_t i = 0; i < REPORT_N_MARKS; i++) {
        const struct uniform_range * range = &coverage->uniform[i];
        set_mark(json, coverage->marks[i].percent, json_pack("{s:f, s:f, s:f}", "mean", range->mean,
                                                             "low", range->low, "high", range->high));
    }
    json_object_set_new(json, "curve", json_value_reals(coverage->uniform_curve, REPORT_N_CURVE));
    return json;
}

static json_t * json_coverage_of(const struct report_coverage * coverage) {
    if (!coverage->is_known) {
        return json_null();
    }
    json_t * json = json_object();
    for (size_t i = 0; i < REPORT_N_MARKS; i++) {
        set_mark(json, coverage->marks[i].percent, json_value_count(coverage->marks[i].slots));
    }
    json_object_set_new(json, "slots",   json_value_count(coverage->n_slots));
    json_object_set_new(json, "curve",   json_value_reals(coverage->curve, REPORT_N_CURVE));
    json_object_set_new(json, "uniform", json_uniform(coverage));
    return json;
}

static json_t * json_coverage(const struct report_answer * report) {
    return json_pack("{s:o, s:o, s:o}", "all", json_coverage_of(&report->coverage[COUNTED_ALL]),
                     "prompt",     json_coverage_of(&report->coverage[COUNTED_PROMPT]),
                     "generation", json_coverage_of(&report->coverage[COUNTED_GENERATION]));
}

static json_t * json_verdict(const struct report_answer * report) {
    char * verdict = report_verdict(report);
    if (report->cache != NULL) {
        verdict = memory_append(verdict, memory_append(memory_text(" "), cache_verdict(report->cache)));
    }
    json_t * json = json_value_text(verdict);
    free(verdict);
    return json;
}

// null where no layer tells.
static json_t * json_evenness(const struct report_answer * report) {
    static const char * const names [] = { NULL, "too few", "chance", "hardly", "alike", "some", "few" };
    static const char * const phases[] = { "all", "prompt", "generation" };
    if (report->evenness == REPORT_EVEN_UNKNOWN) {
        return json_null();
    }
    return json_pack("{s:s, s:s, s:o}", "phase", phases[report->main_phase], "found", names[report->evenness],
                     "tokens_wanted", json_value_number(report->tokens_wanted));
}

static json_t * json_reuse_found(const struct report_answer * report) {
    static const char * const names[] = { "too few", "chance", "hardly", "more" };
    return json_pack("{s:s, s:s}", "generation", names[report->reuse_verdicts[PHASE_GENERATION]],
                     "prompt", names[report->reuse_verdicts[PHASE_PROMPT]]);
}

json_t * report_json(const struct report_answer * report) {
    const struct routing_counts * counts = report->counts;
    json_t * root = json_object();
    json_object_set_new(root, "llama_expert_tracer_report", json_integer(1));
    json_object_set_new(root, "file",       json_value_text(routing_counts_name(counts)));
    json_object_set_new(root, "kind",       json_string(counts->trace == NULL ? "statistics" : "trace"));
    json_object_set_new(root, "model",      routing_json_model(&counts->model));
    json_object_set_new(root, "tokens",     routing_json_tokens(&counts->tokens));
    json_object_set_new(root, "layers",     json_layers(report));
    json_object_set_new(root, "sum",        json_sum(&report->sum));
    json_object_set_new(root, "coverage",   json_coverage(report));
    json_object_set_new(root, "evenness",   json_evenness(report));
    json_object_set_new(root, "neighbours", json_reuse(&report->reuse));
    json_object_set_new(root, "reuse",      json_reuse_found(report));
    json_object_set_new(root, "cache",      report->cache == NULL ? json_null() : cache_json(report->cache));
    json_object_set_new(root, "verdict",    json_verdict(report));
    return root;
}
