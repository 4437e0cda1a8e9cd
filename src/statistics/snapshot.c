// Makes the public snapshot of a model's counters, prints it as lines, and writes it as JSON.

#include "statistics/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

//
// taking
//

// One block of memory: the snapshot, its layers, all counters, the strings.
struct block {
    struct expert_tracer_snapshot snapshot;
    uint64_t                      words[];
};

static bool layer_is_mtp(const struct routing_model * model, int32_t layer) {
    return model->n_layer > 0 && layer >= model->n_layer;
}

static size_t string_size(const char * string) {
    return string ? strlen(string) + 1 : 0;
}

static const char * string_copy(char ** at, const char * string) {
    if (!string) {
        return NULL;
    }
    const char * copy = *at;
    *at = stpcpy(*at, string) + 1;
    return copy;
}

static const uint64_t * row_copy(uint64_t * to, const _Atomic uint64_t * row, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        to[i] = counter_get(&row[i]);
    }
    return to;
}

static void sum_layer(struct expert_tracer_snapshot * snapshot, uint64_t * totals,
                      const struct expert_tracer_layer * layer) {
    for (int32_t i = 0; i < layer->n_expert; i++) {
        totals[i]                   += layer->activations[i];
        snapshot->total_activations += layer->activations[i];
    }
}

struct expert_tracer_snapshot * snapshot_new(const struct routing_model * model, const struct counters * counts,
                                             const struct snapshot_state * state) {
    const uint64_t n_lost_ubatches = counter_get(&counts->totals.n_lost_ubatches);
    size_t  n_layers = 0;
    size_t  n_words  = 0;
    int32_t n_expert = 0; // without a multi-token-prediction head
    int32_t n_used   = 0;
    int32_t highest  = -1;
    for (int32_t i = 0; i < counts->table.n_layers; i++) {
        const struct counters_layer * layer = &counts->table.layers[i];
        if (layer->n_expert == 0) {
            continue;
        }
        n_layers++;
        n_words += (size_t) layer->n_expert;
        if (!layer_is_mtp(model, i)) {
            highest  = i;
            n_expert = layer->n_expert > n_expert ? layer->n_expert : n_expert;
            n_used   = layer->n_used   > n_used   ? layer->n_used   : n_used;
        }
    }
    n_words += (size_t) n_expert;

    const size_t layers_size  = n_layers * sizeof(struct expert_tracer_layer);
    const size_t words_size   = n_words * sizeof(uint64_t);
    const size_t strings_size = string_size(model->name) + string_size(model->architecture) + string_size(model->file) +
                                string_size(model->engine) + string_size(model->capture);
    struct block * block = calloc(1, sizeof(*block) + words_size + layers_size + strings_size);
    if (!block) {
        return NULL;
    }
    uint64_t                   * word   = block->words;
    struct expert_tracer_layer * layers = (void *) (block->words + n_words);
    char                       * string = (char *) (layers + n_layers);

    struct expert_tracer_snapshot * snapshot = &block->snapshot;
    *snapshot = (struct expert_tracer_snapshot) {
        .model             = model->key,
        .name              = string_copy(&string, model->name),
        .architecture      = string_copy(&string, model->architecture),
        .file              = string_copy(&string, model->file),
        .engine            = string_copy(&string, model->engine),
        .capture           = string_copy(&string, model->capture),
        .complete          = state->complete && n_lost_ubatches == 0 && !state->stopped,
        .phases_known      = model->phases_known,
        .n_layer           = model->n_layer > 0 ? model->n_layer : highest + 1,
        .n_expert          = n_expert,
        .n_used            = n_used,
        .total_tokens      = counter_get(&counts->totals.n_tokens),
        .prompt_tokens     = counter_get(&counts->totals.n_prompt),
        .generation_tokens = counter_get(&counts->totals.n_generation),
        .warmup_tokens     = counter_get(&counts->totals.n_warmup),
        .mtp_tokens        = counter_get(&counts->totals.n_mtp),
        .activations       = word,
        .n_layers          = n_layers,
        .layers            = layers,
        .lost_ubatches     = n_lost_ubatches,
        .lost_tokens       = counter_get(&counts->totals.n_lost),
        .lost_reason       = n_lost_ubatches > 0 ? state->lost_reason : NULL,
        .stopped           = state->stopped,
    };
    uint64_t * totals = word;
    word += n_expert;
    for (int32_t i = 0; i < counts->table.n_layers; i++) {
        const struct counters_layer * from = &counts->table.layers[i];
        if (from->n_expert == 0) {
            continue;
        }
        *layers = (struct expert_tracer_layer) {
            .layer       = i,
            .n_expert    = from->n_expert,
            .n_used      = from->n_used,
            .mtp         = layer_is_mtp(model, i),
            .n_tokens    = counter_get(&from->n_tokens),
            .activations = row_copy(word, counters_row(&counts->table, i), from->n_expert),
        };
        if (!layers->mtp) {
            sum_layer(snapshot, totals, layers);
        }
        word += from->n_expert;
        layers++;
    }
    return snapshot;
}

