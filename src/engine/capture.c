#include "capture.h"

#include "context.h"
#include "engine.h"
#include "fork-reset.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_MAX      4096
#define NAME_MAX_LENGTH   64 // of a ggml tensor's name, its zero byte included

// What a graph tells of one layer when it is built.
struct layer {
    int32_t              n_expert;
    int32_t              n_weights;
    char                 weights[ROUTING_WEIGHTS_MAX][NAME_MAX_LENGTH];
};

struct tap {
    void               * sched;
    const struct real  * real;
    struct context     * context;      // whose graph is being computed, NULL: nobody's that is traced
    struct context     * unseen;       // the context behind this scheduler where llama_decode is not seen
    const void         * model_key;    // an expert tensor: what the unseen context's model is known by

    ggml_eval_fn         program_fn;   // NULL: the program has none
    void               * program_data;
    bool                 program_wants; // the node that was asked for last

    struct layer       * layers;       // [n_layers] by index of the layer
    int32_t              n_layers;

    // the ubatch that is being computed
    struct routing_layer * routed;     // [n_routed]
    size_t               * routed_at;  // [n_routed] where a layer's experts begin in experts[]
    int32_t                n_routed;
    int32_t                n_routed_max;
    int32_t              * experts;
    size_t                 n_experts;
    size_t                 n_experts_max;
    int64_t                n_tokens;   // rows of the input, 0: not told
    int64_t                n_rows;     // most rows of any layer
    bool                   gave_up;    // this tap stands aside from now on

    struct tap           * next;
};

static pthread_mutex_t      taps_mutex = PTHREAD_MUTEX_INITIALIZER; // of the list
static struct tap         * taps;
static atomic_int           n_taps;
static _Thread_local const void * building;  // the scheduler whose graph this thread builds
static _Thread_local const void * just_made; // the scheduler that this thread created a moment ago

static struct tap * tap_find(const void * sched) {
    if (atomic_load_explicit(&n_taps, memory_order_relaxed) == 0) {
        return NULL;
    }
    pthread_mutex_lock(&taps_mutex);
    struct tap * tap = taps;
    while (tap && tap->sched != sched) {
        tap = tap->next;
    }
    pthread_mutex_unlock(&taps_mutex);
    return tap;
}

void capture_on_sched_new(const struct real * real, void * sched) {
    struct tap * tap = calloc(1, sizeof(*tap));
    if (!tap) {
        return;
    }
    tap->sched = sched;
    tap->real  = real;
    pthread_mutex_lock(&taps_mutex);
    tap->next = taps;
    taps      = tap;
    pthread_mutex_unlock(&taps_mutex);
    atomic_fetch_add(&n_taps, 1);
    just_made = sched;
}

void capture_on_sched_free(void * sched) {
    struct tap * tap = tap_find(sched);
    if (!tap) {
        return;
    }
    pthread_mutex_lock(&taps_mutex);
    for (struct tap ** link = &taps; *link; link = &(*link)->next) {
        if (*link == tap) {
            *link = tap->next;
            break;
        }
    }
    pthread_mutex_unlock(&taps_mutex);
    atomic_fetch_sub(&n_taps, 1);

    // a context replaces its scheduler by making the new one first
    struct tap * heir = tap_find(just_made);
    just_made = NULL;
    building  = NULL;
    if (tap->unseen && heir && !heir->unseen && !heir->model_key) {
        heir->unseen = tap->unseen; // unless its first graph shows another model
    } else if (tap->unseen) {
        context_close(tap->unseen);
    }
    free(tap->layers);
    free(tap->routed);
    free(tap->routed_at);
    free(tap->experts);
    free(tap);
}

static void give_up(struct tap * tap, const char * why) {
    tap->gave_up = true;
    context_stop(tap->context);
    log_line(engine_say, LOG_ERROR, "%s; tracing of this context stops here, the program goes on", why);
}

//
// building
//

