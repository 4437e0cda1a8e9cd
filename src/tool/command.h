// What a command of llama-expert-tracer is: its name, its help, its options and its main function.

#pragma once

#include <stdbool.h>

struct option_spec;

// What a command's arguments are, as shells complete them.
enum command_operand {
    COMMAND_OPERAND_FILE, COMMAND_OPERAND_PROGRAM, COMMAND_OPERAND_FOLDER,
    COMMAND_OPERAND_COMMAND, // one of these of llama-expert-tracer
    COMMAND_OPERAND_WORD,    // one of `words`
};

// Texts are plain paragraphs, one after an empty line. A paragraph whose lines are indented stays as it is; words in
// `backquotes` are to be typed.
struct command {
    const char               * name;
    const char               * summary;
    const char               * usage;     // what follows the name: a line for each way to call it
    const char               * about;
    const struct option_spec * options;   // the last one is empty; --help is in none of the tables
    const char               * notes;     // below the options
    enum command_operand       operand;
    const char * const       * words;     // COMMAND_OPERAND_WORD: one of these, NULL behind the last
    bool                       passes_on; // the first argument and what follows it belong to another program
    int                     (* main)(int argc, char ** argv); // argv[0] is the command's name
};

// To stderr. Returns STATUS_USAGE.
int command_usage_error(const struct command * command, const char * format, ...) __attribute__((format(printf, 2, 3)));
