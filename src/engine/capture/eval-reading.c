// Reads selections and gate weights from the nodes that the scheduler's eval callback shows, and delivers them.

#include "engine/capture/eval-reading.h"

#include <stdlib.h>

const char eval_reading_name[] = "eval-callback";

void eval_reading_reset(struct eval_reading * reading, bool with_gates) {
    reading->with_gates = with_gates;
    reading->n_routed  = 0;
    reading->n_experts = 0;
    reading->n_tokens  = 0;
    reading->n_rows    = 0;
    reading->is_moe    = false;
    reading->lacks_memory = false;
}

void eval_reading_free(struct eval_reading * reading) {
    free(reading->routed);
    free(reading->routed_at);
    free(reading->experts);
    free(reading->gates);
    *reading = (struct eval_reading) { 0 };
}

static bool has_read(const struct eval_reading * reading, int32_t layer) {
    for (int32_t i = reading->n_routed - 1; i >= 0; i--) {
        if (reading->routed[i].layer == layer) {
            return true;
        }
    }
    return false;
}

// Returns NULL where memory runs out.
static struct routing_layer * routed_add(struct eval_reading * reading, size_t n_ids) {
    if (reading->n_routed == reading->n_routed_max) {
        const size_t n = (size_t) reading->n_routed_max + 64;
        struct routing_layer * routed    = realloc(reading->routed,    n * sizeof(*routed));
        reading->routed    = routed    ? routed    : reading->routed;
        size_t               * routed_at = realloc(reading->routed_at, n * sizeof(*routed_at));
        reading->routed_at = routed_at ? routed_at : reading->routed_at;
        if (routed == NULL || routed_at == NULL) {
            return NULL;
        }
        reading->n_routed_max = (int32_t) n;
    }
    if (reading->n_experts + n_ids > reading->n_experts_max) {
        const size_t n = (reading->n_experts + n_ids) * 2;
        int32_t    * experts = realloc(reading->experts, n * sizeof(*experts));
        reading->experts = experts ? experts : reading->experts;
        float      * gates   = realloc(reading->gates, n * sizeof(*gates));
        reading->gates   = gates   ? gates   : reading->gates;
        if (experts == NULL || gates == NULL) {
            return NULL;
        }
        reading->n_experts_max = n;
    }
    reading->routed_at[reading->n_routed] = reading->n_experts;
    return &reading->routed[reading->n_routed];
}

// Reads a tensor's rows into experts[], one behind the other: in the tensor they may lie further apart.
static bool read_rows(struct eval_reading * reading, const struct real * real, const struct ggml_tensor * topk,
                      int32_t n_rows, int32_t n_used) {
    const size_t row    = (size_t) n_used * sizeof(int32_t);
    const size_t nbytes = real->ggml_nbytes(topk);
    const size_t stride = n_rows > 1 ? (nbytes - row) / (size_t) (n_rows - 1) : row;
    int32_t    * out    = reading->experts + reading->n_experts;

    if (nbytes < row || stride < row || nbytes != stride * (size_t) (n_rows - 1) + row) {
        return false;
    }
    if (stride == row) {
        real->ggml_backend_tensor_get(topk, out, 0, nbytes);
        return true;
    }
    char * whole = malloc(nbytes);
    if (!whole) {
        reading->lacks_memory = true;
        return true;
    }
    real->ggml_backend_tensor_get(topk, whole, 0, nbytes);
    routing_compact(out, whole, stride, n_rows, n_used);
    free(whole);
    return true;
}

bool eval_reading_look(struct eval_reading * reading, const struct real * real, struct layers * layers,
                       const struct ggml_tensor * node) {
    int32_t              index = 0;
    const enum node_kind kind  = node_kind(real->ggml_get_name(node), &index);

    reading->is_moe = reading->is_moe || kind == NODE_TOPK;
    if (kind == NODE_INPUT) {
        reading->n_tokens = real->ggml_nrows(node);
    } else if (kind == NODE_SCORES || kind == NODE_ARGSORT) {
        struct layer * layer = layers_at(layers, index);
        if (layer && !has_read(reading, index)) {
            layer_learn_experts(layer, real, node);
        }
    } else if (reading->lacks_memory) {
        return false;
    } else if (kind == NODE_GATES && reading->with_gates) {
        struct layer * layer = layers_at(layers, index);
        const int      step  = node_gate_step(real->ggml_get_name(node));
        if (layer && step > layer->gate_step) {
            layer->gate_step = step;
        }
        return layer && step == layer->gate_step && real->ggml_nelements(node) > 0;
    }
    return kind == NODE_TOPK && real->ggml_nrows(node) > 0;
}

