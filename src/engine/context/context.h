// What is known of the program's contexts: their model, which of their tokens are prompt and which generation,
// and whether a batch is a warm-up.
//
// A context is either seen (the program's calls to llama_decode pass us) or found behind a scheduler alone, when
// the program fetched llama_decode with dlsym. A context is used by one thread at a time, as llama.cpp demands.

#pragma once

#include "engine/context/batch.h"
#include "engine/context/sequences.h"
#include "engine/context/split.h"
#include "engine/upstream/keyed-list.h"
#include "engine/upstream/real.h"
#include "routing/routing.h"
#include "routing/sinks.h"

#define CONTEXT_EVENTS_MAX 64 // for a batch and what is settled before it, of every ubatch that can be on its way

// How far a batch that may be a warm-up has come.
enum context_suspicion {
    CONTEXT_UNSUSPECTED,
    CONTEXT_EVALUATED, // a batch that looks like one was evaluated
    CONTEXT_PROBED,    // and its second token removed, as servers do to see what the memory can do
    CONTEXT_CLEARED,   // and the memory cleared
};

enum context_event_kind { CONTEXT_DECODED, CONTEXT_SETTLED, CONTEXT_CUT, CONTEXT_REJECTED };

// An event that waits for the ubatches before it.
struct context_event {
    uint64_t                     after;    // so many ubatches have landed
    enum context_event_kind      kind;
    union {
        struct routing_decode    decode;
        bool                     warmup;   // settled as one
        struct routing_cut       cut;
        struct routing_rejection rejection;
    };
};

// What was evaluated and whose routing is not known.
struct losses {
    uint64_t n_ubatches;
    uint64_t n_tokens;
};

// A token of the batch that was evaluated last, in which all of its sequence's ask for logits: one of several may be rejected.
struct drafted {
    int32_t                   sequence;
    int32_t                   position;
    uint64_t                  ubatch;
    int32_t                   token;       // index in the ubatch
};

struct context {
    struct keyed              keyed;       // by struct llama_context *, or by the scheduler of one that is not seen
    const struct real       * real;
    bool                      seen;
    struct routing_model      model;
    char                      name        [256];
    char                      architecture[ 64];
    char                      engine      [512];
    struct sinks_context      sinks;
    bool                      opened;
    struct losses             losses;      // that no listener was told of: there was none yet for lack of memory

    // the batch that is being decoded
    const struct batch      * batch;       // NULL: none, or nothing is known of it
    bool                      is_batch_lost; // for lack of memory: it may be a warm-up
    uint64_t                  number;      // of the batch, from 0
    bool                      is_split;    // somebody wants to know its tokens
    bool                      is_split_lost; // and there is no memory for that
    struct split              split;       // into ubatches
    bool                      has_positions; // its graphs, as far as that was seen where the program did not tell any
    enum routing_fate         fate;
    uint64_t                  n_prompt;
    uint64_t                  n_generation;
    uint64_t                  n_evaluated; // sum of its ubatches

    uint64_t                  n_ubatches;
    uint64_t                  n_started;   // ubatches whose routing was on its way to the host at any time
    uint64_t                  n_landed;    // and has arrived
    struct context_event      events[CONTEXT_EVENTS_MAX]; // [n_events] in order
    int                       n_events;

    bool                      warmup;      // llama_set_warmup(true)
    enum context_suspicion    suspicion;
    const char              * stopped;     // why the routing of what it evaluates is not read any more, NULL: it is
    bool                      phases_lost; // of the batch that is being decoded
    bool                      tokens_lost; // which tokens the ubatch that is computed has is not known, for lack of memory
    struct context          * outer;       // of the batch that this thread decodes meanwhile, NULL mostly
    struct sequences          sequences;
    bool                      is_embedding; // embeddings were read of it last, not logits
    struct drafted          * drafted;     // [n_drafted] of the batch that was evaluated last
    size_t                    n_drafted;
    size_t                    n_drafted_max;
};

