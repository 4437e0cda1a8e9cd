// Routing events, passed from the engine to tracers. No ggml types.

#pragma once

#include "llama-expert-tracer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROUTING_TENSORS_MAX 4 // expert tensors of a layer: gate, down, up, or merged ones

// What is known of a loaded model. Strings may be NULL; numbers are 0 where they are not known.
struct routing_model {
    const void * key;           // identifies the model in this process
    const char * name;
    const char * architecture;
    const char * file;
    const char * engine;
    const char * capture;       // how the routing is read: a static string, unlike the others
    int32_t      n_layer;       // without a multi-token-prediction head
    int32_t      n_expert;
    int32_t      n_used;
    bool         phases_known;  // calls to llama_decode are seen
};

// One MoE layer of one ubatch.
struct routing_layer {
    int32_t         layer;
    int32_t         n_expert;
    int32_t         n_used;
    int32_t         n_tokens;   // rows, may be 0
    const int32_t * experts;    // [n_tokens][n_used]
    const float   * gates;      // likewise, the gate weights; NULL: not read
    const int32_t * rows;       // [n_tokens] which token of the ubatch each row is, ascending; NULL: row i is token i
    int32_t         n_tensors;
    const char    * tensor_names[ROUTING_TENSORS_MAX]; // of the experts, such as blk.5.ffn_gate_exps.weight
    size_t          expert_bytes[ROUTING_TENSORS_MAX]; // that one expert takes in each, 0: not known
};

// What becomes of a batch's counts.
enum routing_fate {
    ROUTING_COUNT,   // they count
    ROUTING_WARMUP,  // a warm-up, reported apart
    ROUTING_PENDING, // perhaps a warm-up: a later settle() decides
};

// One computed ubatch, all of its layers in the order of evaluation.
struct routing_ubatch {
    enum routing_fate                  fate;
    uint64_t                           n_tokens;
    int32_t                            n_layers;
    const struct routing_layer       * layers;
    bool                               is_moe;      // its graph has layers that route, though perhaps no rows there
    bool                               layers_told; // one by one to layer(), as they became known
    const char                       * capture;     // how it was read, a static string; NULL: as routing_model says
    const char                       * lost;        // why its routing is not known, a static string: it has no layers
    uint64_t                           n_lost;      // ubatches that one event stands for, where it is lost
    bool                               stopped;     // and that of all that follows in its context
    bool                               tokens_lost; // which tokens they are is not known, for lack of memory
    uint64_t                           number;      // in its context, from 0
    uint64_t                           batch;       // the call of llama_decode, in its context, from 0
    int64_t                            time;        // when the graph was submitted, microseconds since 1970
    const struct expert_tracer_token * tokens;      // [n_tokens] in the order of rows; NULL: nobody wants them
    bool                               rows_known;  // where there are tokens: which token each row of each layer is
    bool                               rows_ambiguous; // they are not, as sequences of the same tokens look alike
};

// A sequence lost positions from one on, and goes on living.
struct routing_cut {
    int32_t  sequence;
    int32_t  life;
    int32_t  position;       // the first that is lost
};

// Tokens of one ubatch that were drafted and are rejected.
struct routing_rejection {
    uint64_t ubatch;         // its number in its context
    int32_t  first;          // index of the token
    int32_t  n;
};

// What a listener wants to know.
enum {
    ROUTING_WANTS_TOKENS  = 1,
    ROUTING_WANTS_GATES   = 2,
    ROUTING_WANTS_ROUTING = 4, // anything at all: without it nothing is read, and nothing delivered
};

// Tokens of one call of llama_decode, known when it has returned.
struct routing_decode {
    enum routing_fate fate;
    bool              phases_lost;  // which of them are prompt and which generation is not known
    uint64_t          n_prompt;
    uint64_t          n_generation;
    int64_t           n_correction; // to be added to the sum of the ubatches' n_tokens
};

// What context_open() returns where memory runs out.
#define ROUTING_NO_MEMORY ((void *) -1)

// Why a ubatch is lost then.
#define ROUTING_LACKS_MEMORY "out of memory"

// And why, where the tracer came while the program evaluated.
#define ROUTING_WAS_UNDER_WAY "it was under way when the tracer was attached"

// A listener. Calls that name a context come from the thread that evaluates it, one at a time.
struct routing_sink {
    // The first batch of a context is about to be evaluated. Returns what the other calls get as `context`,
    // NULL: this context is of no interest, ROUTING_NO_MEMORY: it is, and is asked for again.
    void * (*context_open) (void * self, const struct routing_model * model, const void * context_key);
    // A batch begins; what is wanted is asked for behind this. It ends with decode(), or with skip() where nothing of
    // it is delivered. The batch in which a context is opened was begun before. NULL: of no interest, like skip().
    void   (*begin)        (void * context);
    void   (*skip)         (void * context);
    // What it wants now, of any context. May be called at any time, from any thread.
    unsigned (*wants)      (void * self);
    // A layer's routing is known; the rest of the ubatch is still to be computed. Where all of them are known at once
    // this is not called: see layers_told. The ubatch is complete but for its layers.
    void   (*layer)        (void * context, const struct routing_layer * layer, const struct routing_ubatch * ubatch);
    void   (*ubatch)       (void * context, const struct routing_ubatch * ubatch);
    void   (*decode)       (void * context, const struct routing_decode * decode);
    // What was pending is settled.
    void   (*settle)       (void * context, bool warmup);
    void   (*cut)          (void * context, const struct routing_cut * cut);
    void   (*reject)       (void * context, const struct routing_rejection * rejection);
    void   (*context_close)(void * context);
    // The model is unloaded: its key may come back as another model.
    void   (*model_close)  (void * self, const void * model_key);
};
