// Reads a command line by the table of a command's options.

#pragma once

#include "tool/command.h"
#include "tool/option-spec.h"

// Options as getopt_long(3) takes them, abbreviated and in any order. *argc and *argv are the arguments without them
// then. Returns false where there is nothing more to do: help was printed, or an error, and *status is the command's.
bool options_parse(const struct command * command, void * options, int * argc, char *** argv, int * status);
