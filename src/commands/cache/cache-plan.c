#include "commands/cache/cache-plan.h"

#include "analysis/cache-time.h"
#include "analysis/slot-allocation.h"
#include "tool/quantity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIB         0x1p20
#define NEAR        0.05 // shares of requests that people would call the same

//
// several sequences at once
//

bool cache_plan_concurrency(const struct cache_answer * answer, size_t n_sequences, struct cache_concurrency * row) {
    const struct trace_shape * shape   = answer->shape;
    double                   * experts = memory_new(shape->n_layers, sizeof(*experts));
    const bool                 known   = concurrency_experts(answer->concurrency, n_sequences, experts);
    double                     sum     = 0;
    double                     all     = 0;
    double                     bytes   = 0;
    for (size_t i = 0; i < shape->n_layers; i++) {
        sum   += experts[i];
        all   += (double) shape->layers[i].n_expert;
        bytes += experts[i] * (double) shape->layers[i].expert_bytes;
    }
    *row = (struct cache_concurrency) { sum / (double) shape->n_layers, sum / all, shape->bytes_known ? bytes : NAN };
    free(experts);
    return known;
}

//
// what to do with device memory
//

// What most people wait for: generation, where there is any.
static enum cache_class class_of(const struct cache_answer * answer) {
    return cache_answer_requests(answer, CACHE_GENERATION) > 0 ? CACHE_GENERATION : CACHE_PROMPT;
}

static const char * class_name(enum cache_class class) {
    return class == CACHE_GENERATION ? "generation" : "the prompt";
}

struct advice {
    const struct cache_llama * llama;      // of this budget
    double                     llama_rate;
    size_t                     n_whole;    // layers that are on the device as a whole
    int32_t                    first_whole;// the first of them: --n-cpu-moe
    double                     whole_rate;
    size_t                     equal_slots;
    double                     equal_rate;
    double                     tuned_rate;
    size_t                   * tuned_slots;// [n_layers]
    bool                     * kept;       // [n_layers] on the device as a whole, beside a cache for the others
    size_t                     n_kept;
    size_t                     kept_slots; // in each of the others
    double                     kept_rate;
};

static void advice_free(struct advice * advice) {
    free(advice->tuned_slots);
    free(advice->kept);
}

static double layer_bytes(const struct shape_layer * layer) {
    return (double) layer->n_expert * (double) layer->expert_bytes;
}

// The last layers as a whole, as --n-cpu-moe leaves them on the device.
static void advise_whole_layers(const struct cache_answer * answer, enum cache_class class, struct advice * advice) {
    const struct trace_shape * shape    = answer->shape;
    double                     left     = (double) answer->questions.vram;
    uint64_t                   requests = 0;
    size_t                     i        = shape->n_layers;
    while (i > 0 && left >= layer_bytes(&shape->layers[i - 1])) {
        i--;
        left     -= layer_bytes(&shape->layers[i]);
        requests += cache_study_layer(answer->study, CACHE_LRU, i, 0, class, CACHE_SECOND_HALF).requests;
    }
    advice->n_whole     = shape->n_layers - i;
    advice->first_whole = i < shape->n_layers ? shape->layers[i].layer : shape->layers[shape->n_layers - 1].layer + 1;
    advice->whole_rate  = (double) requests / (double) cache_answer_requests(answer, class);
}

static void advise_equal_slots(const struct cache_answer * answer, enum cache_class class, struct advice * advice) {
    double slot_bytes = 0; // of one more slot in each layer
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        slot_bytes += (double) answer->shape->layers[i].expert_bytes;
    }
    const double slots = slot_bytes > 0 ? (double) answer->questions.vram / slot_bytes : 0;
    const double most  = (double) answer->shape->n_expert;
    advice->equal_slots = (size_t) (slots < most ? slots : most);
    advice->equal_rate  = cache_answer_rate(answer, CACHE_LRU, advice->equal_slots, class);
}

// Hits of each layer's LRU cache by slots, in one half.
static uint64_t ** hit_curves(const struct cache_answer * answer, enum cache_class class, enum cache_half half) {
    const struct trace_shape * shape  = answer->shape;
    uint64_t                ** curves = memory_new(shape->n_layers, sizeof(*curves));
    for (size_t i = 0; i < shape->n_layers; i++) {
        curves[i] = memory_new((size_t) shape->layers[i].n_expert + 1, sizeof(**curves));
        for (int32_t slots = 0; slots <= shape->layers[i].n_expert; slots++) {
            curves[i][slots] = cache_study_layer(answer->study, CACHE_LRU, i, (size_t) slots, class, half).hits;
        }
    }
    return curves;
}

