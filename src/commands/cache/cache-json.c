// Writes the values of a cache answer as JSON.

#include "commands/cache/cache-json.h"

#include "commands/cache/cache-command.h"
#include "commands/cache/cache-verdict.h"
#include "commands/routing-json.h"
#include "tool/json-values.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB 0x1p20

static const char * const column_names[CACHE_N_COLUMNS] = {
    [CACHE_STATIC]         = "static",
    [CACHE_LRU]            = "lru",
    [CACHE_LFU]            = "lfu",
    [CACHE_OPTIMUM]        = "optimum",
    [CACHE_SHARED_STATIC]  = "pooled_static",
    [CACHE_SHARED_LRU]     = "pooled_lru",
    [CACHE_SHARED_OPTIMUM] = "pooled_optimum",
    [CACHE_LLAMA]          = "llama_cpp",
    [CACHE_LAYERS]         = "whole_layers",
};

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

// [low, high], null: there is none.
static json_t * interval_json(const struct cache_value * value) {
    return isnan(value->low) || isnan(value->high) ? json_null() : json_pack("[f, f]", value->low, value->high);
}

static void add_rate(json_t * json, json_t * intervals, const char * name, const struct cache_value * value) {
    json_object_set_new(json,      name, json_value_real(value->value));
    json_object_set_new(intervals, name, interval_json(value));
}

static json_t * judged_json(const struct cache_answer * answer, enum phase phase, size_t i) {
    const struct cache_answer_rates * rates     = &answer->sizes[i].judged[phase];
    json_t                          * json      = json_object();
    json_t                          * intervals = json_object();
    for (enum cache_column column = 0; column < CACHE_N_COLUMNS; column++) {
        add_rate(json, intervals, column_names[column], &rates->columns[column]);
    }
    add_rate(json, intervals, "prompt_oracle", &rates->oracle);
    json_object_set_new(json, "intervals", intervals);
    return json;
}

static json_t * whole_run_of(const struct cache_answer * answer, size_t class, size_t i) {
    static const enum cache_column columns[] = {
        CACHE_LRU, CACHE_LFU, CACHE_SHARED_LRU, CACHE_SHARED_OPTIMUM, CACHE_LLAMA, CACHE_LAYERS,
    };
    json_t * json      = json_object();
    json_t * intervals = json_object();
    for (size_t j = 0; j < sizeof(columns) / sizeof(columns[0]); j++) {
        add_rate(json, intervals, column_names[columns[j]], &answer->sizes[i].whole[class].columns[columns[j]]);
    }
    json_object_set_new(json, "intervals", intervals);
    return json;
}

static json_t * whole_run_json(const struct cache_answer * answer, size_t i) {
    json_t * json = json_object();
    json_object_set_new(json, "all",        whole_run_of(answer, CACHE_BOTH,       i));
    json_object_set_new(json, "generation", whole_run_of(answer, PHASE_GENERATION, i));
    json_object_set_new(json, "prompt",     whole_run_of(answer, PHASE_PROMPT,     i));
    return json;
}

static json_t * way_json(const struct cache_advice * advice, const struct cache_way * way) {
    json_t * json = json_object();
    json_object_set_new(json, "rate",          json_value_real(way->rate.value));
    json_object_set_new(json, "rate_interval", interval_json(&way->rate));
    if (advice->time_is_known && isfinite(way->rate.value)) {
        json_object_set_new(json, "tokens_per_second",          json_value_real(way->tokens_per_second.value));
        json_object_set_new(json, "tokens_per_second_interval", interval_json(&way->tokens_per_second));
    }
    return json;
}

static json_t * llama_way_json(const struct cache_answer * answer, size_t i) {
    json_t * json = way_json(&answer->advice, &answer->sizes[i].llama);
    json_object_set_new(json, "slots", json_value_count(answer->sizes[i].llama_slots));
    return json;
}

