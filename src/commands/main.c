#include "tool/command.h"
#include "tool/error.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command * const commands[] = {
    &command_run,
    &command_check,
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
    &command_pack,
    &command_integrate,
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

int command_help(const struct command * command) {
    fputs(command->help, stdout);
    return STATUS_OK;
}

int command_usage_error(const struct command * command, const char * format, ...) {
    struct error error;
    va_list      args;
    va_start(args, format);
    vsnprintf(error.text, sizeof(error.text), format, args);
    va_end(args);

    error_say("%s: %s", command->name, error.text);
    fprintf(stderr, "try: llama-expert-tracer %s --help\n", command->name);
    return STATUS_USAGE;
}

int command_option_error(const struct command * command, char ** argv, int option) {
    const char * given = argv[optind - 1];
    if (option == ':') {
        return command_usage_error(command, "%s needs a value", given);
    }
    if (strncmp(given, "--", 2) == 0) {
        const bool known = optopt != 0;
        return command_usage_error(command, known ? "option %s takes no value" : "unknown or ambiguous option %s", given);
    }
    return command_usage_error(command, "unknown option -%c", optopt);
}

static int print_help(void) {
    puts("usage: llama-expert-tracer COMMAND …\n"
         "\n"
         "Shows which experts llama.cpp routes every token to.\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    }
    puts("\n"
         "  llama-expert-tracer COMMAND --help   tells more about one of them\n"
         "  llama-expert-tracer --version        tells the version");
    return STATUS_OK;
}

static int print_version(void) {
    puts("llama-expert-tracer " EXPERT_TRACER_VERSION);
    return STATUS_OK;
}

static const struct command * find_command(const char * name) {
    for (size_t i = 0; i < N_COMMANDS; i++) {
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
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const size_t letters = distance(name, commands[i]->name);
        if (letters < least) {
            least   = letters;
            nearest = commands[i]->name;
        }
    }
    return nearest;
}

static int unknown_command(const char * name) {
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

// "which command? run, check or show"
static int no_command(void) {
    char * names = memory_text("%s", commands[0]->name);
    for (size_t i = 1; i < N_COMMANDS; i++) {
        char * more = memory_text("%s%s%s", names, i + 1 == N_COMMANDS ? " or " : ", ", commands[i]->name);
        free(names);
        names = more;
    }
    error_say("which command? %s", names);
    fputs("try: llama-expert-tracer --help\n", stderr);
    free(names);
    return STATUS_USAGE;
}

static int help(int argc, char ** argv) {
    if (argc < 2) {
        return print_help();
    }
    const struct command * command = find_command(argv[1]);
    return command == NULL ? unknown_command(argv[1]) : command_help(command);
}

static int dispatch(int argc, char ** argv) {
    if (argc < 2) {
        return no_command();
    }
    const char * name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        return print_help();
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        return print_version();
    }
    if (strcmp(name, "help") == 0) {
        return help(argc - 1, argv + 1);
    }
    const struct command * command = find_command(name);
    opterr = 0;
    return command == NULL ? unknown_command(name) : command->main(argc - 1, argv + 1);
}

// What was printed counts only once it has arrived. A reader that has left (head, less) knows what it does.
static int finish(int status) {
    errno = 0;
    const bool failed = ferror(stdout) != 0;
    if (fclose(stdout) == 0 && !failed) {
        return status;
    }
    if (errno != EPIPE && status == STATUS_OK) {
        error_say("standard output: %s", errno == 0 ? "not all of it could be written: is the disk full?" : strerror(errno));
    }
    return status == STATUS_OK ? STATUS_FAILED : status;
}

int main(int argc, char ** argv) {
    setlocale(LC_CTYPE, "");
    return finish(dispatch(argc, argv));
}
