// What several formats of `export` need: numbers as text, and where a layer is in the survey.

#include "commands/export/export-format.h"

#include "tool/input/trace-input.h"

// Faster than printf(), which is what an export would otherwise spend its time in.
void export_number(FILE * out, int64_t number) {
    char     digits[24];
    size_t   at    = sizeof(digits);
    uint64_t value = number < 0 ? 0 - (uint64_t) number : (uint64_t) number;
    do {
        digits[--at] = (char) ('0' + value % 10);
        value /= 10;
    } while (value > 0);
    if (number < 0) {
        digits[--at] = '-';
    }
    fwrite_unlocked(digits + at, 1, sizeof(digits) - at, out);
}

int32_t export_n_used(const struct trace_info * info) {
    int32_t n_used = 0;
    for (size_t i = 0; i < info->n_tables; i++) {
        for (size_t k = 0; k < info->tables[i].n_layers; k++) {
            n_used = info->tables[i].layers[k].n_used > n_used ? info->tables[i].layers[k].n_used : n_used;
        }
    }
    return n_used;
}

size_t export_layer_index(const struct export_survey * survey, int32_t layer) {
    size_t low  = 0;
    size_t high = survey->n_layers;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (survey->layers[middle] < layer) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool export_changed(const struct trace_export * export, struct error * error) {
    return error_set(error, "%s: " TRACE_INPUT_CHANGED, export->input);
}
