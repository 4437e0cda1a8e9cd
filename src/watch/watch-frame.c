// Puts values into a frame, and frees what it holds.

#include "watch/watch-frame.h"

#include <math.h>
#include <stdlib.h>

static struct watch_share share_of(uint64_t part, uint64_t of) {
    return (struct watch_share) { of > 0 ? (double) part / (double) of : NAN, of };
}

void watch_shares_set(struct watch_share shares[WATCH_N_PHASES], const uint64_t part[N_TOKEN_PHASES],
                      const uint64_t of[N_TOKEN_PHASES]) {
    uint64_t all_part = 0;
    uint64_t all_of   = 0;
    for (enum phase phase = 0; phase < N_TOKEN_PHASES; phase++) {
        shares[phase] = share_of(part[phase], of[phase]);
        all_part += part[phase];
        all_of   += of  [phase];
    }
    shares[WATCH_ANY_PHASE] = share_of(all_part, all_of);
}

static void forget_phases(struct watch_share shares[WATCH_N_PHASES]) {
    shares[PHASE_PROMPT] = shares[PHASE_GENERATION] = share_of(0, 0);
}

void watch_frame_forget_phases(struct watch_frame * frame) {
    frame->rate       [PHASE_PROMPT] = frame->rate       [PHASE_GENERATION] = NAN;
    frame->window_rate[PHASE_PROMPT] = frame->window_rate[PHASE_GENERATION] = NAN;
    forget_phases(frame->reuse);
    for (size_t i = 0; i < frame->n_sizes; i++) {
        forget_phases(frame->sizes[i].lru);
        forget_phases(frame->sizes[i].llama);
        forget_phases(frame->sizes[i].lru_all);
        forget_phases(frame->sizes[i].llama_all);
    }
}

void watch_frame_free(struct watch_frame * frame) {
    if (frame == NULL) {
        return;
    }
    free(frame->program);
    free(frame->tracer);
    free(frame->model);
    free(frame->architecture);
    free(frame->engine);
    free(frame->capture);
    free(frame->layers);
    free(frame->cells);
    free(frame);
}
