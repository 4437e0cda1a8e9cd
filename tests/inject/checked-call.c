// x86-64: fills the registers with numbers, makes the call in assembly, and compares.

#include "checked-call.h"

#include <errno.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>

#define N_VECTORS 32

struct registers {
    uint64_t      general[12];   // rbx rbp r12 r13 r14 r15, rdi rsi rdx r10 r8 r9
    uint64_t      flags;
    uint64_t      red_zone[16];
    uint32_t      mxcsr;
    uint16_t      x87;
    uint16_t      unused;
    uint64_t      masks[8];
    unsigned char vectors[N_VECTORS][64] __attribute__((aligned(64)));
};

_Static_assert(offsetof(struct registers, flags)    ==  96, "as the assembly has it");
_Static_assert(offsetof(struct registers, red_zone) == 104, "as the assembly has it");
_Static_assert(offsetof(struct registers, mxcsr)    == 232, "as the assembly has it");
_Static_assert(offsetof(struct registers, x87)      == 236, "as the assembly has it");
_Static_assert(offsetof(struct registers, masks)    == 240, "as the assembly has it");
_Static_assert(offsetof(struct registers, vectors)  == 320, "as the assembly has it");

// long checked_call_raw(long number, const struct registers * before, struct registers * after, long width): width of
// the vectors is 64, 32 or 16 bytes. The pointers are on the stack above the red zone while the registers are filled.
__asm__(
    ".text\n"
    ".globl checked_call_raw\n"
    ".hidden checked_call_raw\n"
    ".type checked_call_raw, @function\n"
    "checked_call_raw:\n"
    "    pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
    "    pushq %rdi\n pushq %rsi\n pushq %rdx\n pushq %rcx\n"

    "    cmpq $64, %rcx\n"
    "    je 1f\n"
    "    cmpq $32, %rcx\n"
    "    je 2f\n"
    "    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "    movups 320+64*\\n(%rsi), %xmm\\n\n"
    "    .endr\n"
    "    jmp 3f\n"
    "1:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
    "    vmovups 320+64*\\n(%rsi), %zmm\\n\n"
    "    .endr\n"
    "    .irp n, 0,1,2,3,4,5,6,7\n"
    "    kmovw 240+8*\\n(%rsi), %k\\n\n"
    "    .endr\n"
    "    jmp 3f\n"
    "2:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "    vmovups 320+64*\\n(%rsi), %ymm\\n\n"
    "    .endr\n"
    "3:  ldmxcsr 232(%rsi)\n"
    "    fldcw 236(%rsi)\n"
    "    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "    movq 104+8*\\n(%rsi), %rax\n"
    "    movq %rax, -128+8*\\n(%rsp)\n"
    "    .endr\n"
    "    movq %rdi, %rax\n"
    "    movq   (%rsi), %rbx\n movq  8(%rsi), %rbp\n movq 16(%rsi), %r12\n movq 24(%rsi), %r13\n"
    "    movq 32(%rsi), %r14\n movq 40(%rsi), %r15\n movq 48(%rsi), %rdi\n movq 64(%rsi), %rdx\n"
    "    movq 72(%rsi), %r10\n movq 80(%rsi), %r8\n  movq 88(%rsi), %r9\n  movq 56(%rsi), %rsi\n"
    "    stc\n"
    "    syscall\n"
    "    movq 8(%rsp), %rcx\n"                       // after
    "    movq %rbx,   (%rcx)\n movq %rbp,  8(%rcx)\n movq %r12, 16(%rcx)\n movq %r13, 24(%rcx)\n"
    "    movq %r14, 32(%rcx)\n movq %r15, 40(%rcx)\n movq %rdi, 48(%rcx)\n movq %rsi, 56(%rcx)\n"
    "    movq %rdx, 64(%rcx)\n movq %r10, 72(%rcx)\n movq %r8,  80(%rcx)\n movq %r9,  88(%rcx)\n"
    "    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "    movq -128+8*\\n(%rsp), %rdx\n"
    "    movq %rdx, 104+8*\\n(%rcx)\n"
    "    .endr\n"
    "    pushfq\n"
    "    popq 96(%rcx)\n"
    "    stmxcsr 232(%rcx)\n"
    "    fnstcw 236(%rcx)\n"
    "    cmpq $64, (%rsp)\n"
    "    je 1f\n"
    "    cmpq $32, (%rsp)\n"
    "    je 2f\n"
    "    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "    movups %xmm\\n, 320+64*\\n(%rcx)\n"
    "    .endr\n"
    "    jmp 3f\n"
    "1:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
    "    vmovups %zmm\\n, 320+64*\\n(%rcx)\n"
    "    .endr\n"
    "    .irp n, 0,1,2,3,4,5,6,7\n"
    "    kmovw %k\\n, 240+8*\\n(%rcx)\n"
    "    .endr\n"
    "    vzeroupper\n"
    "    jmp 3f\n"
    "2:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "    vmovups %ymm\\n, 320+64*\\n(%rcx)\n"
    "    .endr\n"
    "    vzeroupper\n"
    "3:  addq $32, %rsp\n"
    "    popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n"
    "    ret\n"
    ".size checked_call_raw, . - checked_call_raw\n");

long checked_call_raw(long number, const struct registers * before, struct registers * after, long width);

static void fill(struct registers * registers) {
    unsigned char * bytes = (unsigned char *) registers;
    for (size_t i = 0; i < sizeof(*registers); i++) {
        bytes[i] = (unsigned char) (i * 37 + 11);
    }
    for (int i = 0; i < 8; i++) {
        registers->masks[i] &= 0xffff;
    }
    registers->mxcsr  = 0x1f80 | 0x6000; // rounds towards zero
    registers->x87    = 0x037f | 0x0400; // rounds down
    registers->unused = 0;
}

static long vector_width(void) {
    return __builtin_cpu_supports("avx512f") ? 64 : __builtin_cpu_supports("avx") ? 32 : 16;
}

static void compare(const struct registers * before, const struct registers * after, long width,
                    void (* complain)(const char * what)) {
    if (memcmp(before->general, after->general, sizeof(before->general)) != 0) {
        complain("a general register");
    }
    if ((after->flags & 0x401) != 1) {
        complain("the flags");
    }
    if (memcmp(before->red_zone, after->red_zone, sizeof(before->red_zone)) != 0) {
        complain("the red zone");
    }
    if ((before->mxcsr ^ after->mxcsr) >> 6 != 0 || before->x87 != after->x87) {
        complain("how floats are rounded");
    }
    for (int i = 0; i < (width == 64 ? N_VECTORS : 16); i++) {
        if (memcmp(before->vectors[i], after->vectors[i], (size_t) width) != 0) {
            complain("a vector register");
        }
    }
    if (width == 64 && memcmp(before->masks, after->masks, sizeof(before->masks)) != 0) {
        complain("a mask register");
    }
}

long checked_call(long number, long a, long b, long c, long d, long e, long f, void (* complain)(const char * what)) {
    const long       width        = vector_width();
    const long       arguments[6] = { a, b, c, d, e, f };
    struct registers before, after, plain = { .mxcsr = 0x1f80, .x87 = 0x037f };
    fill(&before);
    memset(&after, 0, sizeof(after));
    memcpy(&before.general[6], arguments, sizeof(arguments));
    errno = 1234;
    const long result = checked_call_raw(number, &before, &after, width);
    __asm__ volatile("ldmxcsr %0\n fldcw %1" :: "m"(plain.mxcsr), "m"(plain.x87));
    if (errno != 1234) {
        complain("errno");
    }
    compare(&before, &after, width, complain);
    return result;
}
