// Takes memory from the engine's backends, keeps what is given back, and frees it when no scheduler is left.

#include "engine/capture/device-memory.h"

#include "base/fork-reset.h"

#include <pthread.h>
#include <stdlib.h>

#define SIZE_MIN   4096
#define GROUPS_MAX   16 // of a scheduler: as many as it can have backends

// A buffer is in use until it is given back, and then waits for its next user.
struct device_buffer {
    const struct real    * real;
    const void           * type;
    const void           * group;  // of its device
    void                 * buffer; // the engine's
    size_t                 size;
    bool                   in_use;
    const void           * left_to; // the scheduler whose graph still has it, NULL: none
    struct device_buffer * next;
};

// A scheduler, by which devices are used.
struct device_user {
    const void         * sched;
    int                  n_groups;
    const void         * groups[GROUPS_MAX];
    struct device_user * next;
};

static pthread_mutex_t        memory_mutex = PTHREAD_MUTEX_INITIALIZER; // of all below
static struct device_buffer * device_buffers;
static struct device_user   * device_users;
static bool                   has_unlisted; // a user that there was no memory to list: nothing is freed any more

size_t device_memory_round(size_t size) {
    size_t step = SIZE_MIN / 4;
    while (size > 8 * step && step <= SIZE_MAX / 32) {
        step *= 2;
    }
    const size_t n = size / step + (size % step > 0);
    return n < 4 ? SIZE_MIN : n * step;
}

// Devices that one registry lists may share a connection, or whatever else they are reached through. NULL: not known,
// which may be any of them.
static const void * group_of(const struct real * real, void * device) {
    return device && real->ggml_backend_dev_backend_reg ? real->ggml_backend_dev_backend_reg(device) : NULL;
}

//
// taking
//

// Of those that nobody uses the smallest that is large enough.
static struct device_buffer * best_of_waiting(const struct real * real, const void * type, size_t size) {
    struct device_buffer * best = NULL;
    for (struct device_buffer * it = device_buffers; it; it = it->next) {
        const bool fits = !it->in_use && it->real == real && it->type == type && it->size >= size;
        if (fits && (best == NULL || it->size < best->size)) {
            best = it;
        }
    }
    return best;
}

static void * take_waiting(const struct real * real, const void * type, size_t size) {
    pthread_mutex_lock(&memory_mutex);
    struct device_buffer * found = best_of_waiting(real, type, size);
    if (found) {
        found->in_use = true;
    }
    pthread_mutex_unlock(&memory_mutex);
    return found ? found->buffer : NULL;
}

static void * take_new(const struct real * real, void * type, void * device, size_t size) {
    struct device_buffer * taken = malloc(sizeof(*taken));
    void * const buffer = taken ? real->ggml_backend_buft_alloc_buffer(type, size) : NULL;
    if (buffer == NULL) {
        free(taken);
        return NULL;
    }
    const size_t got = real->ggml_backend_buffer_get_size(buffer);
    pthread_mutex_lock(&memory_mutex);
    *taken = (struct device_buffer) {
        .real = real, .type = type, .group = group_of(real, device), .buffer = buffer, .size = got,
        .in_use = got >= size, .next = device_buffers,
    };
    device_buffers = taken;
    pthread_mutex_unlock(&memory_mutex);
    return got >= size ? buffer : NULL;
}

void * device_memory_take(const struct real * real, void * type, void * device, size_t size) {
    const size_t rounded = device_memory_round(size);
    void * const waiting = take_waiting(real, type, rounded);
    return waiting ? waiting : take_new(real, type, device, rounded);
}

void device_memory_give_back(void * buffer) {
    pthread_mutex_lock(&memory_mutex);
    for (struct device_buffer * it = device_buffers; it && buffer; it = it->next) {
        if (it->buffer == buffer) {
            it->in_use = false;
        }
    }
    pthread_mutex_unlock(&memory_mutex);
}

void device_memory_leave_to(void * buffer, const void * sched) {
    pthread_mutex_lock(&memory_mutex);
    for (struct device_buffer * it = device_buffers; it && buffer; it = it->next) {
        if (it->buffer == buffer) {
            it->left_to = sched;
        }
    }
    pthread_mutex_unlock(&memory_mutex);
}

//
// users
//

static int list_groups(const struct real * real, void * sched, const void ** groups) {
    if (real->ggml_backend_sched_get_n_backends == NULL || real->ggml_backend_sched_get_backend == NULL ||
        real->ggml_backend_get_device == NULL) {
        groups[0] = NULL;
        return 1;
    }
    const int n = real->ggml_backend_sched_get_n_backends(sched);
    for (int i = 0; i < n && i < GROUPS_MAX; i++) {
        groups[i] = group_of(real, real->ggml_backend_get_device(real->ggml_backend_sched_get_backend(sched, i)));
    }
    if (n > GROUPS_MAX) {
        groups[0] = NULL;
    }
    return n < GROUPS_MAX ? n : GROUPS_MAX;
}

// Waits while another thread gives memory back to the engine: what this scheduler records is recorded behind that.
void device_memory_on_sched_new(const struct real * real, void * sched) {
    struct device_user * user = malloc(sizeof(*user));
    if (user) {
        user->sched    = sched;
        user->n_groups = list_groups(real, sched, user->groups);
    }
    pthread_mutex_lock(&memory_mutex);
    if (user) {
        user->next   = device_users;
        device_users = user;
    }
    has_unlisted = has_unlisted || user == NULL;
    pthread_mutex_unlock(&memory_mutex);
}

static bool is_user_of(const struct device_user * user, const void * group) {
    bool found = group == NULL;
    for (int i = 0; i < user->n_groups; i++) {
        found = found || !user->groups[i] || user->groups[i] == group;
    }
    return found;
}

static bool has_user(const void * group) {
    bool found = has_unlisted;
    for (const struct device_user * user = device_users; user && !found; user = user->next) {
        found = is_user_of(user, group);
    }
    return found;
}

static void free_unused(void) {
    for (struct device_buffer ** link = &device_buffers; *link; ) {
        struct device_buffer * it = *link;
        if (it->in_use || has_user(it->group)) {
            link = &it->next;
        } else {
            *link = it->next;
            it->real->ggml_backend_buffer_free(it->buffer);
            free(it);
        }
    }
}

void device_memory_on_sched_free(const void * sched) {
    pthread_mutex_lock(&memory_mutex);
    struct device_user ** link = &device_users;
    while (*link && (*link)->sched != sched) {
        link = &(*link)->next;
    }
    struct device_user * user = *link;
    if (user) {
        *link = user->next;
        free(user);
        free_unused();
    }
    pthread_mutex_unlock(&memory_mutex);
}

void device_memory_keep(const void * sched) {
    pthread_mutex_lock(&memory_mutex);
    has_unlisted = true;
    for (struct device_buffer * it = device_buffers; it && sched; it = it->next) {
        if (it->left_to == sched) {
            it->left_to = NULL;
            it->in_use  = false;
        }
    }
    while (device_users && sched == NULL) {
        struct device_user * user = device_users;
        device_users = user->next;
        free(user);
    }
    pthread_mutex_unlock(&memory_mutex);
}

void device_memory_forget_all(void) {
    fork_reset_mutex(&memory_mutex);
    device_buffers = NULL;
    device_users   = NULL;
    has_unlisted   = false;
}
