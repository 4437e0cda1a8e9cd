// The thread, and the futexes that wake it: at its interval, when there is something new, and when the process ends.

#include "tracer/periodic-writer.h"

#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND   INT64_C(1000000000)
#define PATIENCE (SECOND / 2) // for the last write

// Words that the kernel knows (futex): to wait for them and to wake who waits takes no lock, and a signal handler
// may do it.
static _Atomic uint32_t wakes;      // rises: there is something to look at
static _Atomic uint32_t unfinished; // threads that have not written for the last time
static atomic_bool      ending;

static int64_t monotonic_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * SECOND + now.tv_nsec;
}

// Until the word is no longer `value`, or somebody wakes, or something else happens; for `time` nanoseconds at the
// most, negative: forever.
static void word_wait(_Atomic uint32_t * word, uint32_t value, int64_t time) {
    const struct timespec left = { (time_t) (time / SECOND), (long) (time % SECOND) };
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, time < 0 ? NULL : &left, NULL, 0);
}

static void word_wake(_Atomic uint32_t * word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void wake_all(void) {
    atomic_fetch_add(&wakes, 1);
    word_wake(&wakes);
}

//
// the thread
//

struct schedule {
    int64_t interval;
    int64_t due;
    bool    finished;
};

static void finish_once(struct schedule * schedule) {
    if (!schedule->finished) {
        schedule->finished = true;
        atomic_fetch_sub(&unfinished, 1);
        word_wake(&unfinished);
    }
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void plan(struct periodic_writer * writer, struct schedule * schedule) {
    const int64_t interval = atomic_load(&writer->interval);
    const int64_t now      = monotonic_now();
    if (interval != schedule->interval) {
        schedule->interval = interval;
        schedule->due      = now + interval;
    }
    if (atomic_exchange(&writer->has_new, false)) {
        writer->write(writer->self, PERIODIC_NEW);
        schedule->due = earlier(schedule->due, now + earlier(interval, SECOND));
    }
}

static void write_when_due(struct periodic_writer * writer, struct schedule * schedule, uint32_t seen) {
    const int64_t left = schedule->due - monotonic_now();
    if (schedule->interval <= 0) {
        word_wait(&wakes, seen, -1);
    } else if (left > 0) {
        word_wait(&wakes, seen, left);
    } else {
        writer->write(writer->self, PERIODIC_DUE);
        schedule->due = monotonic_now() + schedule->interval;
    }
}

static void * write_now_and_then(void * data) {
    struct periodic_writer * writer   = data;
    struct schedule          schedule = { 0 };
    for (;;) {
        const uint32_t seen = atomic_load(&wakes); // first: what comes after it is not missed
        if (atomic_load(&writer->stopping)) {
            break;
        }
        if (atomic_load(&ending) && !schedule.finished) {
            writer->write(writer->self, PERIODIC_END);
            finish_once(&schedule);
        }
        plan(writer, &schedule);
        write_when_due(writer, &schedule, seen);
    }
    finish_once(&schedule);
    return NULL;
}

//
// for the tracer
//

void periodic_writer_init(struct periodic_writer * writer, periodic_write_fn write, void * self, double seconds) {
    *writer = (struct periodic_writer) { .write = write, .self = self };
    atomic_init(&writer->has_thread, false);
    atomic_init(&writer->stopping, false);
    atomic_init(&writer->has_new, false);
    atomic_init(&writer->interval, (int64_t) (seconds * (double) SECOND));
}

void periodic_writer_start(struct periodic_writer * writer) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    if (atomic_load(&writer->has_thread) || atomic_load(&writer->stopping) ||
        pthread_sigmask(SIG_SETMASK, &all, &before) != 0) {
        return; // the program's signals are not for us
    }
    atomic_fetch_add(&unfinished, 1);
    if (pthread_create(&writer->thread, NULL, write_now_and_then, writer) == 0) {
        atomic_store(&writer->has_thread, true);
    } else {
        atomic_fetch_sub(&unfinished, 1);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void periodic_writer_ask_to_stop(struct periodic_writer * writer) {
    atomic_store(&writer->stopping, true);
    wake_all();
}

void periodic_writer_join(struct periodic_writer * writer) {
    if (atomic_exchange(&writer->has_thread, false)) {
        pthread_join(writer->thread, NULL);
    }
}

void periodic_writer_set_interval(struct periodic_writer * writer, double seconds) {
    atomic_store(&writer->interval, (int64_t) (seconds * (double) SECOND));
    wake_all();
}

void periodic_writer_new(struct periodic_writer * writer) {
    atomic_store(&writer->has_new, true);
    wake_all();
}

void periodic_writers_end(void) {
    if (atomic_load(&unfinished) == 0) {
        return;
    }
    atomic_store(&ending, true);
    wake_all();
    const int64_t until = monotonic_now() + PATIENCE;
    for (uint32_t left; (left = atomic_load(&unfinished)) > 0;) {
        const int64_t time = until - monotonic_now();
        if (time <= 0) {
            return;
        }
        word_wait(&unfinished, left, time);
    }
}

void periodic_writers_forget(void) {
    atomic_store(&unfinished, 0);
    atomic_store(&ending, false);
}
