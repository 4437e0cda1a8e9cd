// Keeps what is known of each sequence: its life, its tokens of each second, and a bit for each slot that it used.

#include "watch/watch-sequences.h"

#include "tool/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct watched_sequence {
    uint32_t   context;
    int32_t    sequence;
    int32_t    life;
    int32_t    position;
    bool       generation;
    int64_t    time;        // of its last token
    uint64_t   tokens[N_TOKEN_PHASES];
    uint32_t   seconds[WATCH_SECONDS_MAX];
    uint64_t * used;        // [n_slots] bits
    size_t     n_used;
    void     * data;
};

struct watch_sequences {
    size_t                     n_slots;
    size_t                     second;  // in which tokens are counted now
    size_t                     n_seconds;
    void                    (* release)(void * data);
    size_t                     n;
    struct watched_sequence ** all;     // by context and number
};

static size_t words_of(const struct watch_sequences * sequences) {
    return (sequences->n_slots + 63) / 64;
}

struct watch_sequences * watch_sequences_new(size_t n_slots, void (* release)(void * data)) {
    struct watch_sequences * sequences = memory_new(1, sizeof(*sequences));
    sequences->n_slots = n_slots;
    sequences->release = release;
    sequences->all     = memory_new(WATCH_SEQUENCES_MAX + 1, sizeof(struct watched_sequence *));
    return sequences;
}

static void free_sequence(const struct watch_sequences * sequences, struct watched_sequence * sequence) {
    if (sequence->data != NULL) {
        sequences->release(sequence->data);
    }
    free(sequence->used);
    free(sequence);
}

void watch_sequences_free(struct watch_sequences * sequences) {
    if (sequences == NULL) {
        return;
    }
    for (size_t i = 0; i < sequences->n; i++) {
        free_sequence(sequences, sequences->all[i]);
    }
    free(sequences->all);
    free(sequences);
}

//
// tokens
//

static bool is_before(const struct watched_sequence * sequence, uint32_t context, int32_t number) {
    return sequence->context < context || (sequence->context == context && sequence->sequence < number);
}

static void forget_oldest(struct watch_sequences * sequences) {
    size_t oldest = 0;
    for (size_t i = 1; i < sequences->n; i++) {
        oldest = sequences->all[i]->time < sequences->all[oldest]->time ? i : oldest;
    }
    free_sequence(sequences, sequences->all[oldest]);
    sequences->n--;
    memmove(&sequences->all[oldest], &sequences->all[oldest + 1],
            (sequences->n - oldest) * sizeof(struct watched_sequence *));
}

static struct watched_sequence * add(struct watch_sequences * sequences, size_t at, uint32_t context, int32_t number) {
    struct watched_sequence * new = memory_new(1, sizeof(*new));
    *new = (struct watched_sequence) { .context = context, .sequence = number, .life = -1 };
    new->used = memory_new(words_of(sequences), sizeof(*new->used));
    memmove(&sequences->all[at + 1], &sequences->all[at], (sequences->n - at) * sizeof(struct watched_sequence *));
    sequences->all[at] = new;
    sequences->n++;
    return new;
}

static struct watched_sequence * find(struct watch_sequences * sequences, uint32_t context, int32_t number) {
    size_t at = 0;
    while (at < sequences->n && is_before(sequences->all[at], context, number)) {
        at++;
    }
    if (at < sequences->n && sequences->all[at]->context == context && sequences->all[at]->sequence == number) {
        return sequences->all[at];
    }
    struct watched_sequence * new = add(sequences, at, context, number);
    if (sequences->n > WATCH_SEQUENCES_MAX) {
        new->time = INT64_MAX;
        forget_oldest(sequences);
    }
    return new;
}

static void begin_life(const struct watch_sequences * sequences, struct watched_sequence * sequence, int32_t life) {
    memset(sequence->used,   0, words_of(sequences) * sizeof(*sequence->used));
    memset(sequence->tokens, 0, sizeof(sequence->tokens));
    sequence->n_used = 0;
    sequence->life   = life;
}

