// The answer of `predict` for machines. docs/json.md has its keys.

#pragma once

#include "answers/predict-answer.h"

#include <jansson.h>

// `path`: the file's name, as the user gave it. A new reference.
json_t * predict_json(const struct predict_answer * answer, const char * path);
