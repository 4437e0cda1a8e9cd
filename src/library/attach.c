// Puts the hooks into a process whose engine was there first, has a tracer there that requests steer, and a thread that
// looks for objects that are loaded later. Leaving, it puts everything back; the library stays, and does nothing.

#include "library/attach.h"

#include "base/attach-result.h"
#include "base/fork-reset.h"
#include "engine/capture/capture.h"
#include "engine/context/batch.h"
#include "engine/context/context.h"
#include "engine/context/mapped-file.h"
#include "engine/context/models.h"
#include "engine/hooks/hooks.h"
#include "engine/hooks/slots.h"
#include "engine/upstream/arrival.h"
#include "engine/upstream/real.h"
#include "library/library.h"
#include "tracer/tracer.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEP       250000000L // nanoseconds between two looks for new objects
#define GRACE_STEPS        4  // until short calls into hooks that are not there any more are over
#define PATIENCE_STEPS    40  // until long ones are: those that evaluate

static pthread_mutex_t        attach_mutex = PTHREAD_MUTEX_INITIALIZER; // of all below, but for what is atomic
static struct expert_tracer * attached_tracer; // NULL: none
static atomic_bool            is_leaving;
static bool                   is_beginning;    // there will be one, unless something is in the way
static enum attach_result     result;          // of the last beginning
static bool                   has_leftovers;   // of the time before: a call into our hooks may still use them

// What was asked for.
struct words {
    size_t size;
    char   text[]; // KEY=value, each ended by a zero
};

//
// the tracer
//

static const char * value_of(const struct words * words, const char * key) {
    const size_t length = strlen(key);
    for (size_t at = 0; at < words->size; at += strlen(words->text + at) + 1) {
        if (strncmp(words->text + at, key, length) == 0 && words->text[at + length] == '=') {
            return words->text + at + length + 1;
        }
    }
    return NULL;
}

static void leave(void) {
    atomic_store(&is_leaving, true);
}

// Returns NULL where memory runs out.
static struct expert_tracer * new_tracer(const struct words * words) {
    const char  * folder  = value_of(words, "LIVE");
    const char  * dormant = value_of(words, "DORMANT");
    struct config config  = {
        .live = strdup(folder ? folder : "1"), .dormant = dormant && strcmp(dormant, "1") == 0, .quiet = true,
    };
    if (config.live == NULL) {
        return NULL;
    }
    capture_set_way(value_of(words, "CAPTURE"));
    return library_attach(&config, leave);
}

//
// leaving
//

static void wait_a_step(void) {
    nanosleep(&(struct timespec) { 0, STEP }, NULL);
}

// What is known of the engine is not true any more when we come again.
static void drop_leftovers(void) {
    capture_drop_all();
    context_drop_all();
    batch_drop_all();
    models_drop_all();
    has_leftovers = false;
}

// Graphs that are built without listeners have nothing of ours in them: so that most are gone before the hooks are.
static void go_away(void) {
    library_detach(attached_tracer);
    for (int i = 0; i < GRACE_STEPS && capture_is_in_graphs(); i++) {
        wait_a_step();
    }
    slots_give_back();
    for (int i = 0; i < GRACE_STEPS || (i < PATIENCE_STEPS && !hooks_are_quiet()); i++) {
        wait_a_step();
    }
    if (hooks_are_quiet()) {
        drop_leftovers();
    }
    attached_tracer = NULL;
    atomic_store(&is_leaving, false);
}

// Returns false where it cannot be: why is kept.
static bool begin(struct words * words) {
    atomic_store(&arrival_sees_calls, slots_see_calls());
    mapped_files_look(real_behind(slots_engine(), false));
    struct expert_tracer * tracer   = new_tracer(words);
    const bool             is_shown = tracer && tracer_is_shown(tracer);
    if (tracer && !is_shown) {
        library_detach(tracer);
    }
    free(words);
    pthread_mutex_lock(&attach_mutex);
    attached_tracer = is_shown ? tracer : NULL;
    result          = is_shown ? ATTACH_DONE : tracer ? ATTACH_HIDDEN : ATTACH_NO_MEMORY;
    is_beginning    = false;
    if (!is_shown) {
        slots_give_back();
    }
    pthread_mutex_unlock(&attach_mutex);
    return is_shown;
}

static void * attend(void * words) {
    if (!begin(words)) {
        return NULL;
    }
    while (!atomic_load(&is_leaving)) {
        pthread_mutex_lock(&attach_mutex);
        slots_take();
        pthread_mutex_unlock(&attach_mutex);
        wait_a_step();
    }
    pthread_mutex_lock(&attach_mutex);
    go_away();
    pthread_mutex_unlock(&attach_mutex);
    return NULL;
}

static bool start_thread(struct words * words) {
    pthread_t thread;
    sigset_t  all;
    sigset_t  before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) {
        return false; // the program's signals are not for us
    }
    const bool started = pthread_create(&thread, NULL, attend, words) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) {
        pthread_detach(thread);
    }
    return started;
}

// In the child of a fork there is no thread of ours, and no tracer.
static void forget_attachment(void) {
    fork_reset_mutex(&attach_mutex);
    attached_tracer = NULL;
    is_beginning    = false;
    atomic_store(&is_leaving, false);
}

//
// coming
//

// What follows evaluates nothing and reads files: a thread of ours does it.
static enum attach_result begin_later(const char * text, size_t size) {
    struct words * words = calloc(1, sizeof(*words) + size + 1); // they end with a zero in any case
    if (words) {
        words->size = size + 1;
        memcpy(words->text, text, size);
    }
    is_beginning = words && start_thread(words);
    if (!is_beginning) {
        free(words);
    }
    return is_beginning ? ATTACH_DONE : ATTACH_NO_MEMORY;
}

static enum attach_result attach(const char * text, size_t size) {
    static bool watches_forks;
    if (is_beginning || (has_leftovers && !attached_tracer && !hooks_are_quiet())) {
        return ATTACH_BUSY;
    }
    if (attached_tracer || slots_are_needless()) {
        return ATTACH_ALREADY;
    }
    if (size == 0) {
        return result;
    }
    if (has_leftovers) {
        drop_leftovers();
    }
    if (!watches_forks) {
        watches_forks = true;
        pthread_atfork(NULL, NULL, forget_attachment);
    }
    atomic_store(&arrival_is_late, true);
    has_leftovers = true;
    const enum attach_result begun = slots_take() ? begin_later(text, size) : ATTACH_NO_ENGINE;
    if (begun != ATTACH_DONE) {
        slots_give_back();
    }
    return begun;
}

__attribute__((visibility("default"))) int expert_tracer_attach(const char * text, size_t size) {
    if (pthread_mutex_trylock(&attach_mutex) != 0) {
        return ATTACH_BUSY; // the thread that we are called by is not ours to wait with
    }
    const enum attach_result answer = attach(text, size);
    pthread_mutex_unlock(&attach_mutex);
    return answer;
}