struct watched_sequence * watch_sequences_token(struct watch_sequences * sequences, uint32_t context,
                                                const struct expert_tracer_token * token, int64_t time) {
    struct watched_sequence * sequence = find(sequences, context, token->sequence);
    if (sequence->life != token->life) {
        begin_life(sequences, sequence, token->life);
    }
    sequence->position   = token->position;
    sequence->generation = token->generation;
    sequence->time       = time;
    sequence->tokens [token->generation ? PHASE_GENERATION : PHASE_PROMPT]++;
    sequence->seconds[sequences->second]++;
    return sequence;
}

void watch_sequences_use(struct watched_sequence * sequence, size_t slot) {
    const uint64_t bit = UINT64_C(1) << (slot % 64);
    sequence->n_used       += (sequence->used[slot / 64] & bit) == 0;
    sequence->used[slot / 64] |= bit;
}

void ** watch_sequences_data(struct watched_sequence * sequence) {
    return &sequence->data;
}

void watch_sequences_second(struct watch_sequences * sequences) {
    sequences->second = (sequences->second + 1) % WATCH_SECONDS_MAX;
    for (size_t i = 0; i < sequences->n; i++) {
        sequences->all[i]->seconds[sequences->second] = 0;
    }
    sequences->n_seconds += sequences->n_seconds < WATCH_SECONDS_MAX - 1;
}

//
// what is seen
//

// In whole seconds: the one that tokens are counted in now has only begun.
static double rate_of(const struct watch_sequences * sequences, const struct watched_sequence * sequence,
                      size_t seconds) {
    const size_t n   = seconds < sequences->n_seconds ? seconds : sequences->n_seconds;
    uint64_t     sum = 0;
    for (size_t i = 1; i <= n; i++) {
        sum += sequence->seconds[(sequences->second + WATCH_SECONDS_MAX - i) % WATCH_SECONDS_MAX];
    }
    return n > 0 ? (double) sum / (double) n : NAN;
}

static int by_time(const void * a, const void * b) {
    const struct watched_sequence * first  = *(struct watched_sequence * const *) a;
    const struct watched_sequence * second = *(struct watched_sequence * const *) b;
    return (first->time < second->time) - (first->time > second->time);
}

// The time of the WATCH_N_SEQUENCES-th last one: those before it are not shown.
static int64_t time_of_last_shown(const struct watch_sequences * sequences) {
    if (sequences->n <= WATCH_N_SEQUENCES) {
        return INT64_MIN;
    }
    struct watched_sequence ** sorted = memory_new(sequences->n, sizeof(struct watched_sequence *));
    memcpy(sorted, sequences->all, sequences->n * sizeof(struct watched_sequence *));
    qsort(sorted, sequences->n, sizeof(struct watched_sequence *), by_time);
    const int64_t time = sorted[WATCH_N_SEQUENCES - 1]->time;
    free(sorted);
    return time;
}

void watch_sequences_fill(const struct watch_sequences * sequences, size_t seconds, int64_t time,
                          struct watch_frame * frame) {
    const int64_t since = time_of_last_shown(sequences);
    for (size_t i = 0; i < sequences->n && frame->n_sequences < WATCH_N_SEQUENCES; i++) {
        const struct watched_sequence * its = sequences->all[i];
        if (its->time < since) {
            continue;
        }
        frame->sequences[frame->n_sequences++] = (struct watch_sequence) {
            .context      = its->context,
            .sequence     = its->sequence,
            .life         = its->life,
            .position     = its->position,
            .generation   = its->generation,
            .age          = time > its->time ? (double) (time - its->time) / 1e6 : 0,
            .n_prompt     = its->tokens[PHASE_PROMPT],
            .n_generation = its->tokens[PHASE_GENERATION],
            .rate         = rate_of(sequences, its, seconds),
            .used         = (double) its->n_used / (double) sequences->n_slots,
        };
    }
}
