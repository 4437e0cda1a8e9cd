// Finds or makes what is known of a context when the program evaluates with it, opens it with the sinks, and delivers
// what becomes of its ubatches.

#include "engine/context/context.h"

#include "engine/context/context-events.h"
#include "engine/context/opened-file.h"
#include "engine/context/phases.h"
#include "engine/context/warmup.h"
#include "engine/upstream/arrival.h"
#include "engine/upstream/host-log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static struct keyed_list               contexts = KEYED_LIST_EMPTY;
static _Thread_local struct keyed_last last_context;
static _Thread_local struct context  * current;
static _Thread_local int               n_lacking;       // batches, one within the other, that lack memory for a context
static _Atomic(const void *)           warmed_up;       // of such a context: the key of one that warms up
static atomic_uint_least64_t           n_lost_ubatches; // before there was a context to deliver them
static atomic_uint_least64_t           n_lost_tokens;

//
// contexts
//

struct context * context_current(void) {
    return current;
}

bool context_is_lacking(void) {
    return n_lacking > 0;
}

struct context * context_of_key(const void * key) {
    return keyed_find(&contexts, &last_context, key);
}

static bool has_memory(const struct context * context, const struct llama_memory_i * memory) {
    const struct real * real = context->real;
    return context->seen && real->llama_get_memory && real->llama_get_memory(context->keyed.key) == memory;
}

struct context * context_of_memory(const struct llama_memory_i * memory) {
    pthread_mutex_lock(&contexts.mutex);
    struct keyed * keyed = contexts.first;
    while (keyed && !has_memory((const struct context *) keyed, memory)) {
        keyed = keyed->next;
    }
    pthread_mutex_unlock(&contexts.mutex);
    return (struct context *) keyed;
}

static struct context * context_new(const struct real * real, const void * key, bool seen) {
    struct context * context = calloc(1, sizeof(*context));
    if (context == NULL || !sequences_init(&context->sequences, arrived_late())) {
        free(context);
        return NULL;
    }
    context->warmup    = atomic_load(&warmed_up) == key;
    context->keyed.key = key;
    context->real      = real;
    context->seen      = seen;
    keyed_add(&contexts, &context->keyed);
    return context;
}

static struct context * context_find_or_new(const struct real * real, const struct llama_context * key) {
    struct context * context = context_of_key(key);
    return context ? context : context_new(real, key, true);
}

struct context * context_new_unseen(const struct real * real, const void * sched, const void * model_key) {
    struct context * context = context_new(real, sched, false);
    if (context) {
        context->model.key = model_key;
        models_note_unseen(model_key);
        models_describe_engine(&context->model, &context->strings, real);
        models_describe_unseen(&context->model);
    }
    return context;
}

void context_on_set_warmup(const struct real * real, const struct llama_context * key, bool warmup) {
    struct context * context = context_find_or_new(real, key);
    if (context) {
        context->warmup = warmup;
    } else {
        atomic_store(&warmed_up, warmup ? key : NULL);
    }
}

static bool is_in_use(const void * model_key) {
    bool found = false;
    pthread_mutex_lock(&contexts.mutex);
    for (const struct keyed * keyed = contexts.first; keyed && !found; keyed = keyed->next) {
        found = ((const struct context *) keyed)->model.key == model_key;
    }
    pthread_mutex_unlock(&contexts.mutex);
    return found;
}

void context_on_file_opened(void) {
    models_close_unseen(is_in_use);
}

const char * context_model_file(const struct context * context) {
    if (context && context->seen) {
        return models_path(context->real->llama_get_model(context->keyed.key));
    }
    const struct opened_file * file = opened_file_only();
    return file ? file->path : NULL;
}

static void deliver_lost(struct context * context, enum routing_fate fate, struct losses losses, const char * why) {
    const struct routing_ubatch ubatch = {
        .fate     = fate,
        .n_tokens = losses.n_tokens,
        .n_lost   = losses.n_ubatches,
        .lost     = why,
        .stopped  = context->stopped,
    };
    sinks_ubatch(&context->sinks, &ubatch);
}

// What was lost before the listeners were there. Whether it was a warm-up, prompt or generation is not known.
static void deliver_earlier_losses(struct context * context) {
    if (atomic_load_explicit(&n_lost_ubatches, memory_order_relaxed) > 0) {
        context->losses.n_ubatches += atomic_exchange(&n_lost_ubatches, 0);
        context->losses.n_tokens   += atomic_exchange(&n_lost_tokens,   0);
    }
    if (context->losses.n_ubatches > 0) {
        const struct routing_decode decode = { .phases_lost = true, .n_prompt = context->losses.n_tokens };
        deliver_lost(context, ROUTING_COUNT, context->losses, ROUTING_LACKS_MEMORY);
        sinks_decode(&context->sinks, &decode);
        context->losses = (struct losses) { 0 };
    }
}

bool context_is_wanted(const struct context * context) {
    return context->seen ? context->is_wanted : sinks_want() & ROUTING_WANTS_ROUTING;
}

bool context_open(struct context * context, const char * capture) {
    if (!context->opened) {
        context->opened = true;
        if (context->seen) {
            const struct real * real = context->real;
            models_describe_engine(&context->model, &context->strings, real);
            models_describe       (&context->model, &context->strings, real, real->llama_get_model(context->keyed.key));
        }
        context->model.capture = capture;
    }
    const bool is_open = sinks_open(&context->sinks, &context->model, context->keyed.key);
    if (is_open) {
        deliver_earlier_losses(context);
    }
    return is_open;
}

