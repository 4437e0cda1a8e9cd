// `help`: the list of commands, or the help of one.

#include "commands/commands.h"
#include "tool/error.h"
#include "tool/help.h"
#include "tool/options.h"

#include <stdio.h>

static int print_list(void) {
    puts("usage: llama-expert-tracer COMMAND …\n"
         "\n"
         "Shows which experts llama.cpp routes every token to.\n");
    for (size_t i = 0; commands[i] != NULL; i++) {
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    }
    puts("\n"
         "  llama-expert-tracer COMMAND --help   tells more about one of them\n"
         "  llama-expert-tracer --version        tells the version");
    return STATUS_OK;
}

static int print_help_of(const char * name) {
    const struct command * command = commands_find(name);
    if (command == NULL) {
        return commands_unknown(name);
    }
    help_print(stdout, command);
    return STATUS_OK;
}

static int help_main(int argc, char ** argv) {
    int status;
    if (!options_parse(&command_help, NULL, &argc, &argv, &status)) {
        return status;
    }
    return argc == 0 ? print_list() : print_help_of(argv[0]);
}

const struct command command_help = {
    .name    = "help",
    .summary = "lists the commands, or prints the help of one",
    .usage   = "[COMMAND]",
    .about   = "Lists the commands, or prints the help of one of them, as `COMMAND --help` does.",
    .operand = COMMAND_OPERAND_COMMAND,
    .main    = help_main,
};
