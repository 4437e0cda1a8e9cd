// The answer of `predict` for people: a table for each target.

#pragma once

#include "answers/predict-answer.h"
#include "tool/terminal.h"

void predict_text_print(const struct predict_answer * answer, const struct terminal * terminal, bool per_layer);
