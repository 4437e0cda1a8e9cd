// What the user asked for, in the environment or through the API.

#pragma once

#include "base/log.h"
#include "base/text.h"
#include "llama-expert-tracer.h"
#include "trace/write/trace-options.h"

struct config {
    bool   stats;
    bool   names;
    bool   per_layer;
    size_t hottest;  // experts of each layer that are printed where a file has all of them, 0: all
    bool   quiet;    // only what goes wrong is printed
    char * output;   // NULL: none
    double interval; // seconds, 0: only at the end

    char               * routing; // NULL: none
    struct trace_options trace;   // but for its paths

    char * live;     // where the memory is shown: "1", or a folder; NULL: nowhere
    bool   dormant;  // nothing is counted until that is asked for

    char * folder;   // that the paths are relative to; NULL: the current one
};

// Reads LLAMA_EXPERT_TRACE_*. What is not understood is off, and remarked on in whole log lines, once in the
// process for each variable. Returns whether anything at all is asked for.
bool config_from_env(struct config * config, struct text * remarks);

// Returns false where memory runs out, or where the size of `from` is not told.
bool config_from_api(struct config * config, const struct expert_tracer_config * from);

// Returns false where memory runs out: there is nothing to free then.
bool config_copy(struct config * config, const struct config * from);

void config_free(struct config * config);