static void free_curves(const struct cache_answer * answer, uint64_t ** curves) {
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        free(curves[i]);
    }
    free(curves);
}

// Slots by layer, found on the first half.
static bool advise_tuned_slots(const struct cache_answer * answer, enum cache_class class, struct advice * advice) {
    const struct trace_shape * shape  = answer->shape;
    uint64_t                ** curves = hit_curves(answer, class, CACHE_FIRST_HALF);
    struct slot_layer        * layers = memory_new(shape->n_layers, sizeof(*layers));
    struct cache_hits          sum    = { 0 };
    advice->tuned_slots = memory_new(shape->n_layers, sizeof(*advice->tuned_slots));
    for (size_t i = 0; i < shape->n_layers; i++) {
        layers[i] = (struct slot_layer) { shape->layers[i].n_expert, shape->layers[i].expert_bytes, curves[i] };
    }
    const bool ok = slot_allocation(shape->n_layers, layers, answer->questions.vram, advice->tuned_slots);
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct cache_hits hits = cache_study_layer(answer->study, CACHE_LRU, i, advice->tuned_slots[i], class, CACHE_SECOND_HALF);
        sum.requests += hits.requests;
        sum.hits     += hits.hits;
    }
    advice->tuned_rate = cache_rate(sum);
    free_curves(answer, curves);
    free(layers);
    return ok;
}

//
// some layers as a whole, and a cache for the others
//

// Requests that are served if these layers are on the device and the others have as many slots each as fit beside them.
static struct cache_hits serve(const struct cache_answer * answer, enum cache_class class, enum cache_half half, const bool * kept, size_t * slots) {
    const struct trace_shape * shape = answer->shape;
    double                     left  = (double) answer->questions.vram;
    double                     slot  = 0; // bytes of one in each of the others
    for (size_t i = 0; i < shape->n_layers; i++) {
        left -= kept[i] ? layer_bytes(&shape->layers[i]) : 0;
        slot += kept[i] ? 0 : (double) shape->layers[i].expert_bytes;
    }
    const double most = slot > 0 ? left / slot : 0;
    *slots = (size_t) fmin(fmax(most, 0), (double) shape->n_expert);
    struct cache_hits sum = { 0 };
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct cache_hits hits = cache_study_layer(answer->study, CACHE_LRU, i, *slots, class, half);
        sum.requests += hits.requests;
        sum.hits     += kept[i] ? hits.requests : left < 0 ? 0 : hits.hits;
    }
    return sum;
}

// The layer that a cache serves worst, of those that are not kept and still fit; n_layers: none.
static size_t worst_layer(const struct cache_answer * answer, enum cache_class class, const bool * kept, size_t slots, double left) {
    const size_t n     = answer->shape->n_layers;
    size_t       worst = n;
    double       least = INFINITY;
    for (size_t i = 0; i < n; i++) {
        const double rate = cache_rate(cache_study_layer(answer->study, CACHE_LRU, i, slots, class, CACHE_FIRST_HALF));
        if (!kept[i] && layer_bytes(&answer->shape->layers[i]) <= left && rate < least) {
            worst = i;
            least = rate;
        }
    }
    return worst;
}

// Adds the worst layer as long as there is room, and takes the best of all these, by the first half.
static void advise_kept_layers(const struct cache_answer * answer, enum cache_class class, struct advice * advice) {
    const size_t n    = answer->shape->n_layers;
    bool       * kept = memory_new(n, sizeof(*kept));
    double       left = (double) answer->questions.vram;
    uint64_t     most = 0;
    size_t       slots;
    advice->kept = memory_new(n, sizeof(*advice->kept));
    for (size_t n_kept = 0; n_kept <= n; n_kept++) {
        const struct cache_hits hits = serve(answer, class, CACHE_FIRST_HALF, kept, &slots);
        if (hits.hits > most) {
            most           = hits.hits;
            advice->n_kept = n_kept;
            memcpy(advice->kept, kept, n * sizeof(*kept));
        }
        const size_t worst = worst_layer(answer, class, kept, advice->equal_slots, left);
        if (worst == n) {
            break;
        }
        kept[worst] = true;
        left       -= layer_bytes(&answer->shape->layers[worst]);
    }
    advice->kept_rate = cache_rate(serve(answer, class, CACHE_SECOND_HALF, advice->kept, &advice->kept_slots));
    free(kept);
}

