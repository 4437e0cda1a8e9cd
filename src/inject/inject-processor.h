// What injecting depends on the processor for: registers, system calls, and the piece of code that a thread is sent to.
// A source for each processor has these functions; where there is none, inject-missing.c refuses.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#define PROCESSOR_ARGUMENTS   6
#define PROCESSOR_CODE_BEFORE 7 // bytes of code before an address that tell whether a call returns to it
#define PROCESSOR_CODE_BEHIND 9 // and behind it, whether it ends a signal's handler

struct processor_registers {
    struct user_regs_struct raw; // of a stopped thread
};

// A system call that a thread waits in.
struct processor_call {
    long     number;
    uint64_t arguments[PROCESSOR_ARGUMENTS];
};

// How a system call waits.
struct processor_wait {
    bool     is_harmless;    // one that may be made again as if it had not been interrupted
    bool     is_limited;     // for some time only
    bool     is_for_a_lock;  // maybe: the dynamic linker and malloc wait for theirs so, and in no other way
    uint64_t futex;          // the address of the word that is waited for, 0: of none
};

// What the stub is to do. Addresses are the process's.
struct processor_task {
    uint64_t function;
    uint64_t arguments[PROCESSOR_ARGUMENTS];
    uint64_t errno_location; // the function that tells where errno is
    uint64_t data;           // struct processor_data, which it writes to
};

// What the stub tells, in memory of the process. `state` goes from armed, which whoever sends a thread writes, to the
// other two, which the stub writes.
struct processor_data {
    uint64_t magic;
    uint64_t state;
    uint64_t result;
    uint64_t thread;
};

#define PROCESSOR_ARMED   1u
#define PROCESSOR_RUNNING 2u
#define PROCESSOR_DONE    3u

// Of a stopped thread. False where it has gone.
bool processor_registers_read(pid_t tid, struct processor_registers * registers);

uint64_t processor_stack_pointer (const struct processor_registers * registers);
uint64_t processor_instruction   (const struct processor_registers * registers);
uint64_t processor_thread_pointer(const struct processor_registers * registers);

// The system call that the thread was interrupted in. False: in none, or in one of another kind of machine.
bool processor_interrupted_call(const struct processor_registers * registers, struct processor_call * call);

void processor_wait_of(const struct processor_call * call, struct processor_wait * wait);

// `code`: PROCESSOR_CODE_BEFORE bytes before an address, PROCESSOR_CODE_BEHIND bytes behind it.
bool processor_is_behind_call       (const unsigned char * code);
bool processor_is_behind_signal     (const unsigned char * code);
// Of the bytes before the instruction that the thread goes on with: whether they are a system call.
bool processor_is_behind_system_call(const unsigned char * code);

// On a stack, from the address by which a signal's handler returns to the one that it has interrupted: in words.
size_t processor_signal_frame_words(void);

// The stub: bytes of code, PROCESSOR_STUB_SIZE at most, that follow each other; where it is, it runs.
size_t processor_stub_size(void);
// As many of its first bytes are the same for any task.
size_t processor_stub_constant(void);
// The stub for a stopped thread: it does the task, and the thread goes on as it was, with its system call where that
// was interrupted.
void   processor_stub_fill(void * to, const struct processor_task * task, const struct processor_registers * registers);
#define PROCESSOR_STUB_SIZE 1024

// A stopped thread runs the stub as soon as it is let go.
bool processor_enter(pid_t tid, const struct processor_registers * registers, uint64_t stub);
// A stopped thread, of which nothing was wanted, makes its system call again where that would tell of an interruption.
void processor_resume(pid_t tid, const struct processor_registers * registers);