enum routing_fate context_fate(const struct context * context, const struct routing_layer * layer) {
    // a warm-up that llama_set_warmup() announced uses every expert, whoever called it
    if (layer->n_used == layer->n_expert && context->model.n_used > 0 && layer->n_used > context->model.n_used) {
        return ROUTING_WARMUP;
    }
    return context->fate;
}

enum routing_fate context_ubatch_begin(struct context * context, const struct routing_layer * layers, int32_t n_layers,
                                       uint64_t n_tokens) {
    if (!context->seen) {
        context->fate = ROUTING_COUNT; // nobody says where a batch begins
    }
    for (int32_t i = 0; i < n_layers; i++) {
        context->fate = context_fate(context, &layers[i]);
    }
    context->n_evaluated += n_tokens;
    context->n_ubatches++;
    return context->fate;
}

void context_ubatch_deliver(struct context * context, const struct routing_ubatch * ubatch) {
    sinks_ubatch(&context->sinks, ubatch);
}

// Once: there may be no end of it.
static void report_lost(const char * why) {
    static atomic_bool said;
    if (strcmp(why, ROUTING_LACKS_MEMORY) == 0 && !atomic_exchange(&said, true)) {
        log_line(host_log, LOG_ERROR, "out of memory: the routing of some of what is evaluated is not known");
    }
}

void context_deliver_lost(struct context * context, enum routing_fate fate, uint64_t n_tokens, const char * why) {
    report_lost(why);
    deliver_lost(context, fate, (struct losses) { 1, n_tokens }, why);
}

void context_lose_ubatch(struct context * context, uint64_t n_tokens, const char * why) {
    report_lost(why);
    if (context == NULL) {
        atomic_fetch_add(&n_lost_tokens,   n_tokens);
        atomic_fetch_add(&n_lost_ubatches, 1);
        return;
    }
    context_ubatch_begin(context, NULL, 0, n_tokens);
    if (context->sinks.lacks_memory) {
        context->losses.n_ubatches++;
        context->losses.n_tokens += n_tokens;
    } else {
        deliver_lost(context, context->fate, (struct losses) { 1, n_tokens }, why);
    }
}

bool context_wants_tokens(const struct context * context) {
    return context->seen ? context->is_split : sinks_want() & ROUTING_WANTS_TOKENS;
}

void context_stop(struct context * context, const char * why) {
    context->stopped = why;
    deliver_lost(context, ROUTING_COUNT, (struct losses) { 0 }, why);
}

static void context_free(struct context * context) {
    split_free(&context->split);
    sequences_free(&context->sequences);
    free(context->drafted);
    free(context);
}

void context_close(struct context * context) {
    keyed_remove(&contexts, &context->keyed);
    if (current == context) {
        current = NULL; // an exception ended its batch
    }
    warmup_settle(context, false);
    sinks_close(&context->sinks);
    context_free(context);
}

void context_drop_all(void) {
    while (contexts.first) {
        struct context * context = (struct context *) contexts.first;
        keyed_remove(&contexts, &context->keyed);
        context_free(context);
    }
}

void context_forget_all(void) {
    keyed_forget_all(&contexts);
    current   = NULL;
    n_lacking = 0;
    atomic_store(&n_lost_ubatches, 0);
    atomic_store(&n_lost_tokens,   0);
}

//
// decoding
//

static int32_t n_ubatch_of(const struct real * real, const struct llama_context * key) {
    return real->llama_n_ubatch ? (int32_t) real->llama_n_ubatch(key) : 0;
}

struct context * context_decode_begin(const struct real * real, const struct llama_context * key,
                                      const struct batch * batch) {
    const bool       is_wanted = sinks_any();
    struct context * context   = is_wanted ? context_find_or_new(real, key) : NULL;
    if (context == NULL) {
        n_lacking += is_wanted;
        return NULL;
    }
    sinks_begin(&context->sinks);
    const unsigned wants    = sinks_want();
    const bool     is_asked = wants & ROUTING_WANTS_TOKENS;
    context->is_wanted     = wants & ROUTING_WANTS_ROUTING;
    context->n_evaluated   = 0;
    context->n_drafted     = 0;
    context->batch         = batch_n_tokens(batch) > 0 ? batch : NULL;
    context->is_split      = is_asked && split_begin(&context->split, batch, n_ubatch_of(real, key));
    context->is_split_lost = is_asked && !context->is_split;
    phases_begin(context, batch);
    context->batch_lost = batch->is_lost        ? ROUTING_LACKS_MEMORY
                        : context->is_undecided ? ROUTING_WAS_UNDER_WAY : NULL;
    context->fate  = warmup_begin(context, batch);
    context->outer = current; // one that decodes from its own eval callback
    current        = context;
    return context;
}

void context_decode_end(struct context * context, const struct batch * batch, int32_t status) {
    if (context == NULL) {
        n_lacking -= n_lacking > 0;
        return;
    }
    current        = context->outer;
    context->batch = NULL;
    context->number++;
    struct context_event event = { .kind = CONTEXT_SKIPPED };
    if (status == 0 || context->n_evaluated > 0) {
        event.decode = phases_end(context, batch, status); // who asked is remembered in any case
        event.kind   = context->is_wanted ? CONTEXT_DECODED : CONTEXT_SKIPPED;
    }
    if (context->opened) {
        context_events_add(context, event);
    }
}