// For llama.cpp's -ot: "blk\.(3|7)\.ffn_(gate|up|down|gate_up)_exps=CUDA0".
static char * override_of(const struct cache_answer * answer, const struct advice * advice) {
    char       * text      = memory_text("blk\\.(");
    const char * separator = "";
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        if (advice->kept[i]) {
            text      = memory_append(text, memory_text("%s%d", separator, (int) answer->shape->layers[i].layer));
            separator = "|";
        }
    }
    return memory_append(text, memory_text(")\\.ffn_(gate|up|down|gate_up)_exps=CUDA0"));
}

// What is left of the budget for llama.cpp's cache.
static uint64_t kept_cache_mib(const struct cache_answer * answer, const struct advice * advice) {
    double left = (double) answer->questions.vram;
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        left -= advice->kept[i] ? layer_bytes(&answer->shape->layers[i]) : 0;
    }
    return left > 0 ? (uint64_t) (left / MIB) : 0;
}

// False: no budget was asked for, or the trace does not know how large experts are.
static bool advise(const struct cache_answer * answer, struct advice * advice) {
    const enum cache_class class = class_of(answer);
    *advice = (struct advice) { 0 };
    if (answer->questions.vram == 0 || answer->n_llama == 0 || cache_answer_requests(answer, class) == 0) {
        return false;
    }
    advice->llama      = &answer->llama[answer->n_llama - 1];
    advice->llama_rate = cache_rate(advice->llama->hits[class][CACHE_SECOND_HALF]);
    advise_whole_layers(answer, class, advice);
    advise_equal_slots(answer, class, advice);
    advise_kept_layers(answer, class, advice);
    return advise_tuned_slots(answer, class, advice);
}

//
// the time
//

static bool knows_time(const struct cache_answer * answer) {
    return answer->questions.tg > 0 && answer->shape->bytes_known;
}

static struct cache_time time_of(const struct cache_answer * answer) {
    const struct cache_questions * questions = &answer->questions;
    return (struct cache_time) { (double) answer->shape->token_bytes, questions->tg, questions->ram, questions->pcie, questions->vram_rate };
}

//
// for the terminal
//

static void print_way(const struct cache_answer * answer, const struct terminal * terminal, const char * way, double rate, bool uploads, const char * what) {
    fprintf(terminal->out, "  %-24s", way);
    if (isfinite(rate)) {
        fprintf(terminal->out, "%6.1f%%", 100 * rate);
    } else {
        fprintf(terminal->out, "%7s", "-");
    }
    if (knows_time(answer) && isfinite(rate)) {
        const struct cache_time time = time_of(answer);
        fprintf(terminal->out, "  %7.1f t/s", uploads ? cache_time_uploading(&time, rate) : cache_time_computing(&time, rate));
    }
    fprintf(terminal->out, "  %s\n", what);
}

static void print_advice(const struct cache_answer * answer, const struct terminal * terminal, const struct advice * advice) {
    const struct trace_shape * shape = answer->shape;
    char                       size[QUANTITY_MAX];
    char                     * way;
    char                     * what;
    size_t                     n_experts = 0;
    for (size_t i = 0; i < shape->n_layers; i++) {
        n_experts += (size_t) shape->layers[i].n_expert;
    }
    fprintf(terminal->out, "\n%s of device memory for experts: requests of %s that it serves\n",
            quantity_text((double) answer->questions.vram, size), class_name(class_of(answer)));

    way  = memory_text("--moe-cache-mib %" PRIu64, advice->llama->budget >> 20);
    what = advice->llama->n_slots == 0 ? memory_text("too small for llama.cpp's cache")
                                       : memory_text("llama.cpp's cache: %zu slots, %.1f%% of the experts", advice->llama->n_slots,
                                                     100.0 * (double) advice->llama->n_slots / (double) n_experts);
    print_way(answer, terminal, way, advice->llama->n_slots == 0 ? NAN : advice->llama_rate, true, what);
    free(way);
    free(what);

    way  = memory_text("--n-cpu-moe %d", (int) advice->first_whole);
    what = memory_text("the last %zu layers with experts stay there, nothing is copied", advice->n_whole);
    print_way(answer, terminal, way, advice->whole_rate, false, what);
    free(way);
    free(what);

    what = memory_text("an LRU cache of %zu slots in each layer", advice->equal_slots);
    print_way(answer, terminal, "equal slots", advice->equal_rate, true, what);
    free(what);

    what = memory_text("as many slots in each layer as help there: %+.1f points", 100 * (advice->tuned_rate - advice->equal_rate));
    print_way(answer, terminal, "slots by layer", advice->tuned_rate, true, what);
    free(what);

    if (advice->n_kept > 0) {
        char * override = override_of(answer, advice);
        what = memory_text("the layers that a cache serves worst stay there, and %zu slots in each of the others", advice->kept_slots);
        print_way(answer, terminal, "-ot, and a cache", advice->kept_rate, advice->kept_slots > 0, what);
        fprintf(terminal->out, "    -ot '%s' -cmoe", override);
        if (advice->kept_slots > 0) {
            fprintf(terminal->out, " --moe-cache-mib %" PRIu64, kept_cache_mib(answer, advice));
        }
        fputc('\n', terminal->out);
        free(override);
        free(what);
    }
}

