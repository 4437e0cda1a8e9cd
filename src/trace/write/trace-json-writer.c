// Puts together the JSON of a trace without a library: it runs in other programs.

#include "trace/write/trace-json-writer.h"

#include <inttypes.h>
#include <unistd.h>

static const char * boolean(bool value) {
    return value ? "true" : "false";
}

// What tells the run comes first: who takes a file over looks for it at its beginning.
void trace_json_write_header(struct text * text, const struct trace_about * about) {
    const struct routing_model * model = about->model;
    text_add_json_member(text, "{\"format\": ", TRACE_FORMAT_NAME);
    text_add(text, ", \"version\": %d", TRACE_VERSION);
    text_add_json_member(text, ", \"tracer\": ", EXPERT_TRACER_VERSION);
    text_add_json_member(text, ", \"run\": ", about->run);
    text_add(text, ", \"pid\": %ld", (long) getpid());
    text_add_json_member(text, ", \"trace\": ", about->trace);
    text_add(text, ", \"part\": %" PRId64, about->part);
    text_add_json_member(text, ", \"engine\": ", model->engine);
    text_add_json_member(text, ", \"capture\": ", about->capture);
    text_add_json_member(text, ", \"model\": {\"name\": ", model->name);
    text_add_json_member(text, ", \"architecture\": ", model->architecture);
    text_add_json_member(text, ", \"file\": ", model->file);
    text_add_json_member(text, ", \"fingerprint\": ", about->fingerprint);
    text_add(text, "}, \"n_layer\": %d", model->n_layer);
    text_add(text, ", \"phases_known\": %s", boolean(model->phases_known));
    text_add(text, ", \"weights\": %s", boolean(about->weights));
    text_add(text, ", \"tokens\": %s", boolean(about->tokens));
    text_add(text, ", \"sample\": %" PRIu64, about->sample);
    if (about->seed > 0) {
        text_add(text, ", \"seed\": %" PRIu64, about->seed);
    }
    text_add(text, "}\n");
}

static void add_tensors(struct text * text, const struct routing_layer * layer) {
    for (int32_t i = 0; i < layer->n_tensors; i++) {
        text_add_json_member(text, i == 0 ? "{\"name\": " : ", {\"name\": ", layer->tensor_names[i]);
        if (layer->expert_bytes[i] > 0) {
            text_add(text, ", \"expert_bytes\": %zu}", layer->expert_bytes[i]);
        } else {
            text_add(text, ", \"expert_bytes\": null}");
        }
    }
}

void trace_json_write_layers(struct text * text, uint32_t table, const struct routing_ubatch * ubatch) {
    text_add(text, "{\"table\": %" PRIu32 ", \"layers\": [", table);
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const struct routing_layer * layer = &ubatch->layers[i];
        text_add(text, "%s\n{\"layer\": %d, \"n_expert\": %d, \"n_expert_used\": %d, \"tensors\": [",
            i == 0 ? "" : ",", layer->layer, layer->n_expert, layer->n_used);
        add_tensors(text, layer);
        text_add(text, "]}");
    }
    text_add(text, "]}\n");
}

static struct trace_gap dropped(const struct trace_counts * counts) {
    struct trace_gap sum = { 0 };
    for (int i = 0; i < TRACE_GAP_REASONS; i++) {
        sum.n_ubatches += i == TRACE_GAP_SAMPLING ? 0 : counts->gaps[i].n_ubatches;
        sum.n_tokens   += i == TRACE_GAP_SAMPLING ? 0 : counts->gaps[i].n_tokens;
    }
    return sum;
}

void trace_json_write_end(struct text * text, const struct trace_counts * counts,
                          const struct trace_closing * ending) {
    const struct trace_gap * gaps     = counts->gaps;
    const struct trace_gap   missing  = dropped(counts);
    const bool               complete = ending->is_last && ending->stopped == NULL && ending->n_amendments_lost == 0 &&
                                        missing.n_ubatches == 0;
    text_add(text, "{\"complete\": %s, \"last_part\": %s", boolean(complete), boolean(ending->is_last));
    if (ending->stopped != NULL) {
        text_add_json_member(text, ", \"stopped\": ", ending->stopped);
    }
    text_add(text, ", \"ubatches\": %" PRIu64 ", \"tokens\": %" PRIu64, counts->n_ubatches, counts->n_tokens);
    text_add(text, ", \"dropped_ubatches\": %" PRIu64, missing.n_ubatches);
    text_add(text, ", \"dropped_tokens\": %" PRIu64,   missing.n_tokens);
    text_add(text, ", \"left_out_ubatches\": %" PRIu64 ", \"left_out_tokens\": %" PRIu64,
        gaps[TRACE_GAP_SAMPLING].n_ubatches, gaps[TRACE_GAP_SAMPLING].n_tokens);
    text_add(text, ", \"waited_ms\": %" PRIu64 "}\n", ending->waited_ms);
}
