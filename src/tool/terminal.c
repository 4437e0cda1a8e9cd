// What commands print to people: its width, its colours, and lines that no text of a file can break.

#include "tool/terminal.h"

#include "base/clean.h"
#include "tool/error.h"
#include "tool/wrap.h"

#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WIDTH_DEFAULT 80
#define WIDTH_MIN     40
#define WIDTH_MAX     200

const struct option_choice terminal_colors[] = { // as enum terminal_color
    { "auto", NULL }, { "always", NULL }, { "never", NULL }, { 0 },
};

static bool is_wanted(FILE * out, enum terminal_color color) {
    if (color != TERMINAL_COLOR_AUTO) {
        return color == TERMINAL_COLOR_ALWAYS;
    }
    const char * no_color = getenv("NO_COLOR");
    const char * term     = getenv("TERM");
    return isatty(fileno(out)) && (no_color == NULL || *no_color == '\0') && term != NULL && strcmp(term, "dumb") != 0;
}

static size_t find_width(FILE * out) {
    const char   * columns = getenv("COLUMNS");
    const long     stated  = columns == NULL ? 0 : strtol(columns, NULL, 10);
    struct winsize window  = { 0 };

    size_t width = WIDTH_DEFAULT;
    if (isatty(fileno(out)) && ioctl(fileno(out), TIOCGWINSZ, &window) == 0 && window.ws_col > 0) {
        width = window.ws_col;
    } else if (stated > 0) {
        width = (size_t) stated;
    }
    return width < WIDTH_MIN ? WIDTH_MIN : width > WIDTH_MAX ? WIDTH_MAX : width;
}

struct terminal terminal_of(FILE * out, enum terminal_color color) {
    return (struct terminal) {
        .out   = out,
        .width = find_width(out),
        .color = is_wanted(out, color),
        .utf8  = strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
    };
}

void terminal_style(const struct terminal * terminal, enum terminal_style style) {
    static const char * const codes[] = { "\033[0m", "\033[1m", "\033[2m", "\033[36m" };
    if (terminal->color) {
        fputs(codes[style], terminal->out);
    }
}

void terminal_bar(const struct terminal * terminal, double fraction, size_t width) {
    static const char * const eighths[] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };

    terminal_style(terminal, TERMINAL_BAR);
    const size_t length = (size_t) (fraction * (double) width * 8.0 + 0.5);
    if (terminal->utf8) {
        for (size_t i = 0; i < length / 8; i++) {
            fputs("█", terminal->out);
        }
        fputs(eighths[length % 8], terminal->out);
    } else {
        for (size_t i = 0; i < (length + 4) / 8; i++) {
            fputc('#', terminal->out);
        }
    }
    terminal_style(terminal, TERMINAL_PLAIN);
}

void terminal_field(const struct terminal * terminal, const char * label, const char * text) {
    terminal_style(terminal, TERMINAL_FAINT);
    fprintf(terminal->out, "%-12s", label);
    terminal_style(terminal, TERMINAL_PLAIN);
    char * clean = memory_text("%s", text);
    fprintf(terminal->out, "%s\n", clean_in_place(clean));
    free(clean);
}

void terminal_field_free(const struct terminal * terminal, const char * label, char * text) {
    terminal_field(terminal, label, text);
    free(text);
}

void terminal_paragraph(const struct terminal * terminal, const char * text) {
    char * clean = clean_in_place(memory_text("%s", text));
    wrap_print(terminal->out, clean, strlen(clean), (int) terminal->width, 0, 0);
    free(clean);
}

void terminal_paragraph_free(const struct terminal * terminal, char * text) {
    terminal_paragraph(terminal, text);
    free(text);
}

void terminal_title(const struct terminal * terminal, const char * name, bool first) {
    char * clean = memory_text("%s", name);
    fputs(first ? "" : "\n", terminal->out);
    terminal_style(terminal, TERMINAL_STRONG);
    fprintf(terminal->out, "==> %s <==", clean_in_place(clean));
    terminal_style(terminal, TERMINAL_PLAIN);
    fputc('\n', terminal->out);
    free(clean);
}
