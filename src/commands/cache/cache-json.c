// Writes the values of a cache answer as JSON.

#include "commands/cache/cache-json.h"

#include "commands/cache/cache-override.h"
#include "commands/cache/cache-verdict.h"
#include "commands/routing-json.h"
#include "tool/json-values.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB 0x1p20

static const char * const policy_names[CACHE_N_POLICIES] = { "static", "prompt_oracle", "lru", "lfu", "optimum" };

typedef json_t * phase_json(const struct cache_answer * answer, enum phase phase, size_t i);

// For each of the phases that people ask about, what `make` makes of it; null where nothing was judged in it.
static json_t * add_phases(json_t * into, const struct cache_answer * answer, phase_json * make, size_t i) {
    const bool generation = answer->requests[PHASE_GENERATION] > 0;
    const bool prompt     = answer->requests[PHASE_PROMPT]     > 0;
    json_object_set_new(into, "generation", generation ? make(answer, PHASE_GENERATION, i) : json_null());
    json_object_set_new(into, "prompt",     prompt     ? make(answer, PHASE_PROMPT,     i) : json_null());
    return into;
}

//
// rates
//

static json_t * rates_of_size(const struct cache_answer * answer, enum phase phase, size_t i) {
    const struct cache_answer_rates * rates = &answer->sizes[i].rates[phase];
    json_t                          * json  = json_object();
    for (enum cache_policy policy = 0; policy < CACHE_N_POLICIES; policy++) {
        json_object_set_new(json, policy_names[policy], json_value_real(rates->policies[policy]));
    }
    json_object_set_new(json, "pooled_static",  json_value_real(rates->pooled_static));
    json_object_set_new(json, "pooled_lru",     json_value_real(rates->pooled_lru));
    json_object_set_new(json, "pooled_optimum", json_value_real(rates->pooled_optimum));
    json_object_set_new(json, "llama_cpp",      json_value_real(rates->llama_cpp));
    return json;
}

static json_t * sizes_json(const struct cache_answer * answer) {
    json_t * list = json_array();
    for (size_t i = 0; i < answer->n_sizes; i++) {
        const struct cache_answer_size * size = &answer->sizes[i];
        json_t                         * json = json_object();
        json_object_set_new(json, "slots", json_value_count(size->slots));
        json_object_set_new(json, "share", json_value_real(size->share));
        json_object_set_new(json, "mib",   json_value_real(size->bytes / MIB));
        json_array_append_new(list, add_phases(json, answer, rates_of_size, i));
    }
    return list;
}

static json_t * lru_curve(const struct cache_answer * answer, enum phase phase, size_t i) {
    (void) i;
    return json_value_reals(answer->lru[phase], (size_t) answer->n_expert + 1);
}

static json_t * rates_of_layer(const struct cache_answer * answer, enum phase phase, size_t layer) {
    static const enum cache_policy policies[] = { CACHE_STATIC, CACHE_LRU, CACHE_LFU, CACHE_OPTIMUM };
    json_t * json = json_object();
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        json_t * list = json_array();
        for (size_t j = 0; j < answer->n_sizes; j++) {
            json_array_append_new(list, json_value_real(answer->layers[layer].rates[j][phase][policies[i]]));
        }
        json_object_set_new(json, policy_names[policies[i]], list);
    }
    return json;
}

static json_t * layers_json(const struct cache_answer * answer) {
    json_t * list = json_array();
    for (size_t i = 0; i < answer->n_layers; i++) {
        json_t * json = json_object();
        json_object_set_new(json, "layer", json_integer(answer->layers[i].layer));
        json_array_append_new(list, add_phases(json, answer, rates_of_layer, i));
    }
    return list;
}

//
// counts
//

static json_t * distances_json(const struct cache_answer * answer, enum phase phase, size_t i) {
    (void) i;
    const struct cache_answer_distances * distances = &answer->distances[phase];
    json_t                              * json      = json_object();
    json_object_set_new(json, "first",  json_value_count(distances->first));
    json_object_set_new(json, "counts", json_value_counts(distances->counts, (size_t) answer->n_expert));
    return json;
}

static json_t * hits_json(struct cache_hits hits) {
    json_t * json = json_object();
    json_object_set_new(json, "hits",   json_value_count(hits.hits));
    json_object_set_new(json, "misses", json_value_count(hits.requests - hits.hits));
    return json;
}

static json_t * run_json(const struct cache_answer_run * run) {
    json_t * json   = json_object();
    json_t * passed = json_object();
    json_object_set_new(passed, "found", json_value_count(run->totals.taken));
    json_object_set_new(passed, "asked", json_value_count(run->totals.asked));
    json_object_set_new(json, "mib",        json_value_count(run->mib));
    json_object_set_new(json, "slots",      json_value_count(run->n_slots));
    json_object_set_new(json, "small",      hits_json(run->totals.small));
    json_object_set_new(json, "large",      hits_json(run->totals.large));
    json_object_set_new(json, "passed_by",  passed);
    json_object_set_new(json, "generation", json_value_real(run->rates[PHASE_GENERATION]));
    json_object_set_new(json, "prompt",     json_value_real(run->rates[PHASE_PROMPT]));
    return json;
}

static json_t * runs_json(const struct cache_answer * answer) {
    json_t * list = json_array();
    for (size_t i = 0; i < answer->n_runs; i++) {
        json_array_append_new(list, run_json(&answer->runs[i]));
    }
    return list;
}

