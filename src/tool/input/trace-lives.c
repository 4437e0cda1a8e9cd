// Finds lives in a tree by context, sequence and number, as ubatches name them.

#include "tool/input/trace-lives.h"

#include "tool/error.h"

#include <search.h>
#include <stdlib.h>

// A tree of each: lives, sequences and contexts. The latter two are lives of -1.
struct trace_lives {
    void               * tree;
    struct noted_life ** all;
    size_t               n;
    size_t               room;
    size_t               n_sequences;
    size_t               n_contexts;
    void               * seen;    // sequences and contexts
    struct noted_life  * last;    // asked for: mostly the next one too
};

static int compare_numbers(int32_t a, int32_t b) {
    return (a > b) - (a < b);
}

static int compare(const void * a, const void * b) {
    const struct noted_life * x = a;
    const struct noted_life * y = b;
    const int context  = compare_numbers(x->context,  y->context);
    const int sequence = compare_numbers(x->sequence, y->sequence);
    return context != 0 ? context : sequence != 0 ? sequence : compare_numbers(x->life, y->life);
}

static struct noted_life * find_or_add(void ** tree, const struct noted_life * key, bool * is_new) {
    struct noted_life ** place = tfind(key, tree, compare);
    *is_new = place == NULL;
    if (place != NULL) {
        return *place;
    }
    struct noted_life * added = memory_new(1, sizeof(*added));
    *added = *key;
    if (tsearch(added, tree, compare) == NULL) {
        error_say("out of memory");
        exit(STATUS_FAILED);
    }
    return added;
}

static bool is_first(struct trace_lives * lives, int32_t context, int32_t sequence) {
    const struct noted_life key = { .context = context, .sequence = sequence, .life = -1 };
    bool is_new;
    find_or_add(&lives->seen, &key, &is_new);
    return is_new;
}

struct trace_lives * trace_lives_new(void) {
    return memory_new(1, sizeof(struct trace_lives));
}

void trace_lives_free(struct trace_lives * lives) {
    tdestroy(lives->tree, free);
    tdestroy(lives->seen, free);
    free(lives->all);
    free(lives);
}

static void add(struct trace_lives * lives, struct noted_life * life) {
    if (lives->n == lives->room) {
        lives->room = lives->room == 0 ? 16 : 2 * lives->room;
        lives->all  = memory_resize(lives->all, lives->room, sizeof(*lives->all));
    }
    lives->all[lives->n++] = life;
    lives->n_sequences += is_first(lives, life->context, life->sequence);
    lives->n_contexts  += is_first(lives, life->context, -2);
}

struct noted_life * trace_lives_at(struct trace_lives * lives, int32_t context, int32_t sequence, int32_t life) {
    const struct noted_life key = { .context = context, .sequence = sequence, .life = life };
    if (lives->last != NULL && compare(lives->last, &key) == 0) {
        return lives->last;
    }
    bool is_new;
    lives->last = find_or_add(&lives->tree, &key, &is_new);
    if (is_new) {
        add(lives, lives->last);
    }
    return lives->last;
}

size_t trace_lives_n(const struct trace_lives * lives) {
    return lives->n;
}

size_t trace_lives_n_sequences(const struct trace_lives * lives) {
    return lives->n_sequences;
}

size_t trace_lives_n_contexts(const struct trace_lives * lives) {
    return lives->n_contexts;
}

struct noted_life * trace_lives_get(const struct trace_lives * lives, size_t i) {
    return lives->all[i];
}
