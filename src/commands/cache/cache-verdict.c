// Words the verdict of `cache`: what to do with device memory, how sure that is, and where a trace does not tell.

#include "commands/cache/cache-verdict.h"

#include "analysis/resample.h"
#include "commands/cache/cache-command.h"
#include "tool/error.h"
#include "tool/quantity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define NEAR_FLOOR 1.5 // so many times as much as the floor, and less, is near it

const char * cache_phase_name(const struct cache_answer * answer) {
    return answer->phase == PHASE_GENERATION ? "generation" : "the prompt";
}

// Nobody knows how sure it is, or it is as sure as the digits that are printed.
static bool is_exact(const struct cache_value * value, double digit) {
    return isnan(value->low) || isnan(value->high) || value->high - value->low < digit / 2;
}

char * cache_verdict_share(const struct cache_value * share) {
    return isnan(share->value)    ? memory_text("-")
         : is_exact(share, 0.001) ? memory_text("%.1f%%", 100 * share->value)
         : memory_text("%.1f%% (%.1f-%.1f%%)", 100 * share->value, 100 * share->low, 100 * share->high);
}

char * cache_verdict_tokens(const struct cache_value * tokens) {
    return is_exact(tokens, 0.1) ? memory_text("%.1f", tokens->value)
         : memory_text("%.1f (%.1f-%.1f)", tokens->value, tokens->low, tokens->high);
}

//
// parts of sentences
//

static char * size_text(const struct cache_answer * answer) {
    char size[QUANTITY_MAX];
    return memory_text("%s", quantity_text(answer->sizes[answer->row].bytes, size));
}

// "the last 3 layers": of those that have experts.
static char * layers_text(const struct cache_answer * answer) {
    const size_t n = answer->sizes[answer->row].n_whole;
    return n == 1 ? memory_text("the last layer") : memory_text("the last %zu layers", n);
}

// "--moe-cache-mib 4"
static char * use_text(const struct cache_answer * answer, enum cache_use use) {
    switch (use) {
        case CACHE_USE_LAYERS:
            return memory_text("--n-cpu-moe %d", (int) answer->sizes[answer->row].first_whole);
        case CACHE_USE_LLAMA:
            return memory_text("--moe-cache-mib %" PRIu64, cache_command_mib(answer));
        case CACHE_USE_KEPT:
            return memory_text("-ot beside a cache");
        default:
            return memory_text("nothing");
    }
}

// "--moe-cache-mib 4 has 84.1% (83.0-85.2%) of what generation asks for, --n-cpu-moe 5 has 37.5%."
static char * rates_text(const struct cache_answer * answer) {
    char * text = memory_text("%s", "");
    for (enum cache_use use = CACHE_USE_LLAMA; use >= CACHE_USE_LAYERS; use--) {
        const struct cache_value * rate = &answer->advice.ways[use].rate;
        if (isfinite(rate->value) && (use != CACHE_USE_LAYERS || rate->value > 0)) {
            const bool is_first = text[0] == '\0';
            text = memory_append(text, memory_text("%s", is_first ? "" : ", "));
            text = memory_append(text, use_text(answer, use));
            text = memory_append(text, memory_append(memory_text(" has "), cache_verdict_share(rate)));
            text = memory_append(text, is_first ? memory_text(" of what %s asks for", cache_phase_name(answer))
                                                : memory_text("%s", ""));
        }
    }
    if (text[0] == '\0') {
        const struct cache_value * shared = &answer->sizes[answer->row].judged[answer->phase].columns[CACHE_SHARED_LRU];
        text = memory_append(text, memory_text("a list of %.0f%% of the experts that all layers share has ",
                                               100 * answer->sizes[answer->row].share));
        text = memory_append(text, cache_verdict_share(shared));
        text = memory_append(text, memory_text(" of what %s asks for", cache_phase_name(answer)));
    }
    return memory_append(text, memory_text("."));
}

// "20.3 (20.1-20.4) tokens a second, 18.0 now"
static char * tokens_text(const struct cache_answer * answer, enum cache_use use) {
    char * text = cache_verdict_tokens(&answer->advice.ways[use].tokens_per_second);
    return memory_append(text, memory_text(" tokens a second, %.1f now", answer->advice.tg));
}

