// What a running model does, at one moment and in the seconds before it: plain values, filled once, which the terminal
// and the page only read. Counts are the tracer's own; what depends on the order of tokens is of what was routed since
// the watch began, as its ring has no more.

#pragma once

#include "live/live-layout.h"
#include "routing/phase.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WATCH_SECONDS_MAX  60 // the longest window, but for WATCH_ALL
#define WATCH_ALL          0  // since counting began: the start, or the last reset
#define WATCH_N_HOT        64
#define WATCH_N_SEQUENCES  64
#define WATCH_N_SIZES      12

// What has an index by phase has one more, of all tokens: it alone is known where phases are not.
#define WATCH_ANY_PHASE    N_TOKEN_PHASES
#define WATCH_N_PHASES     (N_TOKEN_PHASES + 1)

// NAN, here and below: not known, or of nothing.
struct watch_layer {
    int32_t          layer;    // as in blk.<layer>.
    int32_t          n_expert;
    int32_t          n_used;
    uint64_t         activations;
    const uint64_t * counts;   // [n_expert] in the window
    double           entropy;  // normalised: 1 is even
    size_t           hottest;  // expert
    double           share;    // of the layer's activations, that it has
    size_t           unused;   // experts
};

// An expert of a layer.
struct watch_slot {
    size_t   layer;  // index into layers
    uint16_t expert;
    uint64_t count;
    double   share;  // of its layer's activations
};

// A sequence that was routed since the watch began. On llama-server its number is the slot's.
struct watch_sequence {
    uint32_t context;
    int32_t  sequence;
    int32_t  life;         // conversations that it had before
    int32_t  position;     // of its last token, -1: not known
    bool     generation;   // what its last token was
    double   age;          // seconds since its last token
    uint64_t n_prompt;     // tokens of this life, since the watch began
    uint64_t n_generation;
    double   rate;         // tokens a second in the window
    double   used;         // share of all slots of the model that this life has used
};

struct watch_share {
    double   share; // NAN: nothing was asked for
    uint64_t of;    // what it is of
};

// A cache of as many bytes for the whole model, as the table of `cache` has them. A ubatch that has a token of a prompt
// is of prompts.
struct watch_size {
    double             slots;       // in each layer, on the mean
    double             share;       // of all experts
    double             bytes;       // NAN: not known
    bool               is_asked;
    size_t             llama_slots; // of llama.cpp's cache, 0: it is off
    // by phase, of requests, those that are served: by an LRU cache of each layer, and by llama.cpp's own
    struct watch_share lru      [WATCH_N_PHASES]; // in the window
    struct watch_share llama    [WATCH_N_PHASES];
    struct watch_share lru_all  [WATCH_N_PHASES]; // since the watch began, from an empty cache on
    struct watch_share llama_all[WATCH_N_PHASES];
};

// How far the last minute is from what was counted before it.
struct watch_drift {
    double divergence; // Jensen-Shannon, bits, mean of the layers; NAN: too little was counted
    double noise;      // of the halves of the minute from each other
    double times;      // divergence of the noise
};

struct watch_frame {
    // who
    int64_t                 pid;       // as it is seen from here, 0: it is not
    char                  * program;
    char                  * tracer;
    int64_t                 started;   // microseconds since 1970
    int64_t                 time;      // of this frame, likewise
    uint32_t                switches;  // LIVE_COUNTS and so on
    char                  * model;     // NULL: not known, like the next three
    char                  * architecture;
    char                  * engine;
    char                  * capture;
    size_t                  n_contexts;
    size_t                  n_models;  // that the process has, this is one of them
    uint32_t                number;    // its own
    bool                    phases_known; // otherwise what is of a phase has no meaning, or is NAN

    // how much
    double                  window;    // seconds that the window has really, NAN: WATCH_ALL
    uint64_t                n_tokens;  // since counting began
    uint64_t                n_prompt;
    uint64_t                n_generation;
    uint64_t                n_lost;    // of n_tokens: their routing is not known
    double                  rate       [WATCH_N_PHASES]; // tokens a second, in the last second
    double                  window_rate[WATCH_N_PHASES]; // and in the window; NAN: WATCH_ALL

    // which experts, in the window
    size_t                  n_layers;
    struct watch_layer    * layers;
    uint64_t              * cells;     // their counts, one layer behind the other: the frame's own
    int32_t                 n_expert;  // the most of any layer
    size_t                  n_slots;   // experts of all layers
    uint64_t                activations;
    double                  entropy;   // mean of the layers
    size_t                  n_hot;
    struct watch_slot       hot[WATCH_N_HOT]; // the most used first
    struct watch_drift      drift;

    // in which order
    double                  watched;   // seconds
    uint64_t                n_watched; // tokens that were seen in the ring
    uint64_t                overrun;   // bytes that were overwritten before they were read
    struct watch_share      reuse[WATCH_N_PHASES]; // of a token's experts, those that the one before it had too
    size_t                  n_sequences;
    struct watch_sequence   sequences[WATCH_N_SEQUENCES]; // the last ones, by context and number
    size_t                  n_sizes;
    struct watch_size       sizes[WATCH_N_SIZES];
    bool                    bytes_known;
    double                  all_bytes; // of all experts, NAN: not known
};

// Of each phase, and of all tokens: `part` of `of`, both by phase.
void watch_shares_set(struct watch_share shares[WATCH_N_PHASES], const uint64_t part[N_TOKEN_PHASES],
                      const uint64_t of[N_TOKEN_PHASES]);

// What rates and shares are of a phase are not known from now on.
void watch_frame_forget_phases(struct watch_frame * frame);

// What watch_look() returned; NULL is ignored.
void watch_frame_free(struct watch_frame * frame);
