// Who listens to the routing, and the delivery to all of them.

#pragma once

#include "routing/routing.h"

#define SINKS_MAX 8

// A context's place with every listener. Zeroed: not opened anywhere.
struct sinks_context {
    void   * handles    [SINKS_MAX];
    unsigned generations[SINKS_MAX]; // of the listener that gave the handle
    bool     lacks_memory;           // one of them would be told if it had memory
};

// Returns a slot, or -1 where all are taken.
int  sinks_attach(const struct routing_sink * sink, void * self);

// Returns when no call into the listener is running or will begin. Contexts that it had open are not closed.
void sinks_detach(int slot);

// The same where the process ends, and nobody takes the listener's place: waits a moment, not for ever, as it may be
// such a call that ends it.
void sinks_detach_at_end(int slot);

bool sinks_any(void);

// What any of them wants: ROUTING_WANTS_…
unsigned sinks_want(void);

// Opens the context with every listener that does not have it yet. Returns whether anybody is interested.
bool sinks_open  (struct sinks_context * context, const struct routing_model * model, const void * context_key);
void sinks_begin (struct sinks_context * context);
void sinks_skip  (struct sinks_context * context);
void sinks_layer (struct sinks_context * context, const struct routing_layer * layer,
                  const struct routing_ubatch * ubatch);
void sinks_ubatch(struct sinks_context * context, const struct routing_ubatch * ubatch);
void sinks_decode(struct sinks_context * context, const struct routing_decode * decode);
void sinks_settle(struct sinks_context * context, bool warmup);
void sinks_cut   (struct sinks_context * context, const struct routing_cut * cut);
void sinks_reject(struct sinks_context * context, const struct routing_rejection * rejection);
void sinks_close (struct sinks_context * context);

// In the child of a fork: nobody listens any more.
void sinks_forget_all(void);

void sinks_model_close(const void * model_key);
