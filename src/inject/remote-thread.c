// Looks at threads through /proc first, where it costs them nothing, and stops only one that looks usable.

#include "inject/remote-thread.h"

#include "tool/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEARCH_MILLISECONDS  2000
#define PATIENT_MILLISECONDS 200  // of these, for threads that wait without a limit
#define STOP_MILLISECONDS    1000
#define STACK_SCANNED        ((size_t) 64 << 10)
#define CALLERS_SCANNED      ((size_t) 8 << 10)     // of these, for who called
#define STACK_ROOM           ((uint64_t) 256 << 10)
#define STACK_GAP            ((uint64_t) 1 << 20)   // that the kernel keeps free below a stack that grows
#define STACK_MOST           ((uint64_t) 1 << 40)
#define CONTROL_BLOCK        ((size_t) 4096)        // of a thread: what glibc knows of it

// Where a thread waits.
struct waiting_place {
    struct processor_call call;
    uint64_t              stack;
    uint64_t              instruction;
};

static void sleep_microseconds(long microseconds) {
    nanosleep(&(struct timespec) { 0, microseconds * 1000 }, NULL);
}

//
// where threads wait
//

// "202 0x7f… 0x189 … sp pc", "running", or "-1 sp pc".
static bool read_place(pid_t pid, pid_t tid, char text[256]) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", (int) pid, (int) tid);
    const int     fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n  = fd < 0 ? -1 : read(fd, text, 255);
    if (fd >= 0) {
        close(fd);
    }
    text[n < 0 ? 0 : n] = '\0';
    return n > 0;
}

// False: it is running, or in no system call.
static bool find_place(pid_t pid, pid_t tid, struct waiting_place * place) {
    char       text[256];
    uint64_t * a = place->call.arguments;
    return read_place(pid, tid, text)
        && sscanf(text, "%ld %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64
                  " %" SCNx64, &place->call.number, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &place->stack,
                  &place->instruction) == 9
        && place->call.number >= 0;
}

//
// the stack
//

// The words from the stack pointer up. Returns their number.
static size_t read_stack(const struct remote_process * process, uint64_t stack, uint64_t * words) {
    const struct remote_mapping * mapping = remote_mapping_at(process, stack);
    if (mapping == NULL || stack % sizeof(*words) != 0) {
        return 0;
    }
    const uint64_t rest = mapping->end - stack;
    const size_t   size = rest < STACK_SCANNED ? (size_t) rest : STACK_SCANNED;
    return remote_read(process, stack, words, size) ? size / sizeof(*words) : 0;
}

// The code around an address. False: there is none.
static bool read_code(const struct remote_process * process, uint64_t address,
                      unsigned char code[PROCESSOR_CODE_BEFORE + PROCESSOR_CODE_BEHIND]) {
    const struct remote_mapping * mapping = remote_mapping_at(process, address);
    return mapping != NULL && mapping->can_execute
        && remote_read(process, address - PROCESSOR_CODE_BEFORE, code, PROCESSOR_CODE_BEFORE + PROCESSOR_CODE_BEHIND);
}

static bool is_unsafe_return(const struct remote_process * process, const struct remote_unsafe * unsafe,
                             uint64_t address, bool is_near) {
    unsigned char code[PROCESSOR_CODE_BEFORE + PROCESSOR_CODE_BEHIND];
    return read_code(process, address, code)
        && (processor_is_behind_signal(code)
            || (is_near && processor_is_behind_call(code) && remote_is_unsafe_code(unsafe, address)));
}

// Called neither from the linker nor from malloc nor from a signal's handler, as far as its stack tells. What waits
// within malloc is near; what waits far above the linker is a library's own beginning, which may load others. Further
// up there are too many addresses that nobody returns to any more: the linker was there first. What waits in poll() is
// in neither, whatever an earlier call has left on the stack.
static bool is_called_safely(const struct remote_process * process, const struct remote_unsafe * unsafe,
                             const struct waiting_place * place, bool is_for_a_lock) {
    const size_t near = is_for_a_lock ? CALLERS_SCANNED : 0;
    uint64_t   * words = memory_new(STACK_SCANNED, 1);
    const size_t n     = read_stack(process, place->stack, words);
    bool         safe  = n > 0 && !remote_is_unsafe_code(unsafe, place->instruction);
    for (size_t i = 0; i < n && safe; i++) {
        safe = !is_unsafe_return(process, unsafe, words[i], i * sizeof(words[0]) < near);
    }
    free(words);
    return safe;
}

