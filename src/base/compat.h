// Included before every source file of the library. Functions that moved between the C library's parts are bound
// to the version they had before, so that a library built here starts with every glibc from 2.31 on.

#pragma once

#include <features.h>

#if defined(__GLIBC__)
#    if defined(__x86_64__)
#        define COMPAT_BASE       "GLIBC_2.2.5"
#        define COMPAT_MONOTONIC  "GLIBC_2.3.3"
#    elif defined(__aarch64__)
#        define COMPAT_BASE       "GLIBC_2.17"
#        define COMPAT_MONOTONIC  "GLIBC_2.17"
#    endif
#endif

#ifdef COMPAT_BASE
#    define COMPAT_BIND(symbol, version) __asm__(".symver " #symbol "," #symbol "@" version)
COMPAT_BIND(dladdr, COMPAT_BASE);
COMPAT_BIND(dlclose, COMPAT_BASE);
COMPAT_BIND(dlopen, COMPAT_BASE);
COMPAT_BIND(dlsym, COMPAT_BASE);
COMPAT_BIND(pthread_create, COMPAT_BASE);
COMPAT_BIND(pthread_detach, COMPAT_BASE);
COMPAT_BIND(pthread_join, COMPAT_BASE);
COMPAT_BIND(pthread_mutex_trylock, COMPAT_BASE);
COMPAT_BIND(pthread_sigmask, COMPAT_BASE);
COMPAT_BIND(pthread_condattr_setclock, COMPAT_MONOTONIC);
#endif
