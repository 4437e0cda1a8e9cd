// In the child of a fork a lock may be held by a thread that is not there.

#pragma once

#include <pthread.h>
#include <string.h>

static inline void fork_reset_mutex(pthread_mutex_t * mutex) {
    static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
    memcpy(mutex, &unlocked, sizeof(unlocked));
}
