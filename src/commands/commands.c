// All commands of llama-expert-tracer, in the order in which they are listed.

#include "commands/commands.h"

#include "tool/error.h"

#include <stdio.h>
#include <string.h>

const struct command * const commands[] = {
    &command_run,
    &command_check,
    &command_ps,
    &command_attach,
    &command_detach,
    &command_top,
    &command_ctl,
    &command_serve,
    &command_report,
    &command_cache,
    &command_compare,
    &command_predict,
    &command_show,
    &command_merge,
    &command_info,
    &command_dump,
    &command_cat,
    &command_export,
    &command_import,
    &command_pack,
    &command_integrate,
    &command_completion,
    &command_help,
    NULL,
};

const struct command * commands_find(const char * name) {
    for (size_t i = 0; commands[i] != NULL; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

// Letters to change, add or leave out until one word is the other (Levenshtein).
static size_t distance(const char * a, const char * b) {
    const size_t n = strlen(b);
    size_t row[32];
    if (n + 1 > sizeof(row) / sizeof(row[0])) {
        return n;
    }
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            const size_t changed = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = smaller(changed, smaller(diagonal, row[j]) + 1);
        }
    }
    return row[n];
}

static const char * nearest_command(const char * name) {
    const char * nearest = NULL;
    size_t       least   = 3;
    for (size_t i = 0; commands[i] != NULL; i++) {
        const size_t letters = distance(name, commands[i]->name);
        if (letters < least) {
            least   = letters;
            nearest = commands[i]->name;
        }
    }
    return nearest;
}

int commands_unknown(const char * name) {
    const char * nearest = nearest_command(name);
    const char * what    = name[0] == '-' ? "option" : "command";
    if (nearest != NULL) {
        error_say("unknown %s '%s': did you mean '%s'?", what, name, nearest);
    } else {
        error_say("unknown %s '%s'", what, name);
    }
    fputs("try: llama-expert-tracer --help\n", stderr);
    return STATUS_USAGE;
}