static struct layer * layer_at(struct tap * tap, int32_t index) {
    if (index >= LAYERS_MAX) {
        return NULL;
    }
    if (index >= tap->n_layers) {
        const int32_t n     = index + 32;
        struct layer * grown = realloc(tap->layers, (size_t) n * sizeof(*grown));
        if (!grown) {
            return NULL;
        }
        memset(grown + tap->n_layers, 0, (size_t) (n - tap->n_layers) * sizeof(*grown));
        tap->layers   = grown;
        tap->n_layers = n;
    }
    return &tap->layers[index];
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

static void layer_add_weights(struct layer * layer, const char * name) {
    int at = 0;
    for (; at < layer->n_weights; at++) {
        if (strcmp(layer->weights[at], name) == 0) {
            return;
        }
        if (projection_rank(layer->weights[at]) > projection_rank(name)) {
            break;
        }
    }
    if (layer->n_weights == ROUTING_WEIGHTS_MAX) {
        return;
    }
    memmove(layer->weights[at + 1], layer->weights[at], (size_t) (layer->n_weights - at) * NAME_MAX_LENGTH);
    snprintf(layer->weights[at], NAME_MAX_LENGTH, "%s", name);
    layer->n_weights++;
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
static const char * name_of_weights(const char * name) {
    static const char cached[] = "moe_cache.";
    return strncmp(name, cached, sizeof(cached) - 1) == 0 ? name + sizeof(cached) - 1 : name;
}

void capture_on_mul_mat_id(const struct real * real, const struct ggml_tensor * weights) {
    struct tap * tap = building ? tap_find(building) : NULL;
    if (!tap) {
        return;
    }
    const char  * name  = name_of_weights(real->ggml_get_name(weights));
    const int32_t index = layer_in_name(name, "blk.", ".ffn_"); // attention may have experts of its own
    if (index < 0 || !ends_in(name, "_exps.weight")) {
        return;
    }
    if (!tap->model_key) {
        tap->model_key = weights;
    }
    struct layer * layer = layer_at(tap, index);
    if (layer) {
        layer_add_weights(layer, name);
    }
}

//
// computing
//

// A node's name without its layer, for the nodes that we look at.
enum node_kind { NODE_OTHER, NODE_INPUT, NODE_SCORES, NODE_TOPK };

static enum node_kind node_kind(const char * name, int32_t * layer) {
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
        { "ffn_moe_topk-",    NODE_TOPK   },
        { "ffn_moe_logits-",  NODE_SCORES },
        { "ffn_moe_argsort-", NODE_SCORES },
        { "ffn_moe_probs-",   NODE_SCORES },
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

static const struct routing_layer * routed_find(const struct tap * tap, int32_t layer) {
    for (int32_t i = tap->n_routed - 1; i >= 0; i--) {
        if (tap->routed[i].layer == layer) {
            return &tap->routed[i];
        }
    }
    return NULL;
}

static struct routing_layer * routed_add(struct tap * tap, size_t n_ids) {
    if (tap->n_routed == tap->n_routed_max) {
        const size_t n = (size_t) tap->n_routed_max + 64;
        struct routing_layer * routed    = realloc(tap->routed,    n * sizeof(*routed));
        tap->routed    = routed    ? routed    : tap->routed;
        size_t               * routed_at = realloc(tap->routed_at, n * sizeof(*routed_at));
        tap->routed_at = routed_at ? routed_at : tap->routed_at;
        if (!routed || !routed_at) {
            return NULL;
        }
        tap->n_routed_max = (int32_t) n;
    }
    if (tap->n_experts + n_ids > tap->n_experts_max) {
        const size_t n = (tap->n_experts + n_ids) * 2;
        int32_t    * experts = realloc(tap->experts, n * sizeof(*experts));
        if (!experts) {
            return NULL;
        }
        tap->experts       = experts;
        tap->n_experts_max = n;
    }
    tap->routed_at[tap->n_routed] = tap->n_experts;
    return &tap->routed[tap->n_routed];
}

// Reads a tensor's rows into experts[], one behind the other: in the tensor they may lie further apart.
static bool read_rows(struct tap * tap, const struct ggml_tensor * topk, int32_t n_rows, int32_t n_used) {
    const struct real * real   = tap->real;
    const size_t        row    = (size_t) n_used * sizeof(int32_t);
    const size_t        nbytes = real->ggml_nbytes(topk);
    const size_t        stride = n_rows > 1 ? (nbytes - row) / (size_t) (n_rows - 1) : row;
    int32_t           * out    = tap->experts + tap->n_experts;

    if (nbytes < row || stride < row || nbytes != stride * (size_t) (n_rows - 1) + row) {
        return false;
    }
    if (stride == row) {
        real->ggml_backend_tensor_get(topk, out, 0, nbytes);
        return true;
    }
    char * whole = malloc(nbytes);
    if (!whole) {
        return false;
    }
    real->ggml_backend_tensor_get(topk, whole, 0, nbytes);
    for (int32_t i = 0; i < n_rows; i++) {
        memcpy(out + (size_t) i * (size_t) n_used, whole + (size_t) i * stride, row);
    }
    free(whole);
    return true;
}

static bool ids_are_in_range(const int32_t * experts, size_t n, int32_t n_expert) {
    for (size_t i = 0; i < n; i++) {
        if (experts[i] < 0 || experts[i] >= n_expert) {
            return false;
        }
    }
    return true;
}

static void name_weights(struct routing_layer * layer, const struct layer * known) {
    layer->n_weights = known->n_weights;
    for (int32_t i = 0; i < known->n_weights; i++) {
        layer->weights[i] = known->weights[i];
    }
}

static void read_topk(struct tap * tap, const struct ggml_tensor * topk, int32_t index) {
    const struct real * real   = tap->real;
    const int64_t       n_rows = real->ggml_nrows(topk);
    const int64_t       n_ids  = real->ggml_nelements(topk);

    // GroveMoE has a second selection of this name, of chunks that follow from the experts
    if (n_rows <= 0 || n_ids <= 0 || routed_find(tap, index)) {
        return;
    }
    struct layer         * known = layer_at(tap, index);
    struct routing_layer * layer = routed_add(tap, (size_t) n_ids);
    if (!known || !layer) {
        give_up(tap, "out of memory");
        return;
    }
    *layer = (struct routing_layer) {
        .layer     = index,
        .n_expert  = known->n_expert > 0 ? known->n_expert : tap->context->model.n_expert,
        .n_used    = (int32_t) (n_ids / n_rows),
        .n_tokens  = (int32_t) n_rows,
        .experts   = tap->experts + tap->n_experts,
    };
    name_weights(layer, known);
    if (real->ggml_element_size(topk) != sizeof(int32_t) || !read_rows(tap, topk, layer->n_tokens, layer->n_used) ||
        !ids_are_in_range(layer->experts, (size_t) n_ids, layer->n_expert)) {
        give_up(tap, "this engine's routing does not look as it should (ffn_moe_topk)");
        return;
    }
    tap->n_routed++;
    tap->n_experts += (size_t) n_ids;
    if (n_rows > tap->n_rows) {
        tap->n_rows = n_rows;
    }
    sinks_layer(&tap->context->sinks, layer, context_fate(tap->context, layer));
}

// Looks at a node that is about to be computed. Returns whether it is to be read afterwards.
static bool look_at(struct tap * tap, const struct ggml_tensor * node) {
    const struct real  * real = tap->real;
    int32_t              index = 0;
    const enum node_kind kind  = node_kind(real->ggml_get_name(node), &index);

    if (kind == NODE_INPUT) {
        tap->n_tokens = real->ggml_nrows(node);
    } else if (kind == NODE_SCORES) {
        struct layer * layer  = layer_at(tap, index);
        const int64_t  n_rows = real->ggml_nrows(node);
        if (layer && n_rows > 0 && !routed_find(tap, index)) {
            layer->n_expert = (int32_t) (real->ggml_nelements(node) / n_rows);
        }
    }
    return kind == NODE_TOPK && real->ggml_nrows(node) > 0;
}

static bool on_node(struct ggml_tensor * node, bool ask, void * user_data) {
    struct tap * tap = user_data;
    if (ask) {
        tap->program_wants = tap->program_fn && tap->program_fn(node, true, tap->program_data);
        const bool wanted  = tap->context && !tap->gave_up && look_at(tap, node);
        return wanted || tap->program_wants;
    }
    int32_t index = 0;
    if (tap->context && !tap->gave_up && node_kind(tap->real->ggml_get_name(node), &index) == NODE_TOPK) {
        read_topk(tap, node, index);
    }
    return tap->program_wants ? tap->program_fn(node, false, tap->program_data) : true;
}

bool capture_on_set_eval_callback(const struct real * real, void * sched, ggml_eval_fn fn, void * user_data) {
    struct tap * tap = tap_find(sched);
    just_made = NULL;
    building  = tap ? sched : NULL;
    if (!tap) {
        return false;
    }
    tap->program_fn   = fn;
    tap->program_data = user_data;
    real->ggml_backend_sched_set_eval_callback(sched, on_node, tap);
    return true;
}

static bool has_routing(const struct real * real, struct ggml_cgraph * graph) {
    const int n = real->ggml_graph_n_nodes(graph);
    for (int i = 0; i < n; i++) {
        int32_t index;
        if (node_kind(real->ggml_get_name(real->ggml_graph_node(graph, i)), &index) == NODE_TOPK) {
            return true;
        }
    }
    return false;
}

// The context whose graph this is. One that is not seen begins with its first MoE graph.
static struct context * context_of(struct tap * tap, struct ggml_cgraph * graph) {
    struct context * context = context_current();
    if (context) {
        return context;
    }
    if (!tap->model_key) {
        return NULL;
    }
    if (tap->unseen && tap->unseen->model.key != tap->model_key) {
        context_close(tap->unseen); // inherited, and not the same model after all
        tap->unseen = NULL;
    }
    if (!tap->unseen && has_routing(tap->real, graph)) {
        tap->unseen = context_new_unseen(tap->real, tap->sched, tap->model_key);
    }
    return tap->unseen;
}

static uint64_t tokens_of(const struct tap * tap, struct ggml_cgraph * graph) {
    const struct ggml_tensor * tokens = tap->real->ggml_graph_get_tensor(graph, "inp_tokens");
    if (tokens) {
        return (uint64_t) tap->real->ggml_nelements(tokens);
    }
    return (uint64_t) (tap->n_tokens > 0 ? tap->n_tokens : tap->n_rows);
}

static void deliver(struct tap * tap, uint64_t n_tokens) {
    if (n_tokens == 0 && tap->n_routed == 0) {
        return; // not a model's graph: the memory's own
    }
    for (int32_t i = 0; i < tap->n_routed; i++) { // both arrays may have moved as they grew
        tap->routed[i].experts = tap->experts + tap->routed_at[i];
        name_weights(&tap->routed[i], &tap->layers[tap->routed[i].layer]);
    }
    context_ubatch(tap->context, tap->routed, tap->n_routed, n_tokens);
}

int capture_compute(const struct real * real, void * sched, struct ggml_cgraph * graph) {
    struct tap * tap = tap_find(sched);
    building  = NULL;
    just_made = NULL;
    if (!tap || tap->gave_up) {
        return real->ggml_backend_sched_graph_compute_async(sched, graph);
    }
    tap->context = context_of(tap, graph);
    if (tap->context && !context_open(tap->context, "eval-callback")) {
        tap->context = NULL;
    }
    tap->n_routed  = 0;
    tap->n_experts = 0;
    tap->n_tokens  = 0;
    tap->n_rows    = 0;

    const int status = real->ggml_backend_sched_graph_compute_async(sched, graph);
    if (status == 0 && tap->context && !tap->gave_up) {
        deliver(tap, tokens_of(tap, graph));
    }
    tap->context = NULL;
    return status;
}

void capture_forget_all(void) {
    fork_reset_mutex(&taps_mutex);
    taps      = NULL;
    building  = NULL;
    just_made = NULL;
    atomic_store(&n_taps, 0);
}
