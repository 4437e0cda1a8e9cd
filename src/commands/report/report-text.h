// The answer of `report` for people: tables, and a picture of layers and experts.

#pragma once

#include "answers/report-answer.h"
#include "tool/terminal.h"

void report_text_print(const struct report_answer * report, const struct terminal * terminal, bool per_layer);
