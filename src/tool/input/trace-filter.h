// Which part of a trace a command is to look at.

#pragma once

#include "routing/phase.h"
#include "tool/options.h"
#include "trace/read/trace-reader.h"

struct number_range {
    uint64_t first;
    uint64_t last;
};

// "0,3-5,9-": numbers, from one to another, and from one on. An empty one has all numbers in it.
struct number_list {
    struct number_range * ranges;
    size_t                n;
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

// Rows of a command's table of options, whose struct has the filter as `member`.
#define TRACE_FILTER_OPTIONS(member)                                                                            \
    { .kind = OPTION_GROUP, .help = "Which part of the trace" },                                                \
    { 0, "layer", OPTION_TEXT, OPTION_AT(member.layers), .value = "LIST", .take = trace_filter_take_list,       \
      .help = "only these layers, such as 0,3-5,40-", .expects = TRACE_FILTER_LIST },                           \
    { 0, "sequence", OPTION_TEXT, OPTION_AT(member.sequences), .value = "LIST", .take = trace_filter_take_list, \
      .help = "only tokens of these sequences", .expects = TRACE_FILTER_LIST },                                 \
    { 0, "tokens", OPTION_TEXT, OPTION_AT(member.positions), .value = "LIST", .take = trace_filter_take_list,   \
      .help = "only tokens at these positions of their sequence, from 0 on", .expects = TRACE_FILTER_LIST },    \
    { 0, "ubatch", OPTION_TEXT, OPTION_AT(member.ubatches), .value = "LIST", .take = trace_filter_take_list,    \
      .help = "only these ubatches, by their number in the trace", .expects = TRACE_FILTER_LIST },              \
    { 0, "phase", OPTION_TEXT, OPTION_AT(member.phases), .value = "LIST", .take = trace_filter_take_phases,     \
      .help = "only of prompt, generation, warmup", .choices = trace_filter_phases,                             \
      .expects = "is prompt, generation or warmup, or several with commas between them" },                      \
    { 0, "warmup", OPTION_SET, OPTION_AT(member.warmup), .sets = TRACE_WARMUP_WITH,                             \
      .help = "also the warm-up, whatever phases are chosen" },                                                 \
    { 0, "no-warmup", OPTION_SET, OPTION_AT(member.warmup), .sets = TRACE_WARMUP_WITHOUT,                       \
      .help = "not the warm-up, whatever phases are chosen" },                                                  \
    { 0, "rejected", OPTION_OFF, OPTION_AT(member.no_rejected),                                                 \
      .help = "also tokens that were drafted and rejected (the default)" },                                     \
    { 0, "no-rejected", OPTION_ON, OPTION_AT(member.no_rejected),                                               \
      .help = "no tokens that were drafted and rejected" },                                                     \
    { 0, "mtp", OPTION_ON, OPTION_AT(member.mtp), .help = "also what a multi-token-prediction head evaluated" }

#define TRACE_FILTER_LIST "needs numbers such as 0,3-5,9-"

// For these rows: a list of numbers, and of phases.
extern const struct option_choice trace_filter_phases[];
bool trace_filter_take_list  (const char * text, void * place, struct error * error);
bool trace_filter_take_phases(const char * text, void * place, struct error * error);

void trace_filter_free  (struct trace_filter * filter);

// False where the trace does not know what is asked for, as `error` tells.
bool trace_filter_fits(const struct trace_filter * filter, const struct trace_info * info, struct error * error);

// The first ubatch that can be chosen, for trace_cursor_seek().
uint64_t trace_filter_first_ubatch(const struct trace_filter * filter);

// No ubatch from this one on is chosen.
bool trace_filter_is_past(const struct trace_filter * filter, uint64_t ubatch);

bool trace_filter_has_ubatch(const struct trace_filter * filter, const struct trace_ubatch * ubatch);
bool trace_filter_has_token (const struct trace_filter * filter, const struct trace_ubatch * ubatch,
                             int32_t i_token); // of a ubatch that is chosen
bool trace_filter_has_layer (const struct trace_filter * filter, int32_t layer);
