// The engine's own functions where this library is part of libllama: the linker was told to bring calls of X to
// __wrap_X, our hooks, and knows X itself as __real_X. What a release does not have is a weak symbol that is NULL.

#include "engine/upstream/real.h"

#define REAL_DECLARE_HOOKED(type, name, parameters) extern type __real_##name parameters __attribute__((weak));
#define REAL_DECLARE_CALLED(type, name, parameters) extern type name          parameters __attribute__((weak));
#define REAL_FILL_HOOKED(type, name, parameters)    .name = __real_##name,
#define REAL_FILL_CALLED(type, name, parameters)    .name = name,

REAL_HOOKED(REAL_DECLARE_HOOKED)
REAL_CALLED(REAL_DECLARE_CALLED)

__attribute__((visibility("default"))) const char * expert_tracer_built_in(void) {
    return "llama-expert-tracer is built in";
}

_Atomic(const struct real *) real_of_all;

const struct real * real_behind(const void * caller, bool needs_llama) {
    (void) caller;
    (void) needs_llama;
    static const struct real real = {
        REAL_HOOKED(REAL_FILL_HOOKED)
        REAL_CALLED(REAL_FILL_CALLED)
    };
    return &real;
}
