// Values of JSON as all commands write them, as new references: null is what is not known.

#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

json_t * json_value_text  (const char * text);                      // NULL, and what is no UTF-8: null
json_t * json_value_count (uint64_t count);
json_t * json_value_number(int64_t number);                         // below 0: null
json_t * json_value_real  (double value);                           // not finite: null
json_t * json_value_counts(const uint64_t * counts, size_t n);      // NULL: null
json_t * json_value_reals (const double * values, size_t n);
