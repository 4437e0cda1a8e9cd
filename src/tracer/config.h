// What the user asked for, in the environment or through the API.

#ifndef TRACER_CONFIG_H
#define TRACER_CONFIG_H

#include "llama-expert-tracer.h"
#include "log.h"
#include "text.h"

struct config {
    bool   stats;
    bool   names;
    bool   per_layer;
    char * output;   // NULL: none
    double interval; // seconds, 0: only at the end
};

// Reads LLAMA_EXPERT_TRACE_*. What is not understood is off, and remarked on in whole log lines, once in the
// process for each variable. Returns whether anything at all is asked for.
bool config_from_env(struct config * config, struct text * remarks);

// Returns false where memory runs out.
bool config_from_api(struct config * config, const struct expert_tracer_config * from);

// The output is NULL where memory runs out.
struct config config_copy(const struct config * config);

void config_free(struct config * config);

#endif // TRACER_CONFIG_H
