// Prints frames as lines.

#include "commands/top/top-print.h"

#include "commands/top/top-screen.h"

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
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        const struct timespec pause = { 0, WATCH_POLL * 1000000L };
        top_session_poll(session);
        nanosleep(&pause, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (!session->has_ended &&
             (double) (now.tv_sec - start.tv_sec) + (double) (now.tv_nsec - start.tv_nsec) / 1e9 < seconds);
    top_session_poll(session);
}

static void print_frame(struct top_session * session, struct top_view * view, const struct terminal * terminal) {
    struct error           error;
    struct watch_frame   * frame = top_session_look(session, top_view_window(view), &error);
    const struct top_scene scene = {
        .who = session->who, .frame = frame, .why = frame == NULL ? error.text : NULL, .has_ended = session->has_ended,
    };
    struct grid grid = grid_new(top_screen_rows(&scene), width_of(terminal), terminal->utf8,
                                terminal->color ? MANY_COLORS : 0);
    top_screen_fill(&grid, &scene, view);
    grid_print(&grid, terminal);
    fflush(terminal->out);
    grid_free(&grid);
    watch_frame_free(frame);
}

int top_print(struct top_session * session, const struct top_options * options) {
    const struct terminal terminal = terminal_of(stdout, options->color);
    const uint64_t        n        = options->frames > 0 ? options->frames : 1;
    struct top_view       view     = { .window = (size_t) options->window, .interval = options->interval };
    for (uint64_t i = 0; i < n && !session->has_ended && !ferror(stdout); i++) {
        watch_for(session, options->interval);
        if (i > 0) {
            fputc('\n', terminal.out);
        }
        print_frame(session, &view, &terminal);
    }
    return STATUS_OK;
}
