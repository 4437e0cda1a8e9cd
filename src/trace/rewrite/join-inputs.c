// Opens the traces that are joined: of one model, the parts of one trace in their order.

#include "trace/rewrite/join-inputs.h"

#include "trace/read/trace-opening.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The last chunk of a kind as JSON, NULL: there is none.
static json_t * find_json(const struct trace * trace, enum trace_chunk_kind kind) {
    struct chunk_walk   walk    = { .source = &trace->source };
    struct trace_buffer payload = { 0 };
    struct trace_chunk  chunk;
    json_t            * json    = NULL;
    bool                all     = true; // of what was gone through when it was opened
    while (chunk_walk_next(&walk, &chunk)) {
        all = all && (chunk.header.kind != TRACE_CHUNK_HEADER || chunk.header.number == 0);
        if (chunk.header.kind == kind && trace_read(trace, &chunk, &payload)) {
            json_decref(json);
            json = json_loadb((const char *) payload.data, payload.size, 0, NULL);
        }
    }
    if (all) {
        trace_compare_walk(trace, &walk);
    }
    trace_buffer_free(&payload);
    return json;
}

static bool open_input(struct join_input * input, const char * path, struct text * why) {
    char error[TRACE_ERROR_MAX];
    input->path  = path;
    input->trace = trace_open(path, error);
    if (input->trace == NULL) {
        text_add(why, "%s", error);
        return false;
    }
    const bool begins_later = input->trace->info.part > 0 && input->trace->n_chunks > 0;
    input->first = begins_later ? input->trace->chunks[0].header.first : 0;
    input->end   = find_json(input->trace, TRACE_CHUNK_END);
    return true;
}

//
// of one model
//

__attribute__((format(printf, 2, 3)))
static void add_difference(struct text * differences, const char * format, ...) {
    char    line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    text_add(differences, "%s%s", differences->length > 0 ? "; " : "", line);
}

static void compare_texts(struct text * differences, const char * key, const char * a, const char * b) {
    if (a != NULL && b != NULL && strcmp(a, b) != 0) {
        add_difference(differences, "%s: %.200s and %.200s", key, a, b);
    }
}

static const struct trace_layer * find_layer(const struct trace_info * info, int32_t number) {
    for (size_t i = 0; i < info->n_tables; i++) {
        const struct trace_table * table = &info->tables[i];
        for (size_t k = 0; k < table->n_layers; k++) {
            if (table->layers[k].layer == number) {
                return &table->layers[k];
            }
        }
    }
    return NULL;
}

static void compare_layer(struct text * differences, const struct trace_layer * a, const struct trace_layer * b) {
    if (b != NULL && differences->length == 0 && (a->n_expert != b->n_expert || a->n_used != b->n_used)) {
        add_difference(differences, "layer %d has %d experts, %d used, and %d, %d used", (int) a->layer,
            (int) a->n_expert, (int) a->n_used, (int) b->n_expert, (int) b->n_used);
    }
}

static void compare_layers(struct text * differences, const struct trace_info * a, const struct trace_info * b) {
    for (size_t i = 0; i < a->n_tables; i++) {
        for (size_t k = 0; k < a->tables[i].n_layers; k++) {
            compare_layer(differences, &a->tables[i].layers[k], find_layer(b, a->tables[i].layers[k].layer));
        }
    }
}

static bool check_same_model(const struct join_input * a, const struct join_input * b, struct text * why) {
    const struct trace_info * x           = &a->trace->info;
    const struct trace_info * y           = &b->trace->info;
    struct text               differences = { 0 };
    compare_texts(&differences, "fingerprint",  x->fingerprint,  y->fingerprint);
    compare_texts(&differences, "architecture", x->architecture, y->architecture);
    if (x->n_layer != y->n_layer) {
        add_difference(&differences, "layers: %d and %d", (int) x->n_layer, (int) y->n_layer);
    }
    compare_layers(&differences, x, y);
    const bool same = differences.length == 0 && !differences.failed;
    if (!same) {
        text_add(why, "%s and %s are not of the same model: %s", trace_name(a->trace), trace_name(b->trace),
            differences.data != NULL ? differences.data : "out of memory");
    }
    text_free(&differences);
    return same;
}

