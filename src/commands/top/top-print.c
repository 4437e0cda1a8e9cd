// Prints frames as lines, or as JSON.

#include "commands/top/top-print.h"

#include "commands/top/top-screen.h"
#include "commands/watch-json.h"
#include "tool/clock.h"
#include "tool/json-output.h"
#include "tool/json-values.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define MANY_COLORS 256

// What is printed to a narrow terminal is not wrapped.
static size_t width_of(const struct terminal * terminal) {
    struct winsize window;
    const bool     is_known = ioctl(fileno(terminal->out), TIOCGWINSZ, &window) == 0 && window.ws_col > 0;
    return is_known ? window.ws_col : terminal->width;
}

static void watch_for(struct top_session * session, double seconds) {
    const double end = clock_seconds() + seconds;
    do {
        const struct timespec pause = { 0, WATCH_POLL * 1000000L };
        top_session_poll(session);
        nanosleep(&pause, NULL);
    } while (!session->has_ended && clock_seconds() < end);
    top_session_poll(session);
}

static void print_json(const struct watch_frame * frame, const char * why) {
    json_t * json = frame != NULL ? watch_json(frame) : json_pack("{s:o}", "error", json_value_text(why));
    json_output_put(stdout, json, JSON_COMPACT);
    json_decref(json);
}

static void print_lines(const struct top_session * session, const struct watch_frame * frame, const char * why,
                        struct top_view * view, const struct terminal * terminal) {
    const struct top_scene scene = {
        .who = session->who, .frame = frame, .why = why, .has_ended = session->has_ended,
    };
    struct grid grid = grid_new(top_screen_rows(&scene), width_of(terminal), terminal->utf8,
                                terminal->color ? MANY_COLORS : 0);
    top_screen_fill(&grid, &scene, view);
    grid_print(&grid, terminal);
    grid_free(&grid);
}

int top_print(struct top_session * session, const struct top_options * options) {
    const struct terminal terminal = terminal_of(stdout, options->color);
    const uint64_t        n        = options->frames > 0 ? options->frames : 1;
    struct top_view       view     = { .window = (size_t) options->window, .interval = options->interval };
    for (uint64_t i = 0; i < n && !session->has_ended && !ferror(stdout); i++) {
        struct error         error;
        struct watch_frame * frame;
        watch_for(session, options->interval);
        frame = top_session_look(session, top_view_window(&view), &error);
        const char * why = frame == NULL ? error.text : NULL;
        if (options->json) {
            print_json(frame, why);
        } else {
            fputs(i > 0 ? "\n" : "", terminal.out);
            print_lines(session, frame, why, &view, &terminal);
        }
        fflush(terminal.out);
        watch_frame_free(frame);
    }
    return STATUS_OK;
}
