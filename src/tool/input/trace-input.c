// Opens traces and looks things up in what their reader returns.

#include "tool/input/trace-input.h"

#include "tool/output-file.h"

#include <string.h>

const char * trace_input_name(const char * path) {
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

struct trace * trace_input_open(const char * path) {
    char why[TRACE_ERROR_MAX];
    output_file_protect(path);
    struct trace * trace = trace_open(path, why);
    if (trace == NULL) {
        error_say("%s", why);
    }
    return trace;
}

bool trace_input_changed(const struct trace * trace, struct error * error) {
    if (trace_changed(trace)) {
        error_set(error, "%s: " TRACE_INPUT_CHANGED, trace_name(trace));
    }
    return trace_changed(trace);
}

bool trace_input_is_damaged(const struct trace_info * info, uint64_t lost) {
    return lost > 0 || info->lost_chunks > 0 || (info->lost_bytes > 0 && info->ending != TRACE_INTERRUPTED);
}

int trace_input_check(const char * path, const struct trace_info * info, uint64_t lost) {
    if (!trace_input_is_damaged(info, lost)) {
        return STATUS_OK;
    }
    error_warning("%s: damaged: %llu ubatches or more cannot be read", trace_input_name(path),
                  (unsigned long long) (info->lost_ubatches + lost));
    return STATUS_FAILED;
}

bool trace_input_has_order(const struct trace_info * info, const char * what, struct error * error) {
    return info->shared_window == 0 ||
           error_set(error, "made by `pack --share`: sums of %lld tokens or more have no order, and %s needs one: "
                            "take the trace that they were made of", (long long) info->shared_window, what);
}

int32_t trace_input_row(const struct trace_routing * routing, int32_t token) {
    if (routing->tokens == NULL) {
        return token < routing->n_rows ? token : -1;
    }
    int32_t low  = 0;
    int32_t high = routing->n_rows;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (routing->tokens[middle] < token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < routing->n_rows && routing->tokens[low] == token ? low : -1;
}

int64_t trace_input_expert_bytes(const struct trace_layer * layer) {
    int64_t sum = 0;
    for (size_t i = 0; i < layer->n_tensors; i++) {
        if (layer->tensors[i].expert_bytes < 0) {
            return -1;
        }
        sum += layer->tensors[i].expert_bytes;
    }
    return layer->n_tensors == 0 ? -1 : sum;
}

const struct trace_layer * trace_input_layer(const struct trace_table * table, int32_t layer) {
    for (size_t i = 0; i < table->n_layers; i++) {
        if (table->layers[i].layer == layer) {
            return &table->layers[i];
        }
    }
    return NULL;
}
