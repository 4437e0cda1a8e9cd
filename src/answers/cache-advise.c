// Compares the uses of device memory by tokens a second, or by how many requests of a trace's second half each of them
// serves, tuned on the first.

#include "answers/cache-advise.h"

#include "analysis/cache-time.h"
#include "answers/worth.h"

#include <math.h>
#include <stdlib.h>

#define MIB         0x1p20
#define LINK_SHARE  (1.0 / 3) // of the memory's speed, that a link can be taken to have: PCIe 4.0 x16 beside two
                              // channels of DDR5 has more, PCIe 3.0 less
#define ROUND       100       // tokens to be recorded are named in so many

//
// ways
//

static struct cache_value no_value(void) {
    return (struct cache_value) { NAN, NAN, NAN };
}

static struct cache_time time_of(const struct cache_gathered * gathered) {
    const struct cache_questions * questions = &gathered->questions;
    return (struct cache_time) {
        .token_bytes = (double) gathered->shape->token_bytes,
        .tg          = questions->tg,
        .ram         = questions->ram,
        .pcie        = questions->pcie,
        .vram        = questions->vram_rate,
    };
}

typedef double tokens_at(const struct cache_time * time, double rate);

static struct cache_way way_of(const struct cache_gathered * gathered, struct cache_value rate, tokens_at * tokens) {
    struct cache_way way = { rate, no_value() };
    if (gathered->questions.tg > 0 && gathered->shape->bytes_known && isfinite(rate.value)) {
        const struct cache_time time = time_of(gathered);
        way.tokens_per_second = (struct cache_value) {
            tokens(&time, rate.value), isnan(rate.low) ? NAN : tokens(&time, rate.low),
            isnan(rate.high) ? NAN : tokens(&time, rate.high),
        };
    }
    return way;
}

static struct cache_value planned_rate(const struct cache_gathered * gathered, const struct resample_draws * draws,
                                       enum cache_column column) {
    return cache_value_of(draws, cache_series_of(gathered->n_sizes, column, gathered->rows.n));
}

static void fill_simple_ways(struct cache_answer * answer, const struct cache_gathered * gathered) {
    for (size_t i = 0; i < answer->n_sizes; i++) {
        struct cache_answer_size  * size  = &answer->sizes[i];
        const struct cache_value  * rates = size->judged[answer->phase].columns;
        size->llama  = way_of(gathered, rates[CACHE_LLAMA],  cache_time_uploading);
        size->layers = way_of(gathered, rates[CACHE_LAYERS], cache_time_computing);
    }
}

static void fill_kept_layers(struct cache_answer * answer, const struct cache_gathered * gathered,
                             const struct resample_draws * draws) {
    const struct cache_plan * plan   = &gathered->plan;
    struct cache_advice     * advice = &answer->advice;
    size_t                    n      = 0;
    advice->ways[CACHE_USE_KEPT].rate              = no_value();
    advice->ways[CACHE_USE_KEPT].tokens_per_second = no_value();
    if (plan->n_kept == 0) {
        return;
    }
    advice->n_kept      = plan->n_kept;
    advice->kept_slots  = plan->n_slots;
    advice->kept_mib    = plan->n_slots > 0 ? plan->left_mib : 0;
    advice->kept_layers = memory_new(plan->n_kept, sizeof(*advice->kept_layers));
    for (size_t i = 0; i < answer->n_layers; i++) {
        if (plan->is_kept[i]) {
            advice->kept_layers[n++] = answer->layers[i].layer;
        }
    }
    const struct cache_value rate = planned_rate(gathered, draws, CACHE_LLAMA);
    advice->ways[CACHE_USE_KEPT]  = way_of(gathered, rate, plan->n_slots > 0 ? cache_time_uploading
                                                                             : cache_time_computing);
}

static void fill_slots(struct cache_answer * answer, const struct cache_gathered * gathered,
                       const struct resample_draws * draws) {
    const struct cache_answer_size * size   = &answer->sizes[answer->row];
    struct cache_advice            * advice = &answer->advice;
    advice->equal = way_of(gathered, size->judged[answer->phase].columns[CACHE_LRU], cache_time_uploading);
    if (gathered->plan.slots == NULL) {
        return;
    }
    advice->tuned_slots = memory_new(answer->n_layers, sizeof(*advice->tuned_slots));
    for (size_t i = 0; i < answer->n_layers; i++) {
        advice->tuned_slots[i] = gathered->plan.slots[i];
    }
    advice->tuned      = way_of(gathered, planned_rate(gathered, draws, CACHE_LRU), cache_time_uploading);
    advice->tuned_gain = advice->tuned.rate.value - advice->equal.rate.value;
}

