// A call on its way to the engine, with all that its caller passed.
//
// Functions take more in some forks and releases than in those we know: ik_llama.cpp's llama_batch has three members
// behind our seven, its llama_state_seq_set_data a fifth parameter. So a hook declares no parameters of its own. It
// receives every register and stack word that a caller may have filled, reads those it knows, and passes all of them
// on as they came. The same goes for results: both registers come back whole, so that a function may return a bool
// here and an int there. What no caller filled is passed on as well; nobody reads it.
//
// Stack words behind the last argument belong to the caller's frame. They are read, never written.

#pragma once

#include "engine/upstream/real.h"

#include <stdint.h>
#include <string.h>

#define CALL_FLOATS 8 // registers for floating point, in each of the conventions below

#if defined(__x86_64__)
#    define CALL_INTEGERS            6
#    define CALL_STRUCT_IS_ON_STACK  1 // a large struct that is passed by value
#elif defined(__aarch64__) || (defined(__riscv) && __riscv_xlen == 64) || defined(__loongarch64)
#    define CALL_INTEGERS            8
#    define CALL_STRUCT_IS_ON_STACK  0 // a pointer to it is passed
#else
#    error "how functions are called on this processor is not known here: add it to src/engine/upstream/call.h"
#endif

// Room for what functions take, and as much again. Parameters of a model's loader have 200 bytes in some forks.
#define CALL_WORDS       16
#define CALL_WORDS_LARGE (CALL_STRUCT_IS_ON_STACK ? 64 : CALL_WORDS)

struct call_words       { uintptr_t at[CALL_WORDS];       };
struct call_words_large { uintptr_t at[CALL_WORDS_LARGE]; };

struct call_result {
    uintptr_t low;
    uintptr_t high;
};

struct call {
    const struct real * real;                    // the engine that the caller would have reached without us
    void             (* fn)(void);               // what is called there
    uintptr_t           integers[CALL_INTEGERS];
    double              floats  [CALL_FLOATS];
    const uintptr_t   * words;                   // on the stack
    bool                is_large;                // [CALL_WORDS_LARGE] of them, not [CALL_WORDS]
};

#if CALL_STRUCT_IS_ON_STACK
#    define CALL_INTEGER_PARAMETERS uintptr_t r0, uintptr_t r1, uintptr_t r2, uintptr_t r3, uintptr_t r4, uintptr_t r5
#    define CALL_INTEGERS_RECEIVED  { r0, r1, r2, r3, r4, r5 }
#    define CALL_INTEGERS_OF(c)     (c)->integers[0], (c)->integers[1], (c)->integers[2], (c)->integers[3], \
                                    (c)->integers[4], (c)->integers[5]
#    define CALL_WORD_PARAMETERS(large)   struct call_words##large words
#    define CALL_WORDS_RECEIVED(large)    words.at
#    define CALL_WORDS_OF(c, large)       *(const struct call_words##large *) (const void *) (c)->words
#else
#    define CALL_INTEGER_PARAMETERS uintptr_t r0, uintptr_t r1, uintptr_t r2, uintptr_t r3, \
                                    uintptr_t r4, uintptr_t r5, uintptr_t r6, uintptr_t r7
#    define CALL_INTEGERS_RECEIVED  { r0, r1, r2, r3, r4, r5, r6, r7 }
#    define CALL_INTEGERS_OF(c)     (c)->integers[0], (c)->integers[1], (c)->integers[2], (c)->integers[3], \
                                    (c)->integers[4], (c)->integers[5], (c)->integers[6], (c)->integers[7]
#    define CALL_WORD_PARAMETERS(large)                                         \
         uintptr_t w0,  uintptr_t w1,  uintptr_t w2,  uintptr_t w3,             \
         uintptr_t w4,  uintptr_t w5,  uintptr_t w6,  uintptr_t w7,             \
         uintptr_t w8,  uintptr_t w9,  uintptr_t w10, uintptr_t w11,            \
         uintptr_t w12, uintptr_t w13, uintptr_t w14, uintptr_t w15
#    define CALL_WORDS_RECEIVED(large) \
         (const uintptr_t[CALL_WORDS]) { w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15 }
#    define CALL_WORDS_OF(c, large)                                             \
         (c)->words[0],  (c)->words[1],  (c)->words[2],  (c)->words[3],         \
         (c)->words[4],  (c)->words[5],  (c)->words[6],  (c)->words[7],         \
         (c)->words[8],  (c)->words[9],  (c)->words[10], (c)->words[11],        \
         (c)->words[12], (c)->words[13], (c)->words[14], (c)->words[15]
#endif

#define CALL_FLOAT_PARAMETERS double f0, double f1, double f2, double f3, double f4, double f5, double f6, double f7
#define CALL_FLOATS_RECEIVED  { f0, f1, f2, f3, f4, f5, f6, f7 }
#define CALL_FLOATS_OF(c)     (c)->floats[0], (c)->floats[1], (c)->floats[2], (c)->floats[3], \
                              (c)->floats[4], (c)->floats[5], (c)->floats[6], (c)->floats[7]

// The parameters of a hook. `large`: `_large`, or nothing.
#define CALL_PARAMETERS(large) CALL_INTEGER_PARAMETERS, CALL_FLOAT_PARAMETERS, CALL_WORD_PARAMETERS(large)

// The same, as the arguments of another function that takes them.
#if CALL_STRUCT_IS_ON_STACK
#    define CALL_ARGUMENTS r0, r1, r2, r3, r4, r5, f0, f1, f2, f3, f4, f5, f6, f7, words
#else
#    define CALL_ARGUMENTS r0, r1, r2, r3, r4, r5, r6, r7, f0, f1, f2, f3, f4, f5, f6, f7, \
                           w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15
#endif

typedef struct call_result (*call_fn)      (CALL_PARAMETERS());
typedef struct call_result (*call_fn_large)(CALL_PARAMETERS(_large));

// Behind a call, so that it is no tail call: that would write the words back to where the caller has them, and what is
// behind its arguments may have changed meanwhile.
static inline void call_is_over(void) {
    __asm__ volatile("" : : : "memory");
}

// Calls the engine's function with what was passed to us, and returns what it returned.
static inline struct call_result call_on(const struct call * call) {
    const struct call_result result = call->is_large
        ? ((call_fn_large) call->fn)(CALL_INTEGERS_OF(call), CALL_FLOATS_OF(call), CALL_WORDS_OF(call, _large))
        : ((call_fn)       call->fn)(CALL_INTEGERS_OF(call), CALL_FLOATS_OF(call), CALL_WORDS_OF(call, ));
    call_is_over();
    return result;
}

// An argument that is a pointer, or a number that fills its register.
static inline void * call_pointer(const struct call * call, int i) {
    void * pointer;
    memcpy(&pointer, &call->integers[i], sizeof(pointer));
    return pointer;
}

// An argument of 32 bits: what is above them in the register is undefined.
static inline int32_t call_int32(const struct call * call, int i) {
    return (int32_t) (uint32_t) call->integers[i];
}

// A struct that is passed by value, larger than two registers, as argument `i`. Its first `size` bytes are copied.
static inline void call_struct(const struct call * call, int i, void * to, size_t size) {
    const void * from = CALL_STRUCT_IS_ON_STACK ? (const void *) call->words : call_pointer(call, i);
    memcpy(to, from, size);
}

// A result that is a bool: what is above its byte in the register is undefined.
static inline bool call_bool(struct call_result result) {
    return (result.low & 0xff) != 0;
}
