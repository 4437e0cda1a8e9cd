// Capture by the scheduler's eval callback: each layer's selection is read when it is computed, which stops the device
// there. Works with every engine.

#pragma once

#include "engine/capture/tokens.h"
#include "engine/context/context.h"
#include "engine/upstream/layers.h"
#include "engine/upstream/real.h"

extern const char eval_reading_name[]; // what this way is called

// What was read of the ubatch that is being computed. Zeroed: nothing.
struct eval_reading {
    struct routing_layer * routed;     // [n_routed]
    size_t               * routed_at;  // [n_routed] where a layer's experts begin in experts[]
    int32_t                n_routed;
    int32_t                n_routed_max;
    int32_t              * experts;
    float                * gates;      // as experts[], where they are wanted
    bool                   with_gates;
    size_t                 n_experts;
    size_t                 n_experts_max;
    int64_t                n_tokens;   // rows of the input, 0: not told
    int64_t                n_rows;     // most rows of any layer
    bool                   is_moe;     // there is a selection, though perhaps of no rows
    bool                   lacks_memory;  // the ubatch is lost
};

// A graph is about to be computed. `with_gates`: gate weights are wanted; the listeners are told of each layer at the
// end then.
void eval_reading_reset(struct eval_reading * reading, bool with_gates);
void eval_reading_free (struct eval_reading * reading);

// Looks at a node that is about to be computed. Returns whether it is to be read afterwards.
bool eval_reading_look(struct eval_reading * reading, const struct real * real, struct layers * layers,
                       const struct ggml_tensor * node);

// Reads a node that was computed, if it is a selection, and tells the listeners of the layer; or its gate weights.
// `tokens`: of the ubatch. Returns what is wrong with it, NULL: nothing.
const char * eval_reading_read(struct eval_reading * reading, const struct real * real, struct layers * layers,
                               struct context * context, const struct ubatch_tokens * tokens,
                               const struct ggml_tensor * node);

// The graph is computed: tells the listeners of the ubatch. `n_tokens`: 0 where it is not known. `in_passing`: this way
// is not the one that is taken for good.
void eval_reading_tell(struct eval_reading * reading, struct layers * layers, struct context * context,
                       const struct ubatch_tokens * tokens, uint64_t n_tokens, bool in_passing);
