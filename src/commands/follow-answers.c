// Makes an answer of all parts of a trace whenever there is more of it, in a quarter of the time at the most.

#include "commands/follow-answers.h"

#include "tool/clock.h"
#include "tool/input/input-kind.h"
#include "tool/input/trace-follow.h"
#include "tool/input/trace-input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAUSE_LEAST 1000 // milliseconds between two answers
#define REST        3    // times as long as the last one took
#define ROWS        24   // of a terminal that does not tell

struct following {
    const struct follow_answers * wish;
    struct trace_follow         * follow;
    bool                          in_place;
    char                        * text;    // of the last answer
    bool                          is_cut;  // not all of it is on the screen
    bool                          is_first;
    bool                          has_warned;
    struct error                  said;    // why there was no answer the last time
    int                           status;
};

//
// the options
//

static bool is_of_statistics(const char * file) {
    struct stat     about;
    struct error    error;
    enum input_kind kind;
    return stat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > 0 &&
           input_kind_of(file, &kind, &error) && kind == INPUT_STATISTICS;
}

int follow_answers_check(const struct command * command, const char * file, const struct document_output * output) {
    const int status = trace_follow_check(command, file);
    if (status != STATUS_OK) {
        return status;
    }
    if (output->page != NULL && strcmp(output->page, "-") == 0) {
        return command_usage_error(command, "--follow writes the page again and again: --html needs the name of a "
                                            "file");
    }
    if (is_of_statistics(file)) {
        return command_usage_error(command, "--follow takes a routing trace, and %s is none: for statistics, use "
                                            "`watch llama-expert-tracer %s %s`", file, command->name, file);
    }
    return STATUS_OK;
}

//
// the screen
//

static bool may_be_in_place(const struct follow_answers * wish) {
    const char * term = getenv("TERM");
    return document_leaves_terminal(wish->output) && isatty(STDOUT_FILENO) && term != NULL &&
           strcmp(term, "dumb") != 0;
}

static size_t rows_of_screen(void) {
    struct winsize window = { 0 };
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_row > 1 ? window.ws_row : ROWS;
}

static size_t count_lines(const char * text) {
    size_t n = 0;
    for (; (text = strchr(text, '\n')) != NULL; text++) {
        n++;
    }
    return n;
}

static void put_lines(const char * text, size_t n) {
    for (const char * end; n > 0 && (end = strchr(text, '\n')) != NULL; text = end + 1, n--) {
        fwrite(text, 1, (size_t) (end - text), stdout);
        fputs("\033[K\n", stdout); // and what was there to the right of it
    }
}

// Over what is on the screen. The last answer is printed to its end.
static void put_in_place(struct following * following, bool is_last) {
    const size_t rows = rows_of_screen();
    const size_t n    = count_lines(following->text);
    following->is_cut = !is_last && n > rows - 1;
    fputs(following->is_first ? "\033[H\033[2J" : "\033[H", stdout);
    put_lines(following->text, following->is_cut ? rows - 2 : n);
    if (following->is_cut) {
        printf("… and %zu lines more, when it ends or without --follow\033[K\n", n - (rows - 2));
    }
    fputs("\033[J", stdout);
}

static void put_text(struct following * following, bool is_last) {
    if (following->in_place) {
        put_in_place(following, is_last);
    } else {
        fputs(following->is_first ? "" : "\n", stdout);
        fputs(following->text, stdout);
    }
    following->is_first = false;
}

//
// an answer
//

static bool answer(struct following * following, const struct trace * trace, uint64_t * lost, struct error * error) {
    const struct follow_answers * wish     = following->wish;
    struct terminal               terminal = terminal_of(stdout, wish->color);
    const bool                    has_text = document_leaves_terminal(wish->output);
    char                        * text     = NULL;
    size_t                        size     = 0;
    int                           written  = STATUS_OK;
    terminal.out = open_memstream(&text, &size);
    if (terminal.out == NULL) {
        return error_set(error, "out of memory");
    }
    const bool ok   = wish->answer(wish->self, trace, has_text ? &terminal : NULL, &written, lost, error);
    const bool full = fclose(terminal.out) != 0;
    if (!ok || full) {
        free(text);
        return ok && full ? error_set(error, "out of memory") : false;
    }
    free(following->text);
    following->text = text;
    if (has_text) {
        put_text(following, trace_follow_is_over(following->follow));
    }
    following->status = written == STATUS_OK ? following->status : written;
    return true;
}

// Of what is in place everything is wiped away with the next answer, so that it is said again.
static void warn_of_damage(struct following * following, const struct trace * trace, uint64_t lost) {
    if (trace_input_is_damaged(trace_about(trace), lost) && (!following->has_warned || following->in_place)) {
        following->has_warned = true;
        trace_input_check(following->wish->file, trace_about(trace), lost);
    }
}

// Said once; it is an error where it stays so to the end.
static void say_no_answer(struct following * following, const struct error * error) {
    if (strcmp(following->said.text, error->text) != 0) {
        error_say("%s%s", error->text, trace_follow_is_over(following->follow) ? "" : " (so far)");
    }
    following->said = *error;
}

// False: it cannot go on.
static bool answer_anew(struct following * following) {
    struct error   error;
    struct error   cause;
    uint64_t       lost  = 0;
    struct trace * trace = trace_follow_open(following->follow, &error);
    if (trace != NULL && !trace_filter_fits(following->wish->filter, trace_about(trace), &cause)) {
        error_set(&error, "%s: %s", following->wish->file, cause.text);
        trace_close(trace);
        trace = NULL;
    }
    if (trace == NULL) {
        error_say("%s", error.text);
        return false;
    }
    if (answer(following, trace, &lost, &error)) {
        following->said = (struct error) { "" };
        fflush(stdout);
        warn_of_damage(following, trace, lost);
    } else {
        say_no_answer(following, &error);
    }
    trace_close(trace);
    return following->status == STATUS_OK && ferror(stdout) == 0;
}

//
// all of them
//

static int go_on(struct following * following) {
    int64_t          pause = 0;
    enum follow_news news;
    while (follow_news_is_more(news = trace_follow_next(following->follow, pause))) {
        const int64_t begin = clock_milliseconds();
        if (!answer_anew(following)) {
            return STATUS_FAILED;
        }
        const int64_t rest = REST * (clock_milliseconds() - begin);
        pause = rest > PAUSE_LEAST ? rest : PAUSE_LEAST;
    }
    if (following->is_cut) {
        fputs(following->text, stdout);
    }
    const bool failed = news == FOLLOW_FAILED || following->has_warned || following->said.text[0] != '\0';
    return failed ? STATUS_FAILED : STATUS_OK;
}

int follow_answers(const struct follow_answers * wish) {
    struct following following = {
        .wish     = wish,
        .follow   = trace_follow_new(wish->file),
        .in_place = may_be_in_place(wish),
        .is_first = true,
    };
    const int status = go_on(&following);
    free(following.text);
    trace_follow_free(following.follow);
    return status;
}
