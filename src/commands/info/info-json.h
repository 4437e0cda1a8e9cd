// The answer of `info` for machines.

#pragma once

#include "answers/info-answer.h"

#include <jansson.h>

// `path`: the file's name, as the user gave it. A new reference.
json_t * info_json(const struct info_answer * answer, const char * path);
