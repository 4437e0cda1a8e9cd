// Writes the first lines of the screen.

#include "commands/top/top-head.h"

#include "commands/model-text.h"
#include "commands/top/top-pen.h"
#include "tool/error.h"
#include "tool/quantity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct top_pen pen_of(struct grid * grid, size_t row) {
    return top_pen_at(grid, row, 0, grid->n_columns);
}

static void put_names(struct grid * grid, size_t row, const struct top_scene * scene, const struct top_view * view) {
    const struct watch_frame * frame = scene->frame;
    struct top_pen             pen   = pen_of(grid, row);
    (void) view;
    top_pen_text(&pen, GRID_STRONG, scene->who);
    if (frame != NULL) {
        const struct answer_model model = { .name = frame->model, .architecture = frame->architecture };
        char * text = model_text(&model);
        top_pen_text(&pen, GRID_PLAIN, text);
        if (frame->n_models > 1) {
            top_pen_item(&pen, "model", GRID_PLAIN, "%u of %zu", (unsigned) frame->number, frame->n_models);
        }
        if (frame->engine != NULL) {
            top_pen_item(&pen, "", GRID_LABEL, "%.*s", (int) strcspn(frame->engine, ",("), frame->engine);
        }
        free(text);
    }
}

static void put_rates_by_phase(struct top_pen * pen, const struct watch_frame * frame, bool with_window) {
    char prompt[TOP_NUMBER_MAX], generation[TOP_NUMBER_MAX];
    top_pen_item(pen, "prompt",     GRID_STRONG, "%6s t/s", top_rate(frame->rate[PHASE_PROMPT], prompt));
    top_pen_item(pen, "generation", GRID_STRONG, "%6s t/s", top_rate(frame->rate[PHASE_GENERATION], generation));
    if (with_window) {
        top_pen_item(pen, "in the window", GRID_PLAIN, "%s and %s",
                     top_rate(frame->window_rate[PHASE_PROMPT], prompt),
                     top_rate(frame->window_rate[PHASE_GENERATION], generation));
    }
}

static void put_rate(struct top_pen * pen, const struct watch_frame * frame, bool with_window) {
    char rate[TOP_NUMBER_MAX];
    top_pen_item(pen, "tokens", GRID_STRONG, "%6s t/s", top_rate(frame->rate[WATCH_ANY_PHASE], rate));
    if (with_window) {
        top_pen_item(pen, "in the window", GRID_PLAIN, "%s", top_rate(frame->window_rate[WATCH_ANY_PHASE], rate));
    }
}

static void put_rates(struct grid * grid, size_t row, const struct top_scene * scene, const struct top_view * view) {
    struct top_pen pen = pen_of(grid, row);
    const bool     with_window = top_view_window(view) != WATCH_ALL;
    if (scene->frame->phases_known) {
        put_rates_by_phase(&pen, scene->frame, with_window);
    } else {
        put_rate(&pen, scene->frame, with_window);
    }
}

static void put_drift(struct top_pen * pen, const struct watch_drift * drift) {
    char text[TOP_NUMBER_MAX];
    top_decimal(drift->times, 1, text);
    top_pen_item(pen, "drift",    GRID_STRONG, "%s%s", text, isnan(drift->times) ? "" : " x noise");
    top_pen_item(pen, "bits",     GRID_PLAIN,  "%s", top_decimal(drift->divergence, 4, text));
    top_pen_item(pen, "of noise", GRID_PLAIN,  "%s", top_decimal(drift->noise, 4, text));
}

static void put_reuse(struct top_pen * pen, const struct watch_frame * frame) {
    char prompt[TOP_NUMBER_MAX], generation[TOP_NUMBER_MAX], all[TOP_NUMBER_MAX];
    if (frame->phases_known) {
        top_pen_item(pen, "reuse", GRID_STRONG, "%s prompt, %s gen",
                     top_share(frame->reuse[PHASE_PROMPT].share, prompt),
                     top_share(frame->reuse[PHASE_GENERATION].share, generation));
    } else {
        top_pen_item(pen, "reuse", GRID_STRONG, "%s", top_share(frame->reuse[WATCH_ANY_PHASE].share, all));
    }
}