void expert_tracer_snapshot_free(struct expert_tracer_snapshot * snapshot) {
    free(snapshot); // the first member of its block
}

//
// printing
//

struct percentage {
    char text[32];
};

// With a point, whatever the program's locale.
static struct percentage percentage(uint64_t part, uint64_t whole) {
    struct percentage percentage;
    snprintf(percentage.text, sizeof(percentage.text), "%.2f", whole ? 100.0 * (double) part / (double) whole : 0.0);
    for (char * at = percentage.text; *at; at++) {
        if (*at < '0' || *at > '9') {
            *at = '.';
        }
    }
    return percentage;
}

static void print_expert(struct text * text, const struct expert_tracer_layer * layer, int32_t expert) {
    text_add(text, "    Expert %3d: %8" PRIu64 "\n", expert, layer->activations[expert]);
}

// The hottest expert that is less hot than this one, of equals the one with the lower id first. -1: none; before the
// first one it is -1 too.
static int32_t next_hottest(const struct expert_tracer_layer * layer, int32_t before) {
    const uint64_t * counts = layer->activations;
    int32_t          next   = -1;
    for (int32_t i = 0; i < layer->n_expert; i++) {
        const bool is_left = before < 0 || counts[i] < counts[before] || (counts[i] == counts[before] && i > before);
        if (is_left && (next < 0 || counts[i] > counts[next])) {
            next = i;
        }
    }
    return next;
}

static void print_hottest(struct text * text, const struct expert_tracer_layer * layer, size_t hottest) {
    uint64_t left = 0;
    for (int32_t i = 0; i < layer->n_expert; i++) {
        left += layer->activations[i];
    }
    int32_t expert = -1;
    for (size_t i = 0; i < hottest; i++) {
        expert = next_hottest(layer, expert);
        left  -= layer->activations[expert];
        print_expert(text, layer, expert);
    }
    text_add(text, "    and %zu more, %" PRIu64 " activations\n", (size_t) layer->n_expert - hottest, left);
}

static void print_layers(struct text * text, const struct expert_tracer_snapshot * snapshot, bool mtp,
                         size_t hottest) {
    for (size_t i = 0; i < snapshot->n_layers; i++) {
        const struct expert_tracer_layer * layer = &snapshot->layers[i];
        if (layer->mtp != mtp) {
            continue;
        }
        text_add(text, "  Layer %d:\n", layer->layer);
        if (hottest > 0 && layer->n_expert > 0 && hottest < (size_t) layer->n_expert) {
            print_hottest(text, layer, hottest);
            continue;
        }
        for (int32_t expert = 0; expert < layer->n_expert; expert++) {
            print_expert(text, layer, expert);
        }
    }
}

static bool has_mtp(const struct expert_tracer_snapshot * snapshot) {
    return snapshot->n_layers > 0 && snapshot->layers[snapshot->n_layers - 1].mtp;
}

