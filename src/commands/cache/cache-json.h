// The answer of `cache` for machines and the page. docs/json.md has its keys.

#pragma once

#include "answers/cache-answer.h"

#include <jansson.h>

json_t * cache_json(const struct cache_answer * answer); // a new reference
