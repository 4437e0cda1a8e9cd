// x86-64: its registers and system calls, and the stub that a waiting thread runs.

#include "inject/inject-processor.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <ucontext.h>

#define RED_ZONE          128
#define SEGMENT_64_BIT    0x33
#define SYSTEM_CALL_BYTES 2

// What the kernel means to do about an interrupted system call: of its own, in no header.
#define ERESTARTSYS           512
#define ERESTARTNOINTR        513
#define ERESTARTNOHAND        514
#define ERESTART_RESTARTBLOCK 516

//
// the stub
//

// Entered with the registers of the interrupted thread, but for the stack pointer. Its own words are behind it, at
// inject_stub_words: it only reads them, as it may stand where nothing is written to. It saves flags, registers, the
// signal mask, all that xsave knows and errno, calls, restores all of them, and jumps.
//
// Signals are blocked in between: a handler that would take a lock of malloc's, or leave by longjmp, is not called
// within somebody else's call. Those of faults are not, nor the C library's own.
//
// rbx: struct processor_data, rbp: the stack behind registers and mask, r12: whether there is xsave, r13: its area,
// r14: where errno is, r15: errno.
__asm__(
    ".pushsection .rodata.inject_stub, \"a\", @progbits\n"
    ".balign 16\n"
    "inject_stub:\n"
    "    pushfq\n"
    "    pushq %rax\n"
    "    pushq %rcx\n"
    "    pushq %rdx\n"
    "    pushq %rbx\n"
    "    pushq %rbp\n"
    "    pushq %rsi\n"
    "    pushq %rdi\n"
    "    pushq %r8\n"
    "    pushq %r9\n"
    "    pushq %r10\n"
    "    pushq %r11\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    cld\n"
    "    movq inject_stub_data(%rip), %rbx\n"
    "    movq $2, 8(%rbx)\n"                      // PROCESSOR_RUNNING
    "    subq $16, %rsp\n"
    "    movl $14, %eax\n"                        // rt_sigprocmask(SIG_BLOCK, mask, old, 8)
    "    xorl %edi, %edi\n"
    "    leaq inject_stub_mask(%rip), %rsi\n"
    "    movq %rsp, %rdx\n"
    "    movl $8, %r10d\n"
    "    syscall\n"
    "    movq %rsp, %rbp\n"

    "    movl $1, %eax\n"                         // does the system use xsave?
    "    xorl %ecx, %ecx\n"
    "    cpuid\n"
    "    movl %ecx, %r12d\n"
    "    andl $0x08000000, %r12d\n"
    "    movl $512, %ebx\n"
    "    jz 1f\n"
    "    movl $0xd, %eax\n"                       // the size of all that is enabled
    "    xorl %ecx, %ecx\n"
    "    cpuid\n"
    "1:\n"
    "    subq %rbx, %rsp\n"
    "    andq $-64, %rsp\n"
    "    movq %rsp, %r13\n"
    "    testl %r12d, %r12d\n"
    "    jz 2f\n"
    "    leaq 512(%r13), %rdi\n"                  // the header: zeros
    "    xorl %eax, %eax\n"
    "    movl $8, %ecx\n"
    "    rep stosq\n"
    "    movl $-1, %eax\n"
    "    movl $-1, %edx\n"
    "    xsave64 (%r13)\n"
    "    jmp 3f\n"
    "2:\n"
    "    fxsave64 (%r13)\n"
    "3:\n"

    "    call *inject_stub_errno_location(%rip)\n"
    "    movq %rax, %r14\n"
    "    movl (%r14), %r15d\n"
    "    movq inject_stub_arguments(%rip), %rdi\n"
    "    movq inject_stub_arguments+8(%rip), %rsi\n"
    "    movq inject_stub_arguments+16(%rip), %rdx\n"
    "    movq inject_stub_arguments+24(%rip), %rcx\n"
    "    movq inject_stub_arguments+32(%rip), %r8\n"
    "    movq inject_stub_arguments+40(%rip), %r9\n"
    "    xorl %eax, %eax\n"
    "    call *inject_stub_function(%rip)\n"
    "    movq inject_stub_data(%rip), %rbx\n"
    "    movq %rax, 16(%rbx)\n"
    "    movl %r15d, (%r14)\n"

    "    movl $-1, %eax\n"
    "    movl $-1, %edx\n"
    "    testl %r12d, %r12d\n"
    "    jz 4f\n"
    "    xrstor64 (%r13)\n"
    "    jmp 5f\n"
    "4:\n"
    "    fxrstor64 (%r13)\n"
    "5:\n"
    "    movq %rbp, %rsp\n"
    "    movl $14, %eax\n"                        // rt_sigprocmask(SIG_SETMASK, old, NULL, 8)
    "    movl $2, %edi\n"
    "    movq %rsp, %rsi\n"
    "    xorl %edx, %edx\n"
    "    movl $8, %r10d\n"
    "    syscall\n"
    "    movq $3, 8(%rbx)\n"                      // PROCESSOR_DONE
    "    addq $16, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %r11\n"
    "    popq %r10\n"
    "    popq %r9\n"
    "    popq %r8\n"
    "    popq %rdi\n"
    "    popq %rsi\n"
    "    popq %rbp\n"
    "    popq %rbx\n"
    "    popq %rdx\n"
    "    popq %rcx\n"
    "    popq %rax\n"
    "    popfq\n"
    "    movq inject_stub_stack(%rip), %rsp\n"
    "    movq inject_stub_rax(%rip), %rax\n"
    "    jmp *inject_stub_go_on(%rip)\n"
    ".balign 8, 0x90\n"
    "inject_stub_words:\n"
    "inject_stub_go_on:          .quad 0\n"
    "inject_stub_stack:          .quad 0\n"
    "inject_stub_rax:            .quad 0\n"
    "inject_stub_mask:           .quad 0\n"
    "inject_stub_data:           .quad 0\n"
    "inject_stub_errno_location: .quad 0\n"
    "inject_stub_function:       .quad 0\n"
    "inject_stub_arguments:      .fill 6, 8, 0\n"
    "inject_stub_end:\n"
    ".popsection\n");