// The main thread's stack grows, up to a limit and to what is mapped below.
static bool main_has_room(const struct remote_process * process, const struct remote_mapping * mapping,
                          uint64_t stack) {
    struct rlimit  limit;
    const size_t   index = (size_t) (mapping - process->mappings);
    const uint64_t below = index == 0 ? 0 : mapping[-1].end + STACK_GAP;
    if (stack - mapping->start >= STACK_ROOM) {
        return true;
    }
    return prlimit(process->pid, RLIMIT_STACK, NULL, &limit) == 0 && stack - below >= STACK_ROOM && below < stack
        && mapping->end - stack + STACK_ROOM < limit.rlim_cur;
}

// Other threads' stacks begin and end where glibc has noted it in their control block: two words behind one another,
// address and size, around the stack pointer and the block itself.
static bool thread_has_room(const struct remote_process * process, const struct remote_mapping * mapping,
                            uint64_t stack, uint64_t pointer) {
    uint64_t     words[CONTROL_BLOCK / sizeof(uint64_t)] = { 0 };
    const size_t most = pointer < mapping->end && pointer > stack ? (size_t) (mapping->end - pointer) : 0;
    if (!remote_read(process, pointer, words, most < sizeof(words) ? most : sizeof(words))) {
        return false;
    }
    for (size_t i = 0; i + 1 < sizeof(words) / sizeof(words[0]); i++) {
        const uint64_t start = words[i], size = words[i + 1];
        if (start <= stack && size < STACK_MOST && start + size > pointer && start + size <= mapping->end) {
            const uint64_t from = start > mapping->start ? start : mapping->start;
            return stack - from >= STACK_ROOM;
        }
    }
    return false;
}

static bool has_room(const struct remote_process * process, uint64_t stack, uint64_t pointer) {
    const struct remote_mapping * mapping = remote_mapping_at(process, stack);
    if (mapping == NULL || !mapping->can_write) {
        return false;
    }
    return strcmp(mapping->path, "[stack]") == 0 ? main_has_room(process, mapping, stack)
                                                 : thread_has_room(process, mapping, stack, pointer);
}

// A thread that glibc has made points to itself there.
static bool is_of_glibc(const struct remote_process * process, uint64_t pointer) {
    uint64_t words[3];
    return remote_read(process, pointer, words, sizeof(words)) && words[0] == pointer && words[2] == pointer;
}

//
// stopping
//

static bool has_pending_signal(pid_t pid, pid_t tid) {
    uint64_t own, shared, blocked;
    return !remote_status(pid, tid, "SigPnd", 16, &own) || !remote_status(pid, tid, "ShdPnd", 16, &shared)
        || !remote_status(pid, tid, "SigBlk", 16, &blocked) || ((own | shared) & ~blocked) != 0;
}

// The status of a thread that has stopped, 0 where it does not, -1 where it is gone.
static int wait_for_stop(pid_t tid) {
    const int64_t end = clock_milliseconds() + STOP_MILLISECONDS;
    int           status;
    pid_t         got;
    while ((got = waitpid(tid, &status, __WALL | WNOHANG)) == 0 && clock_milliseconds() < end) {
        sleep_microseconds(50);
    }
    return got == 0 ? 0 : got == tid && WIFSTOPPED(status) ? status : -1;
}

// True: it is stopped by us, and by nothing else. What it was about to be told is told when it is not ours any more.
static bool interrupt(pid_t tid) {
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0) {
        return false;
    }
    ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
    const int status = wait_for_stop(tid);
    if (status <= 0) {
        return false;
    }
    if (status >> 8 == (SIGTRAP | PTRACE_EVENT_STOP << 8)) {
        return true;
    }
    const long signal = status >> 16 == 0 ? WSTOPSIG(status) : 0;
    ptrace(PTRACE_DETACH, tid, NULL, signal);
    return false;
}

bool remote_thread_detach(const struct remote_thread * thread) {
    return ptrace(PTRACE_DETACH, thread->tid, NULL, NULL) == 0;
}

void remote_thread_let_go(const struct remote_thread * thread) {
    processor_resume(thread->tid, &thread->registers);
    remote_thread_detach(thread);
}

//
// choosing
//

static bool is_usable_place(const struct remote_process * process, const struct remote_unsafe * unsafe,
                            const struct waiting_place * place, bool limited) {
    struct processor_wait wait;
    processor_wait_of(&place->call, &wait);
    return wait.is_harmless && (limited || !wait.is_limited)
        && (wait.futex == 0 || !remote_is_unsafe_lock(unsafe, wait.futex))
        && is_called_safely(process, unsafe, place, wait.is_for_a_lock);
}

static bool is_usable_stopped(const struct remote_process * process, const struct remote_unsafe * unsafe,
                              const struct remote_thread * thread, bool limited) {
    unsigned char        code[PROCESSOR_CODE_BEFORE];
    const uint64_t       pointer = processor_thread_pointer(&thread->registers);
    struct waiting_place place   = {
        .stack       = processor_stack_pointer(&thread->registers),
        .instruction = processor_instruction(&thread->registers),
    };
    return processor_interrupted_call(&thread->registers, &place.call)
        && remote_read(process, place.instruction - sizeof(code), code, sizeof(code))
        && processor_is_behind_system_call(code)
        && is_of_glibc(process, pointer) && has_room(process, place.stack, pointer)
        && is_usable_place(process, unsafe, &place, limited);
}

