// What the JSON of several commands has in common. docs/json.md has its keys.

#pragma once

#include "answers/answer-model.h"
#include "answers/routing-counts.h"

#include <jansson.h>

// New references.
json_t * routing_json_model (const struct answer_model * model);
json_t * routing_json_tokens(const struct routing_tokens * tokens);