// As they lie behind inject_stub_words.
struct stub_words {
    uint64_t go_on;
    uint64_t stack;
    uint64_t rax;
    uint64_t mask;
    uint64_t data;
    uint64_t errno_location;
    uint64_t function;
    uint64_t arguments[PROCESSOR_ARGUMENTS];
};

extern const unsigned char inject_stub[]       __attribute__((visibility("hidden")));
extern const unsigned char inject_stub_words[] __attribute__((visibility("hidden")));
extern const unsigned char inject_stub_end[]   __attribute__((visibility("hidden")));

_Static_assert(offsetof(struct processor_data, state)  == 8,  "the stub writes it");
_Static_assert(offsetof(struct processor_data, result) == 16, "the stub writes it");

size_t processor_stub_size(void) {
    return (size_t) (inject_stub_end - inject_stub);
}

size_t processor_stub_constant(void) {
    return (size_t) (inject_stub_words - inject_stub);
}

// All but those of faults, and the two that the C library keeps for itself (cancelled threads, setuid()).
static uint64_t blocked_signals(void) {
    static const int let_through[] = { 4, 5, 6, 7, 8, 11, 31, 32, 33 };
    uint64_t         mask          = UINT64_MAX;
    for (size_t i = 0; i < sizeof(let_through) / sizeof(let_through[0]); i++) {
        mask &= ~((uint64_t) 1 << (let_through[i] - 1));
    }
    return mask;
}

//
// how a thread goes on
//

// What the kernel would do about the call, were there no tracer. An interruption that is told (EINTR: epoll_wait, and
// accept with a limit) is one that we have made.
static void go_on(const struct user_regs_struct * raw, uint64_t * instruction, uint64_t * rax) {
    *instruction = raw->rip;
    *rax         = raw->rax;
    switch (-(int64_t) raw->rax) {
        case ERESTARTSYS:
        case ERESTARTNOINTR:
        case ERESTARTNOHAND:
        case EINTR:
            *instruction = raw->rip - SYSTEM_CALL_BYTES;
            *rax         = raw->orig_rax;
            break;
        case ERESTART_RESTARTBLOCK:
            *instruction = raw->rip - SYSTEM_CALL_BYTES;
            *rax         = SYS_restart_syscall;
            break;
        default:
            break;
    }
}

void processor_stub_fill(void * to, const struct processor_task * task,
                         const struct processor_registers * registers) {
    struct stub_words words = {
        .stack          = registers->raw.rsp,
        .mask           = blocked_signals(),
        .data           = task->data,
        .errno_location = task->errno_location,
        .function       = task->function,
    };
    go_on(&registers->raw, &words.go_on, &words.rax);
    memcpy(words.arguments, task->arguments, sizeof(words.arguments));
    memcpy(to, inject_stub, processor_stub_constant());
    memcpy((char *) to + processor_stub_constant(), &words, sizeof(words));
}

bool processor_enter(pid_t tid, const struct processor_registers * registers, uint64_t stub) {
    struct user_regs_struct raw = registers->raw;
    raw.rip      = stub;
    raw.rsp      = (raw.rsp - RED_ZONE) & ~(uint64_t) 15;
    raw.orig_rax = UINT64_MAX; // in no system call, so that the kernel repeats none
    return ptrace(PTRACE_SETREGS, tid, NULL, &raw) == 0;
}

