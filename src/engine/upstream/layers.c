// Recognises tensors and nodes by the names that llama.cpp gives them, and keeps what they tell of each layer.

#include "engine/upstream/layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_MAX 4096

const char routing_looks_wrong[] = "this engine's routing does not look as it should (ffn_moe_topk)";

struct layer * layers_at(struct layers * layers, int32_t index) {
    if (index >= LAYERS_MAX) {
        return NULL;
    }
    if (index >= layers->n) {
        const int32_t   n     = index + 32;
        struct layer ** grown = realloc(layers->at, (size_t) n * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        memset(grown + layers->n, 0, (size_t) (n - layers->n) * sizeof(*grown));
        layers->at = grown;
        layers->n  = n;
    }
    if (!layers->at[index]) {
        struct layer * layer = calloc(1, sizeof(*layer));
        if (layer) {
            layer->index = index;
            for (int i = 0; i < N_BATCH_SIZES; i++) {
                layer->backend[i] = -1;
            }
        }
        layers->at[index] = layer;
    }
    return layers->at[index];
}

void layers_free(struct layers * layers) {
    for (int32_t i = 0; i < layers->n; i++) {
        free(layers->at[i]);
    }
    free(layers->at);
    *layers = (struct layers) { 0 };
}

// Order in which an activation's tensors are named.
static int projection_rank(const char * name) {
    static const char * const order[] = { ".ffn_gate_exps.", ".ffn_down_exps.", ".ffn_up_exps." };
    for (int i = 0; i < 3; i++) {
        if (strstr(name, order[i])) {
            return i;
        }
    }
    return -1; // merged ones
}

static void add_name(struct layer * layer, const char * name, size_t expert_bytes) {
    int at = 0;
    for (; at < layer->n_tensors; at++) {
        if (strcmp(layer->tensor_names[at], name) == 0) {
            layer->expert_bytes[at] = layer->expert_bytes[at] ? layer->expert_bytes[at] : expert_bytes;
            return;
        }
        if (projection_rank(layer->tensor_names[at]) > projection_rank(name)) {
            break;
        }
    }
    if (layer->n_tensors == ROUTING_TENSORS_MAX) {
        return;
    }
    const size_t n_behind = (size_t) (layer->n_tensors - at);
    memmove(layer->tensor_names[at + 1], layer->tensor_names[at], n_behind * LAYER_NAME_MAX);
    memmove(layer->expert_bytes + at + 1, layer->expert_bytes + at, n_behind * sizeof(layer->expert_bytes[0]));
    snprintf(layer->tensor_names[at], LAYER_NAME_MAX, "%s", name);
    layer->expert_bytes[at] = expert_bytes;
    layer->is_checked       = false;
    layer->n_tensors++;
}

// Reads the number behind `prefix`, and wants `suffix` behind the number. Returns -1 where the name is another one.
static int32_t layer_in_name(const char * name, const char * prefix, const char * suffix) {
    const size_t length = strlen(prefix);
    if (strncmp(name, prefix, length) != 0 || name[length] < '0' || name[length] > '9') {
        return -1;
    }
    int32_t      layer = 0;
    const char * at    = name + length;
    for (; *at >= '0' && *at <= '9' && layer < LAYERS_MAX; at++) {
        layer = 10 * layer + (*at - '0');
    }
    return layer < LAYERS_MAX && strncmp(at, suffix, strlen(suffix)) == 0 ? layer : -1;
}

static bool ends_in(const char * name, const char * suffix) {
    const size_t n = strlen(name);
    const size_t m = strlen(suffix);
    return n >= m && strcmp(name + n - m, suffix) == 0;
}

// The slots of llama.cpp's expert cache (--moe-cache-mib) are named after the tensor whose experts they hold.
static const char * name_of_tensor(const char * name) {
    static const char cached[] = "moe_cache.";
    return strncmp(name, cached, sizeof(cached) - 1) == 0 ? name + sizeof(cached) - 1 : name;
}

int32_t layer_of_experts(const char * name) {
    const int32_t index = layer_in_name(name, "blk.", ".ffn_"); // attention may have experts of its own
    return ends_in(name, "_exps.weight") ? index : -1;
}

bool is_projection(const char * name) {
    return projection_rank(name) >= 0 || strstr(name, ".ffn_gate_up_exps.") || strstr(name, ".ffn_up_gate_exps.");
}

struct layer * layers_add_tensor(struct layers * layers, const char * name, size_t expert_bytes) {
    name = name_of_tensor(name);
    const int32_t  index = layer_of_experts(name);
    struct layer * layer = index >= 0 ? layers_at(layers, index) : NULL;
    if (layer) {
        add_name(layer, name, expert_bytes);
    }
    return layer;
}

//
// sizes
//

static const struct file_tensor * find_tensor(const struct file_tensor * tensors, int n, const char * name) {
    for (int i = 0; i < n; i++) {
        if (strcmp(tensors[i].name, name) == 0) {
            return &tensors[i];
        }
    }
    return NULL;
}

static bool is_as_in_file(size_t seen, size_t in_file, size_t padding) {
    return in_file == 0 || (in_file >= seen && in_file - seen <= padding);
}

static bool has_projection(const struct layer * layer, const char * projection) {
    for (int i = 0; i < layer->n_tensors; i++) {
        if (strstr(layer->tensor_names[i], projection)) {
            return true;
        }
    }
    return false;
}

// Gate and up may have been merged as they were loaded: then there is as much of it under other names.
static bool sum_is_as_in_file(const struct layer * layer, const struct file_tensor * tensors, int n, size_t n_expert) {
    size_t seen    = 0;
    size_t in_file = 0;
    size_t padding = 0;
    for (int i = 0; i < layer->n_tensors; i++) {
        seen += layer->expert_bytes[i] * n_expert;
    }
    for (int i = 0; i < n; i++) {
        in_file += tensors[i].bytes;
        padding += tensors[i].padding;
    }
    return is_as_in_file(seen, in_file, padding);
}

// Returns false where a tensor of the graph is not in the file, or is of another size.
static bool is_part_of_file(struct layer * layer, const struct file_tensor * tensors, int n, size_t n_expert) {
    for (int i = 0; i < layer->n_tensors; i++) {
        const struct file_tensor * tensor = find_tensor(tensors, n, layer->tensor_names[i]);
        if (tensor == NULL || !is_as_in_file(layer->expert_bytes[i] * n_expert, tensor->bytes, tensor->padding)) {
            return false;
        }
    }
    return true;
}

static void forget_bytes(struct layer * layer) {
    memset(layer->expert_bytes, 0, sizeof(layer->expert_bytes));
}

void layer_check_bytes(struct layer * layer, const struct file_tensor * tensors, int n, int32_t n_expert) {
    layer->is_checked = true;
    if (n == 0) {
        // no file to hold them against: every expert leads somewhere and comes back
        if (!has_projection(layer, "_down_exps.") ||
            !(has_projection(layer, "_up_exps.") || has_projection(layer, "_gate_up_exps."))) {
            forget_bytes(layer);
        }
        return;
    }
    if (is_part_of_file(layer, tensors, n, (size_t) n_expert)) {
        for (int i = 0; i < n; i++) {
            add_name(layer, tensors[i].name, tensors[i].bytes / (size_t) n_expert);
        }
        layer->is_checked = true;
    } else if (!sum_is_as_in_file(layer, tensors, n, (size_t) n_expert)) {
        forget_bytes(layer);
    }
}

void layer_describe(const struct layer * layer, int32_t n_expert, struct routing_layer * routed) {
    routed->layer     = layer->index;
    routed->n_expert  = layer->n_expert > 0 ? layer->n_expert : n_expert;
    routed->n_tensors = layer->n_tensors;
    for (int32_t i = 0; i < layer->n_tensors; i++) {
        routed->tensor_names     [i] = layer->tensor_names[i];
        routed->expert_bytes[i] = layer->expert_bytes[i];
    }
}

enum node_kind node_kind(const char * name, int32_t * layer) {
    if (name[0] == 'i') {
        return strcmp(name, "inp_embd") == 0 ? NODE_INPUT : NODE_OTHER;
    }
    if (strncmp(name, "ffn_moe_", 8) != 0) {
        return NODE_OTHER;
    }
    static const struct {
        const char   * prefix;
        enum node_kind kind;
    } kinds[] = {
        { "ffn_moe_topk-",            NODE_TOPK    },
        { "ffn_moe_argsort-",         NODE_ARGSORT },
        { "ffn_moe_logits-",          NODE_SCORES  },
        { "ffn_moe_probs-",           NODE_SCORES  },
        { "ffn_moe_weights-",         NODE_GATES   },
        { "ffn_moe_weights_softmax-", NODE_GATES   },
        { "ffn_moe_weights_norm-",    NODE_GATES   },
        { "ffn_moe_weights_scaled-",  NODE_GATES   },
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        *layer = layer_in_name(name, kinds[i].prefix, "");
        if (*layer >= 0) {
            // "ffn_moe_topk-5 (reshaped)" is not it
            const char last = name[strlen(name) - 1];
            return last >= '0' && last <= '9' ? kinds[i].kind : NODE_OTHER;
        }
    }
    return NODE_OTHER;
}

int node_gate_step(const char * name) {
    static const char * const steps[] = {
        "ffn_moe_weights-", "ffn_moe_weights_softmax-", "ffn_moe_weights_norm-", "ffn_moe_weights_scaled-",
    };
    int step = 0;
    for (int i = 1; i < (int) (sizeof(steps) / sizeof(steps[0])); i++) {
        step = strncmp(name, steps[i], strlen(steps[i])) == 0 ? i : step;
    }
    return step;
}

void layer_learn_experts(struct layer * layer, const struct real * real, const struct ggml_tensor * scores) {
    const int64_t n_rows = real->ggml_nrows(scores);
    if (n_rows > 0) {
        layer->n_expert = (int32_t) (real->ggml_nelements(scores) / n_rows);
    }
}

bool routing_is_in_range(const struct routing_layer * routed) {
    const size_t n       = (size_t) routed->n_tokens * (size_t) routed->n_used;
    uint32_t     largest = 0;
    for (size_t i = 0; i < n; i++) { // without a branch: a negative one is very large
        const uint32_t expert = (uint32_t) routed->experts[i];
        largest = expert > largest ? expert : largest;
    }
    return n == 0 || largest < (uint32_t) routed->n_expert;
}

uint64_t graph_n_tokens(const struct real * real, struct ggml_cgraph * graph) {
    const struct ggml_tensor * tokens   = real->ggml_graph_get_tensor(graph, "inp_tokens");
    const struct ggml_tensor * embedded = tokens ? NULL : real->ggml_graph_get_tensor(graph, "inp_embd");
    return tokens   ? (uint64_t) real->ggml_nelements(tokens) :
           embedded ? (uint64_t) real->ggml_nrows(embedded)   : 0;
}

void routing_compact(int32_t * out, const char * from, size_t stride, int32_t n_rows, int32_t n_used) {
    for (int32_t i = 0; i < n_rows; i++) {
        memcpy(out + (size_t) i * (size_t) n_used, from + (size_t) i * stride, (size_t) n_used * sizeof(int32_t));
    }
}

size_t layer_bytes_of_one(const struct real * real, const struct ggml_tensor * weights,
                          const struct ggml_tensor * product) {
    const int64_t n_products  = real->ggml_nrows(product);
    const int64_t expert_rows = n_products  > 0 ? real->ggml_nelements(product) / n_products : 0;
    const int64_t n_stacked   = expert_rows > 0 ? real->ggml_nrows(weights) / expert_rows    : 0;
    return n_stacked > 0 ? real->ggml_nbytes(weights) / (size_t) n_stacked : 0;
}
