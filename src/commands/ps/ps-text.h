// The list of `ps` for people.

#pragma once

#include "commands/ps/ps-list.h"
#include "tool/terminal.h"

void ps_text_print(const struct ps_list * list, const struct terminal * terminal);
