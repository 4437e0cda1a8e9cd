// Gives back what an answer of `cache` holds.

#include "answers/cache-answer.h"

#include <stdlib.h>

void cache_answer_free(struct cache_answer * answer) {
    if (answer == NULL) {
        return;
    }
    for (size_t i = 0; i < CACHE_ANSWER_N_PHASES; i++) {
        free(answer->lru[i]);
        free(answer->distances[i].counts);
    }
    for (size_t i = 0; answer->layers != NULL && i < answer->n_layers; i++) {
        free(answer->layers[i].rates);
    }
    free(answer->layers);
    free(answer->sizes);
    free(answer->advice.tuned_slots);
    free(answer->advice.kept_layers);
    free(answer);
}
