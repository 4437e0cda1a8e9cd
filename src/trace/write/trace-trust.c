// Looks at what the engine delivered before it is recorded.

#include "trace/write/trace-trust.h"

#include "trace/format/trace-format.h"

#include <inttypes.h>
#include <stdio.h>

static uint64_t count_outputs(const struct routing_ubatch * ubatch) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < ubatch->n_tokens; i++) {
        n += ubatch->tokens[i].output;
    }
    return n;
}

static bool row_is(const struct routing_layer * layer, uint64_t row, uint64_t token) {
    return layer->rows != NULL ? layer->rows[row] >= 0 && (uint64_t) layer->rows[row] == token : row == token;
}

static bool has_row_of_each(const struct routing_ubatch * ubatch, const struct routing_layer * layer) {
    for (uint64_t i = 0; layer->rows != NULL && i < ubatch->n_tokens; i++) {
        if (!row_is(layer, i, i)) {
            return false;
        }
    }
    return true;
}

static bool has_rows_of_outputs(const struct routing_ubatch * ubatch, const struct routing_layer * layer,
                                uint64_t n_outputs) {
    if ((uint64_t) layer->n_tokens != n_outputs) {
        return false;
    }
    for (uint64_t i = 0, row = 0; i < ubatch->n_tokens; i++) {
        if (ubatch->tokens[i].output && !row_is(layer, row++, i)) {
            return false;
        }
    }
    return true;
}

static bool rows_make_sense(const struct routing_ubatch * ubatch, const struct routing_layer * layer,
                            uint64_t n_outputs) {
    if (layer->n_tokens < 0) {
        return false;
    }
    if ((uint64_t) layer->n_tokens == ubatch->n_tokens) {
        return has_row_of_each(ubatch, layer);
    }
    return layer->n_tokens == 0 || has_rows_of_outputs(ubatch, layer, n_outputs);
}

bool trace_trust_form(const struct routing_ubatch * ubatch, char * doubt, size_t size) {
    if (ubatch->tokens == NULL || !ubatch->rows_known) {
        snprintf(doubt, size, ubatch->rows_ambiguous ?
            "sequences of the same tokens were evaluated together, and there are no positions that tell them apart" :
            "which token each row belongs to is not known");
        return false;
    }
    const uint64_t n_outputs = count_outputs(ubatch);
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const struct routing_layer * layer = &ubatch->layers[i];
        if (layer->n_used < 1 || layer->n_used > layer->n_expert || layer->n_used > TRACE_USED_MAX ||
            layer->n_expert > TRACE_EXPERTS_MAX) {
            snprintf(doubt, size, "layer %d: %d of %d experts are used", layer->layer, layer->n_used, layer->n_expert);
            return false;
        }
        if (!rows_make_sense(ubatch, layer, n_outputs)) {
            snprintf(doubt, size, "layer %d: its %d rows are neither all %" PRIu64 " tokens nor the %" PRIu64 " with "
                "an output", layer->layer, layer->n_tokens, ubatch->n_tokens, n_outputs);
            return false;
        }
    }
    return true;
}

// Each is compared to those before where one of them has the same last six bits.
static bool has_twice(const int32_t * experts, int32_t n, int32_t * which) {
    uint64_t seen = 0;
    for (int32_t i = 0; i < n; i++) {
        const uint64_t bit = (uint64_t) 1 << (experts[i] & 63);
        for (int32_t j = 0; j < i && seen & bit; j++) {
            if (experts[j] == experts[i]) {
                *which = experts[i];
                return true;
            }
        }
        seen |= bit;
    }
    return false;
}

static bool experts_make_sense(const struct routing_layer * layer, char * doubt, size_t size) {
    for (int32_t row = 0; row < layer->n_tokens; row++) {
        const int32_t * experts = layer->experts + (size_t) row * (size_t) layer->n_used;
        const int32_t   token   = layer->rows != NULL ? layer->rows[row] : row;
        int32_t         twice;
        for (int32_t i = 0; i < layer->n_used; i++) {
            if (experts[i] < 0 || experts[i] >= layer->n_expert) {
                snprintf(doubt, size, "layer %d, token %d: expert %d of %d", layer->layer, token, experts[i],
                    layer->n_expert);
                return false;
            }
        }
        if (has_twice(experts, layer->n_used, &twice)) {
            snprintf(doubt, size, "layer %d, token %d: expert %d twice", layer->layer, token, twice);
            return false;
        }
    }
    return true;
}

static bool has_other_than_0(const struct routing_layer * layer) {
    const size_t n = (size_t) layer->n_tokens * (size_t) layer->n_used;
    for (size_t i = 0; i < n; i++) {
        if (layer->experts[i] != 0) {
            return true;
        }
    }
    return false;
}

bool trace_trust_experts(const struct routing_ubatch * ubatch, char * doubt, size_t size) {
    uint64_t n_rows  = 0; // of layers with a choice
    bool     is_zero = true;
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const struct routing_layer * layer = &ubatch->layers[i];
        if (!experts_make_sense(layer, doubt, size)) {
            return false;
        }
        n_rows += layer->n_expert > 1 ? (uint64_t) layer->n_tokens : 0;
        is_zero = is_zero && !has_other_than_0(layer);
    }
    if (is_zero && n_rows > TRACE_TRUST_ROWS_ALIKE) {
        snprintf(doubt, size, "%" PRIu64 " rows, and all of them take expert 0", n_rows);
        return false;
    }
    return true;
}
