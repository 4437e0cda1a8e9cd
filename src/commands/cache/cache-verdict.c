// Words the verdict of `cache`: what to do with device memory where people asked that, and otherwise whether a cache
// helps.

#include "commands/cache/cache-verdict.h"

#include "tool/quantity.h"

#include <inttypes.h>
#include <math.h>

const char * cache_phase_name(const struct cache_answer * answer) {
    return answer->phase == PHASE_GENERATION ? "generation" : "the prompt";
}

//
// without a budget
//

static const char * const conclusions[] = {
    [CACHE_IS_CHANCE]  = ("Neither a cache nor pinned experts are much better than chance: "
                          "this routing has little to hold on to."),
    [CACHE_IS_BETTER]  = "A cache that follows the routing is worth more than pinning the hot experts.",
    [CACHE_IS_WORSE]   = "Pinning the hot experts is worth more than a cache that follows the routing.",
    [CACHE_IS_AS_GOOD] = "A cache and pinned experts do about as well; pinning copies nothing.",
};

static char * without_budget(const struct cache_answer * answer) {
    const struct cache_answer_size * size  = &answer->sizes[answer->quarter];
    const double                   * rates = size->rates[answer->phase].policies;
    return memory_text("%s With %.0f%% of the experts on the device an LRU cache serves %.0f%% of what %s asks for, "
                       "the hottest experts pinned %.0f%%, and no cache more than %.0f%%.",
                       conclusions[answer->conclusion], 100 * size->share, 100 * rates[CACHE_LRU],
                       cache_phase_name(answer), 100 * rates[CACHE_STATIC], 100 * rates[CACHE_OPTIMUM]);
}

//
// with a budget
//

static char * cache_sentence(const struct cache_answer * answer) {
    const struct cache_advice * advice = &answer->advice;
    if (advice->llama_slots == 0) {
        return memory_text("It is too little for llama.cpp's cache.");
    }
    return memory_text("--moe-cache-mib %" PRIu64 " has %.0f%% of what %s asks for.", advice->llama_mib,
                       100 * advice->llama.rate, cache_phase_name(answer));
}

static char * time_sentence(const struct cache_advice * advice) {
    if (!advice->time_is_possible) {
        return memory_text(" But a processor that reads %.0f GB/s cannot generate %.1f tokens a second of this model: "
                           "--ram or --tg is wrong.", advice->ram / 1e9, advice->tg);
    }
    return memory_text(" Now %.1f tokens a second; with that cache %.1f, which breaks even at a hit rate of %.0f%%; "
                       "with whole layers %.1f.", advice->tg, advice->llama.tokens_per_second,
                       100 * fmin(1, fmax(0, advice->break_even)), advice->whole.tokens_per_second);
}

static char * with_budget(const struct cache_answer * answer) {
    const struct cache_advice * advice = &answer->advice;
    const char                * what   = advice->prefers_cache ? "use llama.cpp's cache" :
                                         "rather keep whole layers on the device";
    char                        size[QUANTITY_MAX];
    char * text = memory_text("With %s for experts, %s. ", quantity_text((double) advice->vram, size), what);
    text = memory_append(text, cache_sentence(answer));
    text = memory_append(text, memory_text(" Whole layers (--n-cpu-moe %d) serve %.0f%%, and copy nothing.",
                                           (int) advice->first_whole, 100 * advice->whole.rate));
    return advice->time_is_known ? memory_append(text, time_sentence(advice)) : text;
}

char * cache_verdict(const struct cache_answer * answer) {
    if (answer->requests[answer->phase] == 0) {
        return memory_text("Too few tokens to judge: record a longer trace.");
    }
    return answer->has_advice ? with_budget(answer) : without_budget(answer);
}
