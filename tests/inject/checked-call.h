// A system call that looks whether anything but its result has changed: registers of all kinds, flags, errno, and what
// lies below the stack pointer.

#pragma once

// The result, -errno where it failed. What had changed is said to `complain`, which may be called by any thread.
long checked_call(long number, long a, long b, long c, long d, long e, long f, void (* complain)(const char * what));
