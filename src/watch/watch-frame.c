// Frees what a frame holds.

#include "watch/watch-frame.h"

#include <stdlib.h>

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
