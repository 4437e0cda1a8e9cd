// What the result of joining says of itself: its header and its end, made of those of the traces.

#pragma once

#include "trace/rewrite/join-inputs.h"

#include <jansson.h>

int64_t join_json_number(const json_t * object, const char * key);

// NULL: out of memory.
json_t * join_json_header(const struct join_inputs * inputs);

// NULL: one of the traces has none. `totals`: what all of them have, where they are several.
json_t * join_json_end   (const struct join_inputs * inputs, const json_t * totals);