// Begins a call of llama_decode, llama_encode or llama_process. Returns NULL where nobody listens or memory ran out: it is
// not traced then, and has to be ended all the same.
struct context * context_decode_begin(const struct real * real, const struct llama_context * key, const struct batch * batch);
void             context_decode_end  (struct context * context, const struct batch * batch, int32_t status);

// What this thread decodes would be traced, but there was no memory for its context.
bool context_is_lacking(void);

// The context that has this key, NULL: none.
struct context * context_of_key(const void * key);

// The file that the context's model was loaded from. `context` may be NULL: of a context that is not seen. NULL: not known.
const char * context_model_file(const struct context * context);

// The context whose batch this thread decodes, NULL: none that is seen.
struct context * context_current(void);

// A context that is not seen, recognised by one of its model's expert tensors.
struct context * context_new_unseen(const struct real * real, const void * sched, const void * model_key);

// The first ubatch of the context is about to be computed, or a further one. `capture` names the way of reading.
// Returns whether anybody is interested.
bool context_open(struct context * context, const char * capture);

// A ubatch is computed: tells what becomes of its counts. The experts need not be known yet.
enum routing_fate context_ubatch_begin(struct context * context, const struct routing_layer * layers, int32_t n_layers, uint64_t n_tokens);

// One of its tokens may be a drafted one.
void context_note_drafted(struct context * context, struct drafted drafted);

// Its routing is on its way to the host; what the context tells meanwhile waits for it.
void context_ubatch_in_flight(struct context * context);
void context_ubatch_landed   (struct context * context);

// Tells the listeners.
void context_ubatch_tell(struct context * context, const struct routing_ubatch * ubatch);

// The routing of a ubatch that was begun is not known, for this reason, a static string: tells the listeners.
void context_tell_lost(struct context * context, enum routing_fate fate, uint64_t n_tokens, const char * why);

// The same of one that nobody has begun: tells the listeners, or those that come. `context` may be NULL: the next
// one that opens tells of it.
void context_lose_ubatch(struct context * context, uint64_t n_tokens, const char * why);

// Whether anybody wants to know the tokens of its ubatches.
bool context_wants_tokens(const struct context * context);

// What becomes of a layer's activations, as far as it is known.
enum routing_fate context_fate(const struct context * context, const struct routing_layer * layer);

// The routing of what the context evaluates from now on cannot be read, for this reason, a static string.
void context_stop (struct context * context, const char * why);

// Says goodbye to the listeners and forgets the context.
void context_close(struct context * context);

// The program called the function of this name.
void context_on_free        (const struct llama_context * key);
void context_on_set_warmup  (const struct real * real, const struct llama_context * key, bool warmup);
void context_on_perf_reset  (const struct llama_context * key);
void context_on_clear       (const struct llama_context * key);
void context_on_seq_rm      (const struct llama_context * key, int32_t seq, int32_t p0, int32_t p1, bool done);
void context_on_seq_cp      (const struct llama_context * key, int32_t from, int32_t to, int32_t p0, int32_t p1);
void context_on_seq_keep    (const struct llama_context * key, int32_t seq);
void context_on_state_set   (const struct llama_context * key, int32_t seq); // what was evaluated is replaced; negative: of all
void context_on_logits_read    (const struct llama_context * key); // or what was sampled from them
void context_on_embeddings_read(const struct llama_context * key);
void context_on_file_opened (void);
void context_on_model_loaded(const struct llama_model * model, const char * path);
void context_on_model_free  (const struct llama_model * model);

// The same for functions that get the context's memory instead.
void context_on_memory_clear   (const struct llama_memory_i * memory);
void context_on_memory_seq_rm  (const struct llama_memory_i * memory, int32_t seq, int32_t p0, int32_t p1, bool done);
void context_on_memory_seq_cp  (const struct llama_memory_i * memory, int32_t from, int32_t to, int32_t p0, int32_t p1);
void context_on_memory_seq_keep(const struct llama_memory_i * memory, int32_t seq);

// In the child of a fork: forgets everything without touching it.
void context_forget_all(void);