static void fill_time(struct cache_advice * advice, const struct cache_gathered * gathered) {
    const struct cache_time time = time_of(gathered);
    advice->tg            = time.tg;
    advice->ram           = time.ram;
    advice->pcie          = time.pcie;
    advice->time_is_known = time.tg > 0 && gathered->shape->bytes_known;
    advice->time_share    = NAN;
    advice->break_even    = NAN;
    if (advice->time_is_known) {
        advice->time_share = time.token_bytes / time.ram * time.tg;
        advice->break_even = cache_time_break_even(&time);
    }
    const double now = advice->time_is_known ? time.tg : NAN;
    advice->ways[CACHE_USE_NOTHING] = (struct cache_way) { { 0, 0, 0 }, { now, now, now } };
}

// The cache copies what it misses, at the link's speed; whole layers leave the rest to the processor, at the memory's.
static void fill_link_share(struct cache_advice * advice) {
    const struct cache_value * cache  = &advice->ways[CACHE_USE_LLAMA].rate;
    const double               layers = advice->ways[CACHE_USE_LAYERS].rate.value;
    advice->link_share = (struct cache_value) {
        (1 - cache->value) / (1 - layers), (1 - cache->high) / (1 - layers), (1 - cache->low) / (1 - layers),
    };
}

//
// which one
//

static bool is_known(const struct cache_value * value) {
    return isfinite(value->value);
}

static double half_width(const struct cache_value * value) {
    return isnan(value->low) ? 0 : (value->high - value->low) / 2;
}

static bool is_worth_more(const struct cache_value * a, const struct cache_value * b) {
    return a->value >= (1 + WORTH_HAVING) * b->value;
}

static bool is_surely_more(const struct cache_value * a, const struct cache_value * b) {
    return isnan(a->low) || isnan(b->high) || a->low > b->high;
}

static bool is_clearly_more(const struct cache_value * a, const struct cache_value * b) {
    return is_worth_more(a, b) && is_surely_more(a, b);
}

static uint64_t rounded_up(double tokens) {
    return (uint64_t) (ceil(tokens / ROUND) * ROUND);
}

// Intervals are as wide as the root of what was recorded is small: so many times as much, and they do not overlap.
static uint64_t tokens_to_tell(const struct cache_answer * answer, const struct cache_value * a,
                               const struct cache_value * b) {
    const double n     = (double) answer->tokens.n_generation;
    const double times = pow((half_width(a) + half_width(b)) / (a->value - b->value), 2);
    return rounded_up(n * fmax(times - 1, 0.1));
}

static uint64_t tokens_to_judge(const struct cache_answer * answer) {
    const double n       = (double) answer->tokens.n_generation;
    const double units   = (double) answer->units[answer->phase].n;
    const double wanted  = 2.0 * RESAMPLE_LEAST * RESAMPLE_BLOCK;
    const double missing = 2.0 * (RESAMPLE_LEAST - units) * RESAMPLE_BLOCK;
    return rounded_up(fmax(wanted - n, missing));
}

static bool is_below_floor(const struct cache_answer * answer) {
    return answer->sizes[answer->row].bytes < answer->floor;
}

// The cache is, than no cache at all.
static bool is_slower(const struct cache_advice * advice) {
    const struct cache_value * cache = &advice->ways[CACHE_USE_LLAMA].tokens_per_second;
    return is_known(cache) && (isnan(cache->high) ? cache->value : cache->high) < advice->tg;
}

// Over a link that is too slow the best of all caches is slower too.
static enum cache_reason slower_reason(const struct cache_answer * answer) {
    const struct cache_value * best = &answer->sizes[answer->row].judged[answer->phase].columns[CACHE_SHARED_OPTIMUM];
    return best->value < answer->advice.break_even ? CACHE_BECAUSE_SLOW_LINK : CACHE_BECAUSE_SLOWER;
}

// The plainest use that the best one does not beat, by so much that it is worth having and sure.
static void choose_by_time(struct cache_answer * answer) {
    struct cache_advice * advice = &answer->advice;
    for (enum cache_use use = 0; use < CACHE_N_USES; use++) {
        const struct cache_value * tokens = &advice->ways[use].tokens_per_second;
        if (is_known(tokens) && tokens->value > advice->ways[advice->best].tokens_per_second.value) {
            advice->best = use;
        }
    }
    const struct cache_value * best = &advice->ways[advice->best].tokens_per_second;
    for (advice->use = 0; advice->use < advice->best; advice->use++) {
        const struct cache_value * tokens = &advice->ways[advice->use].tokens_per_second;
        if (is_known(tokens) && !is_clearly_more(best, tokens)) {
            break;
        }
    }
    const struct cache_value * used = &advice->ways[advice->use].tokens_per_second;
    if (advice->best != advice->use && is_worth_more(best, used)) {
        advice->more_tokens = tokens_to_tell(answer, best, used);
    }
    advice->reason = advice->use >= CACHE_USE_LLAMA  ? CACHE_BECAUSE_FASTER
                   : is_below_floor(answer)          ? CACHE_BECAUSE_FLOOR
                   : is_slower(advice)               ? slower_reason(answer)
                   : advice->use == CACHE_USE_LAYERS ? CACHE_BECAUSE_FASTER : CACHE_BECAUSE_NO_GAIN;
}

