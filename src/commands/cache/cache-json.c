#include "answers/cache-gathered.h"

#include "commands/cache/cache-plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIB 0x1p20

// null where it is not known.
static json_t * number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t * text(const char * value) {
    json_t * json = value == NULL ? NULL : json_string(value);
    return json == NULL ? json_null() : json;
}

static json_t * integer(uint64_t value) {
    return json_integer((json_int_t) value);
}

static json_t * model(const struct trace_info * info) {
    json_t * json = json_object();
    json_object_set_new(json, "name",         text(info->model_name));
    json_object_set_new(json, "architecture", text(info->architecture));
    json_object_set_new(json, "file",         text(info->model_file));
    json_object_set_new(json, "engine",       text(info->engine));
    return json;
}

static json_t * tokens(const struct trace_extent * extent) {
    json_t * json = json_object();
    json_object_set_new(json, "prompt",     integer(extent->n_prompt));
    json_object_set_new(json, "generation", integer(extent->n_generation));
    json_object_set_new(json, "warmup",     integer(extent->n_warmup));
    return json;
}

static const char * const policy_names[CACHE_N_POLICIES] = { "static", "prompt_oracle", "lru", "lfu", "optimum" };
static const char * const class_names [CACHE_N_CLASSES]  = { "prompt", "generation", "warmup" };

// For each of the phases that people ask about, what `make` makes of it; null where nothing was judged in it.
static json_t * by_class(const struct cache_answer * answer, json_t * (* make)(const struct cache_answer *, enum cache_class, size_t), size_t i, json_t * into) {
    static const enum cache_class classes[] = { CACHE_GENERATION, CACHE_PROMPT };
    for (size_t j = 0; j < sizeof(classes) / sizeof(classes[0]); j++) {
        const bool known = cache_answer_requests(answer, classes[j]) > 0;
        json_object_set_new(into, class_names[classes[j]], known ? make(answer, classes[j], i) : json_null());
    }
    return into;
}

static json_t * rates_of_size(const struct cache_answer * answer, enum cache_class class, size_t i) {
    const size_t slots = answer->sizes[i];
    json_t     * json  = json_object();
    for (enum cache_policy policy = 0; policy < CACHE_N_POLICIES; policy++) {
        const bool asked = policy != CACHE_PROMPT_ORACLE || class == CACHE_GENERATION;
        json_object_set_new(json, policy_names[policy], number(asked ? cache_answer_rate(answer, policy, slots, class) : NAN));
    }
    json_object_set_new(json, "pooled_static",  number(cache_answer_pooled(answer, CACHE_STATIC,  slots, class)));
    json_object_set_new(json, "pooled_lru",     number(cache_answer_pooled(answer, CACHE_LRU,     slots, class)));
    json_object_set_new(json, "pooled_optimum", number(cache_answer_pooled(answer, CACHE_OPTIMUM, slots, class)));
    json_object_set_new(json, "llama_cpp",      number(i < answer->n_llama ? cache_rate(answer->llama[i].hits[class][CACHE_SECOND_HALF]) : NAN));
    return json;
}

static json_t * sizes(const struct cache_answer * answer) {
    json_t * list = json_array();
    for (size_t i = 0; i < answer->n_sizes; i++) {
        const double share = cache_answer_share(answer, answer->sizes[i]);
        json_t     * json  = json_object();
        json_object_set_new(json, "slots", integer(answer->sizes[i]));
        json_object_set_new(json, "share", number(share));
        json_object_set_new(json, "mib",   number(answer->shape->bytes_known ? share * (double) answer->shape->all_bytes / MIB : NAN));
        json_array_append_new(list, by_class(answer, rates_of_size, i, json));
    }
    return list;
}

static json_t * lru_curve(const struct cache_answer * answer, enum cache_class class, size_t i) {
    (void) i;
    json_t * list = json_array();
    for (int32_t slots = 0; slots <= answer->shape->n_expert; slots++) {
        json_array_append_new(list, number(cache_answer_rate(answer, CACHE_LRU, (size_t) slots, class)));
    }
    return list;
}

static json_t * rates_of_layer(const struct cache_answer * answer, enum cache_class class, size_t layer) {
    static const enum cache_policy policies[] = { CACHE_STATIC, CACHE_LRU, CACHE_LFU, CACHE_OPTIMUM };
    json_t * json = json_object();
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        json_t * list = json_array();
        for (size_t j = 0; j < answer->n_sizes; j++) {
            json_array_append_new(list, number(cache_rate(cache_study_layer(answer->study, policies[i], layer, answer->sizes[j], class, CACHE_SECOND_HALF))));
        }
        json_object_set_new(json, policy_names[policies[i]], list);
    }
    return json;
}

