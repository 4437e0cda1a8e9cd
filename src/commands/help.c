// `help`: the list of commands, the help of one, or the manual page, made of its template.

#include "commands/commands.h"
#include "tool/error.h"
#include "tool/help.h"
#include "tool/manual.h"
#include "tool/options.h"

#include <stdio.h>

struct options {
    const char * manual; // NULL: not asked for
};

static const struct option_spec options_known[] = {
    { 0, "manual", OPTION_FILE, OPTION_AT(manual), .value = "TEMPLATE",
      .help = "print the manual page, made of docs/llama-expert-tracer.1.in and of what the commands know of "
              "themselves" },
    { 0 },
};

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

static int print_manual(const char * path) {
    struct error error;
    if (!manual_print(stdout, path, commands, &error)) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
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
    struct options options = { 0 };
    int            status;
    if (!options_parse(&command_help, &options, &argc, &argv, &status)) {
        return status;
    }
    return options.manual != NULL ? print_manual(options.manual) : argc == 0 ? print_list() : print_help_of(argv[0]);
}

const struct command command_help = {
    .name    = "help",
    .summary = "lists the commands, or prints the help of one",
    .usage   = "[COMMAND]\n--manual TEMPLATE",
    .about   = "Lists the commands, or prints the help of one of them, as `COMMAND --help` does.",
    .options = options_known,
    .operand = COMMAND_OPERAND_COMMAND,
    .main    = help_main,
};
