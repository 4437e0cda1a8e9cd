// The manual page: a template with all that is written by hand, and in it what the commands know of themselves.

#pragma once

#include "tool/command.h"
#include "tool/error.h"

#include <stdio.h>

// Lines of the template that are "@synopsis" and "@command NAME" become the usage of all commands, and the section of
// one. `all` ends with NULL. Returns false where the template cannot be read, lacks a command or names another one.
bool manual_print(FILE * out, const char * template_path, const struct command * const * all, struct error * error);
