// What commands print to people: its width, its colours, and lines that no text of a file can break.

#pragma once

#include "tool/options.h"

#include <stdio.h>

enum terminal_color { TERMINAL_COLOR_AUTO, TERMINAL_COLOR_ALWAYS, TERMINAL_COLOR_NEVER };

enum terminal_style { TERMINAL_PLAIN, TERMINAL_STRONG, TERMINAL_FAINT, TERMINAL_BAR };

struct terminal {
    FILE * out;
    size_t width; // columns
    bool   color;
    bool   utf8;
};

// A row of a command's table of options, whose struct has an enum terminal_color as `member`.
#define TERMINAL_COLOR_OPTION(member)                                                            \
    { 0, "color", OPTION_CHOICE, OPTION_AT(member), .value = "WHEN", .choices = terminal_colors, \
      .help = "auto (the default: on a terminal, unless NO_COLOR is set), always or never" }

extern const struct option_choice terminal_colors[];

struct terminal terminal_of(FILE * out, enum terminal_color color); // after setlocale()

void terminal_style(const struct terminal * terminal, enum terminal_style style);

// A bar of `fraction` of `width` columns, without anything behind it.
void terminal_bar(const struct terminal * terminal, double fraction, size_t width);

// A line of a header: "tokens      10". What a terminal would take for a command is replaced in the text.
void terminal_field     (const struct terminal * terminal, const char * label, const char * text);
void terminal_field_free(const struct terminal * terminal, const char * label, char * text); // and frees the text

// Sentences, in lines as wide as the terminal that break between words. One paragraph: what a terminal would take for a
// command is replaced, newlines too.
void terminal_paragraph     (const struct terminal * terminal, const char * text);
void terminal_paragraph_free(const struct terminal * terminal, char * text); // and frees the text

// The name of a file, above what is told of it.
void terminal_title(const struct terminal * terminal, const char * name, bool first);
