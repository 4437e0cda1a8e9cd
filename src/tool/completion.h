// Scripts with which shells complete a command line, made of the commands' tables of options.

#pragma once

#include "tool/command.h"

#include <stdio.h>

// `all` ends with NULL.
void completion_print_bash(FILE * out, const struct command * const * all);
void completion_print_zsh (FILE * out, const struct command * const * all);
void completion_print_fish(FILE * out, const struct command * const * all);
