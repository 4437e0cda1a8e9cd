// Writes a frame of a watch as JSON: all of its values, and what is not known as null.

#include "commands/watch-json.h"

#include "tool/json-values.h"

#include <math.h>

static json_t * json_model(const struct watch_frame * frame) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b}",
                     "model",        json_value_count(frame->number),
                     "name",         json_value_text (frame->model),
                     "architecture", json_value_text (frame->architecture),
                     "engine",       json_value_text (frame->engine),
                     "capture",      json_value_text (frame->capture),
                     "contexts",     json_value_count(frame->n_contexts),
                     "phases_known", frame->phases_known);
}

static json_t * json_tokens(const struct watch_frame * frame) {
    const bool known = frame->phases_known;
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "all",        json_value_count(frame->n_tokens),
                     "prompt",     known ? json_value_count(frame->n_prompt)     : json_null(),
                     "generation", known ? json_value_count(frame->n_generation) : json_null(),
                     "lost",       json_value_count(frame->n_lost));
}

static json_t * json_rates(const double * rates) {
    return json_pack("{s:o, s:o, s:o}", "all",        json_value_real(rates[WATCH_ANY_PHASE]),
                                        "prompt",     json_value_real(rates[PHASE_PROMPT]),
                                        "generation", json_value_real(rates[PHASE_GENERATION]));
}

static json_t * json_share(const struct watch_share * share) {
    return json_pack("{s:o, s:o}", "share", json_value_real(share->share), "of", json_value_count(share->of));
}

static json_t * json_shares(const struct watch_share * shares, bool phases_known) {
    return json_pack("{s:o, s:o, s:o}",
                     "all",        json_share(&shares[WATCH_ANY_PHASE]),
                     "prompt",     phases_known ? json_share(&shares[PHASE_PROMPT])     : json_null(),
                     "generation", phases_known ? json_share(&shares[PHASE_GENERATION]) : json_null());
}

// Bytes: null where they are not known.
static json_t * json_bytes(double bytes) {
    return isfinite(bytes) ? json_value_count((uint64_t) bytes) : json_null();
}

//
// which experts
//

static json_t * json_hottest(const struct watch_layer * layer) {
    return layer->activations == 0 ? json_null() : json_pack("{s:o, s:o}",
                     "expert", json_value_count(layer->hottest),
                     "share",  json_value_real (layer->share));
}

static json_t * json_layer(const struct watch_layer * layer) {
    return json_pack("{s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o}",
                     "layer", (int) layer->layer, "n_expert", (int) layer->n_expert,
                     "n_expert_used", (int) layer->n_used,
                     "activations", json_value_count (layer->activations),
                     "counts",      json_value_counts(layer->counts, (size_t) layer->n_expert),
                     "entropy",     json_value_real  (layer->entropy),
                     "hottest",     json_hottest     (layer),
                     "never_used",  json_value_count (layer->unused));
}

static json_t * json_layers(const struct watch_frame * frame) {
    json_t * json = json_array();
    for (size_t i = 0; i < frame->n_layers; i++) {
        json_array_append_new(json, json_layer(&frame->layers[i]));
    }
    return json;
}

static json_t * json_hot(const struct watch_frame * frame) {
    json_t * json = json_array();
    for (size_t i = 0; i < frame->n_hot; i++) {
        const struct watch_slot * slot = &frame->hot[i];
        json_array_append_new(json, json_pack("{s:i, s:i, s:o, s:o}",
                     "layer", (int) frame->layers[slot->layer].layer, "expert", (int) slot->expert,
                     "count", json_value_count(slot->count),
                     "share", json_value_real (slot->share)));
    }
    return json;
}

static json_t * json_drift(const struct watch_drift * drift) {
    return json_pack("{s:o, s:o, s:o}",
                     "divergence", json_value_real(drift->divergence),
                     "noise",      json_value_real(drift->noise),
                     "times",      json_value_real(drift->times));
}

//
// in which order
//

