// Things that are known by an address of the engine's, found again from any thread. A thread that asks for the same
// one as before takes no lock.

#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

// The first member of a thing in a list.
struct keyed {
    const void   * key;
    struct keyed * next;
};

struct keyed_list {
    pthread_mutex_t mutex;      // of the links
    struct keyed  * first;
    atomic_uint     generation; // changes whenever the list does
    atomic_int      n;
};

#define KEYED_LIST_EMPTY { .mutex = PTHREAD_MUTEX_INITIALIZER }

// What a thread found last: one for each list, _Thread_local. Zeroed: nothing.
struct keyed_last {
    const void   * key;
    struct keyed * found;
    unsigned       generation;
};

// For keyed_find(): looks for what the thread did not find last.
void * keyed_search(struct keyed_list * list, struct keyed_last * last, const void * key, unsigned generation);

// Returns NULL where there is none. Whoever removes a thing sees to it that nobody uses it any more.
static inline void * keyed_find(struct keyed_list * list, struct keyed_last * last, const void * key) {
    if (atomic_load_explicit(&list->n, memory_order_relaxed) == 0) {
        return NULL;
    }
    const unsigned generation = atomic_load_explicit(&list->generation, memory_order_acquire);
    return last->key == key && last->generation == generation ? last->found
                                                              : keyed_search(list, last, key, generation);
}

void   keyed_add   (struct keyed_list * list, struct keyed * thing);
void   keyed_remove(struct keyed_list * list, struct keyed * thing);

// In the child of a fork: forgets everything without touching it.
void keyed_forget_all(struct keyed_list * list);
