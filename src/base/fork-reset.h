// In the child of a fork a lock may be held by a thread that is not there.

#ifndef FORK_RESET_H
#define FORK_RESET_H

#include <pthread.h>
#include <string.h>

static inline void fork_reset_mutex(pthread_mutex_t * mutex) {
    static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
    memcpy(mutex, &unlocked, sizeof(unlocked));
}

#endif // FORK_RESET_H
