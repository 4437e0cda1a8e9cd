// What is known of one context of the program's, for the sources that follow what the program does with it.

#pragma once

#include "engine/context/batch.h"
#include "engine/context/models.h"
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

enum context_event_kind { CONTEXT_DECODED, CONTEXT_SKIPPED, CONTEXT_SETTLED, CONTEXT_CUT, CONTEXT_REJECTED };

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

// A token of the batch that was evaluated last, in which all of its sequence's ask for logits: one of several may be
// rejected.
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
    struct model_strings      strings;     // of the model
    struct sinks_context      sinks;
    bool                      opened;
    struct losses             losses;      // that no listener knows of: there was none yet for lack of memory

    // the batch that is being decoded
    const struct batch      * batch;       // NULL: none, or nothing is known of it
    bool                      is_wanted;   // somebody wants its routing: its ubatches are read, and its end delivered
    const char              * batch_lost;  // why its routing is not told, NULL: it is
    uint64_t                  number;      // of the batch, from 0
    bool                      is_split;    // somebody wants to know its tokens
    bool                      is_split_lost; // and there is no memory for that
    struct split              split;       // into ubatches
    bool                      has_positions; // its graphs, as far as that was seen where the program gave none
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
    bool                      is_undecided; // it has tokens of which nobody can tell whether they are prompt
    bool                      tokens_lost; // those of the ubatch that is computed are not known, for lack of memory
    struct context          * outer;       // of the batch that this thread decodes meanwhile, NULL mostly
    struct sequences          sequences;
    bool                      is_embedding; // embeddings were read of it last, not logits
    struct drafted          * drafted;     // [n_drafted] of the batch that was evaluated last
    size_t                    n_drafted;
    size_t                    n_drafted_max;
};