static void put_routing(struct grid * grid, size_t row, const struct top_scene * scene, const struct top_view * view) {
    const struct watch_frame * frame = scene->frame;
    char           evenness[TOP_NUMBER_MAX];
    struct top_pen pen = pen_of(grid, row);
    (void) view;
    top_pen_item(&pen, "evenness", GRID_STRONG, "%s", top_decimal(frame->entropy, 3, evenness));
    put_reuse(&pen, frame);
    put_drift(&pen, &frame->drift);
}

static void put_tokens(struct grid * grid, size_t row, const struct top_scene * scene, const struct top_view * view) {
    const struct watch_frame * frame = scene->frame;
    char           count[TOP_NUMBER_MAX];
    struct top_pen pen = pen_of(grid, row);
    (void) view;
    top_pen_item(&pen, "tokens", GRID_PLAIN, "%s", top_count(frame->n_tokens, count));
    if (frame->phases_known) {
        top_pen_item(&pen, "prompt",     GRID_PLAIN, "%s", top_count(frame->n_prompt, count));
        top_pen_item(&pen, "generation", GRID_PLAIN, "%s", top_count(frame->n_generation, count));
    }
    if (frame->n_lost > 0) {
        top_pen_item(&pen, "routing not known", GRID_WARNING, "%s", top_count(frame->n_lost, count));
    }
    if (frame->overrun > 0) {
        char size[QUANTITY_MAX];
        top_pen_item(&pen, "missed", GRID_WARNING, "%s", quantity_text((double) frame->overrun, size));
    }
}

static void put_state(struct grid * grid, size_t row, const struct top_scene * scene, const struct top_view * view) {
    const struct watch_frame * frame = scene->frame;
    struct top_pen             pen   = pen_of(grid, row);
    const bool                 on    = (frame->switches & LIVE_COUNTS) != 0;
    char                       seconds[TOP_NUMBER_MAX];
    if (scene->has_ended) {
        top_pen_item(&pen, "", GRID_WARNING, "has ended");
    } else if (view->is_frozen) {
        top_pen_item(&pen, "", GRID_WARNING, "frozen");
    }
    top_pen_item(&pen, "window", GRID_STRONG, "%s", top_view_window_text(view));
    if (top_view_window(view) != WATCH_ALL && frame->window + 0.5 < top_view_window(view)) {
        top_pen_item(&pen, "so far", GRID_PLAIN, "%s s", top_decimal(frame->window, 0, seconds));
    }
    top_pen_item(&pen, "", on ? GRID_GOOD : GRID_WARNING, "%s", on ? "counting" : "not counting");
    if ((frame->switches & LIVE_RECORDS) != 0) {
        top_pen_item(&pen, "", GRID_GOOD, "recording");
    }
    top_pen_item(&pen, "watched for", GRID_PLAIN, "%s s", top_decimal(frame->watched, 0, seconds));
    top_pen_item(&pen, "layers", GRID_PLAIN, "%s", top_view_sort_text(view));
    if (scene->why != NULL) {
        top_pen_text(&pen, GRID_WARNING, scene->why);
    }
}

void top_head_put(struct grid * grid, size_t n_rows, const struct top_scene * scene, const struct top_view * view) {
    static void (* const lines[TOP_HEAD_ROWS])(struct grid *, size_t, const struct top_scene *,
                                               const struct top_view *) = {
        put_names, put_rates, put_routing, put_state, put_tokens,
    };
    const size_t n = scene->frame != NULL ? TOP_HEAD_ROWS : 1;
    for (size_t i = 0; i < n && i < n_rows; i++) {
        lines[i](grid, i, scene, view);
    }
}