static json_t * layers(const struct cache_answer * answer) {
    json_t * list = json_array();
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        json_t * json = json_object();
        json_object_set_new(json, "layer", json_integer(answer->shape->layers[i].layer));
        json_array_append_new(list, by_class(answer, rates_of_layer, i, json));
    }
    return list;
}

// Of all layers together, in the whole trace.
static json_t * distances(const struct cache_answer * answer, enum cache_class class, size_t unused) {
    (void) unused;
    const size_t n      = (size_t) answer->shape->n_expert;
    uint64_t   * counts = memory_new(n, sizeof(*counts));
    uint64_t   * sum    = memory_new(n, sizeof(*sum));
    uint64_t     first  = 0;
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        for (enum cache_half half = 0; half < CACHE_N_HALVES; half++) {
            first += cache_study_distances(answer->study, i, class, half, counts);
            for (int32_t j = 0; j < answer->shape->layers[i].n_expert; j++) {
                sum[j] += counts[j];
            }
        }
    }
    json_t * list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, integer(sum[i]));
    }
    json_t * json = json_object();
    json_object_set_new(json, "first",  integer(first));
    json_object_set_new(json, "counts", list);
    free(counts);
    free(sum);
    return json;
}

static json_t * hits_and_misses(struct cache_hits hits) {
    json_t * json = json_object();
    json_object_set_new(json, "hits",   integer(hits.hits));
    json_object_set_new(json, "misses", integer(hits.requests - hits.hits));
    return json;
}

static json_t * llama(const struct cache_answer * answer) {
    json_t * list = json_array();
    for (size_t i = 0; i < answer->n_llama; i++) {
        const struct cache_llama * run    = &answer->llama[i];
        json_t                   * json   = json_object();
        json_t                   * passed = json_object();
        json_object_set_new(passed, "found", integer(run->totals.taken));
        json_object_set_new(passed, "asked", integer(run->totals.asked));
        json_object_set_new(json, "mib",        integer(run->budget >> 20));
        json_object_set_new(json, "slots",      integer(run->n_slots));
        json_object_set_new(json, "small",      hits_and_misses(run->totals.small));
        json_object_set_new(json, "large",      hits_and_misses(run->totals.large));
        json_object_set_new(json, "passed_by",  passed);
        json_object_set_new(json, "generation", number(cache_rate(run->hits[CACHE_GENERATION][CACHE_SECOND_HALF])));
        json_object_set_new(json, "prompt",     number(cache_rate(run->hits[CACHE_PROMPT]    [CACHE_SECOND_HALF])));
        json_array_append_new(list, json);
    }
    return list;
}

static json_t * concurrency(const struct cache_answer * answer) {
    json_t                 * list = json_array();
    struct cache_concurrency row;
    for (size_t n = 1; n <= CONCURRENCY_MOST && cache_plan_concurrency(answer, n, &row); n *= 2) {
        json_t * json = json_object();
        json_object_set_new(json, "sequences", integer(n));
        json_object_set_new(json, "experts",   number(row.experts_per_layer));
        json_object_set_new(json, "share",     number(row.share));
        json_object_set_new(json, "mib",       number(row.bytes / MIB));
        json_array_append_new(list, json);
    }
    return list;
}

json_t * cache_answer_json(const struct cache_answer * answer) {
    json_t * json     = json_object();
    json_t * requests = json_object();
    json_object_set_new(requests, "generation", integer(cache_answer_requests(answer, CACHE_GENERATION)));
    json_object_set_new(requests, "prompt",     integer(cache_answer_requests(answer, CACHE_PROMPT)));

    json_object_set_new(json, "llama_expert_tracer_cache", json_integer(1));
    json_object_set_new(json, "model",       model(answer->info));
    json_object_set_new(json, "tokens",      tokens(&answer->extent));
    json_object_set_new(json, "requests",    requests);
    json_object_set_new(json, "max_rows",    json_integer(answer->questions.max_rows));
    json_object_set_new(json, "half_life",   number(answer->questions.half_life));
    json_object_set_new(json, "sizes",       sizes(answer));
    json_object_set_new(json, "lru",         by_class(answer, lru_curve, 0, json_object()));
    json_object_set_new(json, "layers",      layers(answer));
    json_object_set_new(json, "distances",   by_class(answer, distances, 0, json_object()));
    json_object_set_new(json, "llama_cpp",   llama(answer));
    json_object_set_new(json, "concurrency", concurrency(answer));
    json_object_set_new(json, "budget",      cache_plan_json(answer));
    json_object_set_new(json, "verdict",     text(answer->verdict));
    return json;
}
