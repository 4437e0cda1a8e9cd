#include "tool/quantity.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char * name;
    double       bytes;
};

static const struct unit units[] = {
    { "",    1    }, { "B",   1    },
    { "kB",  1e3  }, { "MB",  1e6  }, { "GB",  1e9  }, { "TB",  1e12 },
    { "K",   0x1p10 }, { "M",   0x1p20 }, { "G",   0x1p30 }, { "T",   0x1p40 },
    { "KiB", 0x1p10 }, { "MiB", 0x1p20 }, { "GiB", 0x1p30 }, { "TiB", 0x1p40 },
};

static const struct unit * find_unit(const char * name, size_t length) {
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strlen(units[i].name) == length && strncasecmp(units[i].name, name, length) == 0) {
            return &units[i];
        }
    }
    return NULL;
}

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
    const struct unit * unit = find_unit(unit_name, length);
    if (unit != NULL) {
        *value *= unit->bytes;
    }
    return unit != NULL;
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
    snprintf(text, QUANTITY_MAX, i == 0 || bytes >= 100 ? "%.0f %s" : bytes >= 10 ? "%.1f %s" : "%.2f %s", bytes, names[i]);
    return text;
}