// Of the layer whose selection was read last. What is not as large as that is left out.
static void read_gates(struct eval_reading * reading, const struct real * real, int32_t index,
                       const struct ggml_tensor * node) {
    struct routing_layer * routed = reading->n_routed > 0 ? &reading->routed[reading->n_routed - 1] : NULL;
    const size_t           n      = routed ? (size_t) routed->n_tokens * (size_t) routed->n_used : 0;
    if (routed && routed->layer == index && (size_t) real->ggml_nbytes(node) == n * sizeof(float)) {
        float * gates = reading->gates + reading->routed_at[reading->n_routed - 1];
        real->ggml_backend_tensor_get(node, gates, 0, n * sizeof(float));
        routed->gates = gates;
    }
}

static void tell_layer(struct context * context, const struct ubatch_tokens * tokens, struct routing_layer * routed) {
    struct routing_ubatch ubatch = { .fate = context_fate(context, routed), .n_tokens = (uint64_t) tokens->n };
    tokens_describe(tokens, &ubatch);
    ubatch.rows_known = tokens_describe_rows(tokens, routed) && ubatch.rows_known;
    sinks_layer(&context->sinks, routed, &ubatch);
}

const char * eval_reading_read(struct eval_reading * reading, const struct real * real, struct layers * layers,
                               struct context * context, const struct ubatch_tokens * tokens,
                               const struct ggml_tensor * node) {
    const int64_t n_rows = real->ggml_nrows(node);
    const int64_t n_ids  = real->ggml_nelements(node);
    int32_t       index  = 0;

    const enum node_kind kind = node_kind(real->ggml_get_name(node), &index);
    if (kind == NODE_GATES && reading->with_gates) {
        read_gates(reading, real, index, node);
    }
    // GroveMoE has a second selection of this name, of chunks that follow from the experts
    if (kind != NODE_TOPK || n_rows <= 0 || n_ids <= 0 || has_read(reading, index)) {
        return NULL;
    }
    struct layer         * layer  = layers_at(layers, index);
    struct routing_layer * routed = routed_add(reading, (size_t) n_ids);
    reading->lacks_memory = layer == NULL || routed == NULL;
    if (reading->lacks_memory) {
        return NULL;
    }
    *routed = (struct routing_layer) {
        .n_used   = (int32_t) (n_ids / n_rows),
        .n_tokens = (int32_t) n_rows,
        .experts  = reading->experts + reading->n_experts,
    };
    layer_describe(layer, context->model.n_expert, routed);
    if (real->ggml_element_size(node) != sizeof(int32_t) ||
        !read_rows(reading, real, node, routed->n_tokens, routed->n_used)) {
        return routing_looks_wrong;
    }
    if (reading->lacks_memory) {
        return NULL;
    }
    if (!routing_is_in_range(routed)) {
        return routing_looks_wrong;
    }
    reading->n_routed++;
    reading->n_experts += (size_t) n_ids;
    if (n_rows > reading->n_rows) {
        reading->n_rows = n_rows;
    }
    if (!reading->with_gates) {
        tell_layer(context, tokens, routed);
    }
    return NULL;
}

void eval_reading_tell(struct eval_reading * reading, struct layers * layers, struct context * context,
                       const struct ubatch_tokens * tokens, uint64_t n_tokens, bool in_passing) {
    if (n_tokens == 0) {
        n_tokens = (uint64_t) (reading->n_tokens > 0 ? reading->n_tokens : reading->n_rows);
    }
    if (n_tokens == 0) {
        return; // not a model's graph: the memory's own
    }
    if (reading->lacks_memory) {
        context_lose_ubatch(context, n_tokens, ROUTING_LACKS_MEMORY);
        return;
    }
    struct routing_ubatch ubatch = {
        .is_moe      = reading->is_moe,
        .layers_told = !reading->with_gates,
        .capture     = in_passing ? NULL : eval_reading_name,
    };
    tokens_describe(tokens, &ubatch);
    for (int32_t i = 0; i < reading->n_routed; i++) { // both arrays may have moved as they grew
        struct routing_layer * routed = &reading->routed[i];
        routed->experts = reading->experts + reading->routed_at[i];
        routed->gates   = routed->gates ? reading->gates + reading->routed_at[i] : NULL;
        layer_describe(layers_at(layers, routed->layer), context->model.n_expert, routed); // more names are known now
        ubatch.rows_known = tokens_describe_rows(tokens, routed) && ubatch.rows_known;
    }
    ubatch.fate     = context_ubatch_begin(context, reading->routed, reading->n_routed, n_tokens);
    ubatch.n_tokens = n_tokens;
    ubatch.n_layers = reading->n_routed;
    ubatch.layers   = reading->routed;
    context_ubatch_deliver(context, &ubatch);
}