static void choose_by_rates(struct cache_answer * answer) {
    struct cache_advice            * advice = &answer->advice;
    const struct cache_answer_size * size   = &answer->sizes[answer->row];
    const struct cache_value       * cache  = &advice->ways[CACHE_USE_LLAMA].rate;
    const struct cache_value       * layers = &advice->ways[CACHE_USE_LAYERS].rate;
    const double                     share  = (double) size->llama_slots / (double) answer->all_experts;
    const enum cache_use             plain  = layers->value > 0 ? CACHE_USE_LAYERS : CACHE_USE_NOTHING;
    advice->best   = plain;
    advice->use    = plain;
    advice->reason = is_below_floor(answer) ? CACHE_BECAUSE_FLOOR : CACHE_BECAUSE_CHANCE;
    if (is_known(cache) && cache->low > (1 + WORTH_HAVING) * share && cache->low > layers->value) {
        const bool is_enough = advice->link_share.high <= LINK_SHARE;
        advice->best   = CACHE_USE_LLAMA;
        advice->use    = is_enough ? CACHE_USE_LLAMA : plain;
        advice->reason = CACHE_BECAUSE_LINK;
    }
}

// Where no option can be named.
static enum cache_shares shares_of(const struct cache_answer * answer) {
    const struct cache_answer_size * size   = &answer->sizes[answer->row];
    const struct cache_value       * shared = &size->judged[answer->phase].columns[CACHE_SHARED_LRU];
    const struct cache_value       * pinned = &size->judged[answer->phase].columns[CACHE_SHARED_STATIC];
    const struct cache_value         chance = { size->share, size->share, size->share };
    return !is_clearly_more(shared, &chance) && !is_clearly_more(pinned, &chance) ? CACHE_SHARES_ARE_CHANCE
         : is_clearly_more(shared, pinned) ? CACHE_SHARES_ARE_BETTER
         : is_clearly_more(pinned, shared) ? CACHE_SHARES_ARE_WORSE : CACHE_SHARES_ARE_ALIKE;
}

static bool has_too_little(const struct cache_answer * answer) {
    const struct cache_answer_size * size = &answer->sizes[answer->row];
    return size->llama_slots == 0 && size->n_whole == 0;
}

static void choose(struct cache_answer * answer) {
    struct cache_advice            * advice = &answer->advice;
    const struct cache_answer_size * size   = &answer->sizes[answer->row];
    advice->use         = CACHE_USE_NOTHING;
    advice->best        = CACHE_USE_NOTHING;
    advice->more_tokens = 0;
    if (answer->bytes_known && size->bytes >= (double) answer->all_bytes) {
        advice->use    = CACHE_USE_ALL;
        advice->reason = CACHE_BECAUSE_FITS;
    } else if (answer->bytes_known && has_too_little(answer)) {
        advice->reason = CACHE_BECAUSE_TOO_LITTLE;
    } else if (advice->time_is_known && advice->time_share > 1) {
        advice->reason = CACHE_BECAUSE_IMPOSSIBLE;
    } else if (answer->phase == PHASE_PROMPT) {
        advice->reason      = CACHE_BECAUSE_PROMPTS;
        advice->more_tokens = tokens_to_judge(answer);
    } else if (advice->time_is_known && advice->time_share < WORTH_HAVING) {
        advice->reason = CACHE_BECAUSE_LITTLE_TIME;
    } else if (answer->units[answer->phase].n < RESAMPLE_LEAST) {
        advice->reason      = CACHE_BECAUSE_RECORD_MORE;
        advice->more_tokens = tokens_to_judge(answer);
    } else if (!answer->bytes_known) {
        advice->reason = CACHE_BECAUSE_UNKNOWN;
        advice->shares = shares_of(answer);
    } else if (advice->time_is_known) {
        choose_by_time(answer);
    } else {
        choose_by_rates(answer);
    }
}

void cache_advise(struct cache_answer * answer, const struct cache_gathered * gathered,
                  const struct resample_draws * draws) {
    struct cache_advice * advice = &answer->advice;
    advice->is_asked = gathered->rows.budget < gathered->rows.n;
    fill_simple_ways(answer, gathered);
    fill_time(advice, gathered);
    advice->ways[CACHE_USE_LAYERS] = answer->sizes[answer->row].layers;
    advice->ways[CACHE_USE_LLAMA]  = answer->sizes[answer->row].llama;
    if (answer->sizes[answer->row].bytes < MIB) { // which cannot be typed
        advice->ways[CACHE_USE_LLAMA] = (struct cache_way) { no_value(), no_value() };
    }
    fill_link_share (advice);
    fill_kept_layers(answer, gathered, draws);
    fill_slots      (answer, gathered, draws);
    choose(answer);
}