static char * joined(char * text, char * more) {
    return memory_append(text, more);
}

//
// too little to go by
//

static char * more_text(const struct cache_answer * answer) {
    return memory_text("record about %" PRIu64 " generated tokens more", answer->advice.more_tokens);
}

static char * record_more(const struct cache_answer * answer) {
    const struct cache_answer_units * units = &answer->units[answer->phase];
    char * text = memory_text("No verdict yet: what was generated in the half that is judged comes to %zu block%s of "
                              "%d tokens, and a verdict takes %d: ", units->n, units->n == 1 ? "" : "s", RESAMPLE_BLOCK,
                              RESAMPLE_LEAST);
    text = joined(text, more_text(answer));
    text = joined(text, memory_text(". In this trace "));
    return joined(text, rates_text(answer));
}

static char * of_prompts(const struct cache_answer * answer) {
    char * text = memory_text("No verdict: there is hardly any generation in this trace, which is what experts on the "
                              "device are for; ");
    text = joined(text, more_text(answer));
    return answer->requests[PHASE_PROMPT] == 0 ? joined(text, memory_text("."))
        : joined(joined(text, memory_text(". In this trace ")), rates_text(answer));
}

//
// of shares
//

static char * of_shares(const struct cache_answer * answer) {
    static const char * const beginnings[] = {
        [CACHE_SHARES_ARE_CHANCE] = "Neither a cache nor pinned experts serve more than their share of the experts",
        [CACHE_SHARES_ARE_BETTER] = "A cache that follows the routing serves more than pinned experts",
        [CACHE_SHARES_ARE_WORSE]  = "Pinned experts serve more than a cache that follows the routing",
        [CACHE_SHARES_ARE_ALIKE]  = "Between a cache and pinned experts there is no difference worth having",
    };
    const struct cache_answer_size * size   = &answer->sizes[answer->row];
    const struct cache_value       * rates  = size->judged[answer->phase].columns;
    const struct cache_value       * shared = &rates[CACHE_SHARED_LRU];
    const struct cache_value       * pinned = &rates[CACHE_SHARED_STATIC];
    char * text = memory_text("%s: with %.0f%% of the experts on the device a shared LRU list serves ",
                              beginnings[answer->advice.shares], 100 * size->share);
    text = joined(text, cache_verdict_share(shared));
    text = joined(text, memory_text(" of what %s asks for, the hottest pinned ", cache_phase_name(answer)));
    text = joined(text, cache_verdict_share(pinned));
    return joined(text, memory_text(". The bytes of experts are not known here, so no options can be named."));
}

static char * of_link(const struct cache_answer * answer) {
    const struct cache_advice * advice = &answer->advice;
    char                      * text   = memory_text("%s", "");
    if (advice->use == CACHE_USE_LLAMA) {
        text = joined(text, joined(memory_text("Use llama.cpp's expert cache: "), rates_text(answer)));
    } else if (advice->use == CACHE_USE_LAYERS) {
        text = joined(joined(text, memory_text("Keep the experts of ")), layers_text(answer));
        text = joined(text, joined(memory_text(" on the device, which copies nothing: "), rates_text(answer)));
    } else {
        text = joined(text, joined(memory_text("Leave the experts in memory: "), rates_text(answer)));
    }
    const struct cache_value * link = &advice->link_share;
    return joined(text, memory_text(" The cache copies what it misses: it is the faster one where the link has %.0f%% "
                                    "(%.0f-%.0f%%) of the memory's speed or more; --pcie, --ram and --tg tell by how "
                                    "much.", 100 * link->value, 100 * link->low, 100 * link->high));
}

// What is left to do where a cache serves nothing worth it.
static char * rather_layers(const struct cache_answer * answer) {
    char * text = memory_text("%s", "");
    if (answer->advice.use == CACHE_USE_LAYERS) {
        text = joined(joined(text, memory_text("Rather keep the experts of ")), layers_text(answer));
        text = joined(text, memory_text(" on the device, which copies nothing: "));
    }
    return joined(text, rates_text(answer));
}

