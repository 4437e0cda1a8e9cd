// llama-expert-tracer: which experts a Mixture-of-Experts model routes every token to, inside llama.cpp.
//
// This is the interface for programs that link the library instead of preloading it. The library stands
// between libllama and libggml either way: link it before libllama (-lllama-expert-tracer -lllama), create a
// tracer before the llama context that it shall see, and use llama.cpp as always.
//
// An activation is one token routed to one expert in one layer. Shared experts are not routed, and a warm-up
// run of the program is not counted. Tokens are tokens that were evaluated.
//
// Thread-safety: every function may be called from any thread, except where it says otherwise. In the child of a
// fork() there are no tracers: the parent's must not be used there, expert_tracer_free() ignores them, and new ones
// can be made.

#ifndef LLAMA_EXPERT_TRACER_H
#define LLAMA_EXPERT_TRACER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EXPERT_TRACER_API __attribute__((visibility("default")))

// A tracer counts the routing of every model that the process evaluates while the tracer exists, whatever its
// configuration: that says what is printed and written.
struct expert_tracer;

struct expert_tracer_config {
    size_t       size;      // sizeof(struct expert_tracer_config), so that the struct can grow; not 0
    bool         stats;     // print the statistics when a model's last context is freed
    bool         names;     // log the expert tensors of every activation (thousands of lines a second)
    bool         per_layer; // add the per-layer breakdown to what is printed and exported
    const char * output;    // write statistics to this JSON file, NULL: none; %p is the process id, %m the model
    double       interval;  // seconds between two writes of `output` while the program runs, 0.1 to 86400 (less or more
                            // is taken as these); 0 or less: only at the end

    // The routing trace: every decision of the router, in a file of its own for each model (docs/trace-format.md).
    // Anyone with the file can reconstruct most of the prompts, with token ids or without: SECURITY.md.
    const char * routing;     // write it to this file, NULL: none; %p and %m as in `output`. Where that is the same
                              // file the trace is `output` with .moetrace behind it
    bool         weights;     // with gate weights; subscribers get them too
    bool         tokens;      // with token ids: the prompts as they are
    bool         wait;        // where the disk cannot keep up the program waits; otherwise batches are left out, and
                              // counted
    size_t       buffer;      // bytes of memory for what is not on the disk yet, 0: 32 MiB; so is more than there is
    uint64_t     rotate_size; // go on in a further file at this many bytes, 0: never
    double       rotate_time; // and after this many seconds, 0: never
    uint64_t     sample;      // record one batch in so many, chosen at random in each row of so many, 0: all
    uint64_t     seed;        // of that choice, to make it again: 1 to 2^53; 0: a new one, which the trace's header has
};

#define EXPERT_TRACER_CONFIG_INIT { sizeof(struct expert_tracer_config), true, false, false, NULL, 10.0, \
                                    NULL, false, false, false, 0, 0, 0, 0, 0 }

// Creates a tracer. `config` is copied (NULL: EXPERT_TRACER_CONFIG_INIT).
// Returns NULL where memory, or the room for tracers (8 in a process), is used up, or where its size is 0.
EXPERT_TRACER_API struct expert_tracer * expert_tracer_new(const struct expert_tracer_config * config);

// The same, configured by what the variables LLAMA_EXPERT_TRACE_… (README.md) are now. With none
// of them set the tracer counts quietly: it prints nothing and writes no file.
//
// Without this call the library makes a tracer of its own as soon as a context is created while these variables ask
// for one, preloaded or linked. Called before that, this tracer stands in for it: the variables are not read for
// contexts any more, not after expert_tracer_free() either. Called later, or again, it is one more tracer, and prints
// the same lines again.
EXPERT_TRACER_API struct expert_tracer * expert_tracer_new_from_env(void);

// Ends the tracer: what is open is printed and written as configured. NULL is ignored.
// Waits for subscribed functions that are running; not from inside one.
EXPERT_TRACER_API void expert_tracer_free(struct expert_tracer * tracer);

// A token that was evaluated.
struct expert_tracer_token {
    int32_t id;         // -1: an embedding
    int32_t sequence;   // -1: not known (the program fetched llama_decode with dlsym)
    int32_t life;       // of the sequence, from 0: rises when it is cleared
    int32_t position;   // in the sequence, -1: not known
    bool    generation; // otherwise prompt
    bool    output;     // its logits or embedding were asked for
};

// The routing of one layer for the tokens of one ubatch. What a routing trace has of it is the same.
struct expert_tracer_event {
    size_t          size;     // bytes of this struct that are filled
    const void    * model;    // identifies the loaded model, never to be dereferenced (struct llama_model * where
                              // known)
    const void    * context;  // identifies the context, likewise (struct llama_context * where known)
    int32_t         layer;    // index of the layer, as in blk.<layer>.
    int32_t         n_expert; // routed experts in this layer
    int32_t         n_used;   // experts chosen for each token (top-k)
    int32_t         n_tokens; // rows below; the last layer has only the tokens whose output was asked for
    const int32_t * experts;  // [n_tokens][n_used], in the order of the router's selection; valid during the call
    bool            warmup;   // the program announced a warm-up run
    int32_t         n_ubatch_tokens;            // of the ubatch that the layer is part of
    const struct expert_tracer_token * tokens;  // [n_ubatch_tokens] in the order of rows, which is not always the
                                                // batch's; NULL: not known
    const int32_t * rows;     // [n_tokens] index in tokens[] of each row, ascending; NULL: row i is token i
    const float   * weights;  // [n_tokens][n_used] gate weights: what the experts' outputs are multiplied by; NULL: not
                              // asked for (`weights` of the configuration), or not to be had
    uint64_t        ubatch;   // number of the ubatch in its context, from 0
    uint64_t        batch;    // number of its call of llama_decode, likewise
    int64_t         time;     // when it was submitted, microseconds since 1970
};

