// The manual page (mdoc(7)): the template's lines, and the sections of commands, made of their tables of options.

#include "tool/manual.h"

#include "tool/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_LINE  "@command "
#define SYNOPSIS_LINE "@synopsis"

//
// text
//

// A hyphen that is to be typed, not one of a compound word.
static bool is_minus(const char * text, size_t at) {
    return at == 0 || !isalnum((unsigned char) text[at - 1]);
}

// `typed`: it is within backquotes.
static void put_character(FILE * out, const char * text, size_t at, bool typed) {
    if (text[at] == '\\') {
        fputs("\\e", out);
    } else if (text[at] == '-' && (typed || is_minus(text, at))) {
        fputs("\\-", out);
    } else {
        fputc(text[at], out);
    }
}

// One line, whatever its text begins with.
static void put_text(FILE * out, const char * text, size_t length) {
    static const char ellipsis[] = "…";
    bool typed = false;
    fputs("\\&", out);
    for (size_t i = 0; i < length; i++) {
        if (strncmp(text + i, ellipsis, sizeof(ellipsis) - 1) == 0) {
            fputs("...", out);
            i += sizeof(ellipsis) - 2;
        } else if (text[i] == '`') {
            typed = !typed;
            fputs(typed ? "\\fB" : "\\fR", out);
        } else {
            put_character(out, text, i, typed);
        }
    }
    fputc('\n', out);
}

static void put_literal(FILE * out, const char * text, size_t length) {
    fputs(".Bd -literal -offset indent\n", out);
    for (const char * line = text, * end; line < text + length; line = end + 1) {
        end = line + strcspn(line, "\n");
        line += strspn(line, " ");
        put_text(out, line, (size_t) (end - line));
    }
    fputs(".Ed\n", out);
}

static void put_paragraphs(FILE * out, const char * text, bool first) {
    for (const char * end; text != NULL && *text != '\0'; text = *end == '\0' ? end : end + 2) {
        end = strstr(text, "\n\n");
        end = end == NULL ? text + strlen(text) : end;
        if (*text == ' ') {
            put_literal(out, text, (size_t) (end - text));
        } else {
            fputs(first ? "" : ".Pp\n", out);
            put_text(out, text, (size_t) (end - text));
        }
        first = false;
    }
}

//
// a command
//

static void put_synopsis(FILE * out, const struct command * command) {
    for (const char * line = command->usage, * end; *line != '\0'; line = end + (*end == '\n')) {
        end = line + strcspn(line, "\n");
        fprintf(out, ".Nm\n.Cm %s\n", command->name);
        put_text(out, line, (size_t) (end - line));
    }
}

static void put_name(FILE * out, const struct option_spec * spec) {
    fputs("Fl Fl ", out);
    for (const char * at = spec->name; *at != '\0'; at++) {
        fputs(*at == '-' ? "\\-" : (const char[]) { *at, '\0' }, out);
    }
}

static void put_value(FILE * out, const struct option_spec * spec) {
    if (spec->value != NULL) {
        fprintf(out, " Ar %s", spec->value);
    }
}

static void put_choices(FILE * out, const struct option_choice * choices) {
    fputs(".Bl -tag -width Ds -compact\n", out);
    for (; choices->name != NULL; choices++) {
        fprintf(out, ".It Cm %s\n", choices->name);
        put_text(out, choices->help, strlen(choices->help));
    }
    fputs(".El\n", out);
}

static void put_option(FILE * out, const struct option_spec * spec) {
    fputs(".It ", out);
    if (spec->letter != '\0') {
        fprintf(out, "Fl %c", spec->letter);
        put_value(out, spec);
        fputs(" , ", out);
    }
    put_name(out, spec);
    put_value(out, spec);
    fputc('\n', out);
    put_text(out, spec->help, strlen(spec->help));
    if (spec->choices != NULL && spec->choices[0].help != NULL) {
        put_choices(out, spec->choices);
    }
}

static void put_options(FILE * out, const struct option_spec * rows) {
    bool open = false;
    for (; rows != NULL && rows->kind != OPTION_END; rows++) {
        if (rows->kind == OPTION_GROUP) {
            fprintf(out, "%s.Pp\n%s:\n", open ? ".El\n" : "", rows->help);
            open = false;
            continue;
        }
        if (!open) {
            fputs(".Bl -tag -width Ds\n", out);
            open = true;
        }
        put_option(out, rows);
    }
    fputs(open ? ".El\n" : "", out);
}

static void put_command(FILE * out, const struct command * command) {
    fprintf(out, ".Ss %s\n", command->name);
    put_paragraphs(out, command->about, true);
    put_options(out, command->options);
    put_paragraphs(out, command->notes, false);
}

//
// the template
//

struct manual {
    FILE                         * out;
    const struct command * const * all;
    size_t                         n_put; // commands that the template had so far
};

static const struct command * find(const struct manual * manual, const char * name) {
    for (size_t i = 0; manual->all[i] != NULL; i++) {
        if (strcmp(manual->all[i]->name, name) == 0) {
            return manual->all[i];
        }
    }
    return NULL;
}

// Returns false where there is no such command.
static bool put_line(struct manual * manual, const char * line) {
    if (strcmp(line, SYNOPSIS_LINE) == 0) {
        for (size_t i = 0; manual->all[i] != NULL; i++) {
            put_synopsis(manual->out, manual->all[i]);
        }
        return true;
    }
    if (strncmp(line, COMMAND_LINE, strlen(COMMAND_LINE)) != 0) {
        fprintf(manual->out, "%s\n", line);
        return true;
    }
    const struct command * command = find(manual, line + strlen(COMMAND_LINE));
    if (command != NULL) {
        put_command(manual->out, command);
        manual->n_put++;
    }
    return command != NULL;
}

static bool put_all(struct manual * manual, FILE * in, const char * path, struct error * error) {
    char * line = NULL;
    size_t room = 0;
    bool   ok   = true;
    for (ssize_t n; ok && (n = getline(&line, &room, in)) > 0;) {
        line[strcspn(line, "\n")] = '\0';
        ok = put_line(manual, line) || error_set(error, "%s: %s: no such command", path, line);
    }
    free(line);
    if (ok && ferror(in)) {
        return error_set(error, "%s: %s", path, strerror(errno));
    }
    if (ok && manual->all[manual->n_put] != NULL) {
        return error_set(error, "%s: has only %zu commands of all", path, manual->n_put);
    }
    return ok;
}

bool manual_print(FILE * out, const char * template_path, const struct command * const * all, struct error * error) {
    struct manual manual = { out, all, 0 };
    FILE        * in     = fopen(template_path, "re");
    if (in == NULL) {
        return error_set(error, "%s: %s", template_path, strerror(errno));
    }
    const bool ok = put_all(&manual, in, template_path, error);
    fclose(in);
    return ok;
}
