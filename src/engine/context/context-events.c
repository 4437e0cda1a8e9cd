// Keeps a context's events in order with the ubatches that are on their way, and delivers them to the sinks.

#include "engine/context/context-events.h"

#include <string.h>

static void deliver_event(struct context * context, const struct context_event * event) {
    switch (event->kind) {
        case CONTEXT_DECODED:  sinks_decode(&context->sinks, &event->decode);    break;
        case CONTEXT_SKIPPED:  sinks_skip  (&context->sinks);                    break;
        case CONTEXT_SETTLED:  sinks_settle(&context->sinks, event->warmup);     break;
        case CONTEXT_CUT:      sinks_cut   (&context->sinks, &event->cut);       break;
        case CONTEXT_REJECTED: sinks_reject(&context->sinks, &event->rejection); break;
    }
}

void context_events_add(struct context * context, struct context_event event) {
    event.after = context->n_started;
    if (context->n_landed == context->n_started || context->n_events == CONTEXT_EVENTS_MAX) {
        deliver_event(context, &event);
    } else {
        context->events[context->n_events++] = event;
    }
}

void context_events_ubatch_started(struct context * context) {
    context->n_started++;
}

void context_events_ubatch_landed(struct context * context) {
    int n = 0;
    context->n_landed++;
    while (n < context->n_events && context->events[n].after <= context->n_landed) {
        deliver_event(context, &context->events[n++]);
    }
    context->n_events -= n;
    memmove(context->events, context->events + n, (size_t) context->n_events * sizeof(*context->events));
}
