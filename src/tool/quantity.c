// Quantities of options: what src/base/quantity.h reads, and exponents, bytes as a unit, and spaces before it.

#include "tool/quantity.h"

#include "base/quantity.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// The number that a text begins with, finite and above 0; *end is behind it.
static bool begins_with_number(const char * text, double * number, const char ** end) {
    char * behind;
    if ((text[0] < '0' || text[0] > '9') && text[0] != '.') {
        return false;
    }
    *number = strtod(text, &behind);
    *end    = behind;
    return behind != text && isfinite(*number) && *number > 0;
}

static bool with_unit(const char * text, const char * suffix, double * value) {
    const char * unit_name;
    if (!begins_with_number(text, value, &unit_name)) {
        return false;
    }
    unit_name += strspn(unit_name, " ");
    size_t       length = strlen(unit_name);
    const size_t extra  = strlen(suffix);
    if (length >= extra && strcasecmp(unit_name + length - extra, suffix) == 0) {
        length -= extra;
    }
    const bool   is_byte = length == 1 && strncasecmp(unit_name, "B", 1) == 0;
    const double factor  = is_byte ? 1 : quantity_factor(unit_name, length, quantity_sizes);
    *value *= factor;
    return factor > 0;
}

bool quantity_bytes(const char * text, uint64_t * bytes) {
    double value;
    if (!with_unit(text, "", &value) || value < 1 || value >= 0x1p63) {
        return false;
    }
    *bytes = (uint64_t) value;
    return true;
}

bool quantity_rate(const char * text, double * rate) {
    return with_unit(text, "/s", rate);
}

bool quantity_number(const char * text, double * number) {
    const char * end;
    return begins_with_number(text, number, &end) && *end == '\0';
}

char * quantity_text(double bytes, char text[QUANTITY_MAX]) {
    static const char * const names[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    size_t i = 0;
    while (bytes >= 1024 && i + 1 < sizeof(names) / sizeof(names[0])) {
        bytes /= 1024;
        i++;
    }
    snprintf(text, QUANTITY_MAX, "%.*f %s", i == 0 || bytes >= 100 ? 0 : bytes >= 10 ? 1 : 2, bytes, names[i]);
    return text;
}