static json_t * layers_way_json(const struct cache_answer * answer, size_t i) {
    json_t * json = way_json(&answer->advice, &answer->sizes[i].layers);
    json_object_set_new(json, "n_cpu_moe", json_integer(answer->sizes[i].first_whole));
    json_object_set_new(json, "layers",    json_value_count(answer->sizes[i].n_whole));
    return json;
}

static json_t * size_json(const struct cache_answer * answer, size_t i) {
    const struct cache_answer_size * size = &answer->sizes[i];
    json_t                         * json = json_object();
    json_object_set_new(json, "asked", json_boolean(size->is_asked));
    json_object_set_new(json, "slots", json_value_real(size->slots));
    json_object_set_new(json, "share", json_value_real(size->share));
    json_object_set_new(json, "mib",   json_value_real(size->bytes / MIB));
    add_phases(json, answer, judged_json, i);
    json_object_set_new(json, "whole_run", whole_run_json(answer, i));
    if (answer->advice.time_is_known) {
        json_object_set_new(json, "moe_cache",    llama_way_json (answer, i));
        json_object_set_new(json, "whole_layers", layers_way_json(answer, i));
    }
    return json;
}

static json_t * sizes_json(const struct cache_answer * answer) {
    json_t * list = json_array();
    for (size_t i = 0; i < answer->n_sizes; i++) {
        json_array_append_new(list, size_json(answer, i));
    }
    return list;
}

static json_t * lru_curve(const struct cache_answer * answer, enum phase phase, size_t i) {
    (void) i;
    return json_value_reals(answer->lru[phase], (size_t) answer->n_expert + 1);
}