static json_t * json_sequence(const struct watch_sequence * sequence, bool phases_known) {
    return json_pack("{s:o, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "context", json_value_count(sequence->context),
                     "sequence", (int) sequence->sequence, "life", (int) sequence->life,
                     "position",          json_value_number(sequence->position),
                     "phase", json_value_text(!phases_known ? NULL : sequence->generation ? "generation" : "prompt"),
                     "age",               json_value_real  (sequence->age),
                     "prompt_tokens",     phases_known ? json_value_count(sequence->n_prompt)     : json_null(),
                     "generation_tokens", phases_known ? json_value_count(sequence->n_generation) : json_null(),
                     "rate",              json_value_real  (sequence->rate),
                     "used",              json_value_real  (sequence->used));
}

static json_t * json_sequences(const struct watch_frame * frame) {
    json_t * json = json_array();
    for (size_t i = 0; i < frame->n_sequences; i++) {
        json_array_append_new(json, json_sequence(&frame->sequences[i], frame->phases_known));
    }
    return json;
}

static json_t * json_size(const struct watch_size * size, bool phases_known) {
    return json_pack("{s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o}",
                     "slots",       json_value_real (size->slots),
                     "share",       json_value_real (size->share),
                     "bytes",       json_bytes      (size->bytes),
                     "asked",       size->is_asked,
                     "llama_slots", json_value_count(size->llama_slots),
                     "lru",         json_shares(size->lru,       phases_known),
                     "llama",       json_shares(size->llama,     phases_known),
                     "lru_all",     json_shares(size->lru_all,   phases_known),
                     "llama_all",   json_shares(size->llama_all, phases_known));
}

static json_t * json_sizes(const struct watch_frame * frame) {
    json_t * json = json_array();
    for (size_t i = 0; i < frame->n_sizes; i++) {
        json_array_append_new(json, json_size(&frame->sizes[i], frame->phases_known));
    }
    return json;
}

static json_t * json_watched(const struct watch_frame * frame) {
    return json_pack("{s:o, s:o, s:o}",
                     "seconds",       json_value_real (frame->watched),
                     "tokens",        json_value_count(frame->n_watched),
                     "overrun_bytes", json_value_count(frame->overrun));
}

json_t * watch_json(const struct watch_frame * frame) {
    json_t * json = json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b}",
                     "llama_expert_tracer_watch", 1,
                     "pid",      frame->pid > 0 ? json_integer(frame->pid) : json_null(),
                     "program",  json_value_text(frame->program),
                     "tracer",   json_value_text(frame->tracer),
                     "started",  json_value_real((double) frame->started / 1e6),
                     "time",     json_value_real((double) frame->time    / 1e6),
                     "counting",  (frame->switches & LIVE_COUNTS)  != 0,
                     "names",     (frame->switches & LIVE_NAMES)   != 0,
                     "recording", (frame->switches & LIVE_RECORDS) != 0);
    json_object_set_new(json, "model",         json_model(frame));
    json_object_set_new(json, "models",        json_value_count(frame->n_models));
    json_object_set_new(json, "window",        json_value_real(frame->window));
    json_object_set_new(json, "tokens",        json_tokens(frame));
    json_object_set_new(json, "rates",         json_rates(frame->rate));
    json_object_set_new(json, "window_rates",  json_rates(frame->window_rate));
    json_object_set_new(json, "layers",        json_layers(frame));
    json_object_set_new(json, "slots",         json_value_count(frame->n_slots));
    json_object_set_new(json, "activations",   json_value_count(frame->activations));
    json_object_set_new(json, "entropy",       json_value_real(frame->entropy));
    json_object_set_new(json, "hot",           json_hot(frame));
    json_object_set_new(json, "drift",         json_drift(&frame->drift));
    json_object_set_new(json, "watched",       json_watched(frame));
    json_object_set_new(json, "reuse",         json_shares(frame->reuse, frame->phases_known));
    json_object_set_new(json, "sequences",     json_sequences(frame));
    json_object_set_new(json, "sizes",         json_sizes(frame));
    json_object_set_new(json, "expert_bytes",  json_bytes(frame->all_bytes));
    return json;
}
