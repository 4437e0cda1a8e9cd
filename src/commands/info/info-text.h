// The answer of `info` for people.

#pragma once

#include "answers/info-answer.h"
#include "tool/terminal.h"

void info_text_print(const struct info_answer * answer, const struct terminal * terminal);