//
// in order
//

static bool is_same_trace(const struct join_input * a, const struct join_input * b) {
    const char * x = a->trace->info.trace_id;
    const char * y = b->trace->info.trace_id;
    return x != NULL && y != NULL && strcmp(x, y) == 0;
}

static bool wrong_place(const struct join_input * a, const struct join_input * b, struct text * why) {
    const int64_t x = a->trace->info.part;
    const int64_t y = b->trace->info.part;
    if (x == y) {
        text_add(why, "%s is the same part of the same trace as %s: leave one out", b->path, a->path);
    } else {
        text_add(why, "%s is part %" PRId64 " of the same trace as %s, which is part %" PRId64 ": give the parts in "
            "order, one after the other", b->path, y, a->path, x);
    }
    return false;
}

// What is joined has one header, which says of all of it whether it was made to be shared.
static bool check_sharing(const struct join_input * a, const struct join_input * b, struct text * why) {
    const bool x = a->trace->info.shared_window > 0;
    const bool y = b->trace->info.shared_window > 0;
    if (x != y) {
        text_add(why, "%s was made by `pack --share` and %s was not: join what they were made of, and share the "
            "result", x ? a->path : b->path, x ? b->path : a->path);
    }
    return x == y;
}

// Where an input is in the order of what was given before it.
static bool check_place(struct join_inputs * inputs, size_t i, join_warn_fn warn, struct text * why) {
    struct join_input * input = &inputs->items[i];
    for (size_t k = 0; k < i; k++) {
        const struct join_input * before  = &inputs->items[k];
        const bool           behind  = input->trace->info.part > before->trace->info.part;
        const bool           is_next = is_same_trace(before, &inputs->items[i - 1]);
        if (is_same_trace(before, input) && (!behind || !is_next)) {
            return wrong_place(before, input, why);
        }
    }
    input->continues = i > 0 && is_same_trace(&inputs->items[i - 1], input);
    if (input->continues && input->trace->info.part > inputs->items[i - 1].trace->info.part + 1) {
        struct text line = { 0 };
        text_add(&line, "parts of the trace between %s and %s are missing", inputs->items[i - 1].path, input->path);
        warn(line.data != NULL ? line.data : "parts of a trace are missing");
        text_free(&line);
    }
    inputs->is_one = inputs->is_one && (i == 0 || input->continues);
    const struct join_input * first = &inputs->items[0];
    return i == 0 || (check_sharing(first, input, why) && check_same_model(first, input, why));
}

bool join_inputs_open(struct join_inputs * inputs, char ** paths, size_t n, join_warn_fn warn, struct text * why) {
    *inputs = (struct join_inputs) { .items = calloc(n + 1, sizeof(inputs->items[0])), .is_one = true };
    if (inputs->items == NULL) {
        text_add(why, "out of memory");
        return false;
    }
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        inputs->n = i + 1;
        ok = open_input(&inputs->items[i], paths[i], why) && check_place(inputs, i, warn, why);
    }
    return ok;
}

void join_inputs_close(struct join_inputs * inputs) {
    for (size_t i = 0; i < inputs->n; i++) {
        trace_close(inputs->items[i].trace);
        json_decref(inputs->items[i].end);
    }
    free(inputs->items);
    *inputs = (struct join_inputs) { 0 };
}

bool join_inputs_is_last(const struct join_inputs * inputs, size_t i) {
    return i + 1 == inputs->n || !inputs->items[i + 1].continues;
}

bool join_inputs_is_whole(const struct join_inputs * inputs, size_t i) {
    while (inputs->items[i].continues) {
        i--;
    }
    return inputs->items[i].trace->info.part == 0;
}
