// Writes the values of an info answer as JSON.

#include "commands/info/info-json.h"

#include "tool/json-values.h"

static json_t * json_model(const struct trace_info * info) {
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "name", json_value_text(info->model_name), "architecture", json_value_text(info->architecture),
                     "file", json_value_text(info->model_file), "fingerprint",  json_value_text(info->fingerprint));
}

static json_t * json_layers(const struct info_answer * answer) {
    json_t * array = json_array();
    for (size_t i = 0; i < answer->n_layers; i++) {
        const struct info_layer * layer = &answer->layers[i];
        json_array_append_new(array, json_pack("{s:i, s:i, s:i, s:o}",
                                               "layer",         (int) layer->layer,  "n_expert", (int) layer->n_expert,
                                               "n_expert_used", (int) layer->n_used,
                                               "expert_bytes",  json_value_number(layer->expert_bytes)));
    }
    return array;
}

static const char * ending_name(enum trace_ending ending) {
    static const char * const names[] = {
        [TRACE_COMPLETE] = "complete", [TRACE_INCOMPLETE]  = "incomplete",
        [TRACE_ROTATED]  = "rotated",  [TRACE_INTERRUPTED] = "interrupted",
    };
    return names[ending];
}

static json_t * json_sharing(const struct trace_info * info) {
    return json_pack("{s:I, s:I}", "window", (json_int_t) info->shared_window,
                     "left_out_tokens", (json_int_t) info->shared_left_out);
}

static json_t * json_tokens(const struct info_answer * answer) {
    const struct trace_info * info = answer->info;
    const bool known = info->phases_known;
    return json_pack("{s:o, s:o, s:o, s:o, s:o}",
                     "all",        json_value_count(answer->tokens),
                     "prompt",     known ? json_value_count(answer->prompt)     : json_null(),
                     "generation", known ? json_value_count(answer->generation) : json_null(),
                     "warmup",     json_value_count(answer->warmup),
                     "rejected",   known ? json_value_count(answer->rejected)   : json_null());
}

static json_t * json_pair(uint64_t ubatches, uint64_t tokens) {
    return json_pack("{s:o, s:o}", "ubatches", json_value_count(ubatches), "tokens", json_value_count(tokens));
}

static json_t * json_lost(const struct info_answer * answer) {
    const struct trace_info * info = answer->info;
    return json_pack("{s:b, s:o}", "damaged", answer->is_damaged, "ubatches",
                     json_value_count(info->lost_ubatches + answer->lost));
}

static void add_origin(json_t * root, const char * path, const struct info_answer * answer) {
    const struct trace_info * info = answer->info;
    json_object_set_new(root, "file",     json_value_text(path));
    json_object_set_new(root, "tracer",   json_value_text(info->tracer));
    json_object_set_new(root, "run",      json_value_text(info->run));
    json_object_set_new(root, "pid",      json_integer(info->pid));
    json_object_set_new(root, "trace",    json_value_text(info->trace_id));
    json_object_set_new(root, "part",     json_integer(info->part));
    json_object_set_new(root, "engine",   json_value_text(info->engine));
    json_object_set_new(root, "capture",  json_value_text(info->capture));
    json_object_set_new(root, "model",    json_model(info));
    json_object_set_new(root, "n_layer",  json_integer(info->n_layer));
    json_object_set_new(root, "layers",   json_layers(answer));
}

static void add_counts(json_t * root, const struct info_answer * answer) {
    const struct trace_info * info  = answer->info;
    const bool                known = answer->knows_sequences;
    if (info->shared_window > 0) {
        json_object_set_new(root, "shared",   json_sharing(info));
    }
    json_object_set_new(root, "phases_known", json_boolean(info->phases_known));
    json_object_set_new(root, "weights",      json_boolean(info->has_weights));
    json_object_set_new(root, "tokens_known", json_boolean(info->has_tokens));
    json_object_set_new(root, "sample",       json_integer(info->sample));
    json_object_set_new(root, "seed",         info->seed >= 0 ? json_integer(info->seed) : json_null());
    json_object_set_new(root, "tokens",       json_tokens(answer));
    json_object_set_new(root, "ubatches",     json_value_count(answer->ubatches));
    json_object_set_new(root, "batches",      json_value_count(answer->batches));
    json_object_set_new(root, "activations",  json_value_count(answer->activations));
    json_object_set_new(root, "warmup_activations", json_value_count(answer->warmup_activations));
    json_object_set_new(root, "contexts",     known ? json_value_count(answer->contexts)  : json_null());
    json_object_set_new(root, "sequences",    known ? json_value_count(answer->sequences) : json_null());
    json_object_set_new(root, "lives",        known ? json_value_count(answer->lives)     : json_null());
    json_object_set_new(root, "cuts",         known ? json_value_count(answer->cuts)      : json_null());
}

static void add_ending(json_t * root, const struct info_answer * answer) {
    const struct trace_info * info = answer->info;
    json_object_set_new(root, "begin",    answer->begin > 0 ? json_real((double) answer->begin / 1e6) : json_null());
    json_object_set_new(root, "end",      answer->begin > 0 ? json_real((double) answer->end   / 1e6) : json_null());
    json_object_set_new(root, "size",     json_value_count(info->file_size));
    json_object_set_new(root, "packed",   json_boolean(info->is_packed));
    json_object_set_new(root, "left_out", json_pair(info->left_out_ubatches, info->left_out_tokens));
    json_object_set_new(root, "dropped",  json_pair(info->dropped_ubatches,  info->dropped_tokens));
    json_object_set_new(root, "lost",     json_lost(answer));
    json_object_set_new(root, "ended",    json_value_text(ending_name(info->ending)));
    json_object_set_new(root, "stopped",  json_value_text(info->stopped));
}

json_t * info_json(const struct info_answer * answer, const char * path) {
    json_t * root = json_object();
    add_origin(root, path, answer);
    add_counts(root, answer);
    add_ending(root, answer);
    return root;
}

