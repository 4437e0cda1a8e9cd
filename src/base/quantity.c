// Sizes, times and numbers as people type them in options and variables, whatever the program's locale.

#include "base/quantity.h"

#include <string.h>
#include <strings.h>

const struct quantity_unit quantity_plain[] = { { "", 1 }, { NULL, 0 } };

const struct quantity_unit quantity_sizes[] = {
    { "",  1 },
    { "k", 0x1p10 }, { "kib", 0x1p10 }, { "kb", 1e3 },
    { "m", 0x1p20 }, { "mib", 0x1p20 }, { "mb", 1e6 },
    { "g", 0x1p30 }, { "gib", 0x1p30 }, { "gb", 1e9 },
    { "t", 0x1p40 }, { "tib", 0x1p40 }, { "tb", 1e12 },
    { NULL, 0 },
};

const struct quantity_unit quantity_times[] = {
    { "", 1 }, { "s", 1 }, { "m", 60 }, { "min", 60 }, { "h", 3600 }, { "d", 86400 }, { NULL, 0 },
};

// What follows the number is in `end`. Negative where there are no digits.
static double quantity_number_of(const char * text, const char ** end) {
    double digits    = 0;
    double scale     = 1;
    bool   has_digit = false;
    bool   has_point = false;
    for (; (*text >= '0' && *text <= '9') || (*text == '.' && !has_point); text++) {
        if (*text == '.') {
            has_point = true;
        } else {
            digits    = digits * 10 + (*text - '0');
            scale    *= has_point ? 10 : 1;
            has_digit = true;
        }
    }
    *end = text;
    return has_digit ? digits / scale : -1;
}

double quantity_factor(const char * name, size_t length, const struct quantity_unit * units) {
    for (; units->name != NULL; units++) {
        if (strlen(units->name) == length && strncasecmp(units->name, name, length) == 0) {
            return units->factor;
        }
    }
    return 0;
}

double quantity_parse(const char * text, const struct quantity_unit * units) {
    const char * unit;
    const double number = quantity_number_of(text, &unit);
    const double factor = quantity_factor(unit, strlen(unit), units);
    return factor > 0 ? number * factor : -1;
}

bool quantity_seeded(const char * text, double max, double seed_max, uint64_t * n, uint64_t * seed) {
    const char * end;
    const double number      = quantity_number_of(text, &end);
    const bool   has_seed    = *end == ':';
    const double its_seed    = has_seed ? quantity_parse(end + 1, quantity_plain) : 0;
    const bool   is_in_range = number >= 1 && number <= max && (!has_seed || (its_seed >= 1 && its_seed <= seed_max));
    if (!is_in_range || (!has_seed && *end != '\0') || strchr(text, '.') != NULL) {
        return false;
    }
    *n    = (uint64_t) number;
    *seed = (uint64_t) its_seed;
    return true;
}
