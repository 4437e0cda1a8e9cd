// sglang: the JSON that SGLang's --init-expert-location reads, with how often each expert of each layer was chosen
// under "logical_count": an array by layer and expert, or of several of them. Counts have no order: they become
// statistics.

#include "commands/import/import-format.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEY       "logical_count"
#define COUNT_MAX ((uint64_t) 1 << 62) // of all together

static bool recognises(const char * head, size_t size) {
    const size_t blanks = strspn(head, " \t\r\n");
    return blanks < size && head[blanks] == '{' && memmem(head, size, "\"" KEY "\"", strlen(KEY) + 2) != NULL;
}

static bool fail(const struct import * import, const char * where, const char * what, struct error * error) {
    return error_set(error, "%s: " KEY "%s: %s", import->input->name, where, what);
}

// Numbers that are whole: what torch.Tensor.tolist() makes of floats has a point.
static bool count_of(const json_t * json, uint64_t * count) {
    const double value = json_is_number(json) ? json_number_value(json) : -1.0;
    const bool   ok    = value >= 0 && value < 0x1p53 && value == floor(value);
    *count = ok ? (uint64_t) value : 0;
    return ok;
}

static bool add_layer(struct import * import, const char * where, size_t layer, const json_t * counts,
                      struct error * error) {
    struct statistics_section * section = &import->statistics->model;
    const size_t                n       = json_array_size(counts);
    char                        place[96];
    snprintf(place, sizeof(place), "%s[%zu]", where, layer);
    if (!json_is_array(counts) || n == 0 || n > STATISTICS_MAX_EXPERTS) {
        return fail(import, place, "is no array of counts, one for each expert", error);
    }
    if (section->n_expert == 0) {
        section->n_expert    = n;
        section->activations = memory_new(n, sizeof(*section->activations));
    }
    if (n != section->n_expert) {
        return fail(import, place, "is not as long as the layer before: is the file whole?", error);
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t count;
        if (!count_of(json_array_get(counts, i), &count) || count > COUNT_MAX - section->total_activations) {
            snprintf(place, sizeof(place), "%s[%zu][%zu]", where, layer, i);
            return fail(import, place, "is no count: a whole number, 0 or more", error);
        }
        if (count > 0) {
            statistics_layers_at(&section->per_layer, (uint32_t) layer, n)[i] += count;
            section->activations[i]    += count;
            section->total_activations += count;
        }
    }
    return true;
}

// By layer and expert.
static bool add_matrix(struct import * import, const char * where, const json_t * matrix, struct error * error) {
    const size_t n  = json_array_size(matrix);
    bool         ok = true;
    if (!json_is_array(matrix) || n == 0 || n > STATISTICS_MAX_LAYERS) {
        return fail(import, where, "is no array of layers", error);
    }
    import->statistics->n_layer = (int64_t) n;
    for (size_t i = 0; ok && i < n; i++) {
        ok = add_layer(import, where, i, json_array_get(matrix, i), error);
    }
    return ok;
}

static bool is_matrix(const json_t * counts) {
    return !json_is_array(json_array_get(json_array_get(counts, 0), 0));
}

// A recorder that keeps several passes has a further dimension in front: they are added up.
static bool add_counts(struct import * import, const json_t * counts, struct error * error) {
    bool ok = true;
    if (is_matrix(counts)) {
        return add_matrix(import, "", counts, error);
    }
    for (size_t i = 0; ok && i < json_array_size(counts); i++) {
        char where[32];
        snprintf(where, sizeof(where), "[%zu]", i);
        ok = json_array_size(json_array_get(counts, i)) == json_array_size(json_array_get(counts, 0))
           ? add_matrix(import, where, json_array_get(counts, i), error)
           : fail(import, where, "has not as many layers as the one before", error);
    }
    return ok;
}

static int32_t top_k_of(const struct import_hints * hints) {
    return hints->n_used > 0 || hints->file == NULL ? hints->n_used : hints->file->n_used;
}

// Tokens follow from the counts where it is known how many experts each has.
static void count_tokens(struct import * import) {
    struct statistics_section * section = &import->statistics->model;
    const uint64_t              n_used  = (uint64_t) top_k_of(import->hints);
    bool                        known   = n_used > 0;
    for (size_t i = 0; i < section->per_layer.n; i++) {
        uint64_t sum = 0;
        for (size_t k = 0; k < section->n_expert; k++) {
            sum += section->per_layer.activations[i][k];
        }
        known = known && sum % n_used == 0;
        if (known) {
            *statistics_values_at(&section->layer_tokens, section->per_layer.layers[i]) = (int64_t) (sum / n_used);
        }
    }
    section->layer_tokens.known = known;
    if (n_used > 0 && !known) {
        error_warning("%s: the counts of a layer are no multiple of top-k %d: tokens are left out",
                      import->input->name, (int) n_used);
    }
}

static void name_model(struct import * import) {
    struct statistics         * statistics = import->statistics;
    const struct import_hints * hints      = import->hints;
    const struct gguf_model   * file       = hints->file;
    const char                * name       = hints->model != NULL || file == NULL ? hints->model : file->name;
    const bool                  has_kind   = file != NULL && file->architecture != NULL;
    statistics->n_expert      = (int64_t) statistics->model.n_expert;
    statistics->n_expert_used = top_k_of(hints) > 0 ? top_k_of(hints) : STATISTICS_UNKNOWN;
    statistics->capture       = memory_text("import of sglang");
    statistics->name          = name == NULL ? NULL : memory_text("%s", name);
    statistics->architecture  = has_kind ? memory_text("%s", file->architecture) : NULL;
}

static bool fill(struct import * import, const json_t * counts, struct error * error) {
    struct statistics         * statistics = import->statistics;
    const struct import_hints * hints      = import->hints;
    statistics->model.per_layer.known = true;
    if (!add_counts(import, counts, error)) {
        return false;
    }
    if (statistics->model.total_activations == 0) {
        return fail(import, "", "nothing was counted", error);
    }
    if (hints->n_expert > 0 && (size_t) hints->n_expert != statistics->model.n_expert) {
        return error_set(error, "%s: tells %zu experts itself, and --experts says %d: leave that out",
                         import->input->name, statistics->model.n_expert, (int) hints->n_expert);
    }
    if (hints->file != NULL && (size_t) hints->file->n_expert != statistics->model.n_expert) {
        return error_set(error, "%s: has %zu experts in a layer, and %s %d: is that its model?", import->input->name,
                         statistics->model.n_expert, hints->file->path, (int) hints->file->n_expert);
    }
    name_model(import);
    count_tokens(import);
    return true;
}

static bool read(struct import * import, struct error * error) {
    json_error_t why;
    json_t     * root = json_loadf(import->input->file, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL) {
        return error_set(error, "%s: line %d, column %d: %s", import->input->name, why.line, why.column, why.text);
    }
    const json_t * counts = json_object_get(root, KEY);
    const bool     ok     = counts == NULL ? error_set(error, "%s: no " KEY ": this is not what SGLang writes",
                                                       import->input->name)
                                           : fill(import, counts, error);
    json_decref(root);
    return ok;
}

const struct import_format import_sglang = {
    .name           = "sglang",
    .has_statistics = true,
    .recognises     = recognises,
    .read           = read,
};
