// The loop between the watch, the screen and the keys.

#include "commands/top/top-live.h"

#include "commands/top/top-choices.h"
#include "commands/top/top-order.h"
#include "commands/top/top-screen.h"
#include "commands/top/top-terminal.h"
#include "tool/clock.h"

#include <signal.h>
#include <stdlib.h>

struct live {
    const struct top_options * options;
    struct top_session       * session;
    struct top_view            view;
    struct watch_frame       * frame;
    struct error               error;   // why there is no frame, or the last one stays
    bool                       is_late; // the last one stays
    struct top_order         * order;   // NULL: none is on its way
    char                     * message;
    struct top_choices         choices;
    double                     next;    // when the next frame is due, seconds of the monotonic clock
    uint64_t                   n_frames;
    bool                       utf8;
    bool                       is_over;
};

static volatile sig_atomic_t interrupted;

static void note_signal(int number) {
    (void) number;
    interrupted = 1;
}

// ncurses follows SIGTSTP, SIGCONT and SIGWINCH.
static void catch_signals(void) {
    struct sigaction action = { .sa_handler = note_signal };
    sigemptyset(&action.sa_mask);
    interrupted = 0;
    sigaction(SIGINT,  &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP,  &action, NULL);
}

//
// what is seen
//

static void say(struct live * live, char * message) {
    free(live->message);
    live->message = message;
}

// Where there is nothing new the last frame stays.
static void look(struct live * live) {
    struct watch_frame * frame = top_session_look(live->session, top_view_window(&live->view), &live->error);
    live->is_late = frame == NULL;
    if (frame != NULL) {
        watch_frame_free(live->frame);
        live->frame = frame;
    }
    live->next = clock_seconds() + live->view.interval;
}

static void draw(struct live * live) {
    size_t n_rows, n_columns;
    int    colors;
    top_terminal_size(&n_rows, &n_columns, &colors);
    struct grid            grid  = grid_new(n_rows, n_columns, live->utf8, colors);
    const struct top_scene scene = {
        .who       = live->session->who != NULL ? live->session->who : "llama-expert-tracer",
        .frame     = live->frame,
        .why       = live->is_late ? live->error.text : NULL,
        .message   = live->message,
        .has_ended = live->session->has_ended,
        .has_keys  = true,
        .choices   = (const char * const *) live->choices.texts,
    };
    top_screen_fill(&grid, &scene, &live->view);
    top_terminal_draw(&grid);
    grid_free(&grid);
}

//
// processes
//

static void find_processes(struct live * live) {
    top_choices_free(&live->choices);
    top_choices_find(&live->choices);
    live->view.mode      = TOP_CHOICE;
    live->view.n_choices = live->choices.processes.n;
    live->view.choice    = 0;
    if (live->view.n_choices == 0) {
        say(live, memory_text("nothing is traced: start a program with `llama-expert-tracer run`"));
    }
}

static void forget_process(struct live * live) {
    free(top_order_end(live->order));
    live->order = NULL;
    watch_frame_free(live->frame);
    live->frame = NULL;
    top_session_close(live->session);
}

static void take_process(struct live * live) {
    forget_process(live);
    if (!top_session_open(live->session, &live->choices.processes.all[live->view.choice], &live->options->sizes,
                          &live->error)) {
        say(live, memory_text("%s", live->error.text));
        return;
    }
    live->view.mode  = TOP_LAYERS;
    live->view.layer = 0;
    top_session_poll(live->session);
    look(live);
}

//
// requests
//

static void order(struct live * live, enum ctl_verb verb) {
    struct error error;
    if (live->frame == NULL || live->session->has_ended) {
        say(live, memory_text("there is nobody to be asked"));
    } else if (live->order != NULL) {
        say(live, memory_text("the last request is not answered yet: it is, from the next batch on"));
    } else {
        live->order = top_order_begin(live->session, verb, live->view.typed, live->frame->number, &error);
        say(live, memory_text("%s", live->order != NULL ? "asked: it holds from the next batch on" : error.text));
    }
}

// Whether there is something to be drawn.
static bool take_answer(struct live * live) {
    if (live->order == NULL || !top_order_is_done(live->order)) {
        return false;
    }
    say(live, top_order_end(live->order));
    live->order = NULL;
    return true;
}

//
// the loop
//

static void act(struct live * live, enum top_action action) {
    switch (action) {
        case TOP_LOOK:        live->next = live->view.is_frozen ? live->next : 0.0;  break;
        case TOP_QUIT:        live->is_over = true;                                  break;
        case TOP_RESET:       order(live, CTL_RESET);                                break;
        case TOP_RECORD:      order(live, CTL_RECORD);                               break;
        case TOP_RECORD_STOP: order(live, CTL_RECORD_STOP);                          break;
        case TOP_FIND:        find_processes(live);                                  break;
        case TOP_TAKE:        take_process(live);                                    break;
        case TOP_NEXT_MODEL:
            if (live->frame != NULL && !live->session->has_ended) {
                top_session_next_model(live->session, live->frame);
                live->next = 0.0;
            }
            break;
        default: break;
    }
}

// What was to be read goes away with the next key.
static void follow(struct live * live, int key) {
    if (key != TOP_KEY_RESIZE) {
        say(live, NULL);
    }
    act(live, top_view_key(&live->view, live->frame, key));
}

// Whether there is something to be drawn.
static bool update(struct live * live) {
    const bool had_ended = live->session->has_ended;
    top_session_poll(live->session);
    const bool ends = live->session->has_ended && !had_ended;
    if (ends || (!live->view.is_frozen && !had_ended && clock_seconds() >= live->next)) {
        look(live);
        live->n_frames++;
        return true;
    }
    return false;
}

static void go_on(struct live * live) {
    bool is_new = true;
    while (!live->is_over && !interrupted) {
        is_new = update(live) || is_new;
        is_new = take_answer(live) || is_new;
        if (is_new) {
            draw(live);
        }
        const int key = top_terminal_key(WATCH_POLL);
        is_new = key != TOP_KEY_NONE;
        if (is_new) {
            follow(live, key);
        }
        live->is_over = live->is_over || (live->options->frames > 0 && live->n_frames > live->options->frames);
    }
}

int top_live(struct top_session * session, const struct top_options * options) {
    const struct terminal terminal = terminal_of(stdout, options->color);
    struct live           live     = {
        .options = options, .session = session, .utf8 = terminal.utf8,
        .view = { .window = (size_t) options->window, .interval = options->interval },
    };
    if (!top_terminal_begin(terminal.color, &live.error)) {
        error_say("%s", live.error.text);
        return STATUS_FAILED;
    }
    catch_signals();
    if (session->watch == NULL) {
        find_processes(&live);
    }
    go_on(&live);
    top_terminal_end();
    forget_process(&live);
    top_choices_free(&live.choices);
    free(live.message);
    return STATUS_OK;
}
