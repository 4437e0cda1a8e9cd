// Walks over a trace with a cursor of its own, and counts how far it has come.

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

void trace_extent_take(struct trace_extent * extent, const struct trace_filter * filter,
                       const struct trace_ubatch * ubatch) {
    extent->n_ubatches++;
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        if (trace_filter_has_token(filter, ubatch, i)) {
            uint64_t * n = ubatch->warmup               ? &extent->n_warmup
                         : ubatch->tokens[i].generation ? &extent->n_generation : &extent->n_prompt;
            (*n)++;
        }
    }
}

struct survey {
    const struct trace_filter * filter;
    struct trace_extent       * extent;
};

static bool survey_ubatch(void * self, const struct trace_ubatch * ubatch, struct error * error) {
    (void) error;
    const struct survey * survey = self;
    trace_extent_take(survey->extent, survey->filter, ubatch);
    return true;
}

bool trace_extent(struct trace_walk * walk, struct trace_extent * extent, struct error * error) {
    struct survey survey = { walk->filter, extent };
    *extent = (struct trace_extent) { 0 };
    return trace_walk(walk, survey_ubatch, &survey, error);
}

bool trace_extent_is_of_prompts(const struct trace_extent * extent) {
    return extent->n_generation * TRACE_PROMPT_TOKENS_A_GENERATED < extent->n_prompt;
}

bool trace_halves_take(struct trace_halves * halves, const struct trace_ubatch * ubatch) {
    const struct trace_extent * all   = &halves->all;
    const struct trace_extent * until = &halves->until;
    const bool enough = trace_extent_is_of_prompts(all) ? until->n_prompt     * 2 >= all->n_prompt
                                                       : until->n_generation * 2 >= all->n_generation;
    halves->is_second = halves->is_second || (enough && until->n_ubatches > 0);
    if (!halves->is_second) {
        trace_extent_take(&halves->until, halves->filter, ubatch);
    }
    return halves->is_second;
}

//
// steps
//

static void step_room(struct trace_step * step, int32_t n_expert) {
    const size_t n = (size_t) n_expert;
    if (n > step->room) {
        step->experts = memory_resize(step->experts, n, sizeof(*step->experts));
        step->tokens  = memory_resize(step->tokens,  n, sizeof(*step->tokens));
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

static void take_row(struct trace_step * step, int32_t token, const uint16_t * experts, int32_t n_used) {
    for (int32_t i = 0; i < n_used; i++) {
        const uint16_t expert = experts[i];
        if (step->seen[expert] != step->round) {
            step->seen[expert] = step->round;
            step->tokens [step->n_experts]   = token;
            step->experts[step->n_experts++] = expert;
        }
    }
}

void trace_step_take(struct trace_step * step, const struct trace_filter * filter, const struct trace_ubatch * ubatch,
                     const struct trace_routing * routing) {
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
            take_row(step, token, routing->experts + (size_t) i * (size_t) routing->n_used, routing->n_used);
        }
    }
}

void trace_step_free(struct trace_step * step) {
    free(step->experts);
    free(step->tokens);
    free(step->seen);
}