static char * of_floor(const struct cache_answer * answer) {
    char   floor[QUANTITY_MAX];
    char * size = size_text(answer);
    char * text = memory_text("%s is too little for a list that all layers share: one token's experts take %s, and "
                              "have dropped each other before the next token comes. ", size,
                              quantity_text(answer->floor, floor));
    free(size);
    return joined(text, rather_layers(answer));
}

static char * of_chance(const struct cache_answer * answer) {
    const struct cache_answer_size * size = &answer->sizes[answer->row];
    char * text = memory_text("A cache is of no use here: with %.1f%% of the experts it serves no more than that, "
                              "which is chance. ",
                              100 * (double) size->llama_slots / (double) answer->all_experts);
    return joined(text, rather_layers(answer));
}

//
// of time
//

// What is left to do where a cache is not.
static char * without_cache(const struct cache_answer * answer) {
    if (answer->advice.use == CACHE_USE_LAYERS) {
        char * text = joined(memory_text(" Keep the experts of "), layers_text(answer));
        return joined(joined(text, memory_text(" on the device instead: ")),
                      joined(tokens_text(answer, CACHE_USE_LAYERS), memory_text(".")));
    }
    char * text = memory_text(" Leave the experts in memory");
    if (answer->sizes[answer->row].n_whole == 0) {
        return joined(text, memory_text("."));
    }
    text = joined(text, memory_text(": whole layers make no difference worth having ("));
    return joined(joined(text, tokens_text(answer, CACHE_USE_LAYERS)), memory_text(")."));
}

static char * of_slow_link(const struct cache_answer * answer) {
    const struct cache_answer_size * size = &answer->sizes[answer->row];
    char * bytes = size_text(answer);
    char * text  = memory_text("Do not use a cache: over a link of %.1f GB/s it breaks even at a hit rate of %.1f%%, "
                               "and the best that there could be of %s has %.1f%%.", answer->advice.pcie / 1e9,
                               100 * answer->advice.break_even, bytes,
                               100 * size->judged[answer->phase].columns[CACHE_SHARED_OPTIMUM].value);
    free(bytes);
    return joined(text, without_cache(answer));
}

static char * of_slower(const struct cache_answer * answer) {
    const struct cache_advice * advice = &answer->advice;
    char * text = joined(memory_text("Do not use llama.cpp's cache, it would be slower: "),
                         tokens_text(answer, CACHE_USE_LLAMA));
    text = joined(text, memory_text(". It breaks even at a hit rate of %.1f%%, and has ", 100 * advice->break_even));
    text = joined(text, joined(cache_verdict_share(&advice->ways[CACHE_USE_LLAMA].rate), memory_text(".")));
    return joined(text, without_cache(answer));
}

// What the best use would be, where it is not the one.
static char * best_text(const struct cache_answer * answer) {
    const struct cache_advice * advice = &answer->advice;
    if (advice->best == advice->use) {
        return memory_text("%s", "");
    }
    char * text = joined(memory_text(" "), use_text(answer, advice->best));
    text = joined(text, memory_text(advice->more_tokens > 0 ? " may be better" : " makes no difference worth having"));
    text = joined(text, memory_text(" ("));
    text = joined(text, cache_verdict_tokens(&advice->ways[advice->best].tokens_per_second));
    text = joined(text, memory_text(advice->more_tokens > 0 ? "), which this trace is too short to tell: " : ")."));
    return advice->more_tokens > 0 ? joined(joined(text, more_text(answer)), memory_text(".")) : text;
}

static char * of_no_gain(const struct cache_answer * answer) {
    const struct cache_advice * advice = &answer->advice;
    char                      * size   = size_text(answer);
    char * text = memory_text("No difference worth having: leave the experts in memory. The best use of %s would make ",
                              size);
    free(size);
    text = joined(joined(text, tokens_text(answer, advice->best)), memory_text("."));
    return advice->more_tokens == 0 ? text
        : joined(joined(joined(text, memory_text(" This trace is too short to tell: ")), more_text(answer)),
                 memory_text("."));
}

