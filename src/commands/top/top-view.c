// Turns keys into what is seen and what is to be done.

#include "commands/top/top-view.h"

#include "base/quantity.h"
#include "tool/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct { int seconds; const char * text; } windows[] = {
    { 1, "1 s" }, { 5, "5 s" }, { 10, "10 s" }, { 30, "30 s" }, { WATCH_SECONDS_MAX, "60 s" },
    { WATCH_ALL, "all since counting began" },
};

#define N_WINDOWS (sizeof(windows) / sizeof(windows[0]))

int top_view_window(const struct top_view * view) {
    return windows[view->window].seconds;
}

const char * top_view_window_text(const struct top_view * view) {
    return windows[view->window].text;
}

const char * top_view_sort_text(const struct top_view * view) {
    static const char * const texts[N_TOP_SORTS] = {
        [TOP_BY_NUMBER] = "by number", [TOP_BY_EVENNESS] = "least even first", [TOP_BY_HOTTEST] = "hottest first",
    };
    return texts[view->sort];
}

//
// the order of layers
//

struct ranked_layer {
    size_t index;
    double key; // ascending
};

static int compare(const void * a, const void * b) {
    const struct ranked_layer * x = a;
    const struct ranked_layer * y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : (x->index > y->index) - (x->index < y->index);
}

// What is not known comes last.
static double key_of(const struct top_view * view, const struct watch_layer * layer) {
    const double key = view->sort == TOP_BY_EVENNESS ? layer->entropy
                     : view->sort == TOP_BY_HOTTEST  ? -layer->share : 0.0;
    return isnan(key) ? INFINITY : key;
}

void top_view_order(const struct top_view * view, const struct watch_frame * frame, size_t * order) {
    struct ranked_layer * ranked = memory_new(frame->n_layers, sizeof(*ranked));
    for (size_t i = 0; i < frame->n_layers; i++) {
        ranked[i] = (struct ranked_layer) { i, key_of(view, &frame->layers[i]) };
    }
    qsort(ranked, frame->n_layers, sizeof(*ranked), compare);
    for (size_t i = 0; i < frame->n_layers; i++) {
        order[i] = ranked[i].index;
    }
    free(ranked);
}

//
// moving
//

static size_t moved(size_t from, long by, size_t n) {
    const long to = (long) from + by;
    return n == 0 || to < 0 ? 0 : (size_t) to >= n ? n - 1 : (size_t) to;
}

// By how many rows a key goes down; 0: it does not.
static long step_of(const struct top_view * view, int key) {
    const long page = view->page > 1 ? (long) view->page - 1 : 1;
    switch (key) {
        case 'k': case TOP_KEY_UP:   return -1;
        case 'j': case TOP_KEY_DOWN: return 1;
        case TOP_KEY_PAGE_UP:        return -page;
        case TOP_KEY_PAGE_DOWN:      return page;
        case 'g': case TOP_KEY_HOME: return -1000000;
        case 'G': case TOP_KEY_END:  return 1000000;
        default:                     return 0;
    }
}

static void move_layer(struct top_view * view, const struct watch_frame * frame, long by) {
    size_t place = 0;
    if (frame == NULL || frame->n_layers == 0) {
        return;
    }
    size_t * order = memory_new(frame->n_layers, sizeof(*order));
    top_view_order(view, frame, order);
    while (place + 1 < frame->n_layers && frame->layers[order[place]].layer != view->layer) {
        place++;
    }
    view->layer = frame->layers[order[moved(place, by, frame->n_layers)]].layer;
    free(order);
}

static void move(struct top_view * view, const struct watch_frame * frame, long by) {
    if (view->mode == TOP_LAYERS) {
        move_layer(view, frame, by);
    } else if (view->mode == TOP_CHOICE) {
        view->choice = moved(view->choice, by, view->n_choices);
    } else {
        view->scroll = moved(view->scroll, by, SIZE_MAX / 4); // the screen knows how much there is
    }
}

//
// questions
//

static enum top_action ask(struct top_view * view, enum top_question question) {
    view->question = question;
    view->typed[0] = '\0';
    return TOP_DRAW;
}

static void erase(char * text) {
    size_t n = strlen(text);
    while (n > 0 && ((unsigned char) text[n - 1] & 0xc0) == 0x80) {
        n--;
    }
    text[n > 0 ? n - 1 : 0] = '\0';
}

static void type(char * text, int key) {
    const size_t n = strlen(text);
    if (key >= ' ' && key < 256 && n + 1 < TOP_TYPED_MAX) {
        text[n]     = (char) key;
        text[n + 1] = '\0';
    }
}

