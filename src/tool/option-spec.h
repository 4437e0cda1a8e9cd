// The table of a command's options, each described once: parsing, --help, the manual page and what shells complete come
// from it. A row says where in the command's struct its value goes:
//
//     struct options { bool force; const char * output; };
//
//     static const struct option_spec options_known[] = {
//         { 'o', "output", OPTION_FILE, OPTION_AT(output), .value = "OUT", .help = "write here" },
//         { 'f', "force",  OPTION_ON,   OPTION_AT(force),  .help = "replace what is there" },
//         { 0 },
//     };

#pragma once

#include "tool/error.h"

#include <stddef.h>
#include <stdint.h>

#define OPTION_AT(member) offsetof(struct options, member)

enum option_kind { //       what is at the place
    OPTION_END,    //       the end of a table
    OPTION_GROUP,  //       nothing: the rows that follow belong under `help`, a heading
    OPTION_ON,     //       bool: true
    OPTION_OFF,    //       bool: false
    OPTION_SET,    //       an enum: `sets`
    OPTION_TEXT,   //       const char *
    OPTION_FILE,   //       const char *, the name of a file
    OPTION_WORD,   //       const char *, one of `choices`
    OPTION_CHOICE, //       an enum: the index of one of `choices`
    OPTION_COUNT,  //       uint64_t, a whole number from `min` to `max`; one that is too large for it is UINT64_MAX
    OPTION_NUMBER, //       double above 0
    OPTION_BYTES,  //       uint64_t, a size such as 6GiB, from `min` on
    OPTION_RATE,   //       double above 0, bytes a second, such as 25GB/s
};

struct option_choice {
    const char * name; // NULL behind the last
    const char * help; // NULL: the option's own help has it
};

struct option_spec {
    char                         letter;  // 0: none
    const char                 * name;
    enum option_kind             kind;
    size_t                       at;      // where in the command's struct the value goes
    const char                 * help;
    const char                 * value;   // stands for the value, such as FILE; NULL: the option takes none
    const char                 * expects; // as in "--top needs a number from 1 on, not 'x'"
    const struct option_choice * choices; // the last one is empty
    int                          sets;
    uint64_t                     min;
    uint64_t                     max;     // 0: none

    // Takes the value instead of what `kind` does, and returns false where it is wrong: `error` then has the whole
    // message, unless `expects` makes one.
    bool                      (* take)(const char * text, void * place, struct error * error);
};

// "npy, csv or jsonl", allocated.
char * options_choices(const struct option_choice * choices);

// The row of --help, which every command has.
extern const struct option_spec option_help;