static bool try_thread(const struct remote_process * process, const struct remote_unsafe * unsafe, bool limited,
                       struct remote_thread * thread) {
    struct waiting_place place;
    if (!find_place(process->pid, thread->tid, &place) || !is_usable_place(process, unsafe, &place, limited)
            || !interrupt(thread->tid)) {
        return false;
    }
    if (!processor_registers_read(thread->tid, &thread->registers)) {
        remote_thread_detach(thread);
        return false;
    }
    if (has_pending_signal(process->pid, thread->tid)) {
        remote_thread_detach(thread); // which the interrupted call is for
        return false;
    }
    if (is_usable_stopped(process, unsafe, thread, limited)) {
        return true;
    }
    remote_thread_let_go(thread);
    return false;
}

// False where there is none now.
static bool try_threads(const struct remote_process * process, const struct remote_unsafe * unsafe, bool limited,
                        struct remote_thread * thread) {
    char            path[64];
    struct dirent * entry;
    bool            found = false;
    snprintf(path, sizeof(path), "/proc/%d/task", (int) process->pid);
    DIR           * all   = opendir(path);
    while (all != NULL && !found && (entry = readdir(all)) != NULL) {
        *thread = (struct remote_thread) { .tid = (pid_t) strtol(entry->d_name, NULL, 10) };
        found   = thread->tid > 0 && try_thread(process, unsafe, limited, thread);
    }
    if (all != NULL) {
        closedir(all);
    }
    return found;
}

bool remote_thread_stop(struct remote_process * process, const struct remote_unsafe * unsafe, bool * limited,
                        struct remote_thread * thread, struct error * error) {
    const int64_t begin  = clock_milliseconds();
    int64_t       passed = 0;
    while (passed < SEARCH_MILLISECONDS) {
        if (!remote_process_map(process, error)) {
            return false;
        }
        if (try_threads(process, unsafe, *limited, thread)) {
            return true;
        }
        sleep_microseconds(5000);
        passed   = clock_milliseconds() - begin;
        *limited = *limited || passed >= PATIENT_MILLISECONDS;
    }
    return error_set(error, "no thread of process %d waits where it may be used for a moment: try again, or when it "
                     "has less to do", (int) process->pid);
}

//
// leaving
//

static bool is_in(const struct remote_range * range, uint64_t address) {
    return address >= range->start && address < range->end;
}

// Where the address of an interrupted instruction is in a handler's frame, the frame begins with the handler's return.
static bool is_interrupted(const struct remote_process * process, const uint64_t * words, size_t at) {
    unsigned char code[PROCESSOR_CODE_BEFORE + PROCESSOR_CODE_BEHIND];
    const size_t  frame = processor_signal_frame_words();
    return at >= frame && read_code(process, words[at - frame], code) && processor_is_behind_signal(code);
}

static bool is_outside(const struct remote_process * process, const struct remote_range * code,
                       const struct waiting_place * place) {
    uint64_t   * words   = memory_new(STACK_SCANNED, 1);
    const size_t n       = read_stack(process, place->stack, words);
    bool         outside = !is_in(code, place->instruction);
    for (size_t i = 0; i < n && outside; i++) {
        outside = !is_in(code, words[i]) || !is_interrupted(process, words, i);
    }
    free(words);
    return outside;
}

// A thread that never waits is stopped and looked at.
static bool is_outside_when_stopped(const struct remote_process * process, pid_t tid,
                                    const struct remote_range * code) {
    struct remote_thread thread = { .tid = tid };
    if (!interrupt(tid)) {
        return false;
    }
    bool outside = false;
    if (processor_registers_read(tid, &thread.registers)) {
        const struct waiting_place place = {
            .stack       = processor_stack_pointer(&thread.registers),
            .instruction = processor_instruction(&thread.registers),
        };
        outside = is_outside(process, code, &place);
    }
    remote_thread_detach(&thread);
    return outside;
}

bool remote_thread_has_left(const struct remote_process * process, pid_t tid, const struct remote_range * code,
                            int milliseconds) {
    const int64_t        end = clock_milliseconds() + milliseconds;
    struct waiting_place place;
    uint64_t             number;
    do {
        if (!remote_status(process->pid, tid, "Pid", 10, &number)) {
            return true; // it has gone
        }
        if (find_place(process->pid, tid, &place) && is_outside(process, code, &place)) {
            return true;
        }
        sleep_microseconds(500);
    } while (clock_milliseconds() < end);
    return is_outside_when_stopped(process, tid, code);
}