static json_t * rates_of_layer(const struct cache_answer * answer, enum phase phase, size_t layer) {
    json_t * json = json_object();
    for (enum cache_column column = 0; column <= CACHE_OPTIMUM; column++) {
        json_t * list = json_array();
        for (size_t j = 0; j < answer->n_sizes; j++) {
            json_array_append_new(list, json_value_real(answer->layers[layer].rates[j][phase][column]));
        }
        json_object_set_new(json, column_names[column], list);
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

static json_t * run_json(const struct cache_answer * answer, size_t i) {
    const struct cache_answer_size * size   = &answer->sizes[i];
    json_t                         * json   = json_object();
    json_t                         * passed = json_object();
    json_object_set_new(passed, "found", json_value_count(size->totals.taken));
    json_object_set_new(passed, "asked", json_value_count(size->totals.asked));
    json_object_set_new(json, "mib",        json_value_real(size->bytes / MIB));
    json_object_set_new(json, "slots",      json_value_count(size->llama_slots));
    json_object_set_new(json, "small",      hits_json(size->totals.small));
    json_object_set_new(json, "large",      hits_json(size->totals.large));
    json_object_set_new(json, "passed_by",  passed);
    json_object_set_new(json, "generation", json_value_real(size->judged[PHASE_GENERATION].columns[CACHE_LLAMA].value));
    json_object_set_new(json, "prompt",     json_value_real(size->judged[PHASE_PROMPT].columns[CACHE_LLAMA].value));
    return json;
}

static json_t * runs_json(const struct cache_answer * answer) {
    json_t * list = json_array();
    for (size_t i = 0; answer->bytes_known && i < answer->n_sizes; i++) {
        json_array_append_new(list, run_json(answer, i));
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

static json_t * llama_json(const struct cache_answer * answer) {
    json_t * json = llama_way_json(answer, answer->row);
    json_object_set_new(json, "moe_cache_mib", json_value_count(cache_command_mib(answer)));
    return json;
}

static json_t * equal_json(const struct cache_answer * answer) {
    json_t * json = way_json(&answer->advice, &answer->advice.equal);
    json_object_set_new(json, "slots", json_value_real(answer->sizes[answer->row].slots));
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
    json_t * json     = way_json(advice, &advice->ways[CACHE_USE_KEPT]);
    json_t * layers   = json_array();
    char   * override = cache_command_override(advice);
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

static const char * phase_name(enum phase phase) {
    return phase == PHASE_GENERATION ? "generation" : "prompt";
}

static json_t * budget_json(const struct cache_answer * answer) {
    const struct cache_advice * advice = &answer->advice;
    if (!advice->is_asked) {
        return json_null();
    }
    json_t * json = json_object();
    json_object_set_new(json, "bytes",          json_value_count((uint64_t) answer->sizes[answer->row].bytes));
    json_object_set_new(json, "phase",          json_string(phase_name(answer->phase)));
    json_object_set_new(json, "llama_cpp",      llama_json(answer));
    json_object_set_new(json, "whole_layers",   layers_way_json(answer, answer->row));
    json_object_set_new(json, "equal_slots",    equal_json(answer));
    json_object_set_new(json, "slots_by_layer", tuned_json(answer));
    json_object_set_new(json, "kept_layers",    kept_json(advice));
    if (advice->time_is_known) {
        json_object_set_new(json, "break_even", json_value_real(advice->break_even));
        json_object_set_new(json, "time_share", json_value_real(advice->time_share));
    }
    return json;
}

static const char * const use_names[] = {
    [CACHE_USE_NOTHING] = "nothing",
    [CACHE_USE_LAYERS]  = "whole_layers",
    [CACHE_USE_LLAMA]   = "llama_cpp",
    [CACHE_USE_KEPT]    = "kept_layers",
    [CACHE_USE_ALL]     = "all",
};

static const char * const reason_names[] = {
    [CACHE_BECAUSE_FITS]        = "everything fits",
    [CACHE_BECAUSE_TOO_LITTLE]  = "too little memory",
    [CACHE_BECAUSE_UNKNOWN]     = "bytes are not known",
    [CACHE_BECAUSE_RECORD_MORE] = "too little recorded",
    [CACHE_BECAUSE_PROMPTS]     = "prompts alone",
    [CACHE_BECAUSE_IMPOSSIBLE]  = "ram or tg is wrong",
    [CACHE_BECAUSE_LITTLE_TIME] = "experts take little time",
    [CACHE_BECAUSE_SLOW_LINK]   = "the link is too slow",
    [CACHE_BECAUSE_SLOWER]      = "a cache is slower",
    [CACHE_BECAUSE_NO_GAIN]     = "no difference worth having",
    [CACHE_BECAUSE_FLOOR]       = "less than a token's experts",
    [CACHE_BECAUSE_CHANCE]      = "no more than chance",
    [CACHE_BECAUSE_FASTER]      = "faster",
    [CACHE_BECAUSE_LINK]        = "more is served",
};

static json_t * recommendation_json(const struct cache_answer * answer) {
    const struct cache_advice * advice  = &answer->advice;
    char                      * command = cache_verdict_command(answer);
    json_t                    * json    = json_object();
    json_object_set_new(json, "use",         command == NULL ? json_null() : json_string(use_names[advice->use]));
    json_object_set_new(json, "because",     json_string(reason_names[advice->reason]));
    json_object_set_new(json, "options",     command == NULL ? json_null() : json_string(command));
    json_object_set_new(json, "mib",         json_value_real(answer->sizes[answer->row].bytes / MIB));
    json_object_set_new(json, "more_tokens", json_value_count(advice->more_tokens));
    free(command);
    return json;
}

static json_t * units_json(const struct cache_answer * answer, enum phase phase, size_t i) {
    (void) i;
    const struct cache_answer_units * units = &answer->units[phase];
    return json_pack("{s:s, s:o}", "of", units->by_lives ? "lives" : "blocks", "n", json_value_count(units->n));
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
    json_object_set_new(json, "floor_mib",   json_value_real(answer->floor / MIB));
    json_object_set_new(json, "units",       add_phases(json_object(), answer, units_json, 0));
    json_object_set_new(json, "budget",      budget_json(answer));
    json_object_set_new(json, "recommendation", recommendation_json(answer));
    json_object_set_new(json, "verdict",     json_value_text(verdict));
    free(verdict);
    return json;
}
