// The tracer: counts the routing that the engine delivers, model by model, and prints, exports and records it as
// configured.

#pragma once

#include "base/log.h"
#include "llama-expert-tracer.h"
#include "tracer/config.h"

// What a tracer is given besides its configuration.
struct tracer_setup {
    log_fn       say;       // for the program's own threads
    log_fn       say_aside; // for the tracer's thread, and at the program's end
    const char * run;       // names the run of the program, kept by the caller
    bool         always;    // the program's own: counts although nothing is to be printed or exported, and keeps the
                            // counts of models that are gone, which it may ask for
};

// Takes the configuration over. Returns NULL where memory runs out: it is freed then.
struct expert_tracer * tracer_new (struct config * config, const struct tracer_setup * setup);
void                   tracer_free(struct expert_tracer * tracer);

// What new models' counts are printed and exported to from now on. Takes the configuration over.
void tracer_configure(struct expert_tracer * tracer, struct config * config);

// Lines to be logged when the next context evaluates its first batch, NULL: none. They are copied.
void tracer_remark(struct expert_tracer * tracer, const char * remarks);

// The program ends: prints, exports and records what was not yet.
void tracer_finish(struct expert_tracer * tracer);

// In the child of a fork: gives up what belongs to the parent. Nothing else may be called afterwards.
void tracer_abandon(struct expert_tracer * tracer);
