// moe-trace: "layer,expert" for each activation, layer by layer in each ubatch. Nothing tells tokens apart but how many
// experts each has.

#include "commands/import/import-format.h"

#include "trace/format/trace-format.h"

#include <stdlib.h>
#include <string.h>

// The rows of one layer in one ubatch, in the order of its tokens.
struct moe_trace {
    struct import * import;
    int32_t         n_used;
    int32_t         layer;      // -1: none yet
    uint64_t        first_line; // of the ubatch
    size_t          n;          // ids of the layer
    size_t          room;
    int32_t       * ids;
};

static const struct expert_tracer_token unknown = { .id = -1, .sequence = -1, .position = -1 };

static bool recognises(const char * head, size_t size) {
    const char * end    = memchr(head, '\n', size);
    const char * comma  = memchr(head, ',', end == NULL ? 0 : (size_t) (end - head));
    const size_t digits = comma == NULL ? 0 : strspn(head, "0123456789");
    const size_t more   = comma == NULL ? 0 : strspn(comma + 1, "0123456789");
    return digits > 0 && more > 0 && head + digits == comma && (comma[1 + more] == '\n' || comma[1 + more] == '\r');
}

static struct import_row row_of(const struct moe_trace * moe, size_t first, int32_t token) {
    return (struct import_row) {
        .layer = moe->layer, .token = token, .n_used = moe->n_used, .experts = moe->ids + first,
    };
}

// A layer that has fewer rows than those before has those of the last tokens: docs/export-formats.md.
static bool end_layer(struct moe_trace * moe, struct error * error) {
    struct import_trace * trace    = moe->import->trace;
    const int32_t         n_tokens = (int32_t) (moe->n / (size_t) moe->n_used);
    const int32_t         n_all    = import_trace_tokens(trace);
    const int32_t         first    = n_all > n_tokens ? n_all - n_tokens : 0;
    if (moe->n % (size_t) moe->n_used != 0) {
        return import_input_fail(moe->import->input, 0, error, "layer %d ends before it with %zu experts, which is no "
                                 "multiple of --top-k %d", (int) moe->layer, moe->n, (int) moe->n_used);
    }
    bool ok = true;
    for (int32_t i = 0; ok && i < n_tokens; i++) {
        const int32_t           token = import_trace_token(trace, first + i, &unknown);
        const struct import_row row   = row_of(moe, (size_t) i * (size_t) moe->n_used, token);
        struct error            why;
        int32_t                 at;
        ok = import_trace_row(trace, &row, &at, &why)
          || import_input_fail(moe->import->input, 0, error, "%.1500s", why.text);
    }
    moe->n = 0;
    return ok;
}

static bool end_ubatch(struct moe_trace * moe, struct error * error) {
    return end_layer(moe, error) && import_end_ubatch(moe->import, "line", moe->first_line, 0, false, error);
}

static bool begin_layer(struct moe_trace * moe, int32_t layer, struct error * error) {
    const uint64_t line = moe->import->input->number;
    const bool     ok   = moe->layer < 0 || (layer < moe->layer ? end_ubatch(moe, error) : end_layer(moe, error));
    moe->first_line = layer < moe->layer || moe->layer < 0 ? line : moe->first_line;
    moe->layer      = layer;
    return ok;
}

// Looked at as soon as a token has all of its own, while it is known which line they are in.
static bool check_token(struct moe_trace * moe, struct error * error) {
    const struct import_input * input = moe->import->input;
    const struct import_row     row   = row_of(moe, moe->n - (size_t) moe->n_used, 0);
    struct error                why;
    int32_t                     at;
    if (import_trace_check(moe->import->trace, &row, &at, &why)) {
        return true;
    }
    const int32_t before = at < row.n_used ? row.n_used - 1 - at : 0; // lines
    return error_set(error, "%s: line %llu, column 2: %.1500s", input->name,
                     (unsigned long long) input->number - (unsigned long long) before, why.text);
}

static bool take_expert(struct moe_trace * moe, int32_t expert, struct error * error) {
    if (moe->n == moe->room) {
        moe->room = 2 * moe->room + 64;
        moe->ids  = memory_resize(moe->ids, moe->room, sizeof(*moe->ids));
    }
    moe->ids[moe->n++] = expert;
    return moe->n % (size_t) moe->n_used != 0 || check_token(moe, error);
}

static bool read_row(struct moe_trace * moe, struct error * error) {
    struct import_input * input = moe->import->input;
    int64_t               layer;
    int64_t               expert;
    import_input_split(input);
    if (input->n_cells != 2) {
        return import_input_fail(input, 0, error, "%zu cells, and moe-trace has two: layer,expert", input->n_cells);
    }
    return import_input_number(input, 1, "layer", 0, TRACE_LAYERS_MAX - 1, &layer, error)
        && import_input_number(input, 2, "expert", 0, TRACE_EXPERTS_MAX - 1, &expert, error)
        && ((int32_t) layer == moe->layer || begin_layer(moe, (int32_t) layer, error))
        && take_expert(moe, (int32_t) expert, error);
}

static bool begin(struct moe_trace * moe, struct error * error) {
    struct import_about * about = import_trace_about(moe->import->trace);
    about->capture = "import of moe-trace";
    if (!import_take_hints(moe->import, error)) {
        return false;
    }
    if (about->n_used == 0 && moe->import->hints->file != NULL) {
        about->n_used = moe->import->hints->file->n_used;
    }
    moe->n_used = about->n_used;
    return moe->n_used > 0
        || error_set(error, "%s: does not tell how many experts a token has: --top-k K does, or the model's GGUF file "
                            "with --model", moe->import->input->name);
}

static bool read(struct import * import, struct error * error) {
    struct moe_trace moe  = { .import = import, .layer = -1 };
    enum import_line line = IMPORT_LINE;
    bool             ok   = begin(&moe, error);
    while (ok && (line = import_input_line(import->input, error)) != IMPORT_END) {
        ok = line == IMPORT_LINE && (import->input->line[0] == '\0' || read_row(&moe, error));
    }
    ok = ok && end_ubatch(&moe, error) && import_end_trace(import, error);
    free(moe.ids);
    return ok;
}

const struct import_format import_moe_trace = {
    .name       = "moe-trace",
    .recognises = recognises,
    .read       = read,
};