void processor_resume(pid_t tid, const struct processor_registers * registers) {
    struct user_regs_struct raw = registers->raw;
    if ((int64_t) raw.rax != -EINTR) {
        return;
    }
    uint64_t instruction, rax;
    go_on(&raw, &instruction, &rax);
    raw.rip      = instruction;
    raw.rax      = rax;
    raw.orig_rax = UINT64_MAX;
    ptrace(PTRACE_SETREGS, tid, NULL, &raw);
}

//
// registers
//

bool processor_registers_read(pid_t tid, struct processor_registers * registers) {
    return ptrace(PTRACE_GETREGS, tid, NULL, &registers->raw) == 0;
}

uint64_t processor_stack_pointer(const struct processor_registers * registers) {
    return registers->raw.rsp;
}

uint64_t processor_instruction(const struct processor_registers * registers) {
    return registers->raw.rip;
}

uint64_t processor_thread_pointer(const struct processor_registers * registers) {
    return registers->raw.fs_base;
}

bool processor_interrupted_call(const struct processor_registers * registers, struct processor_call * call) {
    const struct user_regs_struct * raw = &registers->raw;
    *call = (struct processor_call) { (long) raw->orig_rax, { raw->rdi, raw->rsi, raw->rdx, raw->r10, raw->r8,
                                                              raw->r9 } };
    return call->number >= 0 && raw->cs == SEGMENT_64_BIT;
}

//
// system calls
//

static void futex_wait_of(const uint64_t * arguments, struct processor_wait * wait) {
    const int operation = (int) arguments[1] & FUTEX_CMD_MASK;
    wait->is_harmless   = operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET;
    wait->is_limited    = arguments[3] != 0;
    wait->is_for_a_lock = true;
    wait->futex         = arguments[0];
}

void processor_wait_of(const struct processor_call * call, struct processor_wait * wait) {
    const uint64_t * arguments = call->arguments;
    *wait = (struct processor_wait) { .is_harmless = true };
    switch (call->number) {
        case SYS_futex:
            futex_wait_of(arguments, wait);
            break;
        case SYS_poll:
            wait->is_limited = (int) arguments[2] >= 0;
            break;
        case SYS_ppoll:
            wait->is_limited = arguments[2] != 0;
            break;
        case SYS_epoll_wait:
        case SYS_epoll_pwait:
            wait->is_limited = (int) arguments[3] >= 0;
            break;
        case 441: // epoll_pwait2, which not all headers know
            wait->is_limited = arguments[3] != 0;
            break;
        case SYS_select:
        case SYS_pselect6:
            wait->is_limited = arguments[4] != 0;
            break;
        case SYS_accept:
        case SYS_accept4:
            break;
        case SYS_nanosleep:
        case SYS_clock_nanosleep:
            wait->is_limited    = true;
            wait->is_for_a_lock = true;
            break;
        case SYS_restart_syscall: // of futex, poll or nanosleep, with what they were given
            wait->is_limited    = true;
            wait->is_for_a_lock = true;
            wait->futex         = arguments[0];
            break;
        default:
            wait->is_harmless = false;
    }
}

//
// code
//

// call rel32, or call through a register or memory: ff /2 with one to five bytes of addressing behind.
bool processor_is_behind_call(const unsigned char * code) {
    const unsigned char * end = code + PROCESSOR_CODE_BEFORE;
    if (end[-5] == 0xe8) {
        return true;
    }
    for (int bytes = 2; bytes <= PROCESSOR_CODE_BEFORE; bytes++) {
        if (end[-bytes] == 0xff && (end[-bytes + 1] >> 3 & 7) == 2) {
            return true;
        }
    }
    return false;
}

// mov $SYS_rt_sigreturn, %rax; syscall
bool processor_is_behind_signal(const unsigned char * code) {
    static const unsigned char restorer[PROCESSOR_CODE_BEHIND] = {
        0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05,
    };
    return memcmp(code + PROCESSOR_CODE_BEFORE, restorer, sizeof(restorer)) == 0;
}

bool processor_is_behind_system_call(const unsigned char * code) {
    const unsigned char * end = code + PROCESSOR_CODE_BEFORE;
    return end[-2] == 0x0f && end[-1] == 0x05;
}

// The return address is followed by a ucontext_t.
size_t processor_signal_frame_words(void) {
    return 1 + offsetof(ucontext_t, uc_mcontext.gregs[REG_RIP]) / sizeof(uint64_t);
}