void snapshot_print(struct text * text, const struct expert_tracer_snapshot * snapshot, bool per_layer,
                    size_t hottest) {
    text_add(text, "\n=== Expert Usage Statistics ===\n");
    text_add(text, "Total tokens: %" PRIu64 "\n", snapshot->total_tokens);
    text_add(text, "Total expert activations: %" PRIu64 "\n\n", snapshot->total_activations);
    for (int32_t i = 0; i < snapshot->n_expert; i++) {
        text_add(text, "  Expert %3d: %8" PRIu64 " activations (%s%%)\n",
            i, snapshot->activations[i], percentage(snapshot->activations[i], snapshot->total_activations).text);
    }
    if (!per_layer) {
        return;
    }
    text_add(text, "\nPer-layer breakdown:\n");
    print_layers(text, snapshot, false, hottest);
    if (has_mtp(snapshot)) {
        text_add(text, "\nMulti-token-prediction head, %" PRIu64 " tokens:\n", snapshot->mtp_tokens);
        print_layers(text, snapshot, true, hottest);
    }
}

//
// JSON
//

enum layer_value { LAYER_TOKENS, LAYER_N_EXPERT, LAYER_N_USED };

static uint64_t layer_value(const struct expert_tracer_layer * layer, enum layer_value value) {
    switch (value) {
        case LAYER_N_EXPERT: return (uint64_t) layer->n_expert;
        case LAYER_N_USED:   return (uint64_t) layer->n_used;
        default:             return layer->n_tokens;
    }
}

// An object keyed by layer.
static void write_layers(struct text * text, const struct expert_tracer_snapshot * snapshot, bool mtp,
        const char * indent, const char * key, enum layer_value value) {
    const char * separator = "";
    text_add(text, ",\n%s\"%s\": {", indent, key);
    for (size_t i = 0; i < snapshot->n_layers; i++) {
        if (snapshot->layers[i].mtp == mtp) {
            text_add(text, "%s\"%d\": %" PRIu64, separator, snapshot->layers[i].layer,
                layer_value(&snapshot->layers[i], value));
            separator = ", ";
        }
    }
    text_add(text, "}");
}

// An object keyed by expert.
static void write_activations(struct text * text, const uint64_t * activations, int32_t n_expert, const char * indent) {
    text_add(text, "{");
    for (int32_t i = 0; i < n_expert; i++) {
        text_add(text, "%s\n%s  \"%d\": %" PRIu64, i ? "," : "", indent, i, activations[i]);
    }
    if (n_expert) {
        text_add(text, "\n%s", indent);
    }
    text_add(text, "}");
}

static void write_per_layer(struct text * text, const struct expert_tracer_snapshot * snapshot, bool mtp,
                            const char * indent) {
    const char * separator = "";
    char         inner[16];
    strcpy(inner, indent);
    strcat(inner, "  ");
    text_add(text, ",\n%s\"per_layer\": {", indent);
    for (size_t i = 0; i < snapshot->n_layers; i++) {
        const struct expert_tracer_layer * layer = &snapshot->layers[i];
        if (layer->mtp == mtp) {
            text_add(text, "%s\n%s\"%d\": ", separator, inner, layer->layer);
            write_activations(text, layer->activations, layer->n_expert, inner);
            separator = ",";
        }
    }
    text_add(text, "\n%s}", indent);
}

static bool layers_differ(const struct expert_tracer_snapshot * snapshot, enum layer_value value) {
    for (size_t i = 1; i < snapshot->n_layers; i++) {
        if (layer_value(&snapshot->layers[i], value) != layer_value(&snapshot->layers[0], value)) {
            return true;
        }
    }
    return false;
}

