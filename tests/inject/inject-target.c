// usage: inject-target KIND…: a busy program that somebody injects into. Threads of each kind wait in one way, again
// and again, and look at everything that could have been disturbed. Each line of its input is answered by a line of
// JSON: how often each kind has come round, how much was wrong, and what was first. It ends with its input.

#include "checked-call.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_NANOSECONDS 20000000
#define SMALL_STACK       ((size_t) 64 << 10)
#define RAW(number, a, b, c, d, e, f) \
    checked_call(number, (long) (a), (long) (b), (long) (c), (long) (d), (long) (e), (long) (f), complain)

struct kind {
    const char * name;
    void      (* round)(struct kind * kind); // one, again and again
    void      (* start)(struct kind * kind); // what else it needs; NULL: nothing
    unsigned     n_rounds;
    int          ends[2];
    int          other;
    uint32_t     word;
};

static _Atomic unsigned n_wrong;
static _Atomic bool     is_lenient; // epoll_wait may be interrupted, as by a debugger that is ended
static char             first_wrong[128];

static void complain(const char * what) {
    if (n_wrong++ == 0) {
        snprintf(first_wrong, sizeof(first_wrong), "%s", what);
    }
}

static void expect(long got, long wanted, const char * what) {
    char text[128];
    if (got != wanted) {
        snprintf(text, sizeof(text), "%s returned %ld, not %ld", what, got, wanted);
        complain(text);
    }
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t) time.tv_sec * 1000000000 + time.tv_nsec;
}

static void expect_pause(int64_t begin, const char * what) {
    char          text[128];
    const int64_t passed = now() - begin;
    if (passed < PAUSE_NANOSECONDS - 1000000) {
        snprintf(text, sizeof(text), "%s ended after %ld ns", what, (long) passed);
        complain(text);
    }
}

static void start_thread(void * (* run)(void *), void * argument, size_t stack) {
    pthread_t      thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack != 0) {
        pthread_attr_setstacksize(&attributes, stack);
    }
    if (pthread_create(&thread, &attributes, run, argument) != 0) {
        abort();
    }
    pthread_detach(thread);
    pthread_attr_destroy(&attributes);
}

// A pause that no injection uses: it waits in read().
static void tick(void) {
    static _Thread_local int timer = -1;
    uint64_t                 expired;
    if (timer < 0) {
        const struct itimerspec interval = { { 0, 7000000 }, { 0, 7000000 } };
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        timerfd_settime(timer, 0, &interval, NULL);
    }
    if (read(timer, &expired, sizeof(expired)) < 0 && errno != EINTR) {
        abort();
    }
}

//
// for a time
//

static void sleep_round(struct kind * kind) {
    (void) kind;
    const struct timespec pause = { 0, PAUSE_NANOSECONDS };
    const int64_t         begin = now();
    expect(RAW(SYS_nanosleep, &pause, NULL, 0, 0, 0, 0), 0, "nanosleep");
    expect_pause(begin, "nanosleep");
}

static void clock_round(struct kind * kind) {
    (void) kind;
    const int64_t         begin = now(), end = begin + PAUSE_NANOSECONDS;
    const struct timespec until = { end / 1000000000, end % 1000000000 };
    expect(RAW(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL, 0, 0), 0, "clock_nanosleep");
    expect_pause(begin, "clock_nanosleep");
}

static void poll_round(struct kind * kind) {
    (void) kind;
    const int64_t begin = now();
    expect(RAW(SYS_poll, NULL, 0, PAUSE_NANOSECONDS / 1000000, 0, 0, 0), 0, "poll");
    expect_pause(begin, "poll");
}

static void ppoll_round(struct kind * kind) {
    (void) kind;
    struct timespec pause = { 0, PAUSE_NANOSECONDS };
    const int64_t   begin = now();
    expect(RAW(SYS_ppoll, NULL, 0, &pause, NULL, 8, 0), 0, "ppoll");
    expect_pause(begin, "ppoll");
}

