// What of routing-counts.h machines are told, as new references. What is not known is null.

#pragma once

#include "answers/routing-counts.h"

#include <jansson.h>

json_t * routing_json_text  (const char * text);
json_t * routing_json_number(int64_t number);                       // below 0: not known
json_t * routing_json_value (double value);                         // NAN: not known
json_t * routing_json_counts(const uint64_t * counts, size_t n);    // NULL: not known
json_t * routing_json_model (const struct routing_counts * counts);
json_t * routing_json_tokens(const struct routing_counts * counts);
