// moe-cache-profile: "pos,layer,id0,id1,…" for each token and layer, layer by layer in each ubatch. Tokens of prompts
// have positions below zero, of all sequences together: they tell the phase, and which rows are of one token.

#include "commands/import/import-format.h"

#include "trace/format/trace-format.h"

#include <stdlib.h>
#include <string.h>

struct profile {
    struct import * import;
    int32_t         layer;      // of the row before
    uint64_t        first_line; // of the ubatch
    int32_t         experts[TRACE_USED_MAX];
};

// Three whole numbers at least, the first of which may be negative.
static bool recognises(const char * head, size_t size) {
    const char * end   = memchr(head, '\n', size);
    int          cells = 0;
    const char * at    = head + (size > 0 && *head == '-');
    while (end != NULL && at < end) {
        const size_t digits = strspn(at, "0123456789");
        const char   behind = at[digits];
        if (digits == 0 || (behind != ',' && behind != '\n' && behind != '\r')) {
            return false;
        }
        cells++;
        at += behind == ',' ? digits + 1 : (size_t) (end - at);
    }
    return cells >= 3;
}

static bool read_experts(struct profile * profile, int32_t n_used, struct error * error) {
    const struct import_input * input = profile->import->input;
    bool                        ok    = n_used >= 1 && n_used <= TRACE_USED_MAX;
    if (!ok) {
        return import_input_fail(input, 0, error, "%zu cells: pos,layer,id0,id1,… is a row", input->n_cells);
    }
    for (int32_t i = 0; ok && i < n_used; i++) {
        int64_t expert;
        ok = import_input_number(input, (size_t) i + 3, "expert", 0, TRACE_EXPERTS_MAX - 1, &expert, error);
        profile->experts[i] = ok ? (int32_t) expert : 0;
    }
    return ok;
}

static bool take_row(struct profile * profile, int64_t position, int32_t n_used, struct error * error) {
    const struct expert_tracer_token token = { .id = -1, .sequence = -1, .position = -1, .generation = position >= 0 };
    const struct import_row          row   = {
        .layer   = profile->layer,
        .token   = import_trace_token(profile->import->trace, position, &token),
        .n_used  = n_used,
        .experts = profile->experts,
    };
    struct error why;
    int32_t      at;
    return import_trace_row(profile->import->trace, &row, &at, &why)
        || import_input_fail(profile->import->input, at < n_used ? (size_t) at + 3 : 0, error, "%.1500s", why.text);
}

static bool read_row(struct profile * profile, struct error * error) {
    struct import_input * input = profile->import->input;
    int64_t               position;
    int64_t               layer;
    import_input_split(input);
    const int32_t n_used = input->n_cells > TRACE_USED_MAX + 2 ? -1 : (int32_t) input->n_cells - 2;
    if (!import_input_number(input, 1, "position", INT32_MIN, INT32_MAX, &position, error)
            || !import_input_number(input, 2, "layer", 0, TRACE_LAYERS_MAX - 1, &layer, error)
            || !read_experts(profile, n_used, error)) {
        return false;
    }
    if (layer < profile->layer && !import_end_ubatch(profile->import, "line", profile->first_line, 0, false, error)) {
        return false;
    }
    profile->first_line = layer < profile->layer || profile->first_line == 0 ? input->number : profile->first_line;
    profile->layer      = (int32_t) layer;
    return take_row(profile, position, n_used, error);
}

static bool read_lines(struct profile * profile, struct error * error) {
    struct import_input * input = profile->import->input;
    enum import_line      line;
    bool                  ok    = true;
    while (ok && (line = import_input_line(input, error)) != IMPORT_END) {
        ok = line == IMPORT_LINE && (input->line[0] == '\0' || read_row(profile, error));
    }
    return ok && import_end_ubatch(profile->import, "line", profile->first_line, 0, false, error);
}

static bool read(struct import * import, struct error * error) {
    struct profile      * profile = memory_new(1, sizeof(*profile));
    struct import_about * about   = import_trace_about(import->trace);
    profile->import     = import;
    about->capture      = "import of moe-cache-profile";
    about->phases_known = true;
    const bool ok = import_take_hints(import, error) && read_lines(profile, error) && import_end_trace(import, error);
    free(profile);
    return ok;
}

const struct import_format import_moe_cache_profile = {
    .name       = "moe-cache-profile",
    .recognises = recognises,
    .read       = read,
};
