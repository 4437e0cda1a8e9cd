// What `COMMAND --help` prints, made of the command's description and the table of its options.

#include "tool/help.h"

#include "tool/option-spec.h"
#include "tool/wrap.h"

#include <string.h>

#define WIDTH      80
#define COLUMN_MAX 27 // where the texts of options begin at most

static void print_spaces(FILE * out, int n) {
    fprintf(out, "%*s", n, "");
}

static void print_paragraphs(FILE * out, const char * text) {
    for (const char * end; text != NULL && *text != '\0'; text = *end == '\0' ? end : end + 2) {
        end = strstr(text, "\n\n");
        end = end == NULL ? text + strlen(text) : end;
        if (*text == ' ') {
            fprintf(out, "%.*s\n", (int) (end - text), text);
        } else {
            wrap_print(out, text, (size_t) (end - text), WIDTH, 0, 0);
        }
        fputs(*end == '\0' ? "" : "\n", out);
    }
}

static void print_usage(FILE * out, const struct command * command) {
    const char * label = "usage:";
    for (const char * line = command->usage, * end; *line != '\0'; line = end + (*end == '\n')) {
        end = line + strcspn(line, "\n");
        fprintf(out, "%s llama-expert-tracer %s %.*s\n", label, command->name, (int) (end - line), line);
        label = "      ";
    }
}

//
// the options
//

static int width_of_row(const struct option_spec * spec) {
    return 8 + (int) strlen(spec->name) + (spec->value == NULL ? 0 : 1 + wrap_width(spec->value, strlen(spec->value)));
}

static int column_of(const struct option_spec * rows) {
    int column = width_of_row(&option_help) + 2;
    for (; rows != NULL && rows->kind != OPTION_END; rows++) {
        const int needed = rows->name == NULL ? 0 : width_of_row(rows) + 2;
        column = needed > column && needed <= COLUMN_MAX ? needed : column;
    }
    return column;
}

static void print_text_at(FILE * out, const char * text, int column, int used) {
    if (used + 2 > column) {
        fputc('\n', out);
        used = 0;
    }
    print_spaces(out, column - used);
    wrap_print(out, text, strlen(text), WIDTH, column, column);
}

static void print_row(FILE * out, const struct option_spec * spec, int column) {
    if (spec->name == NULL) {
        fprintf(out, "\n%s:\n", spec->help);
        return;
    }
    fputs("  ", out);
    if (spec->letter != '\0') {
        fprintf(out, "-%c, ", spec->letter);
    } else {
        print_spaces(out, 4);
    }
    fprintf(out, "--%s%s%s", spec->name, spec->value == NULL ? "" : " ", spec->value == NULL ? "" : spec->value);
    print_text_at(out, spec->help, column, width_of_row(spec));
}

static void print_choices(FILE * out, const struct option_spec * spec) {
    int column = 0;
    for (const struct option_choice * choice = spec->choices; choice->name != NULL; choice++) {
        const int needed = 2 + (int) strlen(choice->name) + 2;
        column = needed > column ? needed : column;
    }
    fprintf(out, "\n%s is one of these:\n", spec->value);
    for (const struct option_choice * choice = spec->choices; choice->name != NULL; choice++) {
        fprintf(out, "  %s", choice->name);
        print_text_at(out, choice->help, column, 2 + (int) strlen(choice->name));
    }
}

static void print_options(FILE * out, const struct option_spec * rows) {
    const int column = column_of(rows);
    bool      helped = false; // behind the last row that is under no heading
    for (const struct option_spec * spec = rows; spec != NULL && spec->kind != OPTION_END; spec++) {
        if (spec->kind == OPTION_GROUP && !helped) {
            print_row(out, &option_help, column);
            helped = true;
        }
        print_row(out, spec, column);
    }
    if (!helped) {
        print_row(out, &option_help, column);
    }
    for (const struct option_spec * spec = rows; spec != NULL && spec->kind != OPTION_END; spec++) {
        if (spec->choices != NULL && spec->choices[0].help != NULL) {
            print_choices(out, spec);
        }
    }
}

void help_print(FILE * out, const struct command * command) {
    print_usage(out, command);
    fputc('\n', out);
    print_paragraphs(out, command->about);
    fputc('\n', out);
    print_options(out, command->options);
    if (command->notes != NULL) {
        fputc('\n', out);
        print_paragraphs(out, command->notes);
    }
}