static void select_round(struct kind * kind) {
    (void) kind;
    struct timeval pause = { 0, PAUSE_NANOSECONDS / 1000 };
    const int64_t  begin = now();
    expect(RAW(SYS_select, 0, NULL, NULL, NULL, &pause, 0), 0, "select");
    expect_pause(begin, "select");
}

static void futex_time_round(struct kind * kind) {
    const struct timespec pause = { 0, PAUSE_NANOSECONDS };
    const int64_t         begin = now();
    expect(RAW(SYS_futex, &kind->word, FUTEX_WAIT_PRIVATE, 0, &pause, NULL, 0), -ETIMEDOUT, "futex");
    expect_pause(begin, "futex");
}

static void epoll_start(struct kind * kind) {
    struct epoll_event event = { .events = EPOLLIN };
    kind->other = epoll_create1(EPOLL_CLOEXEC);
    if (kind->ends[0] > 0) {
        epoll_ctl(kind->other, EPOLL_CTL_ADD, kind->ends[0], &event);
    }
}

static long epoll_call(struct kind * kind, int milliseconds) {
    struct epoll_event event;
    long               got;
    do {
        got = RAW(SYS_epoll_wait, kind->other, &event, 1, milliseconds, 0, 0);
    } while (got == -EINTR && is_lenient);
    return got;
}

static void epoll_time_round(struct kind * kind) {
    const int64_t begin = now();
    expect(epoll_call(kind, PAUSE_NANOSECONDS / 1000000), 0, "epoll_wait for a time");
    expect_pause(begin, "epoll_wait");
}

//
// until something happens
//

static void * run_writer(void * argument) {
    struct kind * kind = argument;
    for (;;) {
        tick();
        if (write(kind->ends[1], "x", 1) != 1 && errno != EINTR && errno != EAGAIN) {
            abort();
        }
    }
    return NULL;
}

static void pipe_start(struct kind * kind) {
    if (pipe(kind->ends) != 0) {
        abort();
    }
    fcntl(kind->ends[1], F_SETFL, O_NONBLOCK);
    start_thread(run_writer, kind, 0);
}

static void read_one(struct kind * kind) {
    char byte;
    expect(read(kind->ends[0], &byte, 1), 1, "read");
}

static void poll_pipe_round(struct kind * kind) {
    struct pollfd fds = { .fd = kind->ends[0], .events = POLLIN };
    expect(RAW(SYS_poll, &fds, 1, -1, 0, 0, 0), 1, "poll of a pipe");
    expect(fds.revents, POLLIN, "poll's event");
    read_one(kind);
}

// An address in malloc() that a call there returns to: an earlier call may leave such a thing on the stack.
static void * return_into_malloc(void) {
    unsigned char * code = dlsym(RTLD_DEFAULT, "malloc");
    size_t          at   = 0;
    while (at < 256 && code[at] != 0xe8) {
        at++;
    }
    return code + at + 5;
}

static void poll_stale_round(struct kind * kind) {
    void * volatile left = return_into_malloc();
    poll_pipe_round(kind);
    expect(left != NULL, 1, "a word of the stack");
}

static void epoll_pipe_start(struct kind * kind) {
    pipe_start(kind);
    epoll_start(kind);
}

static void epoll_pipe_round(struct kind * kind) {
    expect(epoll_call(kind, -1), 1, "epoll_wait of a pipe");
    read_one(kind);
}

static struct sockaddr_un accept_address(socklen_t * size) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "inject-target-%d", (int) getpid());
    *size = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + strlen(address.sun_path + 1));
    return address;
}

static void * run_client(void * argument) {
    socklen_t                size;
    const struct sockaddr_un address = accept_address(&size);
    for (;;) {
        tick();
        const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (const struct sockaddr *) &address, size) != 0 && errno != EINTR) {
            complain("connect failed");
        }
        close(fd);
    }
    return argument;
}

static void accept_start(struct kind * kind) {
    socklen_t                size;
    const struct sockaddr_un address = accept_address(&size);
    kind->other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(kind->other, (const struct sockaddr *) &address, size) != 0 || listen(kind->other, 100) != 0) {
        abort();
    }
    start_thread(run_client, kind, 0);
}

