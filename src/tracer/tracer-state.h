// What a tracer is made of: the models that it has met, their contexts, and who is called for what it hears. For the
// sources of this room alone; tracer.h and listener.h are what others see.
//
// Locks are taken in this order: a model's output_mutex, the tracer's mutex, a meter's mutex, the live memory's. None
// of them is held while the program is called, but for the subscriptions' own. What is counted is counted without them,
// and what contexts in different threads share is only read then.

#pragma once

#include "base/text.h"
#include "live/live-memory.h"
#include "live/live-ring.h"
#include "live/live-server.h"
#include "routing/routing.h"
#include "statistics/counters.h"
#include "trace/write/trace-writer.h"
#include "tracer/config.h"
#include "tracer/meter.h"
#include "tracer/output.h"
#include "tracer/periodic-writer.h"
#include "tracer/tracer-setup.h"

#include <pthread.h>
#include <stdatomic.h>

#define SUBSCRIPTIONS_MAX 8
#define MODEL_N_STRINGS   4 // in struct routing_model, that are copied

struct tracer_context {
    struct tracer_model   * model;
    const void            * key;
    uint32_t                number;        // in the process, from 1
    struct meter          * meter;
    bool                    does_more;     // than count: one of the next four
    bool                    logs_names;
    struct trace_stream   * stream;        // NULL: it is not in a routing trace
    bool                    lacks_stream;  // it should be in a routing trace, and there was no memory for that
    struct live_ring_writer * ring;        // NULL: nobody watches
    struct trace_writer   * recorder;      // of the stream; with the tracer's mutex, as the next one
    struct live_ring_writer * ring_offered; // for when somebody watches, NULL: there is none yet
    struct text             names;         // of one ubatch, the memory is kept
    struct text             pending_names; // perhaps a warm-up's
    uint64_t                n_unrecorded;  // tokens that are not in it therefore
    uint64_t                n_unrecorded_ubatches;
    bool                    is_mtp;        // the batch that is decoded was evaluated by a multi-token-prediction head
    struct tracer_context * next;
};

// A routing trace that nothing more is recorded in. Contexts that evaluated nothing since may have a stream in it.
struct retired_trace {
    struct trace_writer   * writer;
    char                  * path;
    int                     fd;            // that it was to be written to, -1: none
    bool                    is_ending;     // somebody sees to it
    bool                    is_ended;
    struct retired_trace  * next;
};

struct tracer_model {
    struct expert_tracer  * tracer;
    uint32_t                number;        // in the process, from 1
    int                     entry;         // in the live memory, -1: none
    struct live_model     * shown;         // there
    size_t                  shown_size;
    struct routing_model    about;         // with the strings below
    char                  * strings[MODEL_N_STRINGS];
    struct config           config;
    bool                    unloaded;      // its key may come back as another model
    bool                    finished;      // and all that is written of it is
    int                     n_holders;     // who works on it, or on its place in the list: it stays meanwhile
    struct meter          * closed;        // what contexts counted that are freed
    struct tracer_context * contexts;
    struct tracer_context * unsummed;      // freed, and there was no memory to add what they counted to `closed`
    const char * _Atomic    lost_reason;   // why some routing is not known, NULL: all of it is
    const char * _Atomic    stopped;       // why no more of it is read, NULL: it is
    atomic_bool             phases_lost;   // which tokens are prompt and which generation is not known of all of them
    const char * _Atomic    capture;       // how its routing was read last
    atomic_bool             news_to_write; // counted since the output was written
    atomic_bool             news_to_print; // counted since the statistics were printed

    pthread_mutex_t         output_mutex;  // of what follows
    char                  * wanted;        // the path that the output was claimed for, or could not be; NULL: none yet
    struct output           output;
    bool                    output_failed; // and that was said
    bool                    output_final;  // the model is gone: nothing is written any more

    struct trace_writer   * trace;         // NULL: none; with the tracer's mutex
    char                  * trace_path;    // that it was made for
    int                     trace_fd;      // that it is written to, -1: it has a path
    bool                    trace_ordered; // begun or ended by request: the configuration does not matter any more
    bool                    trace_has_weights; // asked for with it
    struct retired_trace  * retired;

    struct tracer_model   * next;
};

struct subscription {
    expert_tracer_routing_fn fn;           // NULL: free
    void                   * user_data;
};

struct expert_tracer {
    struct tracer_setup     setup;
    pthread_mutex_t         mutex;         // of what follows
    struct config           config;        // for new models
    bool                    asked_names;   // by the configuration; a request may have changed it since, like the next
    double                  asked_interval;
    struct tracer_model   * models;        // in the order of their first batch
    char                  * remarks;       // to be said when the first batch comes
    bool                    greeted;
    atomic_bool             lacked_memory; // and that was said
    struct periodic_writer  writer;

    pthread_mutex_t         subscription_mutex;
    struct subscription     subscriptions[SUBSCRIPTIONS_MAX];
    atomic_int              n_subscriptions;
    atomic_bool             traces;        // a routing trace is configured or was asked for
    atomic_bool             with_gates;    // gate weights are
    atomic_bool             is_counting;
    atomic_bool             is_naming;
    atomic_bool             is_watched;

    struct live_memory    * live;          // NULL: nobody ever sees this tracer
    struct live_server    * server;        // NULL: none yet, or not any more
    struct live_place       live_place;    // lock -1: none, or the server has it
    struct live_name        live_name;
    uint32_t                n_models;      // that were given numbers; with the mutex, as the next one
    uint32_t                n_contexts;
};