static void print_slots(const struct cache_answer * answer, const struct terminal * terminal, const struct advice * advice) {
    fputs("\nSlots by layer:", terminal->out);
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        fprintf(terminal->out, "%s%d:%zu", i % 10 == 0 ? "\n  " : "  ", (int) answer->shape->layers[i].layer, advice->tuned_slots[i]);
    }
    fputc('\n', terminal->out);
}

void cache_plan_print(const struct cache_answer * answer, const struct terminal * terminal) {
    struct advice advice;
    if (advise(answer, &advice)) {
        print_advice(answer, terminal, &advice);
        if (answer->questions.per_layer) {
            print_slots(answer, terminal, &advice);
        }
    }
    advice_free(&advice);
}

//
// for machines
//

static json_t * number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t * way_json(const struct cache_answer * answer, double rate, bool uploads) {
    json_t * json = json_object();
    json_object_set_new(json, "rate", number(rate));
    if (knows_time(answer) && isfinite(rate)) {
        const struct cache_time time = time_of(answer);
        json_object_set_new(json, "tokens_per_second", number(uploads ? cache_time_uploading(&time, rate) : cache_time_computing(&time, rate)));
    }
    return json;
}

// null where no layer is worth it.
static json_t * kept_json(const struct cache_answer * answer, const struct advice * advice) {
    if (advice->n_kept == 0) {
        return json_null();
    }
    json_t * json     = way_json(answer, advice->kept_rate, advice->kept_slots > 0);
    json_t * layers   = json_array();
    char   * override = override_of(answer, advice);
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        if (advice->kept[i]) {
            json_array_append_new(layers, json_integer(answer->shape->layers[i].layer));
        }
    }
    json_object_set_new(json, "layers",          layers);
    json_object_set_new(json, "override_tensor", json_string(override));
    json_object_set_new(json, "moe_cache_mib",   json_integer((json_int_t) kept_cache_mib(answer, advice)));
    json_object_set_new(json, "slots",           json_integer((json_int_t) advice->kept_slots));
    free(override);
    return json;
}

static json_t * advice_json(const struct cache_answer * answer, const struct advice * advice) {
    json_t * json  = json_object();
    json_t * llama = way_json(answer, advice->llama->n_slots == 0 ? NAN : advice->llama_rate, true);
    json_t * whole = way_json(answer, advice->whole_rate, false);
    json_t * equal = way_json(answer, advice->equal_rate, true);
    json_t * tuned = way_json(answer, advice->tuned_rate, true);
    json_t * slots = json_object();
    json_object_set_new(llama, "moe_cache_mib", json_integer((json_int_t) (advice->llama->budget >> 20)));
    json_object_set_new(llama, "slots",         json_integer((json_int_t) advice->llama->n_slots));
    json_object_set_new(whole, "n_cpu_moe",     json_integer(advice->first_whole));
    json_object_set_new(whole, "layers",        json_integer((json_int_t) advice->n_whole));
    json_object_set_new(equal, "slots",         json_integer((json_int_t) advice->equal_slots));
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", (int) answer->shape->layers[i].layer);
        json_object_set_new(slots, name, json_integer((json_int_t) advice->tuned_slots[i]));
    }
    json_object_set_new(tuned, "slots",          slots);
    json_object_set_new(json,  "bytes",          json_integer((json_int_t) answer->questions.vram));
    json_object_set_new(json,  "phase",          json_string(class_of(answer) == CACHE_GENERATION ? "generation" : "prompt"));
    json_object_set_new(json,  "llama_cpp",      llama);
    json_object_set_new(json,  "whole_layers",   whole);
    json_object_set_new(json,  "equal_slots",    equal);
    json_object_set_new(json,  "slots_by_layer", tuned);
    json_object_set_new(json,  "kept_layers",    kept_json(answer, advice));
    if (knows_time(answer)) {
        const struct cache_time time = time_of(answer);
        json_object_set_new(json, "break_even", number(cache_time_break_even(&time)));
    }
    return json;
}

json_t * cache_plan_json(const struct cache_answer * answer) {
    struct advice advice;
    json_t      * json = advise(answer, &advice) ? advice_json(answer, &advice) : json_null();
    advice_free(&advice);
    return json;
}

