// A thread that writes now and then, and once more when the process is about to end without a word (_exit).

#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum periodic_occasion {
    PERIODIC_NEW, // there is something that was never written
    PERIODIC_DUE, // the interval is over
    PERIODIC_END, // this is the last chance
};

// Called from the thread, all of whose signals are blocked.
typedef void (* periodic_write_fn)(void * self, enum periodic_occasion occasion);

struct periodic_writer {
    periodic_write_fn     write;
    void                * self;
    pthread_t             thread;
    atomic_bool           has_thread;
    atomic_bool           stopping;
    atomic_bool           has_new;
    atomic_int_least64_t  interval; // nanoseconds, 0: only when the process ends
};

void periodic_writer_init(struct periodic_writer * writer, periodic_write_fn write, void * self, double seconds);

// Starts the thread, where there is none and it was not asked to stop. Calls of these two exclude each other.
void periodic_writer_start      (struct periodic_writer * writer);
void periodic_writer_ask_to_stop(struct periodic_writer * writer);

// Waits until a thread that was asked to stop has done so.
void periodic_writer_join(struct periodic_writer * writer);

void periodic_writer_set_interval(struct periodic_writer * writer, double seconds);

// There is something that was never written: the thread does that at once, and again in a second at the latest, if
// there is an interval.
void periodic_writer_new(struct periodic_writer * writer);

// The process ends: has all threads write once more, and waits for them, half a second at the most. It takes no lock
// and no memory: a signal handler may call it, whatever it interrupted.
void periodic_writers_end(void);

// In the child of a fork: the threads are the parent's.
void periodic_writers_forget(void);
