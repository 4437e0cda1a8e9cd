// usage: inject-killer N PROGRAM ARGUMENT…: kills the program by SIGKILL behind its N-th system call from the first
// that is ptrace() on; prints "killed", or how many there were. N is 0: lets it work, and prints the longest time in
// nanoseconds from an interruption of a thread to its end.

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct watch {
    long    n;       // system calls so far
    bool    entered;
    int64_t begin;   // of the interruption
    int64_t longest;
};

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t) time.tv_sec * 1000000000 + time.tv_nsec;
}

static void note_call(struct watch * watch, const struct user_regs_struct * registers) {
    if (registers->orig_rax != SYS_ptrace) {
        return;
    }
    if (registers->rdi == PTRACE_INTERRUPT && watch->entered) {
        watch->begin = now();
    } else if (registers->rdi == PTRACE_DETACH && !watch->entered && watch->begin != 0) {
        const int64_t time = now() - watch->begin;
        watch->longest = time > watch->longest ? time : watch->longest;
        watch->begin   = 0;
    }
}

// True: this was the one.
static bool step(struct watch * watch, pid_t pid, long wanted) {
    struct user_regs_struct registers;
    watch->entered = !watch->entered;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &registers) != 0) {
        return false;
    }
    note_call(watch, &registers);
    watch->n += !watch->entered && (watch->n > 0 || registers.orig_rax == SYS_ptrace);
    return wanted > 0 && watch->n >= wanted;
}

static int watch_program(pid_t pid, long wanted) {
    struct watch watch = { 0 };
    int          status;
    while (waitpid(pid, &status, 0) == pid && !WIFEXITED(status) && !WIFSIGNALED(status)) {
        const bool is_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
        if (is_call && step(&watch, pid, wanted)) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            printf("killed\n");
            return 0;
        }
        const long signal = is_call || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        ptrace(PTRACE_SYSCALL, pid, NULL, signal);
    }
    printf("%" PRId64 "\n", wanted == 0 ? watch.longest : (int64_t) watch.n);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char ** argv) {
    int status;
    if (argc < 3) {
        return 2;
    }
    const pid_t pid = fork();
    if (pid == 0) {
        raise(SIGSTOP);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC) != 0) {
        perror("ptrace");
        return 77;
    }
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGCONT);
    ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
    return watch_program(pid, strtol(argv[1], NULL, 10));
}