static enum top_action take_seconds(struct top_view * view) {
    const double seconds = quantity_parse(view->typed, quantity_plain);
    if (seconds >= TOP_INTERVAL_MIN && seconds <= TOP_INTERVAL_MAX) {
        view->interval = seconds;
    }
    return TOP_LOOK;
}

static enum top_action take_typed(struct top_view * view) {
    const enum top_question question = view->question;
    view->question = TOP_ASKS_NOTHING;
    return view->typed[0] == '\0'        ? TOP_DRAW
         : question == TOP_ASKS_SECONDS ? take_seconds(view) : TOP_RECORD;
}

static enum top_action answer(struct top_view * view, int key) {
    if (key == TOP_KEY_RESIZE || key == TOP_KEY_NONE) {
        return TOP_DRAW;
    }
    if (view->question == TOP_ASKS_RESET || key == TOP_KEY_ESCAPE) {
        const bool yes = view->question == TOP_ASKS_RESET && (key == 'y' || key == 'Y');
        view->question = TOP_ASKS_NOTHING;
        return yes ? TOP_RESET : TOP_DRAW;
    }
    if (key == TOP_KEY_ENTER) {
        return take_typed(view);
    }
    if (key == TOP_KEY_ERASE) {
        erase(view->typed);
    } else {
        type(view->typed, key);
    }
    return TOP_DRAW;
}

//
// everything else
//

static enum top_action go_to(struct top_view * view, enum top_mode mode) {
    view->mode   = mode;
    view->scroll = 0;
    return TOP_DRAW;
}

static enum top_action set_window(struct top_view * view, size_t window) {
    view->window = window;
    return TOP_LOOK;
}

static enum top_action enter(struct top_view * view, const struct watch_frame * frame) {
    switch (view->mode) {
        case TOP_CHOICE: return view->n_choices > 0 ? TOP_TAKE : TOP_DRAW;
        case TOP_LAYERS: return frame != NULL && frame->n_layers > 0 ? go_to(view, TOP_LAYER) : TOP_DRAW;
        default:         return go_to(view, TOP_LAYERS);
    }
}

static enum top_action sort(struct top_view * view) {
    if (view->mode == TOP_LAYER) {
        view->by_id = !view->by_id;
    } else {
        view->sort = (view->sort + 1) % N_TOP_SORTS;
    }
    return TOP_DRAW;
}

static enum top_action freeze(struct top_view * view) {
    view->is_frozen = !view->is_frozen;
    return TOP_LOOK;
}

static enum top_action record(struct top_view * view, const struct watch_frame * frame) {
    return frame == NULL                             ? TOP_DRAW
         : (frame->switches & LIVE_RECORDS) != 0 ? TOP_RECORD_STOP : ask(view, TOP_ASKS_FILE);
}

static enum top_action next_layer(struct top_view * view, const struct watch_frame * frame, long by) {
    if (view->mode == TOP_LAYER || view->mode == TOP_LAYERS) {
        move_layer(view, frame, by);
    }
    return TOP_DRAW;
}

static enum top_action do_key(struct top_view * view, const struct watch_frame * frame, int key) {
    switch (key) {
        case 'w':           return set_window(view, (view->window + 1) % N_WINDOWS);
        case 'W':           return set_window(view, (view->window + N_WINDOWS - 1) % N_WINDOWS);
        case '+':           return set_window(view, moved(view->window,  1, N_WINDOWS));
        case '-':           return set_window(view, moved(view->window, -1, N_WINDOWS));
        case 's':           return sort(view);
        case 'f': case ' ': return freeze(view);
        case 'z': case 'R': return ask(view, TOP_ASKS_RESET);
        case 'r':           return record(view, frame);
        case 'd':           return ask(view, TOP_ASKS_SECONDS);
        case 'm':           return TOP_NEXT_MODEL;
        case 'p': case 'P': return TOP_FIND;
        case TOP_KEY_LEFT:  return next_layer(view, frame, -1);
        case TOP_KEY_RIGHT: return next_layer(view, frame,  1);
        default:            return TOP_DRAW;
    }
}

enum top_action top_view_key(struct top_view * view, const struct watch_frame * frame, int key) {
    const long step = step_of(view, key);
    if (view->question != TOP_ASKS_NOTHING) {
        return answer(view, key);
    }
    if (step != 0) {
        move(view, frame, step);
        return TOP_DRAW;
    }
    switch (key) {
        case 'q': case 'Q':      return TOP_QUIT;
        case 'h': case '?':      return go_to(view, view->mode == TOP_HELP ? TOP_LAYERS : TOP_HELP);
        case TOP_KEY_ESCAPE:     return go_to(view, TOP_LAYERS);
        case TOP_KEY_ENTER:
        case '\r':               return enter(view, frame);
        default:                 return view->mode == TOP_CHOICE ? TOP_DRAW : do_key(view, frame, key);
    }
}