// Called when the routing is known, on the thread that evaluates, while the program waits: be quick. That is once a
// ubatch, for one layer after the other: on the CPU when it is computed, with other devices when the program waits for
// them anyway (llama_synchronize, llama_get_logits, llama_free). With LLAMA_EXPERT_TRACE_CAPTURE=eval-callback, or an
// eval callback of the program's own, it is after each layer, before the next one is computed; the device waits there.
// Calls for one tracer never overlap, whatever the number of contexts and subscriptions. It must not call llama.cpp on
// the same context, subscribe or unsubscribe, nor make or free a tracer.
typedef void (*expert_tracer_routing_fn)(const struct expert_tracer_event * event, void * user_data);

// Calls `fn` for every layer of every ubatch from now on. Returns a positive subscription number,
// or -ENOMEM (8 subscriptions at the most), or -EINVAL.
// Not from inside a subscribed function: it would wait for itself.
EXPERT_TRACER_API int  expert_tracer_subscribe  (struct expert_tracer * tracer,
                                                 expert_tracer_routing_fn fn, void * user_data);

// Returns when `fn` is not running any more and will not be called again. Not from inside a subscribed function:
// it would wait for itself.
EXPERT_TRACER_API void expert_tracer_unsubscribe(struct expert_tracer * tracer, int subscription);

struct expert_tracer_layer {
    int32_t          layer;       // as in blk.<layer>.
    int32_t          n_expert;
    int32_t          n_used;      // top-k
    bool             mtp;         // belongs to a multi-token-prediction head
    uint64_t         n_tokens;    // rows routed here
    const uint64_t * activations; // [n_expert]
};

// A copy of the counts of one model, without what is still on its way from a device.
// Everything it points to lives as long as the snapshot.
struct expert_tracer_snapshot {
    const void * model;                 // as in struct expert_tracer_event
    const char * name;                  // general.name, NULL where it is not known
    const char * architecture;          // general.architecture, likewise
    const char * file;                  // path the model was loaded from, likewise
    const char * engine;                // version of llama.cpp and ggml
    const char * capture;               // how the routing is read
    bool         complete;              // all contexts of the model are freed; in files also: or the tracer or program
                                        // ended. And nothing is missing
    bool         phases_known;          // prompt_tokens, generation_tokens and warmup_tokens are known
    int32_t      n_layer;               // layers of the model, without a multi-token-prediction head
    int32_t      n_expert;              // the most of any layer; 0: no MoE layer was seen
    int32_t      n_used;                // likewise
    uint64_t     total_tokens;          // prompt and generation
    uint64_t     prompt_tokens;
    uint64_t     generation_tokens;
    uint64_t     warmup_tokens;         // not in total_tokens
    uint64_t     mtp_tokens;            // evaluated by a multi-token-prediction head, not in total_tokens
    uint64_t     total_activations;     // sum of activations[]
    const uint64_t * activations;       // [n_expert], summed over layers, without a multi-token-prediction head
    size_t       n_layers;              // number of elements in layers[]
    const struct expert_tracer_layer * layers; // MoE layers in ascending order
    uint64_t     lost_ubatches;         // whose routing is not known: `complete` is false where there are any
    uint64_t     lost_tokens;           // their tokens, which are in total_tokens
    const char * lost_reason;           // why that is of the first of them, NULL: there are none
    const char * stopped;               // why no more routing was read from some time on, NULL: it was
};

// Takes a snapshot of the index-th model that this tracer has seen evaluate tokens, 0 being the first.
// Of models that are freed the counts stay as long as the tracer, 8 bytes for each expert of each layer.
// A batch that may still turn out to be a warm-up is in it, and not in a later one if it did.
// Returns NULL where there is no such model, or no memory. To be freed with expert_tracer_snapshot_free().
EXPERT_TRACER_API struct expert_tracer_snapshot * expert_tracer_snapshot_take(struct expert_tracer * tracer,
                                                                              size_t index);
EXPERT_TRACER_API void expert_tracer_snapshot_free(struct expert_tracer_snapshot * snapshot);

// Sets every counter to zero. Between batches: of one that is being evaluated, a part may remain.
EXPERT_TRACER_API void expert_tracer_reset(struct expert_tracer * tracer);

// Writes the index-th model's statistics to `path` as JSON (docs/statistics-format.md). The file is written
// aside and renamed: it is never half there. Links are followed. Returns 0, or -errno; -ENOENT also where there is no
// such model, -ENOTSUP where `path` is there and not a regular file, -EISDIR where it is a folder, -EBADMSG where
// the file that is there is neither empty nor such statistics: it stays.
EXPERT_TRACER_API int expert_tracer_export_json(struct expert_tracer * tracer, size_t index, const char * path);

// Version of this library, as "1.2.3".
EXPERT_TRACER_API const char * expert_tracer_version(void);

#ifdef __cplusplus
}
#endif

#endif // LLAMA_EXPERT_TRACER_H
