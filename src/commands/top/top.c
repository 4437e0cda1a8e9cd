// The command `top`: what a traced program does now, on a screen that follows it, or as lines.

#include "commands/commands.h"
#include "commands/ps/ps-list.h"
#include "commands/ps/ps-text.h"
#include "commands/top/top-live.h"
#include "commands/top/top-print.h"
#include "commands/top/top-view.h"
#include "commands/traced-process.h"
#include "tool/options.h"
#include "tool/quantity.h"

#include <stdlib.h>
#include <unistd.h>

struct options {
    struct top_options top;
};

static bool take_size(const char * text, void * place, struct error * error) {
    struct top_sizes * sizes = place;
    if (sizes->n == TOP_SIZES_MAX) {
        return error_set(error, "--size is given %d times at most", TOP_SIZES_MAX);
    }
    if (!quantity_bytes(text, &sizes->bytes[sizes->n])) {
        return error_set(error, "--size needs a size, such as 6GiB, not '%s'", text);
    }
    sizes->n++;
    return true;
}

static const struct option_choice windows[] = { // as in top-view.c
    { "1", NULL }, { "5", NULL }, { "10", NULL }, { "30", NULL }, { "60", NULL }, { "all", NULL }, { 0 },
};

static const struct option_spec options_known[] = {
    { 'd', "interval", OPTION_NUMBER, OPTION_AT(top.interval), .value = "SECONDS",
      .help = "between two frames, 0.1 to 3600 (default: 1)" },
    { 'w', "window", OPTION_CHOICE, OPTION_AT(top.window), .value = "WINDOW", .choices = windows,
      .help = "seconds that counts are of: 1, 5, 10 (the default), 30 or 60; all: since counting began" },
    { 0, "size", OPTION_TEXT, OPTION_AT(top.sizes), .value = "SIZE", .take = take_size,
      .help = "look at a cache of this size besides the usual ones, such as 6GiB; twice at most" },
    { 0, "once", OPTION_ON, OPTION_AT(top.once), .help = "print a frame as lines, after --interval, and end" },
    { 'n', "frames", OPTION_COUNT, OPTION_AT(top.frames), .value = "N", .min = 1, .help = "end after N frames" },
    { 0, "json", OPTION_ON, OPTION_AT(top.json), .help = "print frames as JSON, each on a line (docs/json.md)" },
    TERMINAL_COLOR_OPTION(top.color),
    { 0 },
};

static void print_list(void) {
    const struct terminal terminal = terminal_of(stderr, TERMINAL_COLOR_NEVER);
    struct ps_list        list;
    ps_list_make(&list);
    ps_text_print(&list, &terminal);
    ps_list_free(&list);
}

// NULL: there is none.
static const struct live_process * find(const struct live_processes * processes, const char * word) {
    for (size_t i = 0; i < processes->n; i++) {
        if (traced_process_is_meant(&processes->all[i], word)) {
            return &processes->all[i];
        }
    }
    return NULL;
}

static int watch_process(const struct live_process * process, const struct top_options * options, bool as_lines) {
    struct top_session session;
    struct error       error;
    int                status = STATUS_FAILED;
    if (top_session_open(&session, process, &options->sizes, &error)) {
        status = as_lines ? top_print(&session, options) : top_live(&session, options);
    } else {
        error_say("%s: %s", session.who, error.text);
    }
    top_session_close(&session);
    return status;
}

static int choose(const struct top_options * options, bool as_lines) {
    struct top_session session = TOP_SESSION_NONE;
    if (!as_lines) {
        return top_live(&session, options);
    }
    const int status = command_usage_error(&command_top, "which process? Its number, as it is listed here:");
    print_list();
    return status;
}

static int top(const struct top_options * options, const char * word) {
    const bool            as_lines = options->once || options->json || !isatty(STDOUT_FILENO);
    struct live_processes processes;
    live_processes_find(&processes, false);
    const struct live_process * process = word != NULL ? find(&processes, word)
                                        : processes.n == 1 ? &processes.all[0] : NULL;
    const int status = process != NULL   ? watch_process(process, options, as_lines)
                     : word != NULL      ? traced_process_say_none(word)
                     : processes.n > 0   ? choose(options, as_lines) : traced_process_say_none_at_all("watched");
    live_processes_free(&processes);
    return status;
}

static int top_main(int argc, char ** argv) {
    struct options             parsed  = { .top = { .interval = 1.0, .window = 2 } };
    const struct top_options * options = &parsed.top;
    int                        status;
    if (!options_parse(&command_top, &parsed, &argc, &argv, &status)) {
        return status;
    }
    if (argc > 1 || (argc == 1 && !traced_process_is_word(argv[0]))) {
        return argc > 1 ? command_usage_error(&command_top, "one process at a time: what is '%s'?", argv[1])
            : command_usage_error(&command_top, "'%s' is no number of a process: see `ps`", argv[0]);
    }
    if (options->interval < TOP_INTERVAL_MIN || options->interval > TOP_INTERVAL_MAX) {
        return command_usage_error(&command_top, "--interval needs seconds, 0.1 to 3600");
    }
    if (options->once && options->frames > 1) {
        return command_usage_error(&command_top, "--once is one frame: leave out --frames");
    }
    return top(options, argc == 1 ? argv[0] : NULL);
}

const struct command command_top = {
    .name    = "top",
    .summary = "shows what a traced process does now, and follows it",
    .usage   = "[OPTION]… [PID]",
    .about   = "Shows what a traced program does while it runs: tokens a second, its sequences, which experts are used "
               "in each layer in these seconds, how evenly, how much comes back, what a cache would serve, and whether "
               "the last minute differs from what was before. It reads memory that the program counts in, and costs it "
               "next to nothing. PID is its number, as `ps` lists it, or its name, such as 1234-89abcdef; it is not "
               "needed where one program is traced.\n"
               "\n"
               "  h  what the keys do      w  the window          s  sort\n"
               "  j k Enter  one layer     space  freeze          r  record\n"
               "  z  count anew            m p  model, process    q  quit",
    .options = options_known,
    .notes   = "Where the standard output is no terminal, frames are printed as lines: one, or as many as --frames "
               "has. docs/top.md has every number on the screen.",
    .operand = COMMAND_OPERAND_WORD,
    .words   = (const char * const []) { NULL },
    .main    = top_main,
};
