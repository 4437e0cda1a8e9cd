#include "tool/input/trace-walk.h"

#include "tool/input/trace-input.h"
#include "tool/progress.h"

#include <stdlib.h>
#include <string.h>

bool trace_walk(struct trace_walk * walk, trace_visitor * visit, void * self, struct error * error) {
    struct trace_cursor * cursor = trace_cursor_new(walk->trace);
    if (cursor == NULL) {
        return error_set(error, "out of memory");
    }
    struct progress     progress = progress_begin(walk->what, trace_about(walk->trace)->file_size);
    struct trace_ubatch ubatch;
    bool                ok = true;
    trace_cursor_seek(cursor, trace_filter_first_ubatch(walk->filter));
    while (ok && trace_next(cursor, &ubatch) && !trace_filter_is_past(walk->filter, ubatch.number)) {
        ok = !trace_filter_has_ubatch(walk->filter, &ubatch) || visit(self, &ubatch, error);
        progress_tell(&progress, trace_cursor_offset(cursor));
    }
    progress_end(&progress);
    walk->lost = trace_cursor_lost(cursor);
    trace_cursor_free(cursor);
    if (ok && trace_changed(walk->trace)) {
        return error_set(error, TRACE_INPUT_CHANGED);
    }
    return ok;
}

//
// the extent
//

static void count_tokens(const struct trace_filter * filter, const struct trace_ubatch * ubatch, struct trace_extent * extent) {
    extent->n_ubatches++;
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        if (trace_filter_has_token(filter, ubatch, i)) {
            uint64_t * n = ubatch->warmup ? &extent->n_warmup : ubatch->tokens[i].generation ? &extent->n_generation : &extent->n_prompt;
            (*n)++;
        }
    }
}

struct survey {
    const struct trace_filter * filter;
    struct trace_extent         all;
    struct trace_extent         until; // here
    bool                        found;
};

static bool count_ubatch(void * self, const struct trace_ubatch * ubatch, struct error * error) {
    (void) error;
    struct survey * survey = self;
    count_tokens(survey->filter, ubatch, &survey->all);
    return true;
}

static bool has_hardly_any_generation(const struct trace_extent * extent) {
    return extent->n_generation * TRACE_PROMPT_TOKENS_A_GENERATED < extent->n_prompt;
}

// Ends the walk where the half is reached.
static bool find_half(void * self, const struct trace_ubatch * ubatch, struct error * error) {
    (void) error;
    struct survey * survey = self;
    const bool      enough = has_hardly_any_generation(&survey->all) ? survey->until.n_prompt     * 2 >= survey->all.n_prompt
                                                                     : survey->until.n_generation * 2 >= survey->all.n_generation;
    if (enough && survey->until.n_ubatches > 0) {
        survey->all.half = ubatch->number;
        survey->found    = true;
        return false;
    }
    count_tokens(survey->filter, ubatch, &survey->until);
    return true;
}

bool trace_extent(struct trace_walk * walk, struct trace_extent * extent, struct error * error) {
    struct survey survey = { .filter = walk->filter };
    if (!trace_walk(walk, count_ubatch, &survey, error)) {
        return false;
    }
    const uint64_t lost = walk->lost;
    survey.all.half = UINT64_MAX;
    const bool ended = trace_walk(walk, find_half, &survey, error);
    walk->lost = lost;
    *extent    = survey.all;
    return ended || survey.found;
}

//
// steps
//

static void step_room(struct trace_step * step, int32_t n_expert) {
    const size_t n = (size_t) n_expert;
    if (n > step->room) {
        step->experts = memory_resize(step->experts, n, sizeof(*step->experts));
        step->seen    = memory_resize(step->seen,    n, sizeof(*step->seen));
        memset(step->seen + step->room, 0, (n - step->room) * sizeof(*step->seen));
        step->room    = n;
    }
}

static void next_round(struct trace_step * step) {
    step->round++;
    if (step->round == 0) {
        memset(step->seen, 0, step->room * sizeof(*step->seen));
        step->round = 1;
    }
}

static void take_row(struct trace_step * step, const uint16_t * experts, int32_t n_used) {
    for (int32_t i = 0; i < n_used; i++) {
        const uint16_t expert = experts[i];
        if (step->seen[expert] != step->round) {
            step->seen[expert] = step->round;
            step->experts[step->n_experts++] = expert;
        }
    }
}

void trace_step_take(struct trace_step * step, const struct trace_filter * filter, const struct trace_ubatch * ubatch, const struct trace_routing * routing) {
    step_room(step, routing->n_expert);
    next_round(step);
    step->n_rows     = 0;
    step->n_experts  = 0;
    step->generation = true;
    for (int32_t i = 0; i < routing->n_rows; i++) {
        const int32_t token = routing->tokens == NULL ? i : routing->tokens[i];
        if (trace_filter_has_token(filter, ubatch, token)) {
            step->n_rows++;
            step->generation &= ubatch->tokens[token].generation;
            take_row(step, routing->experts + (size_t) i * (size_t) routing->n_used, routing->n_used);
        }
    }
}

void trace_step_free(struct trace_step * step) {
    free(step->experts);
    free(step->seen);
}