static void accept_round(struct kind * kind) {
    const long fd = RAW(SYS_accept, kind->other, NULL, NULL, 0, 0, 0);
    expect(fd < 0 ? fd : 0, 0, "accept");
    close((int) fd);
}

static void * run_waker(void * argument) {
    struct kind * kind = argument;
    for (;;) {
        tick();
        __atomic_store_n(&kind->word, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &kind->word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
    return NULL;
}

static void futex_start(struct kind * kind) {
    start_thread(run_waker, kind, 0);
}

static void futex_round(struct kind * kind) {
    const long got = RAW(SYS_futex, &kind->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    expect(got == -EAGAIN ? 0 : got, 0, "futex");
    __atomic_store_n(&kind->word, 0, __ATOMIC_SEQ_CST);
}

// Waits again where the stack below the first wait was, in a function that leaves most of it as it finds it.
static __attribute__((noinline)) void wait_deep(struct kind * kind) {
    volatile char hole[24 << 10];
    hole[0] = 1;
    futex_round(kind);
    expect(hole[0], 1, "a byte of the stack");
}

// That looks like a wait within malloc(), which nobody may use.
static void futex_stale_round(struct kind * kind) {
    void * volatile left = return_into_malloc();
    futex_round(kind);
    expect(left != NULL, 1, "a word of the stack");
}

static void deep_round(struct kind * kind) {
    futex_round(kind);
    wait_deep(kind);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  condition = PTHREAD_COND_INITIALIZER;
static unsigned        n_produced;
static unsigned        n_consumed;

static void * run_producer(void * argument) {
    for (;;) {
        tick();
        pthread_mutex_lock(&mutex);
        n_produced++;
        pthread_cond_signal(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return argument;
}

static void condition_start(struct kind * kind) {
    start_thread(run_producer, kind, 0);
}

static void condition_round(struct kind * kind) {
    (void) kind;
    pthread_mutex_lock(&mutex);
    while (n_consumed == n_produced) {
        expect(pthread_cond_wait(&condition, &mutex), 0, "pthread_cond_wait");
    }
    n_consumed++;
    pthread_mutex_unlock(&mutex);
}

//
// what must not be used
//

static void spin_round(struct kind * kind) {
    double sum = 0;
    for (int i = 1; i <= 200000; i++) {
        sum += 1.0 / i;
    }
    kind->word++;
    expect((long) (sum * 1e9), 12783290810, "the sum of 1/n");
}

static void malloc_round(struct kind * kind) {
    static _Thread_local unsigned char * blocks[64];
    static _Thread_local size_t          sizes[64];
    for (int i = 0; i < 2000; i++) {
        const unsigned at = (unsigned) rand() % 64;
        for (size_t j = 0; j < sizes[at]; j += 997) {
            expect(blocks[at][j], (long) at, "a byte of the heap");
        }
        sizes[at]  = (size_t) (rand() % (i % 100 == 0 ? 300000 : 3000));
        blocks[at] = realloc(blocks[at], sizes[at] + 1);
        memset(blocks[at], (int) at, sizes[at]);
    }
    kind->word++;
    tick();
}

static int count_object(struct dl_phdr_info * info, size_t size, void * argument) {
    (void) info;
    (void) size;
    ++*(int *) argument;
    return 0;
}

static void load_round(struct kind * kind) {
    int    n       = 0;
    void * library = dlopen("libresolv.so.2", RTLD_NOW);
    dl_iterate_phdr(count_object, &n);
    expect(library != NULL && n > 2, 1, "dlopen");
    dlclose(library);
    kind->word++;
    tick();
}

static void wait_for_ever(void) {
    for (;;) {
        poll(NULL, 0, -1);
    }
}

static void * run_waiting(void * argument) {
    ++*(unsigned *) argument;
    wait_for_ever();
    return NULL;
}

static void small_start(struct kind * kind) {
    start_thread(run_waiting, &kind->n_rounds, SMALL_STACK);
}

// A stack within a larger piece of the heap.
static void heap_start(struct kind * kind) {
    pthread_t      thread;
    pthread_attr_t attributes;
    char         * room = malloc((size_t) 8 << 20);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, room + ((size_t) 4 << 20), SMALL_STACK);
    if (room == NULL || pthread_create(&thread, &attributes, run_waiting, &kind->n_rounds) != 0) {
        abort();
    }
}

static void handle(int number) {
    (void) number;
    wait_for_ever();
}

static void * run_handler(void * argument) {
    ++*(unsigned *) argument;
    pthread_kill(pthread_self(), SIGUSR1);
    return NULL;
}

static void handler_start(struct kind * kind) {
    signal(SIGUSR1, handle);
    start_thread(run_handler, &kind->n_rounds, 0);
}

static void ignore_signal(int number) {
    (void) number;
}

// A signal a millisecond; those who wait for a time may be interrupted by it, and are not checked here.
static void signals_start(struct kind * kind) {
    const struct sigaction   action   = { .sa_handler = ignore_signal, .sa_flags = SA_RESTART };
    const struct itimerspec  interval = { { 0, 1000000 }, { 0, 1000000 } };
    struct sigevent          event    = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
    timer_t                  timer;
    is_lenient = true;
    sigaction(SIGUSR2, &action, NULL);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 || timer_settime(timer, 0, &interval, NULL) != 0) {
        abort();
    }
    kind->n_rounds++;
}

static void lenient_start(struct kind * kind) {
    is_lenient = true;
    kind->n_rounds++;
}

//
// all of them
//

static struct kind kinds[] = {
    { .name = "sleep",      .round = sleep_round },
    { .name = "clock",      .round = clock_round },
    { .name = "poll",       .round = poll_round },
    { .name = "ppoll",      .round = ppoll_round },
    { .name = "select",     .round = select_round },
    { .name = "futex-time", .round = futex_time_round },
    { .name = "epoll-time", .round = epoll_time_round, .start = epoll_start },
    { .name = "poll-pipe",  .round = poll_pipe_round,  .start = pipe_start },
    { .name = "poll-stale", .round = poll_stale_round, .start = pipe_start },
    { .name = "epoll-pipe", .round = epoll_pipe_round, .start = epoll_pipe_start },
    { .name = "accept",     .round = accept_round,     .start = accept_start },
    { .name = "futex",      .round = futex_round,      .start = futex_start },
    { .name = "futex-stale", .round = futex_stale_round, .start = futex_start },
    { .name = "deep",       .round = deep_round,       .start = futex_start },
    { .name = "condition",  .round = condition_round,  .start = condition_start },
    { .name = "spin",       .round = spin_round },
    { .name = "malloc",     .round = malloc_round },
    { .name = "load",       .round = load_round },
    { .name = "small",                                 .start = small_start },
    { .name = "heap",                                  .start = heap_start },
    { .name = "handler",                               .start = handler_start },
    { .name = "signals",                               .start = signals_start },
    { .name = "lenient",                               .start = lenient_start },
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void * run_rounds(void * argument) {
    struct kind * kind = argument;
    for (;;) {
        kind->round(kind);
        __atomic_add_fetch(&kind->n_rounds, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void start(const char * name) {
    for (size_t i = 0; i < N_KINDS; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            if (kinds[i].start != NULL) {
                kinds[i].start(&kinds[i]);
            }
            if (kinds[i].round != NULL) {
                start_thread(run_rounds, &kinds[i], 0);
            }
            return;
        }
    }
    abort();
}

static void answer(void) {
    printf("{\"wrong\": %u, \"first\": \"%s\"", n_wrong, first_wrong);
    for (size_t i = 0; i < N_KINDS; i++) {
        if (kinds[i].n_rounds > 0) {
            printf(", \"%s\": %u", kinds[i].name, __atomic_load_n(&kinds[i].n_rounds, __ATOMIC_SEQ_CST));
        }
    }
    printf("}\n");
    fflush(stdout);
}

int main(int argc, char ** argv) {
    char    line[64];
    ssize_t n;
    for (int i = 1; i < argc; i++) {
        start(argv[i]);
    }
    while ((n = read(STDIN_FILENO, line, sizeof(line))) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0) {
            answer();
        }
    }
    return 0;
}
