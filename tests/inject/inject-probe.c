// A library that is injected: it counts its calls, and leaves no register that a function may change as it was.

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static int n_calls;

static void spoil_registers(void) {
    __asm__ volatile(
        "pcmpeqd %%xmm0, %%xmm0\n  pcmpeqd %%xmm1, %%xmm1\n  pcmpeqd %%xmm2, %%xmm2\n  pcmpeqd %%xmm3, %%xmm3\n"
        "pcmpeqd %%xmm4, %%xmm4\n  pcmpeqd %%xmm5, %%xmm5\n  pcmpeqd %%xmm6, %%xmm6\n  pcmpeqd %%xmm7, %%xmm7\n"
        "pcmpeqd %%xmm8, %%xmm8\n  pcmpeqd %%xmm9, %%xmm9\n  pcmpeqd %%xmm10, %%xmm10\n pcmpeqd %%xmm11, %%xmm11\n"
        "pcmpeqd %%xmm12, %%xmm12\n pcmpeqd %%xmm13, %%xmm13\n pcmpeqd %%xmm14, %%xmm14\n pcmpeqd %%xmm15, %%xmm15\n"
        "mov $-1, %%rax\n mov %%rax, %%rcx\n mov %%rax, %%rdx\n mov %%rax, %%rsi\n mov %%rax, %%rdi\n"
        "mov %%rax, %%r8\n mov %%rax, %%r9\n mov %%rax, %%r10\n mov %%rax, %%r11\n"
        ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory",
            "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
            "xmm13", "xmm14", "xmm15");
    if (__builtin_cpu_supports("avx")) {
        __asm__ volatile("vzeroall" ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                         "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    }
}

static void * run_thread(void * argument) {
    free(malloc(100));
    return argument;
}

// As much as a tracer does when it begins: memory, a thread, much of the stack. The call's number; -1: something is
// wrong with the words.
EXPORT int probe(const char * words, size_t size);
int probe(const char * words, size_t size) {
    volatile char room[128 << 10];
    pthread_t     thread;
    memset((char *) room, 1, sizeof(room));
    if (strlen(words) != size || strncmp(words, "words", 5) != 0) {
        return -1;
    }
    free(malloc(1 << 20));
    if (pthread_create(&thread, NULL, run_thread, NULL) != 0 || pthread_join(thread, NULL) != 0) {
        return -2;
    }
    errno = ENOTTY;
    spoil_registers();
    return __atomic_add_fetch(&n_calls, 1, __ATOMIC_SEQ_CST);
}

// The size of the words, which may be none.
EXPORT int measure(const char * words, size_t size);
int measure(const char * words, size_t size) {
    return words[size] == '\0' ? (int) size : -1;
}

// How many of the signals that programs handle are not blocked, and a thousand if those of faults are.
EXPORT int signals(const char * words, size_t size);
int signals(const char * words, size_t size) {
    static const int others[] = { SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD };
    sigset_t         set;
    int              n        = 0;
    (void) words;
    (void) size;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        n += !sigismember(&set, others[i]);
    }
    return n + (sigismember(&set, SIGSEGV) ? 1000 : 0);
}

EXPORT int crash(const char * words, size_t size);
int crash(const char * words, size_t size) {
    (void) words;
    (void) size;
    abort();
}

EXPORT int slow(const char * words, size_t size);
int slow(const char * words, size_t size) {
    (void) words;
    (void) size;
    sleep(12);
    return 12;
}
