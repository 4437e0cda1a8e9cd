// Values of JSON, each made the same way wherever a command prints one.

#include "tool/json-values.h"

#include <math.h>

json_t * json_value_text(const char * text) {
    json_t * json = text == NULL ? NULL : json_string(text);
    return json == NULL ? json_null() : json;
}

json_t * json_value_count(uint64_t count) {
    return json_integer((json_int_t) count);
}

json_t * json_value_number(int64_t number) {
    return number < 0 ? json_null() : json_integer(number);
}

json_t * json_value_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t * json_value_counts(const uint64_t * counts, size_t n) {
    if (counts == NULL) {
        return json_null();
    }
    json_t * array = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(array, json_value_count(counts[i]));
    }
    return array;
}

json_t * json_value_reals(const double * values, size_t n) {
    json_t * array = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(array, json_value_real(values[i]));
    }
    return array;
}