static void write_mtp(struct text * text, const struct expert_tracer_snapshot * snapshot, bool per_layer) {
    uint64_t total = 0;
    for (size_t i = 0; i < snapshot->n_layers; i++) {
        const struct expert_tracer_layer * layer = &snapshot->layers[i];
        for (int32_t expert = 0; layer->mtp && expert < layer->n_expert; expert++) {
            total += layer->activations[expert];
        }
    }
    text_add(text, ",\n  \"mtp\": {\n    \"total_tokens\": %" PRIu64, snapshot->mtp_tokens);
    text_add(text, ",\n    \"total_activations\": %" PRIu64, total);
    write_layers(text, snapshot, true, "    ", "layer_tokens", LAYER_TOKENS);
    if (per_layer) {
        write_per_layer(text, snapshot, true, "    ");
    }
    text_add(text, "\n  }");
}

static void write_phase(struct text * text, const struct expert_tracer_snapshot * snapshot, const char * key,
                        uint64_t n) {
    if (snapshot->phases_known) {
        text_add(text, ",\n  \"%s\": %" PRIu64, key, n);
    } else {
        text_add(text, ",\n  \"%s\": null", key);
    }
}

// Where nothing is missing nothing is said of it.
static void write_missing(struct text * text, const struct expert_tracer_snapshot * snapshot) {
    if (snapshot->stopped) {
        text_add_json_member(text, ",\n  \"stopped\": ", snapshot->stopped);
    }
    if (snapshot->lost_ubatches > 0) {
        text_add(text, ",\n  \"lost\": {\n    \"ubatches\": %" PRIu64 ",\n    \"tokens\": %" PRIu64,
            snapshot->lost_ubatches, snapshot->lost_tokens);
        text_add_json_member(text, ",\n    \"reason\": ", snapshot->lost_reason);
        text_add(text, "\n  }");
    }
}

void snapshot_write_json(struct text * text, const struct expert_tracer_snapshot * snapshot, bool per_layer,
                         const char * run) {
    text_add_json_member(text, "{\n  \"format\": ", "llama-expert-tracer-statistics");
    text_add(text, ",\n  \"version\": 1");
    text_add_json_member(text, ",\n  \"run\": ", run);
    text_add(text, ",\n  \"pid\": %ld", (long) getpid());
    text_add(text, ",\n  \"complete\": %s", snapshot->complete ? "true" : "false");
    write_missing(text, snapshot);
    text_add_json_member(text, ",\n  \"engine\": ", snapshot->engine);
    text_add_json_member(text, ",\n  \"capture\": ", snapshot->capture);
    text_add_json_member(text, ",\n  \"model\": {\n    \"name\": ", snapshot->name);
    text_add_json_member(text, ",\n    \"architecture\": ", snapshot->architecture);
    text_add_json_member(text, ",\n    \"file\": ", snapshot->file);
    text_add(text, "\n  },\n  \"n_layer\": %d", snapshot->n_layer);
    text_add(text, ",\n  \"n_expert\": %d", snapshot->n_expert);
    text_add(text, ",\n  \"n_expert_used\": %d", snapshot->n_used);
    text_add(text, ",\n  \"total_tokens\": %" PRIu64, snapshot->total_tokens);
    write_phase(text, snapshot, "prompt_tokens",     snapshot->prompt_tokens);
    write_phase(text, snapshot, "generation_tokens", snapshot->generation_tokens);
    write_phase(text, snapshot, "warmup_tokens",     snapshot->warmup_tokens);
    text_add(text, ",\n  \"total_activations\": %" PRIu64, snapshot->total_activations);
    write_layers(text, snapshot, false, "  ", "layer_tokens", LAYER_TOKENS);
    if (layers_differ(snapshot, LAYER_N_EXPERT)) {
        write_layers(text, snapshot, false, "  ", "n_expert_per_layer", LAYER_N_EXPERT);
    }
    if (layers_differ(snapshot, LAYER_N_USED)) {
        write_layers(text, snapshot, false, "  ", "n_expert_used_per_layer", LAYER_N_USED);
    }
    text_add(text, ",\n  \"expert_activations\": ");
    write_activations(text, snapshot->activations, snapshot->n_expert, "  ");
    if (per_layer) {
        write_per_layer(text, snapshot, false, "  ");
    }
    if (has_mtp(snapshot)) {
        write_mtp(text, snapshot, per_layer);
    }
    text_add(text, "\n}\n");
}