static json_t * concurrency_json(const struct cache_answer * answer) {
    json_t * list = json_array();
    for (size_t i = 0; i < answer->n_concurrency; i++) {
        const struct cache_answer_concurrency * row  = &answer->concurrency[i];
        json_t                                * json = json_object();
        json_object_set_new(json, "sequences", json_value_count(row->n_sequences));
        json_object_set_new(json, "experts",   json_value_real(row->experts_per_layer));
        json_object_set_new(json, "share",     json_value_real(row->share));
        json_object_set_new(json, "mib",       json_value_real(row->bytes / MIB));
        json_array_append_new(list, json);
    }
    return list;
}

//
// what to do with device memory
//

static json_t * way_json(const struct cache_advice * advice, const struct cache_way * way) {
    json_t * json = json_object();
    json_object_set_new(json, "rate", json_value_real(way->rate));
    if (advice->time_is_known && isfinite(way->rate)) {
        json_object_set_new(json, "tokens_per_second", json_value_real(way->tokens_per_second));
    }
    return json;
}

static json_t * llama_json(const struct cache_advice * advice) {
    json_t * json = way_json(advice, &advice->llama);
    json_object_set_new(json, "moe_cache_mib", json_value_count(advice->llama_mib));
    json_object_set_new(json, "slots",         json_value_count(advice->llama_slots));
    return json;
}

static json_t * whole_json(const struct cache_advice * advice) {
    json_t * json = way_json(advice, &advice->whole);
    json_object_set_new(json, "n_cpu_moe", json_integer(advice->first_whole));
    json_object_set_new(json, "layers",    json_value_count(advice->n_whole));
    return json;
}

static json_t * equal_json(const struct cache_advice * advice) {
    json_t * json = way_json(advice, &advice->equal);
    json_object_set_new(json, "slots", json_value_count(advice->equal_slots));
    return json;
}

static json_t * tuned_json(const struct cache_answer * answer) {
    json_t * json  = way_json(&answer->advice, &answer->advice.tuned);
    json_t * slots = json_object();
    for (size_t i = 0; i < answer->n_layers; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", (int) answer->layers[i].layer);
        json_object_set_new(slots, name, json_value_count(answer->advice.tuned_slots[i]));
    }
    json_object_set_new(json, "slots", slots);
    return json;
}

// null where no layer is worth it.
static json_t * kept_json(const struct cache_advice * advice) {
    if (advice->n_kept == 0) {
        return json_null();
    }
    json_t * json     = way_json(advice, &advice->kept);
    json_t * layers   = json_array();
    char   * override = cache_override(advice);
    for (size_t i = 0; i < advice->n_kept; i++) {
        json_array_append_new(layers, json_integer(advice->kept_layers[i]));
    }
    json_object_set_new(json, "layers",          layers);
    json_object_set_new(json, "override_tensor", json_string(override));
    json_object_set_new(json, "moe_cache_mib",   json_value_count(advice->kept_mib));
    json_object_set_new(json, "slots",           json_value_count(advice->kept_slots));
    free(override);
    return json;
}

static json_t * advice_json(const struct cache_answer * answer) {
    const struct cache_advice * advice = &answer->advice;
    if (!answer->has_advice) {
        return json_null();
    }
    const char * phase = answer->phase == PHASE_GENERATION ? "generation" : "prompt";
    json_t     * json  = json_object();
    json_object_set_new(json, "bytes",          json_value_count(advice->vram));
    json_object_set_new(json, "phase",          json_string(phase));
    json_object_set_new(json, "llama_cpp",      llama_json(advice));
    json_object_set_new(json, "whole_layers",   whole_json(advice));
    json_object_set_new(json, "equal_slots",    equal_json(advice));
    json_object_set_new(json, "slots_by_layer", tuned_json(answer));
    json_object_set_new(json, "kept_layers",    kept_json(advice));
    if (advice->time_is_known) {
        json_object_set_new(json, "break_even", json_value_real(advice->break_even));
    }
    return json;
}

//
// the whole
//

static json_t * tokens_json(const struct trace_extent * tokens) {
    json_t * json = json_object();
    json_object_set_new(json, "prompt",     json_value_count(tokens->n_prompt));
    json_object_set_new(json, "generation", json_value_count(tokens->n_generation));
    json_object_set_new(json, "warmup",     json_value_count(tokens->n_warmup));
    return json;
}

static json_t * requests_json(const struct cache_answer * answer) {
    json_t * json = json_object();
    json_object_set_new(json, "generation", json_value_count(answer->requests[PHASE_GENERATION]));
    json_object_set_new(json, "prompt",     json_value_count(answer->requests[PHASE_PROMPT]));
    return json;
}

json_t * cache_json(const struct cache_answer * answer) {
    char   * verdict = cache_verdict(answer);
    json_t * json    = json_object();
    json_object_set_new(json, "llama_expert_tracer_cache", json_integer(1));
    json_object_set_new(json, "model",       routing_json_model(&answer->model));
    json_object_set_new(json, "tokens",      tokens_json(&answer->tokens));
    json_object_set_new(json, "requests",    requests_json(answer));
    json_object_set_new(json, "max_rows",    json_integer(answer->max_rows));
    json_object_set_new(json, "half_life",   json_value_real(answer->half_life));
    json_object_set_new(json, "sizes",       sizes_json(answer));
    json_object_set_new(json, "lru",         add_phases(json_object(), answer, lru_curve, 0));
    json_object_set_new(json, "layers",      layers_json(answer));
    json_object_set_new(json, "distances",   add_phases(json_object(), answer, distances_json, 0));
    json_object_set_new(json, "llama_cpp",   runs_json(answer));
    json_object_set_new(json, "concurrency", concurrency_json(answer));
    json_object_set_new(json, "budget",      advice_json(answer));
    json_object_set_new(json, "verdict",     json_value_text(verdict));
    free(verdict);
    return json;
}
