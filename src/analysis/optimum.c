// Gives intervals between uses to slots as they end, for each size and kind.

#include "analysis/optimum.h"

#include <stdlib.h>
#include <string.h>

#define TIMES_MORE 2 // times for each key, before they are numbered anew
#define NEVER      0 // the time of a key's last use where there is none: there is never a slot

// Slots by the time at which they became free. Times at which none did lead to an earlier one, in the end to 0: there
// is none. (Disjoint sets, with path halving.)
struct slots {
    size_t     size;
    uint32_t * n_free;  // [n_times]
    uint32_t * earlier; // [n_times] itself: there is a slot
};

struct optimum {
    size_t         n_keys;
    uint32_t     * last;    // [n_keys] time, NEVER
    uint32_t     * numbers; // [n_times] scratch
    uint32_t       n_times;
    uint32_t       now;     // of the last step
    size_t         n_sizes;
    size_t         n_slots;
    struct slots * slots;   // [n_slots] all sizes of a kind, kind by kind
};

static void set_free(struct slots * slots, uint32_t time, uint32_t n) {
    if (n > 0) {
        slots->n_free[time]  += n;
        slots->earlier[time]  = time;
    }
}

static void slots_clear(struct slots * slots, uint32_t n_times) {
    memset(slots->n_free, 0, n_times * sizeof(*slots->n_free));
    slots->earlier[0] = 0;
    for (uint32_t time = 1; time < n_times; time++) {
        slots->earlier[time] = time - 1;
    }
}

static bool slots_make(struct slots * slots, size_t size, uint32_t n_times) {
    slots->size    = size;
    slots->n_free  = malloc(n_times * sizeof(*slots->n_free));
    slots->earlier = malloc(n_times * sizeof(*slots->earlier));
    return slots->n_free && slots->earlier;
}

static void begin(struct optimum * optimum, uint32_t last) {
    optimum->now = 1;
    for (size_t i = 0; i < optimum->n_keys; i++) {
        optimum->last[i] = last;
    }
    for (size_t i = 0; i < optimum->n_slots; i++) {
        struct slots * slots = &optimum->slots[i];
        slots_clear(slots, optimum->n_times);
        set_free(slots, 1, (uint32_t) slots->size);
    }
}

void optimum_restart(struct optimum * optimum) {
    begin(optimum, 1);
}

struct optimum * optimum_new(size_t n_keys, size_t n_sizes, const size_t * sizes, size_t n_kinds) {
    struct optimum * optimum = calloc(1, sizeof(*optimum));
    if (optimum == NULL) {
        return NULL;
    }
    optimum->n_keys  = n_keys;
    optimum->n_times = (uint32_t) (n_keys * TIMES_MORE + 2);
    optimum->last    = calloc(n_keys + 1, sizeof(*optimum->last));
    optimum->numbers = calloc(optimum->n_times + 1, sizeof(*optimum->numbers));
    optimum->n_sizes = n_sizes;
    optimum->n_slots = n_sizes * n_kinds;
    optimum->slots   = calloc(optimum->n_slots + 1, sizeof(*optimum->slots));

    bool made = optimum->last && optimum->numbers && optimum->slots;
    for (size_t i = 0; made && i < optimum->n_slots; i++) {
        made = slots_make(&optimum->slots[i], sizes[i % n_sizes], optimum->n_times);
    }
    if (!made) {
        optimum_free(optimum);
        return NULL;
    }
    begin(optimum, NEVER);
    return optimum;
}

void optimum_free(struct optimum * optimum) {
    if (optimum == NULL) {
        return;
    }
    for (size_t i = 0; optimum->slots && i < optimum->n_slots; i++) {
        free(optimum->slots[i].n_free);
        free(optimum->slots[i].earlier);
    }
    free(optimum->slots);
    free(optimum->numbers);
    free(optimum->last);
    free(optimum);
}

//
// steps
//

// Returns 0 where there is none.
static uint32_t last_free_until(struct slots * slots, uint32_t time) {
    uint32_t * earlier = slots->earlier;
    while (earlier[time] != time) {
        earlier[time] = earlier[earlier[time]];
        time          = earlier[time];
    }
    return time;
}

static bool keep(struct slots * slots, uint32_t begin, uint32_t end) {
    const uint32_t free_since = last_free_until(slots, begin);
    if (free_since == 0) {
        return false;
    }
    if (--slots->n_free[free_since] == 0) {
        slots->earlier[free_since] = free_since - 1;
    }
    set_free(slots, end, 1);
    return true;
}

static void slots_number_anew(struct slots * slots, const uint32_t * numbers, uint32_t n_times, uint32_t now) {
    for (uint32_t time = 1; time <= now; time++) {
        const uint32_t n_free = slots->n_free[time];
        slots->n_free[time]            = 0;
        slots->n_free[numbers[time]] += n_free;
    }
    for (uint32_t time = 1; time < n_times; time++) {
        slots->earlier[time] = slots->n_free[time] > 0 ? time : time - 1;
    }
}

// All that counts of a time is which keys were used last before it: from 1 on, one more after each last use.
static void number_anew(struct optimum * optimum) {
    uint32_t * numbers = optimum->numbers;
    memset(numbers, 0, (optimum->n_times + 1) * sizeof(*numbers));
    for (size_t i = 0; i < optimum->n_keys; i++) {
        numbers[optimum->last[i] + 1] = 1;
    }
    numbers[1] = 1;
    for (uint32_t time = 2; time <= optimum->now; time++) {
        numbers[time] += numbers[time - 1];
    }

    for (size_t i = 0; i < optimum->n_keys; i++) {
        optimum->last[i] = numbers[optimum->last[i]];
    }
    for (size_t i = 0; i < optimum->n_slots; i++) {
        slots_number_anew(&optimum->slots[i], numbers, optimum->n_times, optimum->now);
    }
    optimum->now = numbers[optimum->now];
}

void optimum_step(struct optimum * optimum, const uint32_t * keys, size_t n, size_t kind, bool * kept) {
    if (optimum->now + 1 == optimum->n_times) {
        number_anew(optimum);
    }
    const uint32_t now = ++optimum->now;
    for (size_t i = 0; i < optimum->n_sizes; i++) {
        struct slots * slots = &optimum->slots[kind * optimum->n_sizes + i];
        for (size_t k = 0; k < n; k++) {
            kept[i * n + k] = keep(slots, optimum->last[keys[k]], now);
        }
    }
    for (size_t k = 0; k < n; k++) {
        optimum->last[keys[k]] = now;
    }
}