//
// the sentence
//

static size_t quarter(const struct cache_answer * answer) {
    const size_t slots = (size_t) lround(0.25 * (double) answer->shape->n_expert);
    return slots == 0 ? 1 : slots;
}

static const char * conclusion(double lru, double pinned, double share) {
    if (lru < share + NEAR && pinned < share + NEAR) {
        return "Neither a cache nor pinned experts are much better than chance: this routing has little to hold on to.";
    }
    if (lru > pinned + NEAR) {
        return "A cache that follows the routing is worth more than pinning the hot experts.";
    }
    if (pinned > lru + NEAR) {
        return "Pinning the hot experts is worth more than a cache that follows the routing.";
    }
    return "A cache and pinned experts do about as well; pinning copies nothing.";
}

static char * without_budget(const struct cache_answer * answer, enum cache_class class) {
    const size_t slots   = quarter(answer);
    const double share   = cache_answer_share(answer, slots);
    const double lru     = cache_answer_rate(answer, CACHE_LRU,     slots, class);
    const double pinned  = cache_answer_rate(answer, CACHE_STATIC,  slots, class);
    const double optimum = cache_answer_rate(answer, CACHE_OPTIMUM, slots, class);
    return memory_text("%s With %.0f%% of the experts on the device an LRU cache serves %.0f%% of what %s asks for, the hottest experts pinned %.0f%%, "
                       "and no cache more than %.0f%%.",
                       conclusion(lru, pinned, share), 100 * share, 100 * lru, class_name(class), 100 * pinned, 100 * optimum);
}

// Tokens a second of llama.cpp's cache, and of whole layers on the device; not known: shares of what is served.
static void worth(const struct cache_answer * answer, const struct advice * advice, double * cache, double * whole) {
    *cache = advice->llama->n_slots == 0 ? 0 : advice->llama_rate - NEAR; // it copies what it misses
    *whole = advice->whole_rate;
    if (knows_time(answer)) {
        const struct cache_time time = time_of(answer);
        *cache = advice->llama->n_slots == 0 ? 0 : cache_time_uploading(&time, advice->llama_rate);
        *whole = cache_time_computing(&time, advice->whole_rate);
    }
}

static char * cache_sentence(enum cache_class class, const struct advice * advice) {
    if (advice->llama->n_slots == 0) {
        return memory_text("It is too little for llama.cpp's cache.");
    }
    return memory_text("--moe-cache-mib %" PRIu64 " has %.0f%% of what %s asks for.", advice->llama->budget >> 20, 100 * advice->llama_rate, class_name(class));
}

static char * time_sentence(const struct cache_answer * answer, const struct advice * advice) {
    const struct cache_time time = time_of(answer);
    const double            even = cache_time_break_even(&time);
    if (!cache_time_is_possible(&time)) {
        return memory_text(" But a processor that reads %.0f GB/s cannot generate %.1f tokens a second of this model: --ram or --tg is wrong.", time.ram / 1e9, time.tg);
    }
    return memory_text(" Now %.1f tokens a second; with that cache %.1f, which breaks even at a hit rate of %.0f%%; with whole layers %.1f.", time.tg,
                       cache_time_uploading(&time, advice->llama_rate), 100 * fmin(1, fmax(0, even)), cache_time_computing(&time, advice->whole_rate));
}

static char * with_budget(const struct cache_answer * answer, enum cache_class class, const struct advice * advice) {
    char   size[QUANTITY_MAX];
    double cache;
    double whole;
    worth(answer, advice, &cache, &whole);
    char * text = memory_text("With %s for experts, %s. ", quantity_text((double) answer->questions.vram, size),
                              cache > whole ? "use llama.cpp's cache" : "rather keep whole layers on the device");
    text = memory_append(text, cache_sentence(class, advice));
    text = memory_append(text, memory_text(" Whole layers (--n-cpu-moe %d) serve %.0f%%, and copy nothing.", (int) advice->first_whole, 100 * advice->whole_rate));
    return knows_time(answer) ? memory_append(text, time_sentence(answer, advice)) : text;
}

char * cache_plan_verdict(const struct cache_answer * answer) {
    const enum cache_class class = class_of(answer);
    struct advice          advice;
    char                 * text;
    if (cache_answer_requests(answer, class) == 0) {
        return memory_text("Too few tokens to judge: record a longer trace.");
    }
    text = advise(answer, &advice) ? with_budget(answer, class, &advice) : without_budget(answer, class);
    advice_free(&advice);
    return text;
}
