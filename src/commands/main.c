// The command line's first word: a command, or an option of llama-expert-tracer itself.

#include "commands/commands.h"
#include "tool/error.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_version(void) {
    puts("llama-expert-tracer " EXPERT_TRACER_VERSION);
    return STATUS_OK;
}

// "which command? run, check or show"
static int no_command(void) {
    char * names = memory_text("%s", commands[0]->name);
    for (size_t i = 1; commands[i] != NULL; i++) {
        names = memory_append(names, memory_text("%s%s", commands[i + 1] == NULL ? " or " : ", ", commands[i]->name));
    }
    error_say("which command? %s", names);
    fputs("try: llama-expert-tracer --help\n", stderr);
    free(names);
    return STATUS_USAGE;
}

static int dispatch(int argc, char ** argv) {
    if (argc < 2) {
        return no_command();
    }
    const char * name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        return command_help.main(1, argv);
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        return print_version();
    }
    const struct command * command = commands_find(name);
    return command == NULL ? commands_unknown(name) : command->main(argc - 1, argv + 1);
}

// What was printed counts only once it has arrived. A reader that has left (head, less) knows what it does.
static int finish(int status) {
    errno = 0;
    const bool failed = ferror(stdout) != 0;
    if (fclose(stdout) == 0 && !failed) {
        return status;
    }
    if (errno != EPIPE && status == STATUS_OK) {
        error_say("standard output: %s",
                  errno == 0 ? "not all of it could be written: is the disk full?" : strerror(errno));
    }
    return status == STATUS_OK ? STATUS_FAILED : status;
}

int main(int argc, char ** argv) {
    setlocale(LC_CTYPE, "");
    return finish(dispatch(argc, argv));
}
