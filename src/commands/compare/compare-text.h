// The answer of `compare` for people: tables of each pair, and of each file with each.

#pragma once

#include "answers/compare-answer.h"
#include "tool/terminal.h"

void compare_text_print(const struct compare_answer * comparison, const struct terminal * terminal, bool per_layer);
