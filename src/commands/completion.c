// `completion`: what a shell completes of a command line, as a script for it.

#include "commands/commands.h"
#include "tool/completion.h"
#include "tool/error.h"
#include "tool/options.h"

#include <stdio.h>
#include <string.h>

struct shell {
    const char * name;
    void      (* print)(FILE * out, const struct command * const * all);
};

static const struct shell shells[] = {
    { "bash", completion_print_bash },
    { "zsh",  completion_print_zsh  },
    { "fish", completion_print_fish },
};

static const char * const shell_names[] = { "bash", "zsh", "fish", NULL };

static int completion_main(int argc, char ** argv) {
    int status;
    if (!options_parse(&command_completion, NULL, &argc, &argv, &status)) {
        return status;
    }
    for (size_t i = 0; argc == 1 && i < sizeof(shells) / sizeof(shells[0]); i++) {
        if (strcmp(argv[0], shells[i].name) == 0) {
            shells[i].print(stdout, commands);
            return STATUS_OK;
        }
    }
    return command_usage_error(&command_completion, "which shell? bash, zsh or fish");
}

const struct command command_completion = {
    .name    = "completion",
    .summary = "prints a script with which a shell completes commands and options",
    .usage   = "bash|zsh|fish",
    .about   = "Prints a script with which bash, zsh or fish completes commands, options and their values. `make "
               "install` puts it where the shells look for it. For one session alone:\n"
               "\n"
               "  source <(llama-expert-tracer completion bash)\n"
               "  llama-expert-tracer completion fish | source",
    .operand = COMMAND_OPERAND_WORD,
    .words   = shell_names,
    .main    = completion_main,
};
