#include "engine/context/context.h"

#include "base/fork-reset.h"
#include "engine/context/opened-file.h"
#include "engine/upstream/host-log.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A model that is known by one of its expert tensors.
struct unseen_model {
    const void          * key;
    struct unseen_model * next;
};

struct model_file {
    const void        * model;
    char              * path;
    struct model_file * next;
};

static struct keyed_list       contexts     = KEYED_LIST_EMPTY;
static pthread_mutex_t         models_mutex = PTHREAD_MUTEX_INITIALIZER; // of the lists
static struct model_file     * model_files;
static struct unseen_model   * unseen_models;
static _Thread_local struct keyed_last last_context;
static _Thread_local struct context  * current;
static _Thread_local int               n_lacking;        // batches, one within the other, that have no context for lack of memory
static _Atomic(const void *)           warmed_up;        // of such a context: the key of one that warms up
static atomic_uint_least64_t           n_lost_ubatches;  // before there was a context to tell of them
static atomic_uint_least64_t           n_lost_tokens;

//
// models
//

void context_on_model_loaded(const struct llama_model * model, const char * path) {
    if (!model || !path) {
        return;
    }
    struct model_file * file = malloc(sizeof(*file));
    char              * copy = realpath(path, NULL);
    if (!copy) {
        copy = strdup(path);
    }
    if (!file || !copy) {
        free(file);
        free(copy);
        log_line(host_log, LOG_ERROR, "out of memory: the file of a model is not known");
        return;
    }
    pthread_mutex_lock(&models_mutex);
    *file       = (struct model_file) { model, copy, model_files };
    model_files = file;
    pthread_mutex_unlock(&models_mutex);
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

// Nobody tells when a model that is not seen is freed, and its tensor's address may come back as another model's.
// Before there can be another model its file is opened: what has no context then counts as freed.
void context_on_file_opened(void) {
    struct unseen_model * gone = NULL;
    pthread_mutex_lock(&models_mutex);
    for (struct unseen_model ** link = &unseen_models; *link; ) {
        struct unseen_model * model = *link;
        if (is_in_use(model->key)) {
            link = &model->next;
        } else {
            *link       = model->next;
            model->next = gone;
            gone        = model;
        }
    }
    pthread_mutex_unlock(&models_mutex);
    while (gone) {
        struct unseen_model * model = gone;
        gone = model->next;
        sinks_model_close(model->key);
        free(model);
    }
}

static void note_unseen_model(const void * key) {
    pthread_mutex_lock(&models_mutex);
    const struct unseen_model * known = unseen_models;
    while (known && known->key != key) {
        known = known->next;
    }
    struct unseen_model * model = known ? NULL : malloc(sizeof(*model));
    if (model) {
        *model        = (struct unseen_model) { key, unseen_models };
        unseen_models = model;
    }
    pthread_mutex_unlock(&models_mutex);
}

void context_on_model_free(const struct llama_model * model) {
    struct model_file * dropped = NULL;
    pthread_mutex_lock(&models_mutex);
    for (struct model_file ** link = &model_files; *link; ) {
        struct model_file * file = *link;
        if (file->model == model) {
            *link      = file->next;
            file->next = dropped;
            dropped    = file;
        } else {
            link = &file->next;
        }
    }
    pthread_mutex_unlock(&models_mutex);

    sinks_model_close(model);
    while (dropped) {
        struct model_file * file = dropped;
        dropped = file->next;
        free(file->path);
        free(file);
    }
}

static const char * path_of(const void * model) {
    const char * path = NULL;
    pthread_mutex_lock(&models_mutex);
    for (const struct model_file * file = model_files; file && !path; file = file->next) {
        if (file->model == model) {
            path = file->path;
        }
    }
    pthread_mutex_unlock(&models_mutex);
    return path;
}

static bool meta_string(const struct real * real, const struct llama_model * model, const char * key, char * value, size_t size) {
    return real->llama_model_meta_val_str && real->llama_model_meta_val_str(model, key, value, size) >= 0;
}

// Unlike strtol() of a C library's newest version, the same in all of them.
static int32_t leading_number(const char * text) {
    int32_t number = 0;
    for (; *text >= '0' && *text <= '9' && number < 100000000; text++) {
        number = 10 * number + (*text - '0');
    }
    return number;
}

static int32_t meta_number(const struct context * context, const struct llama_model * model, const char * suffix) {
    char key  [128];
    char value[ 64];
    snprintf(key, sizeof(key), "%s.%s", context->architecture, suffix);
    return meta_string(context->real, model, key, value, sizeof(value)) ? leading_number(value) : 0;
}

static void describe_engine(struct context * context) {
    const struct real * real = context->real;

    const char * llama = real->llama_version ? real->llama_version() : NULL;
    const char * ggml  = real->ggml_version  ? real->ggml_version()  : NULL;
    void       * decode;
    Dl_info      object;
    memcpy(&decode, &real->llama_decode, sizeof(decode));
    if (!decode || !dladdr(decode, &object) || !object.dli_fname) {
        object.dli_fname = "unknown library";
    }
    snprintf(context->engine, sizeof(context->engine), "llama.cpp%s%s%s%s (%s)",
        llama ? " " : "", llama ? llama : "", ggml ? ", ggml " : "", ggml ? ggml : "", object.dli_fname);
    context->model.engine = context->engine;
}

static void describe_model(struct context * context, const struct llama_model * model) {
    const struct real * real = context->real;

    context->model.key          = model;
    context->model.phases_known = true;
    context->model.file         = path_of(model);
    if (meta_string(real, model, "general.name", context->name, sizeof(context->name))) {
        context->model.name = context->name;
    }
    if (meta_string(real, model, "general.architecture", context->architecture, sizeof(context->architecture))) {
        context->model.architecture = context->architecture;
        context->model.n_expert     = meta_number(context, model, "expert_count");
        context->model.n_used       = meta_number(context, model, "expert_used_count");
    }
    if (real->llama_model_n_layer) {
        context->model.n_layer = real->llama_model_n_layer(model);
    } else if (real->llama_n_layer) {
        context->model.n_layer = real->llama_n_layer(model);
    }
}

// Of a context that is not seen: what its model's file says, as far as it is clear which one that is.
static void describe_opened_file(struct context * context) {
    const struct opened_file * file = opened_file_only();
    if (file) {
        context->model.file         = file->path;
        context->model.name         = *file->name         ? file->name         : NULL;
        context->model.architecture = *file->architecture ? file->architecture : NULL;
        context->model.n_layer      = file->n_layer;
        context->model.n_expert     = file->n_expert;
        context->model.n_used       = file->n_used;
    }
}

const char * context_model_file(const struct context * context) {
    if (context && context->seen) {
        return path_of(context->real->llama_get_model(context->keyed.key));
    }
    const struct opened_file * file = opened_file_only();
    return file ? file->path : NULL;
}

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

static struct context * context_new(const struct real * real, const void * key, bool seen) {
    struct context * context = calloc(1, sizeof(*context));
    if (!context || !sequences_init(&context->sequences)) {
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
        note_unseen_model(model_key);
        describe_engine(context);
        describe_opened_file(context);
    }
    return context;
}

static void tell_lost(struct context * context, enum routing_fate fate, struct losses losses, const char * why) {
    const struct routing_ubatch ubatch = {
        .fate = fate, .n_tokens = losses.n_tokens, .n_lost = losses.n_ubatches, .lost = why, .stopped = context->stopped,
    };
    sinks_ubatch(&context->sinks, &ubatch);
}

// What was lost before the listeners were there. Whether it was a warm-up, prompt or generation is not known.
static void tell_earlier_losses(struct context * context) {
    if (atomic_load_explicit(&n_lost_ubatches, memory_order_relaxed) > 0) {
        context->losses.n_ubatches += atomic_exchange(&n_lost_ubatches, 0);
        context->losses.n_tokens   += atomic_exchange(&n_lost_tokens,   0);
    }
    if (context->losses.n_ubatches > 0) {
        const struct routing_decode decode = { .phases_lost = true, .n_prompt = context->losses.n_tokens };
        tell_lost(context, ROUTING_COUNT, context->losses, ROUTING_LACKS_MEMORY);
        sinks_decode(&context->sinks, &decode);
        context->losses = (struct losses) { 0 };
    }
}

bool context_open(struct context * context, const char * capture) {
    if (!context->opened) {
        context->opened = true;
        if (context->seen) {
            describe_engine(context);
            describe_model (context, context->real->llama_get_model(context->keyed.key));
        }
        context->model.capture = capture;
    }
    const bool is_open = sinks_open(&context->sinks, &context->model, context->keyed.key);
    if (is_open) {
        tell_earlier_losses(context);
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

enum routing_fate context_ubatch_begin(struct context * context, const struct routing_layer * layers, int32_t n_layers, uint64_t n_tokens) {
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

void context_ubatch_tell(struct context * context, const struct routing_ubatch * ubatch) {
    sinks_ubatch(&context->sinks, ubatch);
}

// Once: there may be no end of it.
static void say_lost(const char * why) {
    static atomic_bool said;
    if (strcmp(why, ROUTING_LACKS_MEMORY) == 0 && !atomic_exchange(&said, true)) {
        log_line(host_log, LOG_ERROR, "out of memory: the routing of some of what is evaluated is not known");
    }
}

void context_tell_lost(struct context * context, enum routing_fate fate, uint64_t n_tokens, const char * why) {
    say_lost(why);
    tell_lost(context, fate, (struct losses) { 1, n_tokens }, why);
}

void context_lose_ubatch(struct context * context, uint64_t n_tokens, const char * why) {
    say_lost(why);
    if (!context) {
        atomic_fetch_add(&n_lost_tokens,   n_tokens);
        atomic_fetch_add(&n_lost_ubatches, 1);
        return;
    }
    context_ubatch_begin(context, NULL, 0, n_tokens);
    if (context->sinks.lacks_memory) {
        context->losses.n_ubatches++;
        context->losses.n_tokens += n_tokens;
    } else {
        tell_lost(context, context->fate, (struct losses) { 1, n_tokens }, why);
    }
}

static void tell_event(struct context * context, const struct context_event * event) {
    switch (event->kind) {
        case CONTEXT_DECODED:  sinks_decode(&context->sinks, &event->decode);    break;
        case CONTEXT_SETTLED:  sinks_settle(&context->sinks, event->warmup);     break;
        case CONTEXT_CUT:      sinks_cut   (&context->sinks, &event->cut);       break;
        case CONTEXT_REJECTED: sinks_reject(&context->sinks, &event->rejection); break;
    }
}

// Tells what happened, or has it wait for the ubatches that are on their way.
static void happened(struct context * context, struct context_event event) {
    event.after = context->n_started;
    if (context->n_landed == context->n_started || context->n_events == CONTEXT_EVENTS_MAX) {
        tell_event(context, &event);
    } else {
        context->events[context->n_events++] = event;
    }
}

void context_ubatch_in_flight(struct context * context) {
    context->n_started++;
}

void context_ubatch_landed(struct context * context) {
    int n = 0;
    context->n_landed++;
    while (n < context->n_events && context->events[n].after <= context->n_landed) {
        tell_event(context, &context->events[n++]);
    }
    context->n_events -= n;
    memmove(context->events, context->events + n, (size_t) context->n_events * sizeof(*context->events));
}

bool context_wants_tokens(const struct context * context) {
    return context->seen ? context->is_split : sinks_want() & ROUTING_WANTS_TOKENS;
}

void context_stop(struct context * context, const char * why) {
    context->stopped = why;
    tell_lost(context, ROUTING_COUNT, (struct losses) { 0 }, why);
}

static void settle(struct context * context, bool warmup) {
    if (context->suspicion != CONTEXT_UNSUSPECTED) {
        context->suspicion = CONTEXT_UNSUSPECTED;
        happened(context, (struct context_event) { .kind = CONTEXT_SETTLED, .warmup = warmup });
    }
}

void context_close(struct context * context) {
    keyed_remove(&contexts, &context->keyed);
    if (current == context) {
        current = NULL; // an exception ended its batch
    }
    settle(context, false);
    sinks_close(&context->sinks);
    split_free(&context->split);
    sequences_free(&context->sequences);
    free(context->drafted);
    free(context);
}

void context_on_free(const struct llama_context * key) {
    struct context * context = context_of_key(key);
    if (context) {
        context_close(context);
    }
}

void context_forget_all(void) {
    keyed_forget_all(&contexts);
    fork_reset_mutex(&models_mutex);
    model_files   = NULL;
    unseen_models = NULL;
    current       = NULL;
    n_lacking     = 0;
    atomic_store(&n_lost_ubatches, 0);
    atomic_store(&n_lost_tokens,   0);
}

//
// prompt and generation
//

// A token is generation when its sequence asked for logits in an earlier batch, and all of that sequence's tokens in this
// batch ask for logits; otherwise it is prompt. Embeddings are asked for likewise: who reads those does not generate.
static void tell_phases(struct context * context, const struct batch * batch) {
    const int32_t n = batch_n_tokens(batch);

    context->n_prompt     = 0;
    context->n_generation = 0;
    context->phases_lost  = n == 0;
    for (int32_t i = 0; i < n; i++) {
        struct sequence * sequence = sequences_at(&context->sequences, batch_token(batch, i).sequence);
        if (!sequence) {
            context->n_prompt    = (uint64_t) n;
            context->phases_lost = true;
            return;
        }
        sequence->asks_not_for_all = false;
    }
    for (int32_t i = 0; i < n; i++) {
        const struct batch_token token = batch_token(batch, i);
        if (!token.asks) {
            sequences_known(&context->sequences, token.sequence)->asks_not_for_all = true;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        struct sequence * sequence = sequences_known(&context->sequences, batch_token(batch, i).sequence);
        sequence->generates = sequence->has_asked && !sequence->asks_not_for_all && !context->is_embedding;
        if (sequence->generates) {
            context->n_generation++;
        } else {
            context->n_prompt++;
        }
    }
}

// A token of several sequences is a token of each of them.
static void remember_who_asked(struct context * context, const struct batch * batch) {
    const int32_t n = batch_n_tokens(batch);
    for (int32_t i = 0; i < n; i++) {
        const struct batch_token token = batch_token(batch, i);
        const int32_t            n_of  = token.asks ? batch_n_sequences(batch, i) : 0;
        for (int32_t k = 0; k < n_of; k++) {
            struct sequence * sequence = sequences_at(&context->sequences, batch_sequence(batch, i, k));
            if (sequence) {
                sequence->has_asked = true;
            } else {
                context->phases_lost = true;
            }
        }
    }
}

static void note_read(const struct llama_context * key, bool embeddings) {
    struct context * context = context_of_key(key);
    if (context) {
        context->is_embedding = embeddings;
    }
}

void context_on_logits_read(const struct llama_context * key) {
    note_read(key, false);
}

void context_on_embeddings_read(const struct llama_context * key) {
    note_read(key, true);
}

//
// drafted tokens, and what a sequence loses
//

void context_note_drafted(struct context * context, struct drafted drafted) {
    if (context->n_drafted == context->n_drafted_max) {
        const size_t     n     = 2 * context->n_drafted_max + 64;
        struct drafted * grown = realloc(context->drafted, n * sizeof(*grown));
        if (!grown) {
            context->tokens_lost = true; // what is not noted cannot be rejected
            return;
        }
        context->drafted       = grown;
        context->n_drafted_max = n;
    }
    context->drafted[context->n_drafted++] = drafted;
}

// Whether a token of the sequence that was evaluated in the last batch stays.
static bool something_stays(const struct context * context, int32_t sequence, int32_t position) {
    for (size_t i = 0; i < context->n_drafted; i++) {
        if (context->drafted[i].sequence == sequence && context->drafted[i].position < position) {
            return true;
        }
    }
    return false;
}

// Of several tokens that were evaluated together, those from this position on are removed.
static void reject(struct context * context, int32_t sequence, int32_t position) {
    struct routing_rejection run = { 0 };
    if (!something_stays(context, sequence, position)) {
        return;
    }
    for (size_t i = 0; i < context->n_drafted; i++) {
        struct drafted * drafted = &context->drafted[i];
        if (drafted->sequence != sequence || drafted->position < position) {
            continue;
        }
        if (run.n > 0 && (drafted->ubatch != run.ubatch || drafted->token != run.first + run.n)) {
            happened(context, (struct context_event) { .kind = CONTEXT_REJECTED, .rejection = run });
            run.n = 0;
        }
        if (run.n == 0) {
            run = (struct routing_rejection) { drafted->ubatch, drafted->token, 0 };
        }
        run.n++;
        drafted->sequence = -1;
    }
    if (run.n > 0) {
        happened(context, (struct context_event) { .kind = CONTEXT_REJECTED, .rejection = run });
    }
}

static void cut(struct context * context, int32_t number, int32_t position) {
    struct sequence * sequence = sequences_known(&context->sequences, number);
    if (sequence && sequence->next > position) {
        sequence->next = position;
        reject(context, number, position);
        happened(context, (struct context_event) { .kind = CONTEXT_CUT, .cut = { number, sequence->life, position } });
    }
}

static void cut_all(struct context * context, int32_t position) {
    for (size_t i = 0; i < context->sequences.n; i++) {
        cut(context, (int32_t) i, position);
    }
}

//
// warm-up
//

static bool is_special_token(const struct context * context, int32_t token) {
    const struct real        * real  = context->real;
    const struct llama_model * model = real->llama_get_model(context->keyed.key);
    if (real->llama_model_get_vocab && real->llama_vocab_bos && real->llama_vocab_eos) {
        const struct llama_vocab * vocab = real->llama_model_get_vocab(model);
        return token == real->llama_vocab_bos(vocab) || token == real->llama_vocab_eos(vocab);
    }
    return real->llama_token_bos && real->llama_token_eos &&
           (token == real->llama_token_bos(model) || token == real->llama_token_eos(model));
}

// Programs warm up with {BOS, EOS}, or {0} where a model has neither, and servers probe the memory with {0, 0}.
static bool looks_like_warmup(const struct context * context, const struct batch * batch) {
    const int32_t n = batch_n_tokens(batch);
    if (n < 1 || n > 2 || !batch_is_bare(batch)) {
        return false;
    }
    for (int32_t i = 0; i < n; i++) {
        const struct batch_token token = batch_token(batch, i);
        if (token.sequence != 0 || (token.id != 0 && !is_special_token(context, token.id))) {
            return false;
        }
    }
    return true;
}

void context_on_set_warmup(const struct real * real, const struct llama_context * key, bool warmup) {
    struct context * context = context_find_or_new(real, key);
    if (context) {
        context->warmup = warmup;
    } else {
        atomic_store(&warmed_up, warmup ? key : NULL);
    }
}

static void cleared(struct context * context) {
    if (context->suspicion == CONTEXT_PROBED) {
        settle(context, true);
    } else if (context->suspicion == CONTEXT_EVALUATED) {
        context->suspicion = CONTEXT_CLEARED;
    }
    sequences_clear(&context->sequences, -1);
}

// `done`: the memory could do it. It always can remove a whole sequence.
static void sequence_removed(struct context * context, int32_t sequence, int32_t p0, int32_t p1, bool done) {
    if (context->suspicion == CONTEXT_EVALUATED && sequence == 0 && p0 == 1 && p1 == -1) {
        context->suspicion = CONTEXT_PROBED;
    }
    if (p1 >= 0 || !done) {
        return;
    }
    if (p0 <= 0) {
        sequences_clear(&context->sequences, sequence);
    } else if (sequence < 0) {
        cut_all(context, p0);
    } else {
        cut(context, sequence, p0);
    }
}

void context_on_perf_reset(const struct llama_context * key) {
    struct context * context = context_of_key(key);
    if (context && context->suspicion == CONTEXT_CLEARED) {
        settle(context, true);
    }
}

void context_on_clear(const struct llama_context * key) {
    struct context * context = context_of_key(key);
    if (context) {
        cleared(context);
    }
}

void context_on_seq_rm(const struct llama_context * key, int32_t sequence, int32_t p0, int32_t p1, bool done) {
    struct context * context = context_of_key(key);
    if (context) {
        sequence_removed(context, sequence, p0, p1, done);
    }
}

// What begins behind the first position is no sequence that could be followed.
static void sequence_copied(struct context * context, int32_t from, int32_t to, int32_t p0, int32_t p1) {
    if (p0 <= 0) {
        sequences_copy(&context->sequences, from, to, p1);
    }
}

void context_on_seq_cp(const struct llama_context * key, int32_t from, int32_t to, int32_t p0, int32_t p1) {
    struct context * context = context_of_key(key);
    if (context) {
        sequence_copied(context, from, to, p0, p1);
    }
}

void context_on_seq_keep(const struct llama_context * key, int32_t sequence) {
    struct context * context = context_of_key(key);
    if (context) {
        sequences_clear_others(&context->sequences, sequence);
    }
}

void context_on_state_set(const struct llama_context * key, int32_t sequence) {
    struct context * context = context_of_key(key);
    if (context) {
        sequences_clear(&context->sequences, sequence);
    }
}

static bool has_memory(const struct context * context, const struct llama_memory_i * memory) {
    return context->seen && context->real->llama_get_memory && context->real->llama_get_memory(context->keyed.key) == memory;
}

static struct context * context_of_memory(const struct llama_memory_i * memory) {
    pthread_mutex_lock(&contexts.mutex);
    struct keyed * keyed = contexts.first;
    while (keyed && !has_memory((const struct context *) keyed, memory)) {
        keyed = keyed->next;
    }
    pthread_mutex_unlock(&contexts.mutex);
    return (struct context *) keyed;
}

void context_on_memory_clear(const struct llama_memory_i * memory) {
    struct context * context = context_of_memory(memory);
    if (context) {
        cleared(context);
    }
}

void context_on_memory_seq_rm(const struct llama_memory_i * memory, int32_t sequence, int32_t p0, int32_t p1, bool done) {
    struct context * context = context_of_memory(memory);
    if (context) {
        sequence_removed(context, sequence, p0, p1, done);
    }
}

void context_on_memory_seq_cp(const struct llama_memory_i * memory, int32_t from, int32_t to, int32_t p0, int32_t p1) {
    struct context * context = context_of_memory(memory);
    if (context) {
        sequence_copied(context, from, to, p0, p1);
    }
}

void context_on_memory_seq_keep(const struct llama_memory_i * memory, int32_t sequence) {
    struct context * context = context_of_memory(memory);
    if (context) {
        sequences_clear_others(&context->sequences, sequence);
    }
}

//
// decoding
//

static int32_t n_ubatch_of(const struct real * real, const struct llama_context * key) {
    return real->llama_n_ubatch ? (int32_t) real->llama_n_ubatch(key) : 0;
}

struct context * context_decode_begin(const struct real * real, const struct llama_context * key, const struct batch * batch) {
    const bool       is_wanted = sinks_any();
    struct context * context   = is_wanted ? context_find_or_new(real, key) : NULL;
    if (!context) {
        n_lacking += is_wanted;
        return NULL;
    }
    context->n_evaluated = 0;
    context->n_drafted   = 0;
    context->batch       = batch_n_tokens(batch) > 0 ? batch : NULL;
    context->is_batch_lost = batch->is_lost;
    const bool is_asked = sinks_want() & ROUTING_WANTS_TOKENS;
    context->is_split      = is_asked && split_begin(&context->split, batch, n_ubatch_of(real, key));
    context->is_split_lost = is_asked && !context->is_split;
    tell_phases(context, batch);

    if (context->warmup) {
        context->fate = ROUTING_WARMUP;
    } else if (looks_like_warmup(context, batch)) {
        if (context->suspicion > CONTEXT_EVALUATED) {
            settle(context, false);
        }
        context->fate      = ROUTING_PENDING;
        context->suspicion = CONTEXT_EVALUATED;
    } else {
        settle(context, false);
        context->fate = ROUTING_COUNT;
    }
    context->outer = current; // one that decodes from its own eval callback
    current        = context;
    return context;
}

void context_decode_end(struct context * context, const struct batch * batch, int32_t status) {
    if (!context) {
        n_lacking -= n_lacking > 0;
        return;
    }
    current        = context->outer;
    context->batch = NULL;
    context->number++;
    if (!context->opened || (status != 0 && context->n_evaluated == 0)) {
        return;
    }
    if (status == 0 && context->fate != ROUTING_WARMUP) {
        remember_who_asked(context, batch);
    }
    struct routing_decode decode = { context->fate, context->phases_lost, context->n_prompt, context->n_generation, 0 };
    const uint64_t n_tokens = context->n_prompt + context->n_generation;
    if (n_tokens == 0) {
        decode.n_prompt = context->n_evaluated; // nothing is known of the batch
    } else if (status == 0) {
        decode.n_correction = (int64_t) n_tokens - (int64_t) context->n_evaluated;
    } else if (n_tokens > context->n_evaluated) {
        // stopped half-way: prompts are what is long enough for that
        decode.n_generation = 0;
        decode.n_prompt     = context->n_evaluated;
    }
    happened(context, (struct context_event) { .kind = CONTEXT_DECODED, .decode = decode });
}
