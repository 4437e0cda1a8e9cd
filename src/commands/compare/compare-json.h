// The answer of `compare` for machines and the page. docs/json.md has its keys.

#pragma once

#include "answers/compare-answer.h"

#include <jansson.h>

json_t * compare_json(const struct compare_answer * comparison); // a new reference
