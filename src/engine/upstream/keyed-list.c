// Lists of things by address, with what each thread found last kept beside them.

#include "engine/upstream/keyed-list.h"

#include "base/fork-reset.h"

static struct keyed * look_for(struct keyed_list * list, const void * key) {
    pthread_mutex_lock(&list->mutex);
    struct keyed * thing = list->first;
    while (thing && thing->key != key) {
        thing = thing->next;
    }
    pthread_mutex_unlock(&list->mutex);
    return thing;
}

void * keyed_search(struct keyed_list * list, struct keyed_last * last, const void * key, unsigned generation) {
    last->found      = look_for(list, key);
    last->key        = key;
    last->generation = generation;
    return last->found;
}

void keyed_add(struct keyed_list * list, struct keyed * thing) {
    pthread_mutex_lock(&list->mutex);
    thing->next = list->first;
    list->first = thing;
    atomic_fetch_add(&list->n, 1);
    atomic_fetch_add(&list->generation, 1);
    pthread_mutex_unlock(&list->mutex);
}

void keyed_remove(struct keyed_list * list, struct keyed * thing) {
    pthread_mutex_lock(&list->mutex);
    for (struct keyed ** link = &list->first; *link; link = &(*link)->next) {
        if (*link == thing) {
            *link = thing->next;
            atomic_fetch_sub(&list->n, 1);
            atomic_fetch_add(&list->generation, 1);
            break;
        }
    }
    pthread_mutex_unlock(&list->mutex);
}

void keyed_forget_all(struct keyed_list * list) {
    fork_reset_mutex(&list->mutex);
    list->first = NULL;
    atomic_store(&list->n, 0);
    atomic_fetch_add(&list->generation, 1);
}
