// What `COMMAND --help` prints, made of the command's description and the table of its options.

#pragma once

#include "tool/command.h"

#include <stdio.h>

void help_print(FILE * out, const struct command * command);
