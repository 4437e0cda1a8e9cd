// What a model's counters were in each of the last seconds, so that what was counted in a window is known.

#pragma once

#include "live/live-view.h"
#include "watch/watch-frame.h"

struct watch_counts;

struct watch_counts * watch_counts_new (void);
void                  watch_counts_free(struct watch_counts * counts); // NULL is ignored

// The counters of now, `time` seconds of the monotonic clock. Where there is less than before, by a reset or a warm-up
// that is not counted after all, what was before is forgotten.
void watch_counts_take(struct watch_counts * counts, const struct live_view_model * model, double time);

// What is to be seen of a window (watch_question): totals, rates, layers, the hottest, and drift. The frame holds it.
void watch_counts_fill(const struct watch_counts * counts, int window, struct watch_frame * frame);
