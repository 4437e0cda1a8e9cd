// What graphs tell of a model's MoE layers, by the names that llama.cpp gives their tensors: the same in every
// architecture and release.

#pragma once

#include "engine/upstream/real.h"
#include "routing/routing.h"

#define LAYER_NAME_MAX 64 // of a ggml tensor's name, its zero byte included

// Sizes of batches that a scheduler may put on different devices: weights in host memory are brought to a device
// for large ones alone.
enum batch_size { BATCH_SMALL, BATCH_LARGE, N_BATCH_SIZES };

// A tensor that stacks a layer's experts, as the model's file has it.
struct file_tensor {
    int32_t layer;
    char    name[LAYER_NAME_MAX];
    size_t  bytes;                     // of all experts; 0: not known
    size_t  padding;                   // so many of them, at most, may align the next tensor
};

struct layer {
    int32_t index;
    int32_t n_expert;                  // 0: not told so far
    int32_t n_tensors;
    char    tensor_names[ROUTING_TENSORS_MAX][LAYER_NAME_MAX];
    size_t  expert_bytes[ROUTING_TENSORS_MAX]; // 0: not known
    bool    is_checked;                // with what the model's file says of them

    // for the taps in a graph
    size_t  row;                       // bytes of a row of the selection, 0: not seen
    size_t  room;                      // bytes of the largest selection that was seen
    int     backend[N_BATCH_SIZES];    // that selects its experts, by index; -1: not known
    bool    is_argsort;                // the selection is the beginning of the argsort's rows
    bool    is_never_argsort;          // and was once told to be, and was not

    int     gate_step;                 // the last one of those that make the gate weights: see node_gate_step()
};

struct layers {
    struct layer ** at;                // [n] by index, NULL: not seen
    int32_t         n;
};

// Finds a layer or adds it. Returns NULL where memory runs out or there cannot be such a layer. It stays where it is.
struct layer * layers_at  (struct layers * layers, int32_t index);
void           layers_free(struct layers * layers);

// A node that uses this stacked expert tensor, of so many bytes for each expert, was built. Returns its layer, NULL:
// not a layer's experts.
struct layer * layers_add_tensor(struct layers * layers, const char * name, size_t expert_bytes);

// The layer that a stacked expert tensor of this name belongs to, -1: it is none.
int32_t layer_of_experts(const char * name);

// Whether a tensor of this name is multiplied with by the experts that a token is routed to. Arctic stacks a norm
// likewise.
bool is_projection(const char * name);

// Holds the sizes that were seen in the graph against the model's file, which has them right: an engine may use tensors
// by operations that we do not see (fused ones), or change them as it loads. `tensors`: of this layer, [n]. What is
// missing is taken from there; where the two disagree for another reason no size is known.
void layer_check_bytes(struct layer * layer, const struct file_tensor * tensors, int n, int32_t n_expert);

// Tells a listener the layer's number of experts and the names of its weights. `n_expert`: where it is not known.
void layer_describe(const struct layer * layer, int32_t n_expert, struct routing_layer * routed);

// The nodes that are looked at.
enum node_kind {
    NODE_OTHER,
    NODE_INPUT,   // the embedded tokens: a row each
    NODE_SCORES,  // of a layer's experts: an element each
    NODE_ARGSORT, // the same, in their order
    NODE_TOPK,    // the selection
    NODE_GATES,   // weights of the selected experts, after one of the steps that make them
};

// Tells a node by its name, and its layer where it has one.
enum node_kind node_kind(const char * name, int32_t * layer);

// Which step the gate weights of this name have gone through: the highest there is in a layer are those that are used.
int node_gate_step(const char * name);

// Learns a layer's number of experts from one of the nodes that tell it.
void layer_learn_experts(struct layer * layer, const struct real * real, const struct ggml_tensor * scores);

// Tokens that the graph evaluates, 0: it does not tell.
uint64_t graph_n_tokens(const struct real * real, struct ggml_cgraph * graph);

// Copies a selection's rows, `stride` bytes apart, one behind the other.
void routing_compact(int32_t * out, const char * from, size_t stride, int32_t n_rows, int32_t n_used);

// Whether every selected expert is one of the layer's.
bool routing_is_in_range(const struct routing_layer * routed);

extern const char routing_looks_wrong[]; // what is said where it is not as it should be

// Of a tensor that stacks experts, or a cache's slots for them. A row of the product has an element for each row of an
// expert. 0: not known.
size_t layer_bytes_of_one(const struct real * real, const struct ggml_tensor * weights,
                          const struct ggml_tensor * product);
