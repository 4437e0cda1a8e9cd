#include "commands/report/report.h"

#include "analysis/counts.h"
#include "commands/cache/cache-json.h"
#include "commands/cache/cache-verdict.h"
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
                     "generation", json_value_real(reuse->generation), "prompt",        json_value_real(reuse->prompt),
                     "chance",     json_value_real(chance),            "chance_prompt", json_value_real(reuse->prompt_chance));
}

static json_t * json_activations(const struct counted_layer * layer) {
    return json_pack("{s:o, s:o, s:o}",
                     "all",        json_value_counts(layer->activations[ROUTING_ALL],        layer->n_expert),
                     "prompt",     json_value_counts(layer->activations[ROUTING_PROMPT],     layer->n_expert),
                     "generation", json_value_counts(layer->activations[ROUTING_GENERATION], layer->n_expert));
}

static json_t * json_hottest(const struct report_layer * layer) {
    if (layer->share == 0.0) {
        return json_null();
    }
    return json_pack("{s:o, s:f}", "expert", json_integer((json_int_t) layer->hottest), "share", layer->share);
}

static json_t * json_layer(const struct counted_layer * counts, const struct report_layer * layer) {
    json_t * json = json_object();
    json_object_set_new(json, "layer",             json_integer(counts->layer));
    json_object_set_new(json, "n_expert",          json_integer((json_int_t) counts->n_expert));
    json_object_set_new(json, "n_expert_used",     json_value_number(counts->n_used));
    json_object_set_new(json, "expert_bytes",      json_value_number(counts->expert_bytes));
    json_object_set_new(json, "activations",       json_activations(counts));
    json_object_set_new(json, "entropy",           json_value_real(layer->entropy));
    json_object_set_new(json, "effective_experts", json_value_real(layer->effective));
    json_object_set_new(json, "hottest",           json_hottest(layer));
    json_object_set_new(json, "never_used",        json_integer((json_int_t) layer->never_used));
    json_object_set_new(json, "neighbours",        json_reuse(&layer->reuse));
    return json;
}

static json_t * json_layers(const struct report * report) {
    json_t * array = json_array();
    for (size_t i = 0; i < report->counts->n_layers; i++) {
        json_array_append_new(array, json_layer(&report->counts->layers[i], &report->layers[i]));
    }
    return array;
}

// All layers added up, of statistics that do not tell them apart.
static json_t * json_sum(const struct report * report) {
    const struct statistics * statistics = report->counts->statistics;
    if (statistics == NULL || statistics->model.per_layer.known || statistics->model.n_expert == 0) {
        return json_null();
    }
    const struct statistics_section * all = &statistics->model;
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "activations",       json_value_counts(all->activations, all->n_expert),
                     "entropy",           json_value_real(counts_entropy(all->activations, all->n_expert)),
                     "effective_experts", json_value_real(evenness_effective(all->activations, all->n_expert)),
                     "never_used",        json_integer((json_int_t) counts_unused(all->activations, all->n_expert)));
}

static json_t * json_coverage_of(const struct report * report, enum routing_part part) {
    static const int percents[] = { 50, 80, 90, 99 };
    if (!report->is_known[part]) {
        return json_null();
    }
    const struct evenness_slots * slots = &report->slots[part];
    json_t                      * json  = json_object();
    json_t                      * curve = json_array();
    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        char key[8];
        snprintf(key, sizeof(key), "%d", percents[i]);
        json_object_set_new(json, key, json_integer((json_int_t) evenness_coverage(slots, percents[i] / 100.0)));
    }
    for (int i = 0; i <= 100; i++) {
        json_array_append_new(curve, json_real(evenness_covered(slots, i / 100.0)));
    }
    json_object_set_new(json, "slots", json_integer((json_int_t) slots->n));
    json_object_set_new(json, "curve", curve);
    return json;
}

static json_t * json_coverage(const struct report * report) {
    return json_pack("{s:o, s:o, s:o}", "all", json_coverage_of(report, ROUTING_ALL), "prompt", json_coverage_of(report, ROUTING_PROMPT),
                     "generation", json_coverage_of(report, ROUTING_GENERATION));
}

static json_t * json_verdict(const struct report * report) {
    if (report->cache == NULL) {
        return json_value_text(report->verdict);
    }
    char   * of_cache = cache_verdict(report->cache);
    json_t * json     = json_sprintf("%s %s", report->verdict, of_cache);
    free(of_cache);
    return json;
}

json_t * report_json(const struct report * report) {
    const struct routing_counts * counts = report->counts;
    json_t * root = json_object();
    json_object_set_new(root, "llama_expert_tracer_report", json_integer(1));
    json_object_set_new(root, "file",       json_value_text(routing_counts_name(counts)));
    json_object_set_new(root, "kind",       json_string(counts->trace == NULL ? "statistics" : "trace"));
    json_object_set_new(root, "model",      routing_json_model(&counts->model));
    json_object_set_new(root, "tokens",     routing_json_tokens(&counts->tokens));
    json_object_set_new(root, "layers",     json_layers(report));
    json_object_set_new(root, "sum",        json_sum(report));
    json_object_set_new(root, "coverage",   json_coverage(report));
    json_object_set_new(root, "neighbours", json_reuse(&report->reuse));
    json_object_set_new(root, "cache",      report->cache == NULL ? json_null() : cache_json(report->cache));
    json_object_set_new(root, "verdict",    json_verdict(report));
    return root;
}
