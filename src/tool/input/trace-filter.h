// Which part of a trace a command is to look at.

#pragma once

#include "tool/error.h"
#include "trace/read/trace-reader.h"

#include <getopt.h>

struct number_range {
    uint64_t first;
    uint64_t last;
};

// "0,3-5,9-": numbers, from one to another, and from one on. An empty one has all numbers in it.
struct number_list {
    struct number_range * ranges;
    size_t                n;
};

enum {
    TRACE_PHASE_PROMPT     = 1,
    TRACE_PHASE_GENERATION = 2,
    TRACE_PHASE_WARMUP     = 4, // whatever its tokens are
};

enum trace_warmup { TRACE_WARMUP_AS_PHASES_SAY, TRACE_WARMUP_WITH, TRACE_WARMUP_WITHOUT };

struct trace_filter {
    struct number_list layers;
    struct number_list sequences;
    struct number_list positions;
    struct number_list ubatches;
    unsigned           default_phases; // what the command takes where none are chosen
    unsigned           phases;         // 0: not chosen
    enum trace_warmup  warmup;
    bool               no_rejected;
    bool               mtp;            // also of a multi-token-prediction head
};

// Rows of a table of options. A command adds them to its own.
enum {
    OPTION_LAYER = 512,
    OPTION_SEQUENCE,
    OPTION_PHASE,
    OPTION_TOKENS,
    OPTION_UBATCH,
    OPTION_WARMUP,
    OPTION_NO_WARMUP,
    OPTION_REJECTED,
    OPTION_NO_REJECTED,
    OPTION_MTP,
};

#define TRACE_FILTER_OPTIONS                                        \
    { "layer",       required_argument, NULL, OPTION_LAYER       }, \
    { "sequence",    required_argument, NULL, OPTION_SEQUENCE    }, \
    { "phase",       required_argument, NULL, OPTION_PHASE       }, \
    { "tokens",      required_argument, NULL, OPTION_TOKENS      }, \
    { "ubatch",      required_argument, NULL, OPTION_UBATCH      }, \
    { "warmup",      no_argument,       NULL, OPTION_WARMUP      }, \
    { "no-warmup",   no_argument,       NULL, OPTION_NO_WARMUP   }, \
    { "rejected",    no_argument,       NULL, OPTION_REJECTED    }, \
    { "no-rejected", no_argument,       NULL, OPTION_NO_REJECTED }, \
    { "mtp",         no_argument,       NULL, OPTION_MTP         }

enum trace_filter_answer { TRACE_FILTER_TAKEN, TRACE_FILTER_WRONG, TRACE_FILTER_OTHER };

// Takes one of these options; TRACE_FILTER_WRONG: its value is not understood, as `error` tells.
enum trace_filter_answer trace_filter_option(struct trace_filter * filter, int option, const char * value, struct error * error);
void                     trace_filter_free  (struct trace_filter * filter);

// False where the trace does not know what is asked for, as `error` tells.
bool trace_filter_fits(const struct trace_filter * filter, const struct trace_info * info, struct error * error);

// The first ubatch that can be chosen, for trace_cursor_seek().
uint64_t trace_filter_first_ubatch(const struct trace_filter * filter);

// No ubatch from this one on is chosen.
bool trace_filter_is_past(const struct trace_filter * filter, uint64_t ubatch);

bool trace_filter_has_ubatch(const struct trace_filter * filter, const struct trace_ubatch * ubatch);
bool trace_filter_has_token (const struct trace_filter * filter, const struct trace_ubatch * ubatch, int32_t i_token); // of a ubatch that is chosen
bool trace_filter_has_layer (const struct trace_filter * filter, int32_t layer);