static char * of_faster(const struct cache_answer * answer) {
    const struct cache_advice * advice = &answer->advice;
    char * text = advice->use == CACHE_USE_LLAMA ? memory_text("Use llama.cpp's expert cache: ")
                : advice->use == CACHE_USE_KEPT  ? memory_text("Keep some layers on the device, and use llama.cpp's "
                                                               "expert cache for the others: ")
                : joined(joined(memory_text("Keep the experts of "), layers_text(answer)),
                         memory_text(" on the device: "));
    text = joined(text, tokens_text(answer, advice->use));
    text = joined(text, memory_text(", as "));
    text = joined(text, cache_verdict_share(&advice->ways[advice->use].rate));
    text = joined(text, memory_text(" of what %s asks for is there.", cache_phase_name(answer)));
    return joined(text, best_text(answer));
}

//
// the whole
//

static char * of_fit(const struct cache_answer * answer) {
    char   all[QUANTITY_MAX];
    char * size = size_text(answer);
    char * text = memory_text("All experts fit: they take %s, and there are %s. Keep every layer on the device.",
                              quantity_text((double) answer->all_bytes, all), size);
    free(size);
    return text;
}

static char * of_too_little(const struct cache_answer * answer) {
    char   all[QUANTITY_MAX];
    char * size = size_text(answer);
    char * text = memory_text("%s is too little: a layer's experts take %s on the mean, and llama.cpp's cache is off "
                              "where it has no room for what one token uses in a layer.", size,
                              quantity_text((double) answer->all_bytes / (double) answer->n_layers, all));
    free(size);
    return text;
}

static char * of_impossible(const struct cache_advice * advice) {
    return memory_text("A processor that reads %.0f GB/s cannot generate %.1f tokens a second of this model: reading "
                       "the experts alone would take %.1f times as long. --ram or --tg is wrong.", advice->ram / 1e9,
                       advice->tg, advice->time_share);
}

static char * reason_text(const struct cache_answer * answer) {
    switch (answer->advice.reason) {
        case CACHE_BECAUSE_FITS:        return of_fit(answer);
        case CACHE_BECAUSE_TOO_LITTLE:  return of_too_little(answer);
        case CACHE_BECAUSE_UNKNOWN:     return of_shares(answer);
        case CACHE_BECAUSE_RECORD_MORE: return record_more(answer);
        case CACHE_BECAUSE_PROMPTS:     return of_prompts(answer);
        case CACHE_BECAUSE_IMPOSSIBLE:  return of_impossible(&answer->advice);
        case CACHE_BECAUSE_SLOW_LINK:   return of_slow_link(answer);
        case CACHE_BECAUSE_SLOWER:      return of_slower(answer);
        case CACHE_BECAUSE_NO_GAIN:     return of_no_gain(answer);
        case CACHE_BECAUSE_FLOOR:       return of_floor(answer);
        case CACHE_BECAUSE_CHANCE:      return of_chance(answer);
        case CACHE_BECAUSE_FASTER:      return of_faster(answer);
        case CACHE_BECAUSE_LINK:        return of_link(answer);
        case CACHE_BECAUSE_LITTLE_TIME: break;
    }
    return memory_text("Leave the experts where they are: reading them is %.1f%% of a token's time, so that nothing "
                       "which is done about them makes a difference worth having.", 100 * answer->advice.time_share);
}

// A shared list that is hardly larger than what one token uses.
static char * floor_text(const struct cache_answer * answer) {
    const double bytes = answer->sizes[answer->row].bytes;
    char         floor[QUANTITY_MAX];
    return answer->advice.use == CACHE_USE_ALL || answer->advice.reason == CACHE_BECAUSE_FLOOR
        || !(bytes < NEAR_FLOOR * answer->floor) ? memory_text("%s", "")
        : memory_text(" Beware: one token's experts take %s, and below that a list that all layers share serves "
                      "nothing.", quantity_text(answer->floor, floor));
}

char * cache_verdict(const struct cache_answer * answer) {
    return joined(reason_text(answer), floor_text(answer));
}

char * cache_verdict_command(const struct cache_answer * answer) {
    switch (answer->advice.reason) {
        case CACHE_BECAUSE_UNKNOWN:
        case CACHE_BECAUSE_RECORD_MORE:
        case CACHE_BECAUSE_PROMPTS:
        case CACHE_BECAUSE_IMPOSSIBLE:
            return NULL;
        default:
            return cache_command(answer, answer->advice.use);
    }
}
